"""Bursts are legal on AXI4, as long as they may be, and cover every row exactly, for any pattern and length.

Two proofs: the walker's addresses are their closed form; the generator cuts the rows that it is given.
"""

from __future__ import annotations

import pytest
import z3
from amaranth.hdl import Assert, Assume, Module, Mux, Signal
from amaranth.utils import exact_log2
from support.formal.harness import Harness
from support.formal.induction import is_proved, violation
from support.formal.netlist import Netlist, netlist
from support.mutants.rtl_mutation import mutate

from accel.machine.latencies import BURST_BEATS, BURST_BOUNDARY_BYTES
from rtl import bursts
from rtl.axi import ADDRESS_BITS
from rtl.bursts import BurstGenerator, RowWalker

pytestmark = [pytest.mark.rtl, pytest.mark.slow]

WALKER_BITS = 8
OUTSTANDING, ROW_BYTES_BITS = 3, 20
BUSES = (8, 16)
"""Bytes of a bus whose pages hold several of the longest bursts, and of one whose pages hold one."""

WALKER_MUTANTS = [
    ("rows use the outer stride", "Mux(next_last_row, held.outer_stride, held.row_stride)", "held.outer_stride"),
    (
        "an outer iteration begins at the last row",
        "Mux(next_last_row & ~last_row, outer_address, self.following)",
        "self.following",
    ),
    (
        "the second outer iteration has a row less",
        "next_last_row.eq(single_row | (held.row_count == 2))",
        "next_last_row.eq(single_row | (held.row_count == 3))",
    ),
    ("the last outer iteration comes early", "last_outer.eq(outer_left == 2)", "last_outer.eq(outer_left == 3)"),
]
CUT_MUTANTS = [
    ("pages are crossed", "Mux(to_page, page_left, BURST_BEATS - 1)", "BURST_BEATS - 1"),
    ("a burst of 257 beats has one", "page_left < BURST_BEATS", "page_left <= BURST_BEATS"),
    ("the last beat of an unaligned first row is missing", "(self.rows.address[:shift] - 1)", "-1"),
    ("the last beat of an unaligned further row is missing", "(rest + walker.following[:shift])", "Cat(rest, 0)"),
    ("bursts overlap", "Cat(on_boundary, beat[longest_bits:] + 1)", "Cat(on_boundary, beat[longest_bits:])"),
    ("a burst behind one of 256 beats is out of place", "Mux(to_page, 0, beat[:longest_bits])", "0"),
    ("a row of several pages ends in the next one", "pages == 1", "pages[:1]"),
    ("a row ends with its second burst in a page", "left[longest_bits + 1 :]", "left[longest_bits + 2 :]"),
    (
        "a further row that starts late in its beat has a beat too many",
        "last_byte[:burst_bits] + address[:shift]",
        "last_byte[:burst_bits] + Const(0, shift)",
    ),
    (
        "a first row that starts late in its beat has a beat too many",
        "(address[:shift] - 1)\n",
        "Const(-1, 1).as_signed()\n",
    ),
    ("a long first row is one burst", " | row_bytes[burst_bits + 1 :].any()", ""),
    ("a first row ends in the next page", "leaves_burst | last[page_bytes_bits]", "leaves_burst"),
    ("a row ends in the page of a sum that lacks a carry", "total[page_bytes_bits] ^ ", "total[page_bytes_bits] | "),
    ("a long further row is one burst", " | last_byte[burst_bits:].any()", ""),
    (
        "a further row ends late in its beat",
        "is_further_one_burst(Cat(rest, fewer)",
        "is_further_one_burst(Cat(Const(-1, shift), fewer)",
    ),
]


class Walk(Harness):
    """A walker beside the row that it should be at: its indices, and its address as a sum of strides."""

    def __init__(self) -> None:
        super().__init__(RowWalker(WALKER_BITS))

    def watch(self, m: Module) -> None:
        walker = self.dut
        running = Signal()
        loaded = Signal.like(walker.rows, name="loaded")
        outer, row = Signal.like(loaded.outer_count, name="outer"), Signal.like(loaded.row_count, name="row")
        outer_part, row_part = (Signal(WALKER_BITS, name=f"{level}_part") for level in ("outer", "row"))
        last_row, last_outer = row == loaded.row_count - 1, outer == loaded.outer_count - 1
        with m.If(walker.start):
            m.d.sync += [loaded.eq(walker.rows), running.eq(1)]
            m.d.sync += [register.eq(0) for register in (outer, row, outer_part, row_part)]
        with m.Elif(walker.step):
            m.d.sync += [
                row.eq(Mux(last_row, 0, row + 1)),
                row_part.eq(Mux(last_row, 0, row_part + loaded.row_stride)),
                outer.eq(outer + last_row),
                outer_part.eq(outer_part + Mux(last_row, loaded.outer_stride, 0)),
                running.eq(~(last_row & last_outer)),
            ]
        m.d.comb += [
            Assume((walker.rows.outer_count != 0) & (walker.rows.row_count != 0)),
            Assume(walker.active | ~walker.step),
            Assume(~walker.start | ~walker.active | (walker.step & walker.last)),
            Assert(walker.active == running),
        ]
        with m.If(running):
            m.d.comb += [
                Assert(walker.address == (loaded.address + outer_part + row_part)[:WALKER_BITS]),
                Assert(walker.last == (last_row & last_outer)),
            ]


def walk_invariant(circuit: Netlist) -> z3.BoolRef:
    loaded, row, outer = circuit["loaded"], circuit["row"], circuit["outer"]
    rows, outers = circuit["loaded.row_count"], circuit["loaded.outer_count"]
    last_row = row == rows - 1
    return z3.Implies(
        circuit["running"],
        z3.And(
            circuit["dut.held"] == loaded,
            circuit["dut.outer_address"] == circuit["loaded.address"] + circuit["outer_part"],
            circuit["dut.rows_left"] == rows - row,
            circuit["dut.last_row"] == last_row,
            circuit["dut.single_row"] == (rows == 1),
            circuit["dut.next_last_row"] == z3.If(last_row, rows == 1, row == rows - 2),
            circuit["dut.base"] == z3.If(last_row, circuit["dut.outer_address"], circuit["dut.address"]),
            circuit["dut.stride"] == z3.If(last_row, circuit["loaded.outer_stride"], circuit["loaded.row_stride"]),
            circuit["dut.outer_left"] == outers - outer,
            circuit["dut.last_outer"] == (outer == outers - 1),
            z3.ULT(row, rows),
            z3.ULT(outer, outers),
        ),
    )


class Cut(Harness):
    """A generator beside the beat that should come next and how many of its row follow it."""

    def __init__(self, bus_bytes: int) -> None:
        self._bus_bytes, self._page_beats = bus_bytes, BURST_BOUNDARY_BYTES // bus_bytes
        super().__init__(BurstGenerator(bus_bytes, OUTSTANDING, ROW_BYTES_BITS))

    def watch(self, m: Module) -> None:
        bus_bytes, page_beats = self._bus_bytes, self._page_beats
        dut, burst = self.dut, self.dut.burst.payload
        m.submodules.twin = rows = RowWalker(ADDRESS_BITS)
        offered, accepted, ends, stalled = (Signal(name=name) for name in ("offered", "accepted", "ends", "stalled"))
        length = Signal(ROW_BYTES_BITS)
        beat, following = (
            Signal(ADDRESS_BITS - exact_log2(bus_bytes), name="beat"),
            Signal(ADDRESS_BITS, name="following"),
        )
        unfinished = Signal(range(OUTSTANDING + 1))
        m.d.comb += [
            offered.eq(dut.burst.valid),
            accepted.eq(offered & dut.burst.ready),
            ends.eq(burst.length == following),
            rows.rows.eq(dut.rows),
            rows.start.eq(dut.start),
            rows.step.eq(accepted & ends),
            Assume(dut.free | ~dut.start),
            Assume((dut.rows.outer_count != 0) & (dut.rows.row_count != 0) & (dut.row_bytes != 0)),
            Assume((unfinished != 0) | ~dut.ended),
            Assert(dut.free == ~rows.active),
            Assert(unfinished <= OUTSTANDING),
        ]
        m.d.sync += unfinished.eq(unfinished + accepted - dut.ended)
        with m.If(dut.start):
            m.d.sync += length.eq(dut.row_bytes)
        with m.If(dut.start | rows.step):
            end = rows.next_address + Mux(dut.start, dut.row_bytes, length) - 1
            m.d.sync += [
                beat.eq(rows.next_address // bus_bytes),
                following.eq(end // bus_bytes - rows.next_address // bus_bytes),
            ]
        with m.Elif(accepted):
            m.d.sync += [beat.eq(beat + burst.length + 1), following.eq(following - burst.length - 1)]
        before = Signal.like(burst, name="before")
        m.d.sync += [stalled.eq(offered & ~dut.burst.ready), before.eq(burst)]
        last_of_page = burst.address % BURST_BOUNDARY_BYTES // bus_bytes + burst.length
        with m.If(offered):
            m.d.comb += [
                Assert(rows.active),
                Assert(burst.address == beat * bus_bytes),
                Assert(burst.length <= following),
                Assert(last_of_page < page_beats),
                Assert(ends | (last_of_page == page_beats - 1) | (burst.length == BURST_BEATS - 1)),
                Assert(burst.final == (ends & rows.last)),
            ]
        with m.If(stalled):
            m.d.comb += [Assert(offered), Assert(before == burst)]


def cut_invariant(circuit: Netlist, bus_bytes: int) -> z3.BoolRef:
    """The two walkers are equal; what is left of the row; a burst that stalls stays as it is."""
    walkers = (
        "active", "outer_address", "base", "stride", "rows_left", "outer_left", "single_row",
        "next_last_row", "last_row", "last_outer", "held",
    )  # fmt: skip
    left, following, length = circuit["dut.left"], circuit["following"], circuit["length"]
    fewer, more, rest = (circuit[f"dut.{name}"] for name in ("fewer", "more", "rest"))
    shift, page_beats = exact_log2(bus_bytes), BURST_BOUNDARY_BYTES // bus_bytes
    whole = z3.ZeroExt(shift, fewer) << shift
    to_last = z3.ZeroExt(whole.size() - length.size(), length) - 1
    room = page_beats - 1 - circuit["beat"] % page_beats
    room = z3.If(z3.ULT(room, BURST_BEATS), room, BURST_BEATS - 1)
    row = z3.And(
        circuit["dut.row_done"] == z3.ULE(following, z3.ZeroExt(following.size() - room.size(), room)),
        length != 0,
        whole + z3.ZeroExt(whole.size() - rest.size(), rest) == to_last,
        more == fewer + 1,
        z3.ZeroExt(following.size() - left.size(), left) == following,
        circuit["dut.beat"] == circuit["beat"],
    )
    return z3.And(
        *(circuit[f"dut.walker.{name}"] == circuit[f"twin.{name}"] for name in walkers),
        circuit["dut.open_bursts"] == circuit["unfinished"],
        z3.Implies(circuit["twin.active"], row),
        z3.Implies(circuit["stalled"], circuit["before"] == circuit["burst__payload"]),
    )


def test_rows_are_the_closed_form() -> None:
    circuit = netlist(Walk())
    assert is_proved(circuit, walk_invariant(circuit))


@pytest.mark.parametrize("bus_bytes", BUSES)
def test_bursts_are_legal_and_cover_every_row(bus_bytes: int) -> None:
    circuit = netlist(Cut(bus_bytes))
    assert is_proved(circuit, cut_invariant(circuit, bus_bytes))


@pytest.mark.parametrize(("what", "old", "new"), WALKER_MUTANTS, ids=[row[0] for row in WALKER_MUTANTS])
def test_mutants_of_the_walker_are_found(what: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch, bursts, "RowWalker", "elaborate", old, new)
    assert violation(netlist(Walk()), cycles=8) is not None, f"the proof must fail where {what}"


@pytest.mark.parametrize(("what", "old", "new"), CUT_MUTANTS, ids=[row[0] for row in CUT_MUTANTS])
def test_mutants_of_the_cut_are_found(what: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch, bursts, "BurstGenerator", "_cut", old, new)
    found = [violation(netlist(Cut(bus_bytes)), cycles=4) for bus_bytes in BUSES]
    assert any(cycle is not None for cycle in found), f"the proof must fail where {what}"
