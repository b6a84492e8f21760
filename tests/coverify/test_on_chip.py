"""Co-verification sees the memories on the chip, in which faults show whose sums saturate on their way out."""

from __future__ import annotations

import numpy as np
import pytest
from support.machine.random_programs import random_program
from support.mutants.rtl_mutation import mutated

from accel.coverify import Divergence, execute_both, first_divergence, power_up, random_on_chip
from accel.machine.config import ArchConfig
from rtl import activation_sequencer, window
from rtl.testbench import verilate, verilator
from rtl.verilog import emit

pytestmark = [pytest.mark.rtl, pytest.mark.slow]

MACHINE = ArchConfig(
    name="chip", rows=4, cols=4, spad_banks=2, spad_bank_words=16, wbuf_words=16, acc_banks=2, acc_bank_words=16,
    param_channels=16, post_lanes=2, depthwise_taps=2, depthwise_words=8, queue_depth=2, bus_bytes=8,
    outstanding_bursts=2, read_latency_cycles=3, write_latency_cycles=2, requant_modes=("tflite",), int4_weights=True,
)  # fmt: skip
PROGRAMS = 12


def divergences(programs: int) -> list[Divergence]:
    """What random programs find on `MACHINE`."""
    found = []
    with power_up(MACHINE, "verilator", seed=1) as powered:
        for seed in range(programs):
            program = random_program(MACHINE, np.random.default_rng(seed), 40, framed=True)
            results = execute_both(MACHINE, program.code, program.program_address, program.memory, powered)
            found.append(first_divergence(program.code, *results))
            if found[-1] is not None:
                break
    return [each for each in found if each is not None]


def test_the_machine_holds_what_is_put_there() -> None:
    state = random_on_chip(MACHINE, 3)
    with verilator.Powered(MACHINE) as powered:
        powered.on_chip = state
        for space, held in powered.on_chip.items():
            assert (held == state[space]).all(), space.name


def test_an_exec_that_reads_beyond_the_width_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not divergences(PROGRAMS)
    wider = mutated(window, None, "drive_positions", "- instruction.width", "- instruction.width - 1")
    monkeypatch.setattr(activation_sequencer, "drive_positions", wider)
    monkeypatch.setattr(verilate, "cached_verilog", lambda config: emit(config, verification=True))
    assert divergences(PROGRAMS)
