"""Affine loop nests: addresses and positions from counts and strides, with adders only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amaranth.hdl import Const, Module, Shape, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.pipeline import one_hot


class LoopNest(wiring.Component):
    """Steps through a loop nest, one iteration per cycle, and keeps variables that are affine in its indices.

    The cycle after one with `load` shows the first iteration of the nest that `counts`, `starts` and `strides` describe
    in the cycle of `load`; `load` may accompany the last `step` of the nest before, so that nests follow each other
    without a gap. Without it, no value has a meaning behind the last `step`.

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
    done, ending : Out(1)
        The nest is in its last iteration; will be in the next cycle.

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
                "ending": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        # Whether, in the next cycle, the levels from this one inwards are in their last iteration.
        inner_last, ending = Const(1), [Const(1)]
        for level in reversed(self._levels):
            next_last = self._count(m, level, self.step & inner_last)
            inner_last = inner_last & self.last[level]
            ending.insert(0, ending[0] & next_last)
        m.d.comb += self.ending.eq(ending[0])
        m.d.sync += self.done.eq(self.ending)
        if self._moved:
            strides, moves = self._held(m, self.strides, "strides_held"), _Moves(m, self._levels, ending)
            for name in self._moved:
                self._variable(m, name, strides[name], moves)
        return m

    def _held(self, m: Module, port: Value, name: str) -> Signal:
        """The value of `port` in the cycle of `load`."""
        held = Signal.like(port, name=name, reset_less=True)
        with m.If(self.load):
            m.d.sync += held.eq(port)
        return held

    def _count(self, m: Module, level: str, inner_done: Value) -> Signal:
        """Count a level's remaining iterations down when the levels inside are done; reload them when it wraps, which
        the outermost one does not.

        Returns whether the level is in its last iteration in the next cycle.
        """
        count = self.counts[level]
        held = self._held(m, count, f"{level}_count") if level != self._levels[0] else None
        left = Signal.like(count, name=f"{level}_left", reset_less=True)
        first, last = (Signal(name=f"{level}_{name}", reset_less=True) for name in ("first", "last"))
        next_last = Signal(name=f"{level}_next_last")
        m.d.comb += [self.first[level].eq(first), self.last[level].eq(last), next_last.eq(last)]
        m.d.sync += last.eq(next_last)
        with m.If(self.load):
            m.d.sync += [left.eq(count), first.eq(1)]
            m.d.comb += next_last.eq(count == 1)
        if level != self._levels[0]:
            with m.Elif(inner_done & last):
                m.d.sync += [left.eq(held), first.eq(1)]
                m.d.comb += next_last.eq(held == 1)
        with m.Elif(inner_done):
            m.d.sync += [left.eq(left - 1), first.eq(0)]
            m.d.comb += next_last.eq(left == 2)
        return next_last

    def _variable(self, m: Module, name: str, strides: data.View, moves: _Moves) -> None:
        """Keep the variable's value at the start of the current iteration of the outermost and of each moving level.

        The sum of the next step is made from the flags of the moving level alone, and taken with `step`.
        """
        start, value, count = self.starts[name], self.values[name], len(self._levels)
        following = Signal.like(value, name=f"{name}_following")
        kept = sorted({0, *(self._levels.index(level) for level in self._moved[name])})
        bases = [Signal.like(value, name=f"{name}_{self._levels[i]}", reset_less=True) for i in kept]
        chosen = []
        for base, i, end in zip(bases, kept, [*kept[1:], count], strict=True):
            taken = self.step & moves(0, i)
            with m.If(self.load):
                m.d.sync += base.eq(start)
            with m.Elif(taken):
                m.d.sync += base.eq(following)
            chosen.append((moves(i, end - 1), base.as_unsigned()))
        stride = one_hot(
            (moves(i, i), strides[level].as_unsigned())
            for i, level in enumerate(self._levels)
            if level in self._moved[name]
        )
        m.d.comb += [following.eq(one_hot(chosen) + stride), value.eq(bases[-1])]


class _Moves:
    """Whether a level among some neighbours is the one that the next step moves: registers, as all variables wait.

    Parameters
    ----------
    m : Module
    levels : sequence of str
    ending : sequence of Value
        For each level, and for none: it and all inside of it are in their last iteration in the next cycle.
    """

    def __init__(self, m: Module, levels: Sequence[str], ending: Sequence[Value]):
        self._m, self._levels, self._ending = m, levels, ending
        self._made: dict[tuple[int, int], Signal] = {}

    def __call__(self, outer: int, inner: int) -> Signal:
        """For the levels of numbers `outer` to `inner`; if all outer ones are among them, in the last step, too."""
        if (outer, inner) not in self._made:
            names = dict.fromkeys((self._levels[outer], self._levels[inner]))
            self._made[outer, inner] = moves = Signal(name=f"{'_to_'.join(names)}_moves", reset_less=True)
            self._m.d.sync += moves.eq(self._ending[inner + 1] & ~(self._ending[outer] if outer else Const(0)))
        return self._made[outer, inner]
