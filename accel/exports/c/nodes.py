"""How every node becomes a call of `reference.c`: the table behind the format `c`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from accel.exports.c.write import CWriting, as_int32
from accel.exports.inexpressible import InexpressibleError
from accel.machine.weight_words import pack_int4
from accel.network.nodes import (
    Add,
    AveragePool2d,
    Broadcast,
    Clamp,
    Clamped,
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
    Pair,
    Pool2d,
    Rearrange,
    Requantized,
    Rescaled,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    Softmax,
    SquaredDifference,
    StridedSlice,
    Sub,
    Table,
    Transpose,
    TransposeConv2d,
    UnsignedAveragePool2d,
    Weighted,
)
from accel.network.softmax import rescaling
from accel.network.windows import Shape

MOST_AXES = 8
"""Axes of `move_layer`."""


class Row(NamedTuple):
    """A node: how it is written, and what of it, for the page of formats."""

    write: Callable[[CWriting, Any], None]
    notes: str = "yes"


def _bounds(node: Clamped) -> dict[str, Any]:
    return {"act_min": node.act_min, "act_max": node.act_max}


def _image(shape: Shape, prefix: str = "") -> dict[str, int]:
    """Height, width and channels; features are channels of one pixel."""
    sizes = shape[1:] if len(shape) == 4 else (1, 1, shape[1])
    return {f"{prefix}{name}": size for name, size in zip(("height", "width", "channels"), sizes, strict=True)}


def _geometry(kernel: Pair, stride: Pair, padding: Sequence[int]) -> dict[str, int]:
    return {
        "kernel_height": kernel[0],
        "kernel_width": kernel[1],
        "stride_y": stride[0],
        "stride_x": stride[1],
        "pad_top": padding[0],
        "pad_left": padding[1],
    }


def _weighted(w: CWriting, node: Weighted, function: str, source: Shape, geometry: dict[str, int]) -> None:
    """A call with the weights, the geometry and the parameters of a node."""
    result = w.tensor(node.output)
    stored = pack_int4(node.weight.reshape(-1, 1)).reshape(-1) if node.weight_bits == 4 else node.weight
    arrays = {"weight": w.array("weight", stored)}
    arrays |= {name: w.array(name, getattr(node, name)) for name in ("bias", "multiplier", "shift")}
    fields = _image(source) | _image(result.shape, "out_") | geometry
    fields |= {
        "weight_bits": node.weight_bits,
        "zero_point_in": w.tensor(node.inputs[0]).zero_point,
        "zero_point_out": result.zero_point,
    }
    mode = {"mode": "ROUND_SINGLE" if node.single_rounding else w.rounding}
    layer = w.struct("conv_layer", fields | _bounds(node) | arrays | mode)
    w.call(function, f"&{layer}", w.source(node), w.target(node))


def conv2d(w: CWriting, node: Conv2d) -> None:
    """conv2d."""
    geometry = _geometry(node.kernel, node.stride, node.padding) | {"groups": node.groups}
    geometry |= {"dilation_y": node.dilation[0], "dilation_x": node.dilation[1]}
    _weighted(w, node, "conv2d", w.tensor(node.inputs[0]).shape, geometry)


def fully_connected(w: CWriting, node: FullyConnected) -> None:
    """conv2d of one pixel."""
    geometry = _geometry((1, 1), (1, 1), (0, 0)) | {"groups": 1, "dilation_y": 1, "dilation_x": 1}
    _weighted(w, node, "conv2d", (1, node.weight.shape[1]), geometry)


def transpose_conv2d(w: CWriting, node: TransposeConv2d) -> None:
    """transpose_conv2d."""
    kernel = (node.weight.shape[1], node.weight.shape[2])
    geometry = _geometry(kernel, node.stride, node.padding) | {"groups": node.groups, "dilation_y": 1, "dilation_x": 1}
    _weighted(w, node, "transpose_conv2d", w.tensor(node.inputs[0]).shape, geometry)


def _window(w: CWriting, node: Pool2d | Mean) -> dict[str, Any]:
    source, result = w.tensor(node.inputs[0]), w.tensor(node.output)
    sizes = _image(source.shape) | {"out_height": result.shape[1], "out_width": result.shape[2]}
    return sizes | _geometry(node.kernel, node.stride, node.padding) | _bounds(node)


def pool(w: CWriting, node: Pool2d) -> None:
    """max_pool2d, average_pool2d."""
    offset = {"offset": 128} if isinstance(node, UnsignedAveragePool2d) else {}
    layer = w.struct("pool_layer", _window(w, node) | offset)
    function = "max_pool2d" if isinstance(node, MaxPool2d) else "average_pool2d"
    w.call(function, f"&{layer}", w.source(node), w.target(node))


def _requantized(w: CWriting, node: Requantized) -> dict[str, Any]:
    zero_point = w.tensor(node.output).zero_point
    return {"zero_point_out": zero_point, "multiplier": node.multiplier, "shift": node.shift, "mode": w.rounding}


def mean(w: CWriting, node: Mean) -> None:
    """mean."""
    fields = _window(w, node) | {"zero_point_in": w.tensor(node.inputs[0]).zero_point} | _requantized(w, node)
    w.call("mean", f"&{w.struct('pool_layer', fields)}", w.source(node), w.target(node))


def _binary(function: str) -> Callable[[CWriting, Requantized], None]:
    """A function of two tensors."""

    def write(w: CWriting, node: Requantized) -> None:
        fields: dict[str, Any] = {"size": w.size(node.output)} | _requantized(w, node) | _bounds(node)
        for number, name in enumerate(node.inputs):
            fields[f"zero_point_{number}"] = w.tensor(name).zero_point
        if isinstance(node, Rescaled):
            fields["left_shift"] = node.left_shift
            for number, (multiplier, shift) in enumerate((node.operand0, node.operand1)):
                fields |= {f"multiplier_{number}": multiplier, f"shift_{number}": shift}
        layer = w.struct("binary_layer", fields)
        w.call(function, f"&{layer}", w.source(node, 0), w.source(node, 1), w.target(node))

    return write


def maximum(w: CWriting, node: Maximum) -> None:
    """maximum."""
    w.call("maximum", w.size(node.output), w.source(node, 0), w.source(node, 1), w.target(node))


def clamp(w: CWriting, node: Clamp) -> None:
    """clamp."""
    w.call("clamp", w.size(node.output), node.act_min, node.act_max, w.source(node), w.target(node))


def table(w: CWriting, node: Table) -> None:
    """table."""
    entries = w.array("entries", node.table)
    w.call("table", w.size(node.output), entries, w.source(node), w.target(node))


def softmax(w: CWriting, node: Softmax) -> None:
    """softmax."""
    source, result = w.tensor(node.inputs[0]), w.tensor(node.output)
    scale = source.scale * node.beta
    fixed = rescaling(scale)
    fields = {
        "rows": math.prod(source.shape[:-1]),
        "classes": source.shape[-1],
        "multiplier": fixed.multiplier,
        "shift": fixed.shift,
        "radius": fixed.radius,
        "scale_in": scale,
        "scale_out": result.scale,
        "zero_point_out": result.zero_point,
        "mode": w.rounding,
    }
    w.call("softmax", f"&{w.struct('softmax_layer', fields)}", w.source(node), w.target(node))


def _steps(shape: Shape) -> list[int]:
    """Distances between neighbours along each axis of a row-major array."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


class _Move(NamedTuple):
    """Sizes of the axes, their steps in both arrays, and where both begin."""

    size: Sequence[int]
    from_step: Sequence[int]
    to_step: Sequence[int]
    start: int = 0
    to: int = 0


def _move(w: CWriting, node: Node, source: str, target: str, moved: _Move, what: str = "layer") -> None:
    """A call of move, without axes of size 1."""
    axes = [axis for axis, size in enumerate(moved.size) if size > 1] or [0]
    if len(axes) > MOST_AXES:
        raise InexpressibleError(node, f"a movement of {len(axes)} axes, more than {MOST_AXES}")
    fields: dict[str, Any] = {"rank": len(axes), "from": moved.start, "to": moved.to}
    for name in ("size", "from_step", "to_step"):
        fields[name] = [getattr(moved, name)[axis] for axis in axes]
    w.call("move", f"&{w.struct('move_layer', fields, what)}", source, target)


def _permuted(w: CWriting, node: Node, sizes: Shape, permutation: Sequence[int]) -> None:
    """Axes in another order."""
    from_step, size = _steps(sizes), [sizes[axis] for axis in permutation]
    moved = _Move(size, [from_step[axis] for axis in permutation], _steps(tuple(size)))
    _move(w, node, w.source(node), w.target(node), moved)


def transpose(w: CWriting, node: Transpose) -> None:
    """move."""
    _permuted(w, node, w.tensor(node.inputs[0]).shape, node.permutation)


def rearrange(w: CWriting, node: Rearrange) -> None:
    """move."""
    _permuted(w, node, node.sizes, node.permutation)


def broadcast(w: CWriting, node: Broadcast) -> None:
    """move: repeated axes have step 0."""
    source = w.tensor(node.inputs[0]).shape
    from_step = [0 if size == 1 else step for size, step in zip(source, _steps(source), strict=True)]
    _move(w, node, w.source(node), w.target(node), _Move(node.shape, from_step, _steps(node.shape)))


def strided_slice(w: CWriting, node: StridedSlice) -> None:
    """move."""
    steps, size = _steps(w.tensor(node.inputs[0]).shape), w.tensor(node.output).shape
    from_step = [step * stride for step, stride in zip(steps, node.stride, strict=True)]
    start = sum(step * first for step, first in zip(steps, node.begin, strict=True))
    _move(w, node, w.source(node), w.target(node), _Move(size, from_step, _steps(size), start))


def pad(w: CWriting, node: Pad) -> None:
    """fill, then move."""
    source, target = w.tensor(node.inputs[0]).shape, w.target(node)
    steps = _steps(w.tensor(node.output).shape)
    w.call("fill", w.size(node.output), node.value, target)
    to = sum(step * before for step, before in zip(steps, node.before, strict=True))
    _move(w, node, w.source(node), target, _Move(source, _steps(source), steps, 0, to))


def concat(w: CWriting, node: Concat) -> None:
    """move of every input."""
    steps, target, place = _steps(w.tensor(node.output).shape), w.target(node), 0
    for number, name in enumerate(node.inputs):
        shape = w.tensor(name).shape
        moved = _Move(shape, _steps(shape), steps, 0, place * steps[node.axis])
        _move(w, node, w.source(node, number), target, moved, f"part{number}")
        place += shape[node.axis]


def _gather(
    w: CWriting, source: str, target: str, shape: Shape, axis: int, indices: str, count: int, what: str
) -> None:
    fields = {"outer": math.prod(shape[:axis]), "axis": shape[axis], "inner": math.prod(shape[axis + 1 :])}
    layer = w.struct("gather_layer", fields | {"count": count, "indices": indices}, what)
    w.call("gather", f"&{layer}", source, target)


def gather(w: CWriting, node: Gather) -> None:
    """gather."""
    indices, shape = w.array("indices", node.indices), w.tensor(node.inputs[0]).shape
    _gather(w, w.source(node), w.target(node), shape, node.axis, indices, node.indices.size, "layer")


def resize_nearest(w: CWriting, node: ResizeNearest) -> None:
    """gather of rows, then of columns."""
    _, _, width, channels = shape = w.tensor(node.inputs[0]).shape
    rows, columns = w.array("rows", as_int32(node.rows)), w.array("columns", as_int32(node.columns))
    tall = f"{w.label}_tall"
    w.storage.append(f"static int8_t {tall}[{len(node.rows) * width * channels}];")
    _gather(w, w.source(node), tall, shape, 1, rows, len(node.rows), "layer_rows")
    between = (1, len(node.rows), width, channels)
    _gather(w, tall, w.target(node), between, 2, columns, len(node.columns), "layer_columns")


def resize_bilinear(w: CWriting, node: ResizeBilinear) -> None:
    """resize_bilinear."""
    _, _, width, channels = w.tensor(node.inputs[0]).shape
    fields = {"width": width, "channels": channels, "out_height": len(node.rows), "out_width": len(node.columns)}
    arrays = {"rows": w.array("rows", node.rows), "columns": w.array("columns", node.columns)}
    layer = w.struct("bilinear_layer", fields | arrays)
    w.call("resize_bilinear", f"&{layer}", w.source(node), w.target(node))


def constant(w: CWriting, node: Constant) -> None:
    """An array."""
    w.buffers[node.output] = w.array("value", np.asarray(node.value))


def reshape(w: CWriting, node: Reshape) -> None:
    """Nothing: the bytes stay."""
    w.buffers[node.output] = w.source(node)


WRITERS: Mapping[type[Node], Row] = MappingProxyType(
    {
        Add: Row(_binary("add")),
        AveragePool2d: Row(pool),
        Broadcast: Row(broadcast),
        Clamp: Row(clamp),
        Concat: Row(concat),
        Constant: Row(constant),
        Conv2d: Row(conv2d),
        FullyConnected: Row(fully_connected),
        Gather: Row(gather),
        MaxPool2d: Row(pool),
        Maximum: Row(maximum),
        Mean: Row(mean),
        Mul: Row(_binary("multiply")),
        Pad: Row(pad),
        Rearrange: Row(rearrange, f"up to {MOST_AXES} axes"),
        Reshape: Row(reshape),
        ResizeBilinear: Row(resize_bilinear),
        ResizeNearest: Row(resize_nearest),
        Softmax: Row(softmax),
        SquaredDifference: Row(_binary("squared_difference")),
        StridedSlice: Row(strided_slice),
        Sub: Row(_binary("subtract")),
        Table: Row(table),
        Transpose: Row(transpose),
        TransposeConv2d: Row(transpose_conv2d),
        UnsignedAveragePool2d: Row(pool),
    }
)
"""Every node that `reference.c` computes."""
