"""Affine loop nests: addresses and positions from counts and strides, with adders only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out


class LoopNest(wiring.Component):
    """Steps through a loop nest, one iteration per cycle, and keeps variables that are affine in its indices.

    The cycle after one with `load` shows the first iteration of the nest that `counts`, `starts` and `strides` describe
    in the cycle of `load`; `load` may accompany the last `step` of the nest before, so that nests follow each other
    without a gap. A `step` after the last iteration has no meaning without `load`.

    Parameters
    ----------
    levels : mapping of str to int
        Width of each level's count, outermost level first.
    variables : mapping of str to (shape, sequence of str)
        Each variable's shape, at which its arithmetic wraps, and the levels that move it.

    Members
    -------
    load, step : In(1)
    counts : In, one member per level
        Iterations, at least 1.
    starts : In, one member per variable
        Values in the first iteration.
    strides : In, one member per variable with one member per level that moves it
    values : Out, one member per variable
        Values in the current iteration.
    first, last : Out, one bit per level
        The level is in its first, its last iteration.
    done : Out(1)
        The nest is in its last iteration.

    Notes
    -----
    Without variables there are no `starts`, `strides` and `values`: a signal of no bits is no legal Verilog.
    """

    def __init__(self, levels: Mapping[str, int], variables: Mapping[str, tuple[Shape, tuple[str, ...]]]):
        self._levels = list(levels)
        self._moved = {name: moved for name, (_, moved) in variables.items()}
        values = data.StructLayout({name: shape for name, (shape, _) in variables.items()})
        flags = data.StructLayout(dict.fromkeys(levels, 1))
        strides = {name: data.StructLayout(dict.fromkeys(moved, shape)) for name, (shape, moved) in variables.items()}
        moving = {"starts": In(values), "strides": In(data.StructLayout(strides)), "values": Out(values)}
        super().__init__(
            {
                **(moving if variables else {}),
                "load": In(1),
                "step": In(1),
                "counts": In(data.StructLayout(dict(levels))),
                "first": Out(flags),
                "last": Out(flags),
                "done": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        counts = self._held(m, self.counts)
        m.d.comb += self.done.eq(self.last.as_value().all())
        # Which level the next step moves is a register, as all variables wait for it.
        moves, inner_last, inner_next_last = {}, Const(1), Const(1)
        for level in reversed(self._levels):
            next_last = self._count(m, level, counts[level], self.step & inner_last)
            if self._moved:
                moves[level] = Signal(name=f"{level}_moves")
                m.d.sync += moves[level].eq(inner_next_last & ~next_last)
            inner_last, inner_next_last = inner_last & self.last[level], inner_next_last & next_last
        if self._moved:
            strides = self._held(m, self.strides)
            for name in self._moved:
                self._variable(m, name, strides[name], moves)
        return m

    def _held(self, m: Module, port) -> Signal:
        """The value of `port` in the cycle of `load`."""
        held = Signal.like(port)
        with m.If(self.load):
            m.d.sync += held.eq(port)
        return held

    def _count(self, m: Module, level: str, count: Value, inner_done: Value) -> Signal:
        """Count a level's remaining iterations down when the levels inside are done; reload them when it wraps.

        Returns whether the level is in its last iteration in the next cycle.
        """
        left = Signal.like(count, name=f"{level}_left")
        first, last = Signal(name=f"{level}_first"), Signal(name=f"{level}_last")
        next_last = Signal(name=f"{level}_next_last")
        m.d.comb += [self.first[level].eq(first), self.last[level].eq(last), next_last.eq(last)]
        m.d.sync += last.eq(next_last)
        with m.If(self.load):
            m.d.sync += [left.eq(self.counts[level]), first.eq(1)]
            m.d.comb += next_last.eq(self.counts[level] == 1)
        with m.Elif(inner_done & last):
            m.d.sync += [left.eq(count), first.eq(1)]
            m.d.comb += next_last.eq(count == 1)
        with m.Elif(inner_done):
            m.d.sync += [left.eq(left - 1), first.eq(0)]
            m.d.comb += next_last.eq(left == 2)
        return next_last

    def _variable(self, m: Module, name: str, strides: data.View, moves: Mapping[str, Signal]) -> None:
        """Keep the variable's value at the start of the current iteration of the outermost and of each moving level.

        The sum of the next step is made from the flags of the moving level alone, and taken with `step`.
        """
        start, value = self.starts[name], self.values[name]
        following = Signal.like(value, name=f"{name}_following")
        bases: list[Signal] = []
        chosen_bases, chosen_strides = [], []
        for i, level in enumerate(self._levels):
            moving = level in self._moved[name]
            if moving or not bases:
                bases.append(Signal.like(value, name=f"{name}_{level}"))
                with m.If(self.load):
                    m.d.sync += bases[-1].eq(start)
                with m.Elif(self.step & Cat(moves[outer] for outer in self._levels[: i + 1]).any()):
                    m.d.sync += bases[-1].eq(following)
            mine = moves[level].replicate(len(value))
            chosen_bases.append(bases[-1].as_unsigned() & mine)
            if moving:
                chosen_strides.append(strides[level].as_unsigned() & mine)
        m.d.comb += [
            following.eq(reduce(or_, chosen_bases) + reduce(or_, chosen_strides)),
            value.eq(bases[-1]),
        ]
