"""Which error is reported of several: that of the first instruction, of one instruction what its fields say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from support.rtl.hostile import COUNTED, LONG, MACHINE, MEMORY_BYTES, run
from support.rtl.lone_faults import fillers

from accel.machine import isa
from accel.machine.isa import INSTRUCTION_BYTES, Opcode, Unit, decode, encode
from accel.machine.latencies import reset_cycles
from rtl.testbench.result import SimulationResult
from rtl.testbench.verilator import Powered

pytestmark = [pytest.mark.rtl, pytest.mark.slow]
IDLE = fillers(np.random.default_rng(0))


@pytest.fixture(scope="module")
def machine() -> Iterator[Powered]:
    with Powered(MACHINE, variant=COUNTED) as powered:
        yield powered


def ran(machine: Powered, code: bytes) -> SimulationResult:
    return run(machine, code, np.zeros(MEMORY_BYTES, np.uint8), cycles=LONG)


def with_addresses(opcode: Opcode, value: int) -> bytes:
    """A legal instruction, but that its addresses on the chip are `value`."""
    addresses = [f.name for f in isa.FIELDS[opcode] if f.name.endswith("address") and not f.name.startswith("dram")]
    (legal,) = decode(IDLE[opcode])
    return encode([legal.replace(**dict.fromkeys(addresses, value))])


@pytest.mark.parametrize("opcode", Opcode)
def test_a_rule_speaks_before_a_word_that_does_not_exist(opcode: Opcode, machine: Powered) -> None:
    outside = with_addresses(opcode, (1 << 12) - 1)
    assert "bounds" in ran(machine, outside).first_error.errors
    (instruction,) = decode(outside)
    got = ran(machine, encode([instruction.replace(signal=1 << len(Unit))]))
    assert (got.first_error.errors, got.first_error.unit) == (("rule",), "FETCH")


def test_the_last_word_of_the_last_load_stops_the_run(machine: Powered) -> None:
    got = ran(machine, with_addresses(Opcode.LOAD, (1 << 12) - 1))
    assert got.first_error.errors == ("bounds",)
    assert got.total_cycles > reset_cycles(MACHINE)


@pytest.mark.parametrize("waiting", [0, MACHINE.queue_depth + 3])
def test_an_instruction_speaks_before_an_opcode_behind_it(waiting: int, machine: Powered) -> None:
    (idle,) = decode(IDLE[Opcode.EXEC])
    long = idle.replace(wbuf_address=0, ky_count=4, kx_count=4, chunk_count=1, ky_stride=0, kx_stride=0)
    illegal, unknown = encode([idle.replace(signal=1 << len(Unit))]), bytes([15]) + bytes(INSTRUCTION_BYTES - 1)
    for pair, error in ((illegal + unknown, "rule"), (unknown + illegal, "opcode")):
        got = ran(machine, encode([long] * waiting) + pair)
        assert (got.first_error.errors, got.first_error.index) == ((error,), waiting)
    assert bool(got.counters["FETCH_WAIT_EXEC"]) == bool(waiting)
