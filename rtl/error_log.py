"""Errors: the sticky bits, and where the first one happened."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.isa import INSTRUCTION_BYTES
from accel.machine.registers import ERRORS, FETCH_SOURCE
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
        Errors of this cycle, and where the one of them happened that is reported; of fetch without address.
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
                "written": In(len(ERRORS)),
                "raised": In(len(ERRORS)),
                "place": In(PLACE),
                "program_address": In(32),
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
        index = Signal(32)
        by_fetch = self.place.unit == FETCH_SOURCE
        m.d.comb += [
            behind.eq(self.dispatched[:NUMBER_BITS] - self.place.number),
            index.eq(self.dispatched - behind),
        ]
        with m.If(self.clear):
            m.d.sync += [self.errors.eq(self.raised), self.first.eq(0)]
        with m.Else():
            m.d.sync += self.errors.eq((self.errors & ~self.written) | self.raised)
        with m.If(self.raised.any() & (self.clear | ~self.first.any())):
            m.d.sync += [
                self.first.eq(self.raised),
                self.unit.eq(self.place.unit),
                self.index.eq(index),
                self.address.eq(Mux(by_fetch, self.program_address + index * INSTRUCTION_BYTES, self.place.address)),
            ]
        return m
