"""The netlist that yosys synthesises of `tiny` does what the simulator does: bytes, cycles, stamps and counters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.machine.random_programs import random_program
from support.rtl.synthesised import FAULTS, synthesised

import accel
from accel.coverify import Machine, execute_both, first_divergence, random_inputs, random_on_chip
from accel.machine.config import preset
from accel.program.execution import Execution
from accel.program.parts import HOST
from rtl.testbench.verilate import Variant
from rtl.testbench.verilator import Powered

pytestmark = [pytest.mark.rtl, pytest.mark.marathon]
TINY = preset("tiny")
PROGRAMS = 12


@pytest.fixture(scope="module")
def netlist() -> Variant:
    return synthesised(TINY)


def machine(netlist: Variant, mutant: int) -> Machine:
    """The netlist with random bytes in its memories."""
    powered = Powered(TINY, variant=netlist, mutant=mutant)
    powered.on_chip = random_on_chip(TINY, 0)
    return Machine(powered.run, powered.on_chip)


def differs(netlist: Variant, mutant: int) -> bool:
    """Whether one of the random programs diverges from the simulator."""
    bench = machine(netlist, mutant)
    for seed in range(PROGRAMS):
        program = random_program(TINY, np.random.default_rng(seed), 30, framed=True)
        results = execute_both(TINY, program.code, program.program_address, program.memory, bench)
        if first_divergence(program.code, *results) is not None:
            return True
    return False


def test_random_programs(netlist: Variant) -> None:
    assert not differs(netlist, 0)


def test_random_programs_notice_faulty_tables(netlist: Variant) -> None:
    """Not each one: some tables choose what few programs use."""
    assert sum(differs(netlist, mutant) for mutant in range(1, FAULTS + 1)) > FAULTS // 2


def test_a_network(netlist: Variant, shared_models: Path) -> None:
    program = accel.compile(shared_models / "mlperf_tiny" / "dscnn_kws_int8.tflite", TINY)
    execution, bench, cycles = Execution(program, random_inputs(program, 0), None), machine(netlist, 0), 0
    for segment in program.segments:
        if segment.unit == HOST:
            execution.run_host(segment)
            continue
        code = program.code_of(segment)
        results = execute_both(TINY, code, program.address_of(segment), execution.memory, bench)
        assert first_divergence(code, *results) is None
        execution.memory, cycles = results[1].memory, cycles + results[1].total_cycles
    print(f"{cycles} cycles")
