"""Queues keep order and lose nothing; tokens are conserved and never negative; no unit issues without its tokens."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest
import z3
from amaranth.hdl import Array, Assert, Assume, Cat, Module, Mux, Signal, Value, signed
from support.formal.harness import Harness
from support.formal.induction import is_proved, violation
from support.formal.netlist import Netlist, counterexample, netlist
from support.mutants.rtl_mutation import mutate

from accel.machine import isa
from accel.machine.config import preset
from accel.machine.isa import Opcode, Unit
from accel.machine.latencies import SEMAPHORE_BITS
from accel.machine.rules.field_limits import possible_width
from rtl import control, load_unit, store_unit, tile_control
from rtl.control import InstructionQueue, Semaphores
from rtl.depthwise_unit import DepthwiseUnit
from rtl.exec_unit import ExecUnit
from rtl.interfaces import layout
from rtl.load_unit import LoadUnit
from rtl.post_unit import PostUnit
from rtl.store_unit import StoreUnit

pytestmark = [pytest.mark.rtl, pytest.mark.slow]

DEPTH = 3
QUEUED = replace(preset("tiny"), queue_depth=DEPTH)
KEPT = {field.name: possible_width(QUEUED, Opcode.STORE, field) for field in isa.FIELDS[Opcode.STORE]}
KEPT_BITS = sum(KEPT.values())
SMALLEST = replace(preset("tiny"), rows=1, cols=1, post_lanes=1, depthwise_taps=0, requant_modes=("single",))
MOST = (1 << SEMAPHORE_BITS) - 1
PAIRS = [(producer, consumer) for producer in Unit for consumer in Unit]
UNITS = (LoadUnit, ExecUnit, PostUnit, StoreUnit, DepthwiseUnit)
CONFIGS = {DepthwiseUnit: replace(SMALLEST, rows=2, depthwise_taps=1)}

QUEUE_MUTANTS = [
    ("the queue takes one instruction too many", "pushed.ready.eq(fifo.w_rdy)", "pushed.ready.eq(1)"),
    ("what is pushed overtakes", "Mux(fifo.r_rdy, fifo.r_data, pushed)", "pushed"),
    ("a bit is lost", "pushed.eq(self._kept(", "pushed[1:].eq(self._kept("),
    ("what goes to the head is queued, too", "fifo.r_en.eq(empty)", "fifo.r_en.eq(empty & fifo.r_rdy)"),
]
SEMAPHORE_MUTANTS = [
    ("a token stays that is taken", "count.eq(down)", "count.eq(count)"),
    ("a full counter wraps", "posted & ~taken & ~full", "posted & ~taken"),
    ("a token is not counted at once", "some.eq(post | rest)", "some.eq(rest)"),
    ("one of three tokens leaves one", "down[1:].any()", "down[2:].any()"),
    ("a token that is posted in a reset is lost", "full & ~taken & counting", "full & ~taken & (counting | posted)"),
    ("tokens show at the producer", "self.tokens[consumer][producer]", "self.tokens[producer][consumer]"),
]
ISSUE_MUTANTS = [
    ("LOAD looks at one token less", LoadUnit, load_unit, "LoadUnit", "_issue", "(head.wait & ~", "(head.wait[1:] & ~"),
    ("STORE waits for no token", StoreUnit, store_unit, "StoreUnit", "elaborate", "(head.wait & ~self", "(0 & ~self"),
    ("DEPTHWISE waits for no token", DepthwiseUnit, tile_control, None, "drive_control", "(head.wait & ~", "(0 & ~"),
    ("EXEC waits for no token", ExecUnit, tile_control, None, "drive_control", "(head.wait & ~", "(0 & ~"),
]  # fmt: skip


class Line(Harness):
    """A queue beside a line of instructions, which step forward when the first one leaves; its place does so later."""

    def __init__(self) -> None:
        super().__init__(InstructionQueue(QUEUED, Opcode.STORE))

    def watch(self, m: Module) -> None:
        pushed, head = self.dut.pushed, self.dut.head
        line = Array(Signal(KEPT_BITS, name=f"line{place}") for place in range(DEPTH + 1))
        waiting, left = Signal(range(DEPTH + 1), name="waiting"), Signal(name="left")
        leaves, comes = head.valid & head.ready, pushed.valid & pushed.ready
        for place in range(DEPTH):
            with m.If(comes & (waiting - leaves == place)):
                m.d.sync += line[place].eq(kept(pushed.payload))
            with m.Elif(leaves):
                m.d.sync += line[place].eq(line[place + 1])
        m.d.sync += [waiting.eq(waiting + comes - leaves), left.eq(leaves)]
        m.d.comb += [
            Assert(head.valid == ((waiting != 0) & ~left)), Assert(pushed.ready == (waiting + left != DEPTH))
        ]  # fmt: skip
        with m.If(head.valid):
            m.d.comb += [Assert(kept(head.payload) == line[0]), Assert(~dropped(head.payload).any())]


def kept(instruction: Value) -> Value:
    """The bits of a STORE that the queue keeps."""
    fields = layout(Opcode.STORE)(instruction)
    return Cat(Value.cast(fields[name])[:width] for name, width in KEPT.items())


def dropped(instruction: Value) -> Value:
    """The bits of its fields that the queue does not keep."""
    fields = layout(Opcode.STORE)(instruction)
    return Cat(Value.cast(fields[name])[width:] for name, width in KEPT.items())


def line_invariant(circuit: Netlist) -> z3.BoolRef:
    """Behind the head, if there is one, come `level` instructions, from the place on that is read next."""
    left, head = circuit["left"], circuit["dut.head__valid"]
    waiting, level, second = circuit["waiting"], circuit["dut.fifo.level"], circuit["dut.fifo.consume"]
    stored = [z3.Extract(KEPT_BITS - 1, 0, circuit[f"dut.fifo.storage[{place}]"]) for place in range(2)]
    return z3.And(
        z3.ULE(waiting, z3.If(left, z3.BitVecVal(DEPTH - 1, waiting.size()), DEPTH)),
        head == z3.And(waiting != 0, z3.Not(left)),
        level == z3.If(head, waiting - 1, waiting),
        circuit["dut.fifo.r_rdy"] == (level != 0),
        circuit["dut.fifo.w_rdy"] == (level != DEPTH - 1),
        circuit["dut.fifo.produce"] == z3.Xor(second, level == 1),
        z3.Implies(level != 0, z3.If(left, circuit["line0"], circuit["line1"]) == z3.If(second, stored[1], stored[0])),
        z3.Implies(level == 2, z3.If(left, circuit["line1"], circuit["line2"]) == z3.If(second, stored[0], stored[1])),
    )


class Balance(Harness):
    """Semaphores, once emptied, beside the tokens posted minus the tokens taken and lost, as signed numbers."""

    def __init__(self) -> None:
        super().__init__(Semaphores())

    def watch(self, m: Module) -> None:
        dut = self.dut
        lost, was_lost = Signal(), Signal(3)
        emptied = Signal()
        with m.If(dut.clear):
            m.d.sync += emptied.eq(1)
        for producer, consumer in PAIRS:
            post, take = dut.post[producer][consumer], dut.take[consumer][producer]
            name = f"{producer.name}_{consumer.name}"
            balance, took = Signal(signed(SEMAPHORE_BITS + 2), name=f"balance_{name}"), Signal(name=f"took_{name}")
            overflows = (balance == MOST) & post & ~take & ~dut.clear & emptied
            m.d.sync += balance.eq(Mux(dut.clear, 0, balance + post - take - overflows))
            m.d.sync += took.eq(take & ~dut.clear)
            with m.If(overflows):
                m.d.comb += lost.eq(1)
            m.d.comb += [
                Assume((dut.tokens[consumer][producer] & ~took & emptied) | ~take),
                Assume(emptied | ~post),
                Assert((dut.tokens[consumer][producer] == (balance > 0)) | took | ~emptied),
                Assert((balance >= 0) & (balance <= MOST)),
            ]
        m.d.sync += was_lost.eq(Cat(lost, was_lost))
        m.d.comb += Assert(dut.overflow == was_lost[2])


def balance_invariant(circuit: Netlist) -> z3.BoolRef:
    """Each counter holds its balance but for the last post and take; what is lost is remembered."""
    names = [f"{producer.name}_{consumer.name}" for producer, consumer in PAIRS]
    lost, terms = [circuit[f"dut.lost_{name}_1"] for name in names], []
    losing, emptied, counting = [], circuit["emptied"], circuit["dut.counting"]
    for name in names:
        count, balance = circuit[f"dut.count_{name}"], circuit[f"balance_{name}"]
        posted, taken = circuit[f"dut.posted_{name}"], circuit[f"dut.taken_{name}"]
        losing.append(z3.And(posted, z3.Not(taken), count == MOST, counting))
        one, none = z3.BitVecVal(1, balance.size()), z3.BitVecVal(0, balance.size())
        moved = z3.If(z3.And(posted, z3.Not(losing[-1])), one, none) - z3.If(taken, one, none)
        terms += [
            z3.Implies(counting, circuit[f"took_{name}"] == taken),
            z3.Implies(z3.Or(posted, taken), z3.Or(emptied, z3.Not(counting))),
            z3.Implies(emptied, counting),
            z3.Implies(
                emptied,
                z3.And(
                    z3.ZeroExt(2, count) + moved == balance,
                    z3.Implies(taken, count != 0),
                    circuit[f"dut.counted_{name}"] == (count != 0),
                    circuit[f"dut.more_{name}"] == z3.UGT(count, 1),
                ),
            ),
        ]
    for place, happened in enumerate((losing, lost)):
        terms.append((z3.Extract(place, place, circuit["was_lost"]) == 1) == z3.Or(happened))
    return z3.And(terms)


def issues_with_tokens(unit: type) -> bool:
    """Whether no state of the unit lets it take an instruction that waits for a token which is missing."""
    (now,) = [next(iter(netlist(unit(CONFIGS.get(unit, SMALLEST))).cycles()))]
    payload, tokens = now["control__instruction__payload"], now["control__tokens"]
    first = sum(field.width for field in isa.FIELDS[Opcode.LOAD][: isa.column(Opcode.LOAD, "wait")])
    waits = z3.Extract(first + tokens.size() - 1, first, payload)
    issues = z3.And(now["control__instruction__valid"], now["control__instruction__ready"])
    return counterexample(z3.Implies(issues, waits & ~tokens == 0)) is None


def test_queue_keeps_order() -> None:
    circuit = netlist(Line())
    assert is_proved(circuit, line_invariant(circuit))


def test_tokens_are_conserved() -> None:
    circuit = netlist(Balance())
    assert is_proved(circuit, balance_invariant(circuit))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.__name__)
def test_no_unit_issues_without_its_tokens(unit: type) -> None:
    assert issues_with_tokens(unit)


@pytest.mark.parametrize(("what", "old", "new"), QUEUE_MUTANTS, ids=[row[0] for row in QUEUE_MUTANTS])
def test_mutants_of_the_queue_are_found(what: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch, control, "InstructionQueue", "elaborate", old, new)
    assert violation(netlist(Line()), cycles=8) is not None, f"the proof must fail where {what}"


@pytest.mark.parametrize(("what", "old", "new"), SEMAPHORE_MUTANTS, ids=[row[0] for row in SEMAPHORE_MUTANTS])
def test_mutants_of_the_semaphores_are_found(what: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch, control, "Semaphores", "elaborate", old, new)
    circuit = netlist(Balance())
    assert not is_proved(circuit, balance_invariant(circuit)), f"the proof must fail where {what}"


@pytest.mark.parametrize(
    ("what", "unit", "module", "owner", "name", "old", "new"), ISSUE_MUTANTS, ids=[row[0] for row in ISSUE_MUTANTS]
)
def test_units_that_do_not_wait_are_found(
    what: str, unit: type, module: ModuleType, owner: str | None, name: str, old: str, new: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    mutate(monkeypatch, module, owner, name, old, new)
    assert not issues_with_tokens(unit), f"the proof must fail where {what}"
