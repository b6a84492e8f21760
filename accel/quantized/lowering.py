"""Shared state of the operators' translators: the graph in the making, and the meaning of every tensor so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.machine.numerics import RequantMode
from accel.network.nodes import Clamp, Rearrange, Table
from accel.network.windows import Shape
from accel.quantized import recipes
from accel.quantized.builder import GraphBuilder, Parameters
from accel.quantized.network import Network, Operator, Quantization
from accel.quantized.values import EVERYTHING, Integers, Known, OfOne, OnHost, Real, Target, Value
from accel.quantized.view import View


class NeedsHostError(ModelError):
    """An operator has no integer form where it stands.

    Parameters
    ----------
    operator : str
        Its name.
    cause : ModelError
        Why, for the message if it cannot run on the host.
    """

    def __init__(self, operator: str, cause: ModelError) -> None:
        super().__init__(str(cause))
        self.operator, self.cause = operator, cause


@dataclass
class Lowering:
    """The graph in the making for a network."""

    network: Network
    builder: GraphBuilder
    values: dict[str, Value] = field(default_factory=dict)
    reals: dict[Integers, OnHost] = field(default_factory=dict)

    @property
    def mode(self) -> RequantMode:
        """How the graph rounds."""
        return self.builder.mode

    def value(self, op: Operator, position: int) -> Value:
        """Input number `position`."""
        name = op.input(position)
        if not name:
            raise op.error(f"input number {position} must be given")
        if name in self.values:
            return self.values[name]
        constant = self.known(name)
        if constant is None:
            raise op.error(f"input {name!r} must be quantized")
        return constant

    def known(self, name: str) -> Known | None:
        """The constant of that name; None if it is none."""
        real = self.network.value(name)
        if real is None:
            return None
        found = self.network.parameters.get(name)
        if found is None or found.integers is None:
            return Known(real)
        if found.kind not in ("int8", "uint8") or found.scale.size > 1:
            return Known(found.real)
        shift = 128 if found.kind == "uint8" else 0
        return Known(found.real, found.parameters, (found.integers - shift).astype(np.int8))

    def integers(self, op: Operator, position: int) -> Integers:
        """Input number `position` as a tensor of the graph."""
        value = self.value(op, position)
        if isinstance(value, Known):
            return self.embedded(value, op.input(position))
        if isinstance(value, OfOne):
            problem = op.error(f"input {op.input(position)!r} must be quantized")
            return self.of_same_steps(value, op.input(position), problem)
        if isinstance(value, OnHost):
            raise NeedsHostError(op.name, op.error(f"input {op.input(position)!r} must be quantized"))
        if isinstance(value, Real):
            raise NeedsHostError(value.operator, op.error(f"input {op.input(position)!r} must be quantized"))
        return value

    def of_same_steps(self, value: OfOne, name: str, problem: ModelError) -> Integers:
        """A function of one variable, if its values are steps of its source; else it is the host's, for `problem`."""
        own = self.parameters(value.source)
        if not recipes.keeps_steps(value.function, own):
            raise NeedsHostError(value.operator, problem)
        return self.finished(value, Target(name, own))

    def embedded(self, value: Known, name: str) -> Integers:
        """A constant as a tensor of the graph: the network's integers, or new ones over its range."""
        integers, parameters = value.integers, value.parameters
        if integers is None or parameters is None:
            real = np.asarray(value.real, dtype=np.float32)
            limits = float(real.min(initial=0)), float(real.max(initial=0))
            parameters = recipes.affine_parameters(limits, self.mode)
            integers = recipes.quantize(real, parameters, self.mode)
        return Integers(self.builder.constant(integers, parameters, name), View.of(value.shape))

    def constant(self, op: Operator, position: int) -> NDArray[Any] | None:
        """The real value of input number `position`; None if it is absent.

        Raises
        ------
        ModelError
            The input is no constant.
        """
        name = op.input(position)
        if not name:
            return None
        known = self.known(name)
        if known is None:
            raise op.error(f"input {name!r} must be a constant")
        return known.real

    def numbers(self, op: Operator, attribute: str, position: int) -> tuple[int, ...] | None:
        """Integers that older versions give as an attribute and newer ones as a constant input; None if absent."""
        if attribute in op.attributes:
            value = op.attributes[attribute]
            return tuple(int(n) for n in value) if isinstance(value, Sequence) else (int(value),)
        constant = self.constant(op, position)
        return None if constant is None else tuple(int(n) for n in constant.reshape(-1))

    def quantization(self, op: Operator, position: int, what: str) -> Quantization:
        """Integers and parameters of a constant input."""
        found = self.network.parameters.get(op.input(position))
        if found is None or found.integers is None:
            raise op.error(f"{what} {op.input(position)!r} must be constant and quantized")
        return found

    def parameters(self, x: Integers) -> Parameters:
        """Scale and zero point."""
        return self.builder.parameters(x.name)

    def arranged(self, x: Integers, order: Sequence[int], shape: Shape | None = None) -> Integers:
        """The same tensor with its factors in another order in memory, under a shape of the graph if that is given."""
        view, target = x.view, View(x.view.factors, tuple(order))
        if view.order == target.order:
            return x if shape is None else Integers(self.builder.reshape(x.name, shape), view)
        stored = [view.sizes[number] for number in view.order]
        fields = {"sizes": tuple(stored), "permutation": tuple(view.order.index(number) for number in target.order)}
        after = shape or graph_shape([view.sizes[number] for number in target.order], range(len(stored)))
        own = self.parameters(x)
        name = self.builder.emit(Rearrange, [x.name], own, f"{x.name}_moved", **fields, shape=after)
        return Integers(name, target)

    def in_axes(self, x: Integers, axes: Sequence[int], shape: Shape) -> str:
        """The tensor of the graph, of `shape`, that holds `x` with its axes in the order `axes`."""
        return self.arranged(x, x.view.order_of(tuple(axes)), shape).name

    def row_major(self, x: Integers) -> Integers:
        """The tensor in the source's order."""
        return self.arranged(x, range(len(x.view.order)))

    def image(self, op: Operator, x: Integers) -> str:
        """The graph's tensor (1, height, width, channels) of an image (1, channels, height, width), or of (1, c, w)."""
        shape = x.shape
        if len(shape) not in (3, 4) or shape[0] != 1:
            raise op.error(f"input must have shape (1, channels, height, width) or (1, channels, size), got {shape!r}")
        pixels = (1,) * (4 - len(shape)) + shape[2:]
        return self.in_axes(x, (0, *range(2, len(shape)), 1), (1, *pixels, shape[1]))

    def of_image(self, name: str, rank: int) -> Integers:
        """The source's tensor, with `rank` axes, that the graph's image `name` holds."""
        _, height, width, channels = self.builder.shape(name)
        shape = (1, channels, height, width) if rank == 4 else (1, channels, width)
        return Integers(name, View.of(shape, (0, *range(2, rank), 1)))

    def finished(self, value: Value, target: Target) -> Integers:
        """A value as integers under the parameters of `target`."""
        low, high = target.limits
        if isinstance(value, Real):
            value, current = value.clipped(low, high), self.builder.operator
            self.builder.operator = value.operator or current
            result = value.finish(target._replace(limits=value.limits))
            self.builder.operator = current
            return result
        if isinstance(value, OnHost):
            from accel.quantized.host import to_machine

            return to_machine(self, value, target)
        if isinstance(value, Known) and value.integers is None:
            real = np.clip(value.real.astype(np.float32), np.float32(low), np.float32(high))
            integers = recipes.quantize(real, target.parameters, self.mode)
            return Integers(self.builder.constant(integers, target.parameters, target.name), View.of(value.shape))
        if isinstance(value, Known):
            value = self.embedded(value, target.name)
        if isinstance(value, Integers):
            if self.parameters(value) == target.parameters and target.limits == EVERYTHING:
                return value
            value = OfOne(value, lambda x: x)
        return self._table(value.then(lambda x: np.clip(x, np.float32(low), np.float32(high))), target)

    def _table(self, value: OfOne, target: Target) -> Integers:
        """A function of one variable as a node: a table, or a clamp where it limits the same integers."""
        source = self.parameters(value.source)
        table = recipes.table(value.function, source, target.parameters, self.mode)
        name, view = value.source.name, value.source.view
        low, high = int(table[0]), int(table[-1])
        if source == target.parameters and np.array_equal(table, np.arange(-128, 128).clip(low, high)):
            if (low, high) == (-128, 127):
                return value.source
            fields = {"act_min": low, "act_max": high}
            return Integers(self.builder.emit(Clamp, [name], target.parameters, target.name, **fields), view)
        return Integers(self.builder.emit(Table, [name], target.parameters, target.name, table=table), view)

    def settle(self, op: Operator, name: str, value: Value) -> None:
        """Make `value` the tensor `name`: integers, if the network has parameters for it."""
        found = self.network.parameters.get(name)
        if found is not None:
            try:
                value = self.finished(value, Target(name, found.parameters))
            except NeedsHostError:
                raise
            except ModelError as error:
                raise error if str(error).startswith(op.kind) else op.error(str(error)) from error
        self.values[name] = value


def usual_order(shape: Shape) -> tuple[int, ...]:
    """Images with the channels last; other tensors in row-major order."""
    rank = len(shape)
    return (0, 2, 3, 1) if rank == 4 else tuple(range(rank))


def graph_shape(shape: Sequence[int], axes: Sequence[int]) -> Shape:
    """The shape of a graph's tensor that holds axes of `shape` in the order `axes`: two axes, or four."""
    stored = [shape[axis] for axis in axes] or [1]
    if len(stored) <= 2 and math.prod(stored[:-1]) == 1:
        return 1, math.prod(stored)
    inner = stored[1:] if stored[0] == 1 else stored
    if len(inner) > 3:
        inner = [inner[0], math.prod(inner[1:-1]), inner[-1]]
    return (*(1,) * (4 - len(inner)), *inner)
