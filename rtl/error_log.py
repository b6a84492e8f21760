"""Errors: the sticky bits, and where the first one happened."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.registers import ERRORS
from rtl.interfaces import NUMBER_BITS, PLACE


class ErrorLog(wiring.Component):
    """The registers ERROR, ERROR_FIRST, ERROR_INDEX and ERROR_ADDRESS.

    Members
    -------
    clear : In
        Forget all errors but those of this cycle.
    written : In
        Bits of ERROR to clear.
    raised, place : In
        Errors of this cycle, and where the one of them happened that is reported.
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
                "written": In(len(ERRORS)),
                "raised": In(len(ERRORS)),
                "place": In(PLACE),
                "dispatched": In(32),
                "errors": Out(len(ERRORS)),
                "first": Out(len(ERRORS)),
                "unit": Out(4),
                "index": Out(32),
                "address": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        behind = Signal(NUMBER_BITS)
        m.d.comb += behind.eq(self.dispatched[:NUMBER_BITS] - self.place.number)
        with m.If(self.clear):
            m.d.sync += [self.errors.eq(self.raised), self.first.eq(0)]
        with m.Else():
            m.d.sync += self.errors.eq((self.errors & ~self.written) | self.raised)
        with m.If(self.raised.any() & (self.clear | ~self.first.any())):
            m.d.sync += [
                self.first.eq(self.raised),
                self.unit.eq(self.place.unit),
                self.index.eq(self.dispatched - behind),
                self.address.eq(self.place.address),
            ]
        return m
