"""Errors: the sticky bits, and where the first one happened."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.isa import INSTRUCTION_BYTES
from accel.machine.registers import COUNT_BITS, ERRORS, FETCH_SOURCE
from rtl.interfaces import NUMBER_BITS, PLACE
from rtl.pipeline import delayed

OVERDUE = 2
"""Cycles after a run's end of which errors are still its own. A semaphore that overflows is the last one, in the first
of them: three cycles after the post, and two after that the next run can start."""


class ErrorLog(wiring.Component):
    """The registers ERROR, ERROR_FIRST, ERROR_INDEX and ERROR_ADDRESS.

    No program sees them, so they take their time: an error is in them two cycles after it was raised, and its address,
    if fetch found it, three. What a run raises until `OVERDUE` cycles after its end is not taken for the next one's.

    Members
    -------
    clear, refused : In
        Forget all errors; then what is wrong with the start itself, with index 0.
    written : In
        Bits of ERROR to clear.
    raised, place : In
        Errors of this cycle; where the one of those of the cycle before happened that is reported, of fetch without
        address.
    program_address : In
        Where in the image the first instruction is.
    dispatched : In
        Index of the next instruction that fetch dispatches; an instruction that raises an error is less than
        ``2**NUMBER_BITS`` before it, and its number the low bits of its index.
    errors, first, unit, index, address : Out
        The registers' values; `first` and what follows belong to the first error after `clear`.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "clear": In(1),
                "refused": In(len(ERRORS)),
                "written": In(len(ERRORS)),
                "raised": In(len(ERRORS)),
                "place": In(PLACE),
                "program_address": In(32),
                "dispatched": In(COUNT_BITS),
                "errors": Out(len(ERRORS)),
                "first": Out(len(ERRORS)),
                "unit": Out(4),
                "index": Out(COUNT_BITS),
                "address": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        captured, dispatched = Signal.like(self.raised, name="captured"), Signal(COUNT_BITS, name="captured_dispatched")
        after = [self.clear]
        for cycle in range(OVERDUE):
            after.append(delayed(m, after[-1], 1, f"after{cycle}", reset_less=False))
        raised = (captured & ~Cat(after).any().replicate(len(captured))) | self.refused
        place, by_fetch = self.place, Signal(2, name="by_fetch")
        low_then, late, none = Signal(NUMBER_BITS, name="low_then"), Signal(name="late"), Signal(init=1, name="none")
        m.d.sync += [captured.eq(self.raised), dispatched.eq(self.dispatched), by_fetch.eq(by_fetch << 1), late.eq(0)]
        low, high = dispatched[:NUMBER_BITS], dispatched[NUMBER_BITS:]
        m.d.sync += self.errors.eq((self.errors & ~(self.written | self.clear.replicate(len(raised)))) | raised)
        with m.If(raised.any() & (none | self.clear)):
            m.d.sync += [
                none.eq(0),
                self.first.eq(raised),
                self.unit.eq(place.unit),
                self.index.eq(Cat(place.number, high & ~self.clear.replicate(len(high)))),
                low_then.eq(low),
                late.eq(1),
                self.address.eq(place.address),
                by_fetch[0].eq(place.unit == FETCH_SOURCE),
            ]
        with m.Elif(self.clear):
            m.d.sync += [self.first.eq(0), none.eq(1)]
        # The index, and from it the address, are complete a cycle and two cycles later.
        with m.If(late):
            before = self.index[:NUMBER_BITS] > low_then
            m.d.sync += self.index[NUMBER_BITS:].eq(self.index[NUMBER_BITS:] - before)
        with m.If(by_fetch[1]):
            m.d.sync += self.address.eq(self.program_address + self.index * INSTRUCTION_BYTES)
        return m
