"""What the watchdog watches: whether anything moves, and which instruction it is that does not."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, wiring

from accel.machine.isa import Opcode, Unit
from accel.machine.registers import FETCH_SOURCE
from rtl.interfaces import NUMBER_BITS, PLACE, layout
from rtl.pipeline import delayed

WAITING = data.StructLayout({"place": PLACE, "age": NUMBER_BITS})
"""An instruction that does not go on, and how many instructions were dispatched from it on."""

SETTLING_CYCLES = len(Unit) + 2
"""Cycles after which `oldest_waiting` says nothing more of what was before: a register for each unit behind two."""


def progress(m: Module, units: Sequence[wiring.Component], fetch: wiring.Component) -> Signal:
    """Two cycles before, a unit or fetch worked, or there was a transfer on a bus."""
    pairs = [(fetch.busy, fetch.busy), *((unit.control.occupied, unit.control.busy) for unit in units)]
    for bus in (master.bus for master in (fetch, *units) if hasattr(master, "bus")):
        channels = [name.removesuffix("valid") for name in bus.signature.members if name.endswith("valid")]
        pairs += [(getattr(bus, f"{name}valid"), getattr(bus, f"{name}ready")) for name in channels]
    # All are known late in their cycle.
    one, other = (
        delayed(m, Cat(side), 1, name)
        for side, name in zip(zip(*pairs, strict=True), ("offers", "accepts"), strict=True)
    )
    return delayed(m, (one & other).any(), 1, "progress")


def oldest_waiting(m: Module, units: Sequence[wiring.Component], dispatched: Value) -> data.View:
    """The oldest instruction at the head of a queue or, in LOAD and STORE, between issue and completion; or fetch's.

    It is right `SETTLING_CYCLES` after everything stands still: the comparisons follow each other through registers.
    """
    oldest = Signal(WAITING)
    m.d.comb += [oldest.place.unit.eq(FETCH_SOURCE), oldest.place.number.eq(dispatched)]
    for index, unit in enumerate(units):
        control = unit.control
        place, waits = Signal(PLACE, name=f"waiting{index}"), control.instruction.valid
        number = layout(Opcode[Unit(index).name])(control.instruction.payload).number
        m.d.comb += [place.unit.eq(index), place.number.eq(number)]
        if hasattr(unit, "place"):
            with m.If(~control.idle):
                m.d.comb += place.eq(unit.place)
            waits = waits | ~control.idle
        mine, older = (Signal(WAITING, name=f"{name}{index}", reset_less=True) for name in ("mine", "older"))
        found = delayed(m, place, 1, f"found{index}")
        waiting = delayed(m, waits, 2, f"waits{index}", reset_less=False)
        m.d.sync += [mine.place.eq(found), mine.age.eq(dispatched - found.number)]
        with m.If(waiting & (mine.age > oldest.age)):
            m.d.sync += older.eq(mine)
        with m.Else():
            m.d.sync += older.eq(oldest)
        oldest = older
    return oldest
