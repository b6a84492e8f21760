"""Meanings of a network's tensors while a graph is built from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.network.windows import Shape
from accel.quantized.builder import Parameters
from accel.quantized.recipes import Function, Limits
from accel.quantized.view import View

EVERYTHING: Limits = (-math.inf, math.inf)


@dataclass(frozen=True)
class Integers:
    """A tensor of the graph, and how it holds that of the source."""

    name: str
    view: View

    @property
    def shape(self) -> Shape:
        """In the source."""
        return self.view.shape


class Target(NamedTuple):
    """The tensor that a real result becomes: name, parameters, real bounds."""

    name: str
    parameters: Parameters
    limits: Limits = EVERYTHING


@dataclass(frozen=True, eq=False)
class Real:
    """A result whose integers wait for their parameters.

    Parameters
    ----------
    shape : tuple of int
        In the source.
    finish : callable
        Makes the integers.
    limits : (float, float)
        Real bounds that clips have set.
    operator : str
        The operator that it comes from: its nodes are named after that one.
    """

    shape: Shape
    finish: Callable[[Target], Integers]
    limits: Limits = EVERYTHING
    operator: str = ""

    def clipped(self, low: float, high: float) -> Real:
        """The result limited to ``[low, high]`` too."""
        return replace(self, limits=(max(low, self.limits[0]), min(high, self.limits[1])))


@dataclass(frozen=True, eq=False)
class Sums(Real):
    """Sums of products; a factor and an offset per output channel become part of weights and bias.

    Parameters
    ----------
    affine : callable
        From factors and offsets, of float64 and shape (channels,), to the changed sums.
    channels : int
    axis : int
        That of the channels.
    """

    affine: Callable[[NDArray[np.float64], NDArray[np.float64]], Sums] | None = None
    channels: int = 0
    axis: int = 1


@dataclass(frozen=True, eq=False)
class OfOne:
    """A function of one variable of integers, not computed yet; functions of functions are one table."""

    source: Integers
    function: Function
    operator: str = ""

    @property
    def shape(self) -> Shape:
        """In the source."""
        return self.source.shape

    def then(self, function: Callable[[NDArray[np.float32]], NDArray[Any]]) -> OfOne:
        """`function` of this one, in float32."""
        before = self.function
        return replace(self, function=lambda x: np.asarray(function(before(x)), dtype=np.float32))


@dataclass(frozen=True, eq=False)
class Known:
    """A constant; with integer parameters, its integers and what they stand for."""

    real: NDArray[Any]
    parameters: Parameters | None = None
    integers: NDArray[np.int8] | None = None

    @property
    def shape(self) -> Shape:
        """In the source."""
        return self.real.shape


@dataclass(frozen=True)
class OnHost:
    """A tensor of the host, in the source's order: real numbers, or integers other than int8."""

    name: str
    shape: Shape
    dtype: str


Value: TypeAlias = Integers | Real | OfOne | Known | OnHost
