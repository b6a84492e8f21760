"""Bits of instructions that are 1 in some program, and programs that reach them in simulator and Verilog."""

from __future__ import annotations

import numpy as np
import pytest
from support.machine.wide_programs import at_base, bits_seen, impossible_bits, wide_program

from accel.coverify import execute_both, first_divergence, power_up
from accel.machine.config import ArchConfig

WIDE = ArchConfig(
    name="wide", rows=4, cols=8, spad_banks=8, spad_bank_words=1024, wbuf_words=8192, acc_banks=4, acc_bank_words=1024,
    param_channels=2048, post_lanes=4, depthwise_taps=7, depthwise_words=1024, queue_depth=4, bus_bytes=8,
    outstanding_bursts=4, read_latency_cycles=3, write_latency_cycles=2,
    requant_modes=("tflite", "single", "fp32"), int4_weights=True,
)  # fmt: skip
"""A small array, so that the Verilog is fast, with memories that need long addresses."""

FAR = 0xFE000000
"""Where in the image the memory begins so that addresses have upper bits; suite `far` of the mutants runs there."""

NEVER = 4
"""Bits that no rule forbids, and that no draw may set."""


@pytest.mark.slow
def test_bits_that_a_wide_program_sets() -> None:
    program = wide_program(WIDE, np.random.default_rng(0))
    seen, impossible = bits_seen([program, at_base(program, FAR)]), impossible_bits(WIDE)
    assert not {key: bits & impossible[key] for key, bits in seen.items() if bits & impossible[key]}
    missing = {
        (opcode.name, field.name): (1 << field.width) - 1 & ~bits & ~impossible[opcode, field]
        for (opcode, field), bits in seen.items()
    }
    assert sum(bits.bit_count() for bits in missing.values()) <= NEVER, {n: bin(b) for n, b in missing.items() if b}


@pytest.mark.rtl
@pytest.mark.marathon
def test_a_wide_program_in_the_verilog() -> None:
    program = wide_program(WIDE, np.random.default_rng(0))
    with power_up(WIDE, "verilator", seed=2) as powered:
        results = execute_both(WIDE, program.code, program.program_address, program.memory, powered)
    assert first_divergence(program.code, *results) is None
