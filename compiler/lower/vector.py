"""Lowering of operations without weights on one or two tensors: they run on the post unit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

from accel.machine.config import ArchConfig
from accel.machine.isa import Reduce
from accel.machine.layout import Hwc, hwc
from accel.machine.numerics import RequantMode
from accel.network.nodes import (
    AveragePool2d,
    Maximum,
    MaxPool2d,
    Mean,
    Mul,
    Multiplier,
    Node,
    Rescaled,
    Sub,
    Table,
    UnsignedAveragePool2d,
)
from compiler.lower.geometry import Span, Tile, Window
from compiler.lower.layers import IDENTITY, Operand, Record, Region, VectorLayer
from compiler.lower.refusal import NoPlaceError
from compiler.lower.scope import Scope

LARGEST_MEAN = 2895
"""Values of a mean in mode `tflite`."""

Fields: TypeAlias = Callable[[Scope, Any], dict[str, Any]]
"""Fields that an operation sets in its layer."""


def lower_vector(scope: Scope, node: Node, fields: Fields) -> VectorLayer:
    """A pass of the post unit over one or two tensors of one shape; `fields` tells what differs from the identity."""
    output_shape = hwc(scope.tensor(node.output).shape)
    defaults: dict[str, Any] = {
        "window": Window(),
        "mode": scope.mode,
        "zero_point": 0,
        "act_min": -128,
        "act_max": 127,
        "reduce": Reduce.SUM,
        "operands": (_operand(0), _operand(0)),
        "left_shift": 0,
        "regions": _everywhere(output_shape, IDENTITY),
    }
    return VectorLayer(
        name=node.name,
        op=node.op,
        inputs=tuple(scope.value(name) for name in node.inputs),
        output=node.output,
        input_shape=scope.shape(node.inputs[0]),
        output_shape=output_shape,
        **(defaults | fields(scope, node)),
    )


def _operand(zero_point: int, multiplier: Multiplier = IDENTITY[1:]) -> Operand:
    return Operand(zero_point, *multiplier)


def _everywhere(shape: Hwc, record: Record) -> tuple[Region, ...]:
    return (Region(Tile(0, shape[0], 0, shape[1]), record),)


def clamp(scope: Scope, node: Any) -> dict[str, Any]:
    """Limits of the result."""
    return {"act_min": node.act_min, "act_max": node.act_max}


def _requantized(scope: Scope, node: Any) -> dict[str, Any]:
    output = scope.tensor(node.output)
    regions = _everywhere(hwc(output.shape), Record(0, node.multiplier, node.shift))
    return clamp(scope, node) | {"zero_point": output.zero_point, "regions": regions}


def max_pool(scope: Scope, node: MaxPool2d) -> dict[str, Any]:
    """The largest tap of each window."""
    window = Window(node.kernel, node.stride, node.padding[:2])
    return clamp(scope, node) | {"window": window, "reduce": Reduce.MAX}


def average_pool(scope: Scope, node: AveragePool2d) -> dict[str, Any]:
    """The mean of each window."""
    shape, output_shape = scope.shape(node.inputs[0]), hwc(scope.tensor(node.output).shape)
    mode, regions = _mean_regions(node, scope.config, shape, output_shape)
    window = Window(node.kernel, node.stride, node.padding[:2])
    return clamp(scope, node) | {"window": window, "mode": mode, "regions": regions}


def unsigned_average_pool(scope: Scope, node: UnsignedAveragePool2d) -> dict[str, Any]:
    """The mean of each window of integers from 0 on, whose ties round up because they round away from zero."""
    return average_pool(scope, node) | {"operands": (_operand(-128), _operand(-128)), "zero_point": -128}


def mean(scope: Scope, node: Mean) -> dict[str, Any]:
    """Sums of windows, requantized."""
    operands = (_operand(scope.tensor(node.inputs[0]).zero_point),) * 2
    return _requantized(scope, node) | {
        "window": Window(node.kernel, node.stride, node.padding[:2]),
        "operands": operands,
    }


def rescaled(scope: Scope, node: Rescaled) -> dict[str, Any]:
    """Two operands in a common scale, added or subtracted."""
    points = [scope.tensor(name).zero_point for name in node.inputs]
    return _requantized(scope, node) | {
        "operands": (_operand(points[0], node.operand0), _operand(points[1], node.operand1)),
        "left_shift": node.left_shift,
        "reduce": Reduce.SUB if isinstance(node, Sub) else Reduce.SUM,
    }


def maximum(scope: Scope, node: Maximum) -> dict[str, Any]:
    """The larger of two operands."""
    return {"reduce": Reduce.MAX}


def mul(scope: Scope, node: Mul) -> dict[str, Any]:
    """The product of two operands."""
    operands = tuple(_operand(scope.tensor(name).zero_point) for name in node.inputs)
    return _requantized(scope, node) | {"operands": operands, "reduce": Reduce.MUL}


def table(scope: Scope, node: Table) -> dict[str, Any]:
    """A function of one variable."""
    return {"table": node.table}


def _mean_regions(
    node: AveragePool2d, config: ArchConfig, shape: Hwc, output_shape: Hwc
) -> tuple[RequantMode, tuple[Region, ...]]:
    """Split the output where the number of valid taps changes; each part divides by its own count."""
    window = Window(node.kernel, node.stride, node.padding[:2])
    runs = []
    for axis in (0, 1):
        counts = [window.span(axis, Span(i, i + 1), shape[axis]).size for i in range(output_shape[axis])]
        edges = [i for i in range(len(counts)) if i == 0 or counts[i] != counts[i - 1]] + [len(counts)]
        runs.append([(first, last, counts[first]) for first, last in pairwise(edges)])
    mode = integer_mode(node, config)
    return mode, tuple(
        Region(Tile(y0, y1, x0, x1), _mean_record(node, ny * nx, mode))
        for y0, y1, ny in runs[0]
        for x0, x1, nx in runs[1]
    )


def integer_mode(node: Node, config: ArchConfig, *preferred: RequantMode) -> RequantMode:
    """A mode of the machine that rounds integers, one of `preferred` before others.

    Raises
    ------
    NoPlaceError
        The machine has neither.
    """
    integer = (RequantMode.SINGLE, RequantMode.TFLITE)
    for mode in (*(mode for mode in preferred if mode in integer), *integer):
        if mode in config.requant_modes:
            return mode
    raise NoPlaceError(node.name, "it needs 'single' or 'tflite' in requant_modes of the config")


def _mean_record(node: Node, count: int, mode: RequantMode) -> Record:
    """`mean_record` of a pool; NoPlaceError if windows of `count` taps are too large for the mode."""
    if mode is RequantMode.TFLITE and count > LARGEST_MEAN:
        raise NoPlaceError(node.name, f"an average over {count} taps needs 'single' in requant_modes of the config")
    return mean_record(count, mode)


def mean_record(count: int, mode: RequantMode) -> Record:
    """Record that divides a sum of `count` int8 by `count`, rounding half away from zero.

    Notes
    -----
    The multiplier is the smallest above 1 / count, so that a tie, positive or negative, falls just beyond one half and
    rounds away from zero; every other sum is at least 1 / (2 count) away from a tie, more than the excess (at most
    count^2 * 2^-24 with shift 0, 2^-23 with a normalised multiplier).
    `tflite` rounds twice unless the shift is 0, which is exact up to a count of `LARGEST_MEAN` only.
    """
    if count == 1:
        return IDENTITY
    if mode is RequantMode.TFLITE:
        return Record(0, (1 << 31) // count + 1, 0)
    exponent = (count - 1).bit_length() - 1
    return Record(0, (1 << (31 + exponent)) // count + 1, -exponent)
