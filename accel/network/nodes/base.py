"""The base of all operations: names, arity, checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.errors import GraphError
from accel.machine.numerics import INT8_MAX, INT8_MIN
from accel.network.windows import Shape, check_range

Multiplier: TypeAlias = tuple[int, int]
"""A multiplier and its shift, as in `accel.machine.numerics`."""

Pair: TypeAlias = tuple[int, int]
"""Vertical, horizontal."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """An operation with named inputs and an output; the base of all nodes.

    Parameters
    ----------
    name : str
        Unique in the graph; error messages use it.
    inputs : tuple of str
    output : str
    """

    name: str
    inputs: tuple[str, ...]
    output: str

    arity: ClassVar[int | None] = 1
    """Number of inputs; None for one or more."""
    keeps_parameters: ClassVar[bool] = False
    """The output must have the scale and zero point of every input."""
    smallest_multiplier: ClassVar[int] = 2**30
    """Multipliers of the integer modes are not smaller, unless they are zero."""
    input_dtype: ClassVar[str | None] = "int8"
    """Type of all inputs; None for any."""
    output_dtype: ClassVar[str | None] = "int8"
    """Type of all outputs; None for any."""

    @property
    def op(self) -> str:
        """Name of the operation: that of the class."""
        return type(self).__name__

    @property
    def label(self) -> str:
        """What reports call the operation."""
        return self.op

    @property
    def outputs(self) -> tuple[str, ...]:
        """All outputs, the first of which is `output`."""
        return (self.output,)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Shape of the output for the shapes of the inputs; `GraphError` if they do not fit the node."""
        raise NotImplementedError

    def macs(self, *shapes: Shape) -> int:
        """Products of a weight and an input for the shapes of the inputs, padding included; 0 without weights."""
        return 0

    def multipliers(self) -> tuple[tuple[NDArray[np.int32], NDArray[np.int8]], ...]:
        """All (multipliers, shifts) that the node requantizes with."""
        return ()

    def check(self) -> None:
        """Raise `GraphError` unless the fields, seen alone, are in their ranges."""

    def error(self, problem: str) -> GraphError:
        """A `GraphError` that names this node."""
        return GraphError(f"{self.op} {self.name!r}: {problem}")

    def freeze(self, field: str, dtype: type[np.generic], shape: str, ndim: int) -> None:
        """Check an array field and replace it by a read-only copy; `shape` describes the expected one."""
        value = getattr(self, field)
        if not (isinstance(value, np.ndarray) and value.dtype == np.dtype(dtype) and value.ndim == ndim):
            got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
            raise self.error(f"{field} must be an array of {np.dtype(dtype)} with shape {shape}, got {got}")
        if value.flags.writeable or not value.flags.c_contiguous:
            copy = np.array(value, order="C")
            copy.flags.writeable = False
            object.__setattr__(self, field, copy)

    def check_integers(self, field: str, lo: int, hi: int, length: int | None = None) -> None:
        """Raise `GraphError` unless a field holds integers in ``[lo, hi]``, `length` of them or at least one."""
        values = getattr(self, field)
        sized = isinstance(values, tuple) and len(values) == (length or max(1, len(values)))
        if not (sized and all(isinstance(value, int) and lo <= value <= hi for value in values)):
            count = "" if length is None else f"{length} "
            raise self.error(f"{field} must be {count}integers in [{lo}, {hi}], got {values!r}")

    def check_multiplier(self, multiplier: int, shift: int) -> None:
        """Raise `GraphError` unless a multiplier and a shift are small enough for arrays of int32 and int8."""
        check_range(f"{self.op} {self.name!r}", "multiplier", multiplier, 0, 2**31 - 1)
        check_range(f"{self.op} {self.name!r}", "shift", shift, INT8_MIN, INT8_MAX)


@dataclass(frozen=True, eq=False, kw_only=True)
class Clamped(Node):
    """A node whose output is limited to ``[act_min, act_max]``."""

    act_min: int = INT8_MIN
    act_max: int = INT8_MAX

    def check(self) -> None:
        check_range(f"{self.op} {self.name!r}", "act_min", self.act_min, INT8_MIN, INT8_MAX)
        check_range(f"{self.op} {self.name!r}", "act_max", self.act_max, self.act_min, INT8_MAX)


@dataclass(frozen=True, eq=False, kw_only=True)
class Requantized(Clamped):
    """A node whose sums are requantized with one multiplier: ``clamp(R(sum, multiplier, shift) + zp_out)``."""

    multiplier: int
    shift: int

    def check(self) -> None:
        super().check()
        self.check_multiplier(self.multiplier, self.shift)

    def multipliers(self) -> tuple[tuple[NDArray[np.int32], NDArray[np.int8]], ...]:
        return (as_arrays(self.multiplier, self.shift),)


def as_arrays(multiplier: int, shift: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """One multiplier and shift as arrays."""
    return np.array([multiplier], dtype=np.int32), np.array([shift], dtype=np.int8)
