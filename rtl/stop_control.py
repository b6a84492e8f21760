"""The end of a run before its program's: by the driver, or by the watchdog."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from accel.machine.latencies import reset_cycles
from rtl.pipeline import delayed
from rtl.progress import SETTLING_CYCLES


class StopControl(wiring.Component):
    """First lets the buses finish what they began, then resets units and fetch until nothing moves in any pipeline.

    Members
    -------
    running : In
        A run is under way.
    stop : In
        End it.
    progress : In
        Something happened two cycles before: a unit worked, or a bus moved.
    limit : In
        Cycles without progress after which the run is stopped, not counted in its first `SETTLING_CYCLES`, in which
        the run before may still be seen; 0: never.
    rewritten : In
        `limit` was written in the cycle before; the cycles count anew.
    drained : In
        All buses are at rest.
    expired : Out
        The watchdog stops the run in this cycle, one after the last that its limit allows.
    halt : Out
        No bus may begin anything; what comes back is dropped.
    reset, ended : Out
        Units and fetch are reset; this is the last cycle of that and of the run.
    """

    def __init__(self, config: ArchConfig):
        self._reset_cycles = reset_cycles(config)
        super().__init__(
            {
                "running": In(1),
                "stop": In(1),
                "progress": In(1),
                "limit": In(32),
                "rewritten": In(1),
                "drained": In(1),
                "expired": Out(1),
                "halt": Out(1),
                "reset": Out(1),
                "ended": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left = Signal(32)
        none_left = Signal()
        limited = Signal()
        reset_left = Signal(range(self._reset_cycles))
        settling = Signal(range(SETTLING_CYCLES))
        settled = Signal()
        watched = self.running & settled & ~self.halt & limited
        over = delayed(m, watched & none_left & ~self.progress, 1, "over", reset_less=False)
        m.d.comb += [
            self.expired.eq(over & self.running & ~self.halt),
            self.ended.eq(self.reset & (reset_left == 0)),
        ]
        with m.If(~self.running):
            m.d.sync += [settling.eq(SETTLING_CYCLES - 1), settled.eq(0)]
        with m.Else():
            m.d.sync += [settling.eq(Mux(settling == 0, 0, settling - 1)), settled.eq(settling == 0)]
        # Comparisons with zero are made a cycle ahead: what the watchdog says goes a long way from here.
        m.d.sync += limited.eq(self.limit != 0)
        with m.If(self.progress | ~watched | self.rewritten):
            m.d.sync += [left.eq(self.limit), none_left.eq(0)]
        with m.Else():
            m.d.sync += [left.eq(left - 1), none_left.eq(left == 1)]
        with m.If(self.ended):
            m.d.sync += [self.halt.eq(0), self.reset.eq(0)]
        with m.Elif(self.running & (self.stop | self.expired)):
            m.d.sync += self.halt.eq(1)
        with m.Elif(self.halt & self.drained & ~self.reset):
            m.d.sync += [self.reset.eq(1), reset_left.eq(self._reset_cycles - 1)]
        with m.Elif(self.reset):
            m.d.sync += reset_left.eq(reset_left - 1)
        return m
