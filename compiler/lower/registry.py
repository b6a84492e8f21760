"""The unit of each operation, and its lowering to layers. The host computes the operations that the table lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from accel.network.nodes import (
    Add,
    AveragePool2d,
    Broadcast,
    Clamp,
    Concat,
    Constant,
    Conv2d,
    FullyConnected,
    Gather,
    Maximum,
    MaxPool2d,
    Mean,
    Mul,
    Node,
    Pad,
    Rearrange,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    StridedSlice,
    Sub,
    Table,
    Transpose,
    TransposeConv2d,
    UnsignedAveragePool2d,
)
from compiler.lower import vector
from compiler.lower.interpolation import lower_interpolation
from compiler.lower.layers import AnyLayer, DepthwiseLayer, MoveLayer
from compiler.lower.scope import Scope
from compiler.lower.transpose_conv import lower_transpose_conv
from compiler.lower.weighted import lower_weighted


class Lowered(NamedTuple):
    """Layers that compute a node, the unit that runs them, and why that one."""

    layers: Sequence[AnyLayer]
    unit: str
    why: str


Lowering: TypeAlias = Callable[[Scope, Any], Lowered]
"""Layers of a node, from the graph around it and the node."""


def _move(scope: Scope, node: Node) -> Lowered:
    return Lowered(*scope.movement.lower(node))


def _weighted(scope: Scope, node: Conv2d | FullyConnected) -> Lowered:
    layer = lower_weighted(scope, node)
    alone = isinstance(layer, DepthwiseLayer)
    return Lowered([layer], layer.unit, "sums of products of each channel alone" if alone else "sums of products")


def _transpose_conv(scope: Scope, node: TransposeConv2d) -> Lowered:
    phases, places = lower_transpose_conv(scope, node)
    scope.movement.add_parts(node, places)
    unit = phases[0].unit
    return Lowered(phases, unit, f"sums of products, a convolution for each of {len(phases)} interleaved parts")


def _interpolate(scope: Scope, node: ResizeBilinear) -> Lowered:
    layer = lower_interpolation(scope, node)
    return Lowered([layer], layer.unit, "weighted means of neighbouring pixels")


def _vector(fields: vector.Fields) -> Lowering:
    """A pass of the post unit with some of its fields set."""

    def lower(scope: Scope, node: Node) -> Lowered:
        layer = vector.lower_vector(scope, node, fields)
        return Lowered(
            [layer], layer.unit, "element by element" if layer.window.kernel == (1, 1) else "taps of a window"
        )

    return lower


def _join(otherwise: Lowering) -> Lowering:
    """The layer that makes the input applies a clamp or a table, too; `otherwise` if it cannot."""

    def lower(scope: Scope, node: Clamp | Table) -> Lowered:
        maker = _join_maker(scope, node)
        return Lowered([], "post", f"with the results of {maker}") if maker else otherwise(scope, node)

    return lower


def _join_maker(scope: Scope, node: Clamp | Table) -> str | None:
    """Let the layer that makes the node's input apply the node; its name, or None if that cannot be done."""
    source = node.inputs[0]
    makers = [i for i, layer in enumerate(scope.layers) if layer.output == source]
    if len(makers) != 1 or source in scope.movement.needed or len(scope.graph.consumers(source)) > 1:
        return None
    layer = scope.layers[makers[0]]
    if isinstance(layer, MoveLayer):
        return None
    table = layer.table
    low, high = layer.act_min, layer.act_max
    if isinstance(node, Table):
        table = node.table if table is None else node.table[table.astype(np.int64) + 128]
    elif table is not None:
        table = table.clip(node.act_min, node.act_max)
    else:
        low, high = min(max(low, node.act_min), node.act_max), max(min(high, node.act_max), node.act_min)
    scope.layers[makers[0]] = replace(layer, output=node.output, table=table, act_min=low, act_max=high)
    return layer.name


LOWERINGS: Mapping[type[Node], Lowering] = MappingProxyType(
    {
        Add: _vector(vector.rescaled),
        AveragePool2d: _vector(vector.average_pool),
        Broadcast: _move,
        Clamp: _join(_vector(vector.clamp)),
        Concat: _move,
        Constant: _move,
        Conv2d: _weighted,
        FullyConnected: _weighted,
        Gather: _move,
        MaxPool2d: _vector(vector.max_pool),
        Maximum: _vector(vector.maximum),
        Mean: _vector(vector.mean),
        Mul: _vector(vector.mul),
        Pad: _move,
        Rearrange: _move,
        Reshape: _move,
        ResizeBilinear: _interpolate,
        ResizeNearest: _move,
        StridedSlice: _move,
        Sub: _vector(vector.rescaled),
        Table: _join(_vector(vector.table)),
        Transpose: _move,
        TransposeConv2d: _transpose_conv,
        UnsignedAveragePool2d: _vector(vector.unsigned_average_pool),
    }
)
"""How each operation runs on the machine."""


def is_movement(node: Node) -> bool:
    """Whether the machine runs a node by moving bytes only."""
    return LOWERINGS.get(type(node)) is _move
