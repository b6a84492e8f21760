"""Delay lines, choices that registers made, and sums of three."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from itertools import combinations
from operator import or_

from amaranth.hdl import Cat, Module, Shape, Signal, Value
from amaranth.lib import data


def delayed(m: Module, value, cycles: int, name: str, reset_less: bool = True):
    """`value` as it was `cycles` cycles ago.

    Parameters
    ----------
    m : Module
        Receives the registers, in the domain `sync`.
    value : value or view of any shape
    cycles : int
        0 returns `value` itself; so does a value of no bits, which Verilog has no register for.
    name : str
        Prefix of the registers' names.
    reset_less : bool
        False for control bits, which must not survive a reset.
    """
    shape = value.shape()
    cycles *= Shape.cast(shape).width > 0
    for stage in range(1, cycles + 1):
        register = Signal(shape, name=f"{name}_{stage}", reset_less=reset_less)
        m.d.sync += register.eq(value)
        value = register
    return value


def as_view(m: Module, values: Mapping[str, Value], name: str) -> data.View:
    """`values` as the fields of one signal."""
    view = Signal(data.StructLayout({field: value.shape() for field, value in values.items()}), name=name)
    m.d.comb += [view[field].eq(value) for field, value in values.items()]
    return view


def sum_of_three(first: Value, second: Value, third: Value) -> Value:
    """The sum, at their width, of three numbers of one width: it waits for one carry chain, not for two."""
    sums, carries = first ^ second ^ third, (first & second) | (first & third) | (second & third)
    return (sums + (carries << 1))[: len(sums)]


def several(bits: Iterable[Value]) -> Value:
    """Whether more than one of the bits is set."""
    return Cat(one & other for one, other in combinations(bits, 2)).any()


def one_hot(choices: Iterable[tuple[Value, Value]]) -> Value:
    """The value whose bit is set, 0 if none is; at most one of the bits may be."""
    return reduce(or_, (value & bit.replicate(len(value)) for bit, value in choices))
