"""Bits that queues do not keep are those with which an instruction is refused: for every instruction, by the gates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from amaranth.hdl import Assert, Cat, Module, Value
from support.formal.harness import Harness
from support.formal.induction import violation
from support.formal.netlist import netlist
from support.mutants.rtl_mutation import mutate

from accel.machine.config import ArchConfig, preset
from accel.machine.isa import FIELDS
from accel.machine.rules import field_limits
from accel.machine.rules.field_limits import possible_width
from rtl.interfaces import layout, opcodes
from rtl.legality import Legality
from rtl.pipeline import delayed

pytestmark = [pytest.mark.rtl, pytest.mark.slow]

MACHINES = [
    replace(preset("tiny"), post_lanes=1),
    replace(preset("tiny"), rows=7, cols=14, post_lanes=1, depthwise_taps=0, requant_modes=("fp32",)),
    replace(preset("edge"), rows=16, cols=8, post_lanes=8),
]
TOO_LOW = [
    ("a word has half as many bytes", "max(loaded.values())", "max(loaded.values()) // 2"),
    ("offsets of LOAD are those of the array's words", "parts - 1", "1"),
    ("the array has a row less than a power of two", '"k_rows"): config.rows', '"k_rows"): config.rows - 1'),
    ("POST has a group of lanes", "config.rows // config.post_lanes", "1"),
    ("the engine has no column", "= config.depthwise_taps", "= 0"),
    ("there are four units", "(1 << len(Unit)) - 1", "(1 << len(Unit)) // 2 - 1"),
]


class Refused(Harness):
    """Asserts that an instruction is refused which has a bit that no queue keeps."""

    def __init__(self, config: ArchConfig) -> None:
        super().__init__(Legality(config))
        self._config = config

    def watch(self, m: Module) -> None:
        for opcode in opcodes(self._config):
            instruction = layout(opcode)(self.dut.instruction)
            widths = {field.name: possible_width(self._config, opcode, field) for field in FIELDS[opcode]}
            dropped = Cat(Value.cast(instruction[name])[width:] for name, width in widths.items())
            wrong = self.dut.dispatched & (instruction.opcode == opcode) & dropped.any()
            told = delayed(m, wrong, Legality.latency, opcode.name, reset_less=False)
            with m.If(told):
                m.d.comb += Assert(self.dut.broken)


def first_kept(config: ArchConfig) -> int | None:
    """A cycle in which such an instruction is not refused; what happened longer ago than the latency has no effect."""
    return violation(netlist(Refused(config)), Legality.latency + 2)


@pytest.mark.parametrize("config", MACHINES, ids=lambda config: f"{config.rows}x{config.cols}")
def test_what_queues_drop_is_refused(config: ArchConfig) -> None:
    assert first_kept(config) is None


@pytest.mark.parametrize(("what", "old", "new"), TOO_LOW, ids=[row[0] for row in TOO_LOW])
def test_limits_that_are_too_low_are_found(what: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch, field_limits, None, "greatest", old, new)
    assert first_kept(MACHINES[0]) is not None, f"the proof must fail where {what}"
