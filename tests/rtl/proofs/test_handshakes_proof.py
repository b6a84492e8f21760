"""What a bus is offered stays, unchanged, until it is accepted: reads of fetch and LOAD, beats of STORE, answers.

The addresses of STORE are those of the burst generator (test_bursts_proof.py), as are those of fetch and LOAD; here
the whole units are proved, with what they add to a burst.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import z3
from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal, Value
from support.formal.harness import Harness
from support.formal.induction import is_proved, violation
from support.formal.netlist import Netlist, netlist
from support.mutants.rtl_mutation import mutate
from support.rtl.bench import small

from accel.machine.config import ArchConfig
from accel.machine.latencies import store_buffer_bytes
from rtl import bursts, fetch, load_unit, registers, store_packer
from rtl.fetch import Fetch
from rtl.load_unit import LoadUnit
from rtl.registers import RegisterBlock
from rtl.store_packer import StorePacker

pytestmark = [pytest.mark.rtl, pytest.mark.slow]
SMALLEST = small()


class Offers(Harness):
    """A component, and what each channel that it drives offered in the cycle before."""

    channels: tuple[str, ...]

    def stays(self, m: Module, name: str, valid: Value, ready: Value, payload: Value) -> Signal:
        """Assert that an offer which was not accepted is still there; returns whether there was one."""
        waits, before = Signal(name=f"{name}_waits"), Signal(len(payload), name=f"{name}_before")
        m.d.sync += [waits.eq(valid & ~ready), before.eq(payload)]
        m.d.comb += Assert(~waits | (valid & (payload == before)))
        return waits

    def unchanged(self, m: Module, name: str, value: Value) -> Value:
        """Whether `value` is what it was in the cycle before."""
        before = Signal(len(value), name=f"{name}_before")
        m.d.sync += before.eq(value)
        return value == before


class Reads(Offers):
    """Fetch or LOAD: bursts end only if they are open, and the page stays while an address is offered."""

    def __init__(self, unit: type, config: ArchConfig) -> None:
        super().__init__(unit(config))
        self._outstanding = config.outstanding_bursts

    def watch(self, m: Module) -> None:
        dut, bus = self.dut, self.dut.bus
        accepted, ended = bus.arvalid & bus.arready, bus.rvalid & bus.rready & bus.rlast
        unfinished = Signal(range(self._outstanding + 1))
        m.d.sync += unfinished.eq(unfinished + accepted - ended)
        payload = Cat(bus.araddr, bus.arlen, bus.arsize, bus.arburst)
        waits = self.stays(m, "ar", bus.arvalid, bus.arready, payload)
        m.d.comb += [
            Assume((unfinished != 0) | ~ended),
            Assume(~waits | self.unchanged(m, "page", dut.page)),
            Assert(unfinished <= self._outstanding),
        ]


def reads_invariant(circuit: Netlist) -> z3.BoolRef:
    return circuit["dut.bursts.open_bursts"] == circuit["unfinished"]


def fetch_invariant(circuit: Netlist) -> z3.BoolRef:
    begins = z3.And(circuit["dut.begin"], circuit["dut.bursts.active"])
    return z3.And(reads_invariant(circuit), z3.Not(begins))


def fetches(circuit: Netlist) -> Netlist:
    """Runs start when the addresses of the last one are all sent."""
    sending = z3.Or(circuit["dut.bursts.active"], circuit["dut.begin"])
    return replace(circuit, assumed=z3.And(circuit.assumed, z3.Implies(sending, z3.Not(circuit["dut.start"]))))


class Answers(Offers):
    """The register block's two channels of answers."""

    def __init__(self, config: ArchConfig) -> None:
        super().__init__(RegisterBlock(config))

    def watch(self, m: Module) -> None:
        bus = self.dut.bus
        self.stays(m, "b", bus.bvalid, bus.bready, bus.bresp)
        self.stays(m, "r", bus.rvalid, bus.rready, Cat(bus.rdata, bus.rresp))


class Beats(Offers):
    """STORE's packer: no more bytes come than it has room for, announced lengths stay, a halt lasts until a reset."""

    def __init__(self, config: ArchConfig) -> None:
        super().__init__(StorePacker(config))
        self._capacity = store_buffer_bytes(config)

    def watch(self, m: Module) -> None:
        dut, beat, length = self.dut, self.dut.beat, self.dut.burst_length
        self.stays(m, "w", beat.valid, beat.ready, Value.cast(beat.payload))
        held, entering = Signal(range(self._capacity + 1), name="held"), Signal.like(dut.coming, name="entering")
        halting, offered = Signal(name="halting"), Signal(name="offered")
        m.d.sync += [
            entering.eq(dut.coming),
            held.eq(held + entering - Mux(dut.sent, dut.sent_bytes, 0)),
            halting.eq(dut.halt),
            offered.eq(length.valid & ~length.ready),
        ]
        m.d.comb += [
            Assume(held + entering + dut.coming <= self._capacity),
            Assume(~halting | dut.halt),
            Assume(~offered | (length.valid & self.unchanged(m, "length", length.payload))),
            Assume(~dut.start | ~dut.active),
            Assert(held <= self._capacity),
        ]


def answers_invariant(circuit: Netlist) -> z3.BoolRef:
    """Nothing is accepted while an answer waits."""
    write, read = circuit["bus__bvalid"], circuit["bus__rvalid"]
    addressed, supplied = circuit["dut.write_addressed"], circuit["dut.write_supplied"]
    taken, accepted = z3.Or(addressed, supplied), z3.Implies(circuit["dut.write_accept"], z3.And(addressed, supplied))
    reading = [circuit[f"dut.read_{state}"] for state in ("addressed", "current", "chosen")]
    return z3.And(accepted, z3.Not(z3.And(write, taken)), z3.AtMost(read, *reading, 1))


def beats_invariant(circuit: Netlist) -> z3.BoolRef:
    """The ring holds the current beat's bytes up to `end`, one for each strobe, and `beyond` further ones.

    Behind them, up to `written`, are the places of the bytes that enter in this cycle.
    """
    beyond, written, end, back = (circuit[f"dut.{name}"] for name in ("beyond", "written", "end", "back"))
    count, entering, strobe = circuit["dut.sent_bytes"], circuit["dut.entering_1"], circuit["dut.strobe"]
    places, lanes = 1 << end.size(), strobe.size()

    def wide(value: z3.BitVecRef) -> z3.BitVecRef:
        return z3.ZeroExt(beyond.size() - value.size(), value)

    def place(value: z3.BitVecRef) -> z3.BitVecRef:
        return z3.Extract(end.size() - 1, 0, wide(value))

    def lies(at: z3.BitVecRef, start: z3.BitVecRef, length: z3.BitVecRef) -> z3.BoolRef:
        return z3.ULT(wide(at - start), wide(length))

    enter = [
        circuit[f"dut.enters{at}"] == lies(z3.BitVecVal(at, end.size()), written - place(entering), entering)
        for at in range(places)
    ]
    sent = [
        z3.Implies(
            z3.And(z3.Extract(lane, lane, strobe) == 1, back + column == lane),
            lies(z3.Concat(circuit[f"dut.row{column}"], z3.BitVecVal(column, back.size())), end - place(count), count),
        )
        for lane in range(lanes)
        for column in range(lanes)
    ]
    return z3.And(
        beyond == wide(circuit["held"]) - wide(count),
        place(circuit["held"]) - place(count) == written - place(entering) - end,
        circuit["entering"] == entering,
        z3.And(enter),
        z3.Or(circuit["dut.valid"], count == 0),
        z3.Implies(circuit["dut.valid"], z3.And(sent)),
        z3.Implies(circuit["dut.halted"], circuit["halting"]),
    )


def fetch_netlist() -> Netlist:
    return fetches(netlist(Reads(Fetch, SMALLEST)))


def load_netlist() -> Netlist:
    return netlist(Reads(LoadUnit, SMALLEST))


def answers_netlist() -> Netlist:
    return netlist(Answers(SMALLEST))


def beats_netlist() -> Netlist:
    return netlist(Beats(SMALLEST))


PROOFS = [
    (fetch_netlist, fetch_invariant),
    (load_netlist, reads_invariant),
    (answers_netlist, answers_invariant),
    (beats_netlist, beats_invariant),
]
MUTANTS = [
    ("fetch goes on without arready", fetch_netlist, fetch, "Fetch", "_addresses", "eq(self.bus.arready)", "eq(1)"),
    ("LOAD goes on without arready", load_netlist, load_unit, "LoadUnit", "_issue", "eq(self.bus.arready)", "eq(1)"),
    ("a halt takes an address back", load_netlist, bursts, "BurstGenerator", "elaborate", "& ~halted", "& ~self.halt"),
    (
        "a write's answer does not wait",
        answers_netlist, registers, "RegisterBlock", "_write_channel", "m.Elif(bus.bready)", "m.Else()",
    ),
    (
        "a read is taken while the last one's answer waits",
        answers_netlist, registers, "RegisterBlock", "_read_channel", " | bus.rvalid)", ")",
    ),
    (
        "a halt takes the strobes of a beat that waits",
        beats_netlist, store_packer, "StorePacker", "elaborate", "(halted | ~self.beat.valid | send)", "1",
    ),
    (
        "bytes beside a beat's own change",
        beats_netlist, store_packer, "StorePacker", "elaborate", " & Cat(bit.replicate(8) for bit in beat.strobe)", "",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("circuit", "invariant"), PROOFS, ids=lambda function: function.__name__)
def test_offers_stay(circuit: Callable[[], Netlist], invariant: Callable[[Netlist], z3.BoolRef]) -> None:
    proved = circuit()
    assert is_proved(proved, invariant(proved))


@pytest.mark.parametrize(
    ("what", "circuit", "module", "owner", "name", "old", "new"), MUTANTS, ids=[row[0] for row in MUTANTS]
)
def test_offers_that_change_are_found(
    what: str, circuit: Callable[[], Netlist], module: ModuleType, owner: str, name: str, old: str, new: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    mutate(monkeypatch, module, owner, name, old, new)
    assert violation(circuit(), cycles=10) is not None, f"the proof must fail where {what}"
