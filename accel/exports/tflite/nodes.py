"""How every node becomes operators of TensorFlow Lite: the table behind the format `tflite`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.exports.inexpressible import NO_SCALES, InexpressibleError
from accel.exports.scales import follows_recipe, has_fields, has_one_product, is_sum, weight_scales
from accel.exports.tflite import functions
from accel.exports.tflite.embedded import dequantize, host_operator, quantize
from accel.exports.tflite.write import Writing
from accel.frontends.tflite.elementwise import RECIPES
from accel.frontends.tflite.operation import same_edges
from accel.frontends.tflite.resize import bilinear, nearest
from accel.network.nodes import (
    Add,
    AveragePool2d,
    Broadcast,
    Clamp,
    Concat,
    Constant,
    Conv2d,
    Dequantize,
    Div,
    FullyConnected,
    Gather,
    HostOperator,
    LogSoftmax,
    Maximum,
    MaxPool2d,
    Mean,
    Mul,
    Node,
    Pad,
    Pair,
    Pool2d,
    Quantize,
    Rearrange,
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
    Weighted,
)
from accel.network.windows import Shape

SAME, VALID = 0, 1
NOT_IN_MICRO = (
    "TensorFlow Lite Micro does not load FULLY_CONNECTED with weights of 4 bits and a scale per channel, LiteRT runs "
    "it; an override gives these layers 8 bits"
)
NO_FUNCTION_IN_MICRO = "TensorFlow Lite Micro does not load {} of integers, LiteRT runs it"
_CONVENTIONS = ((False, False), (False, True), (True, False))
"""Whether corners are aligned, whether pixels have their centres in the middle."""


class Row(NamedTuple):
    """A node: how it is written, and what of it, for the page of formats."""

    write: Callable[[Writing, Any], None]
    notes: str = "yes"


def _weights(w: Writing, node: Weighted, value: NDArray[np.int8], axis: int) -> list[int]:
    """The constants of a node's weights, in the file's order `value`, and of its bias."""
    scales = weight_scales(w.graph, node)
    if scales is None:
        raise InexpressibleError(node, NO_SCALES)
    sums = np.float32(w.graph.tensors[node.inputs[0]].scale) * scales
    narrow = node.weight_bits == 4 and not isinstance(node, TransposeConv2d)
    kind, data = "INT4" if narrow else "INT8", np.ascontiguousarray(value)
    weight = w.file.tensor(f"{node.name}_weight", value.shape, kind, scales, axis=axis, data=data)
    return [weight, w.file.tensor(f"{node.name}_bias", node.bias.shape, scale=sums, data=node.bias)]


def _window(
    w: Writing, node: Conv2d | Pool2d, kernel: Pair, dilation: Pair, border: int | None
) -> tuple[int, dict[str, int]]:
    """The image of a window and its options: what is not SAME is a border of stored integers, then VALID."""
    tensor, source = w.graph.tensors[node.inputs[0]], w.input(node)
    options = {"StrideH": node.stride[0], "StrideW": node.stride[1], "FusedActivationFunction": 0}
    if not any(node.padding):
        return source, options | {"Padding": VALID}
    if node.padding == same_edges(kernel, node.stride, dilation, tensor.shape[1:3]):
        return source, options | {"Padding": SAME}
    if border is None:
        raise InexpressibleError(node, f"a mean of the taps inside the image with padding {node.padding}")
    top, left, bottom, right = node.padding
    shape = (1, tensor.shape[1] + top + bottom, tensor.shape[2] + left + right, tensor.shape[3])
    padded = w.tensor(f"{node.output}_padded", shape, tensor.parameters)
    _pad(w, node.name, source, padded, [0, 0, top, bottom, left, right, 0, 0], border, tensor.parameters)
    return padded, options | {"Padding": VALID}


def _pad(
    w: Writing, name: str, source: int, target: int, sizes: list[int], border: int, parameters: tuple[float, int]
) -> None:
    """Add a border of one stored integer; `sizes` are pairs, before and after every axis."""
    paddings = np.asarray(sizes, np.int32).reshape(-1, 2)
    number = w.stored(f"{name}_border", np.array([border], np.int8), parameters)
    w.file.operator(
        "PADV2", [source, w.file.tensor(f"{name}_paddings", paddings.shape, data=paddings), number], [target]
    )


def conv2d(w: Writing, node: Conv2d) -> None:
    """DEPTHWISE_CONV_2D for one input channel per group, FULLY_CONNECTED for rows of one scale, else CONV_2D."""
    tensor = w.graph.tensors[node.inputs[0]]
    source, options = _window(w, node, node.kernel, node.dilation, tensor.zero_point)
    options |= {"DilationHFactor": node.dilation[0], "DilationWFactor": node.dilation[1]}
    channels, scales = tensor.shape[3], weight_scales(w.graph, node)
    if scales is not None and has_one_product(w.graph, node, scales):
        constants = _weights(w, node, node.weight.reshape(len(node.weight), channels), 0)
        w.emit(node, "FULLY_CONNECTED", [source, *constants], KeepNumDims=True, FusedActivationFunction=0)
    elif node.groups == channels and channels > 1:
        weight = node.weight.reshape(len(node.weight), *node.kernel).transpose(1, 2, 0)[None]
        options["DepthMultiplier"] = len(node.weight) // channels
        w.emit(node, "DEPTHWISE_CONV_2D", [source, *_weights(w, node, weight, 3)], **options)
    else:
        w.emit(node, "CONV_2D", [source, *_weights(w, node, node.weight, 0)], **options)


def transpose_conv2d(w: Writing, node: TransposeConv2d) -> None:
    """TRANSPOSE_CONV."""
    if node.groups > 1:
        raise InexpressibleError(node, f"{node.groups} groups")
    kernel: Pair = node.weight.shape[1:3]
    sizes = w.graph.tensors[node.inputs[0]].shape[1:3]
    same = same_edges(kernel, node.stride, (1, 1), node.size)
    spread = tuple((n - 1) * s + k for n, s, k in zip(sizes, node.stride, kernel, strict=True))
    covered = tuple(-(-n // s) for n, s in zip(node.size, node.stride, strict=True)) == sizes
    if node.padding == (0, 0) and node.size == spread:
        padding = VALID
    elif node.padding == same[:2] and covered:
        padding = SAME
    else:
        raise InexpressibleError(node, f"padding {node.padding} with output size {node.size}")
    shape = w.graph.tensors[node.output].shape
    weight, bias = _weights(w, node, node.weight, 0)
    inputs = [w.numbers(f"{node.name}_shape", shape), weight, w.input(node), bias]
    options = {"StrideH": node.stride[0], "StrideW": node.stride[1], "Padding": padding, "FusedActivationFunction": 0}
    w.emit(node, "TRANSPOSE_CONV", inputs, **options)


def fully_connected(w: Writing, node: FullyConnected) -> None:
    """FULLY_CONNECTED."""
    constants = _weights(w, node, node.weight, 0)
    if node.weight_bits == 4 and w.file.scale_count(constants[0]) > 1:
        w.note(NOT_IN_MICRO)
    w.emit(node, "FULLY_CONNECTED", [w.input(node), *constants], FusedActivationFunction=0)


def elementwise(w: Writing, node: Node) -> None:
    """ADD, SUB, MUL, DIV, SQUARED_DIFFERENCE."""
    builtin, recipe = next((name, recipe) for name, (kind, recipe) in RECIPES.items() if kind is type(node))
    first, second = (w.graph.tensors[name].scale for name in node.inputs)
    if not has_fields(node, recipe((first, second), w.graph.tensors[node.output].scale, w.graph.mode)):
        raise InexpressibleError(node, NO_SCALES)
    if builtin in ("ADD", "SUB") and not functions.sums_are_computed(
        (first, second), w.graph.tensors[node.output].scale
    ):
        raise InexpressibleError(node, "operands whose scale is 2**19 times that of the result, or more")
    options = {} if isinstance(node, SquaredDifference) else {"FusedActivationFunction": 0}
    w.emit(node, builtin, [w.input(node, 0), w.input(node, 1)], **options)


def maximum(w: Writing, node: Maximum) -> None:
    """MAXIMUM."""
    w.emit(node, "MAXIMUM", [w.input(node, 0), w.input(node, 1)])


def broadcast(w: Writing, node: Broadcast) -> None:
    """Nothing: the operators on two tensors that read the output broadcast by themselves."""
    readers = w.graph.consumers(node.output)
    others = [[name for name in reader.inputs if name != node.output] for reader in readers]
    fits = all(isinstance(reader, _BROADCASTING) for reader in readers) and all(others)
    made = {name for one in w.graph.nodes if isinstance(one, Broadcast) for name in one.outputs}
    if not fits or node.output in w.graph.outputs or any(name in made for names in others for name in names):
        raise InexpressibleError(node, "a repeated tensor that an operator on two tensors does not repeat")
    w.values[node.output] = w.input(node)


def pool(w: Writing, node: Pool2d) -> None:
    """MAX_POOL_2D, AVERAGE_POOL_2D."""
    largest = isinstance(node, MaxPool2d)
    source, options = _window(w, node, node.kernel, (1, 1), -128 if largest else None)
    options |= {"FilterHeight": node.kernel[0], "FilterWidth": node.kernel[1]}
    w.emit(node, "MAX_POOL_2D" if largest else "AVERAGE_POOL_2D", [source], **options)


def mean(w: Writing, node: Mean) -> None:
    """MEAN or SUM over rows and columns."""
    whole = w.graph.tensors[node.inputs[0]].shape[1:3]
    if node.kernel != whole or any(node.padding):
        raise InexpressibleError(node, "a mean over a part of the image under parameters of its own")
    builtin = "MEAN" if follows_recipe(w.graph, node) else "SUM"
    if builtin == "SUM" and not is_sum(w.graph, node):
        raise InexpressibleError(node, NO_SCALES)
    w.emit(node, builtin, [w.input(node), w.numbers(f"{node.name}_axes", (1, 2))], KeepDims=True)


def clamp(w: Writing, node: Clamp) -> None:
    """MAXIMUM, MINIMUM."""
    w.limit(node, w.input(node))


def table(w: Writing, node: Table) -> None:
    """The function that makes the table."""
    source, target = (w.graph.tensors[name] for name in (node.inputs[0], node.output))
    found = functions.find(node.table, source.parameters, target.parameters)
    if found is None:
        raise InexpressibleError(node, "a table that is of no known function")
    if found.different:
        w.note(f"{node.op} {node.name!r}: {found.different} of 256 values of {found.builtin} differ by a step")
    if found.builtin in functions.ONLY_LITERT:
        w.note(NO_FUNCTION_IN_MICRO.format(found.builtin))
    if found.builtin == "RESHAPE":
        w.reshape(w.input(node), target.shape, w.output(node))
    elif found.builtin == functions.COMPLEMENT_PRODUCT:
        _complement(w, node)
    else:
        operands = 2 if found.builtin in ("ADD", "SUB", "MUL") else 1
        w.emit(node, found.builtin, [w.input(node)] * operands, **found.options)


def _complement(w: Writing, node: Table) -> None:
    """``-1 - q``: the product of the integers with -1, plus the zero point -1."""
    shape = w.graph.tensors[node.output].shape
    whole = w.tensor(f"{node.output}_whole", shape, (1.0, 0))
    negative = w.tensor(f"{node.output}_negative", shape, (1.0, -1))
    w.reshape(w.input(node), shape, whole)
    one = w.stored(f"{node.name}_minus_one", np.array([-1], np.int8), (1.0, 0))
    w.file.operator("MUL", [whole, one], [negative], FusedActivationFunction=0)
    w.reshape(negative, shape, w.output(node))


def softmax(w: Writing, node: Softmax | LogSoftmax) -> None:
    """SOFTMAX, LOG_SOFTMAX."""
    if w.graph.tensors[node.output].parameters != node.output_parameters:
        raise InexpressibleError(node, f"a result with other than scale and zero point {node.output_parameters}")
    if isinstance(node, Softmax):
        w.emit(node, "SOFTMAX", [w.input(node)], Beta=node.beta)
    else:
        w.emit(node, "LOG_SOFTMAX", [w.input(node)])


def concat(w: Writing, node: Concat) -> None:
    """CONCATENATION."""
    inputs = [w.input(node, position) for position in range(len(node.inputs))]
    w.emit(node, "CONCATENATION", inputs, Axis=node.axis, FusedActivationFunction=0)


def constant(w: Writing, node: Constant) -> None:
    """A constant."""
    w.values[node.output] = w.stored(node.output, node.value, w.graph.tensors[node.output].parameters)


def pad(w: Writing, node: Pad) -> None:
    """PADV2."""
    sizes = [size for pair in zip(node.before, node.after, strict=True) for size in pair]
    parameters = w.graph.tensors[node.output].parameters
    _pad(w, node.name, w.input(node), w.output(node), sizes, node.value, parameters)


def strided_slice(w: Writing, node: StridedSlice) -> None:
    """STRIDED_SLICE."""
    names = {"begin": node.begin, "end": node.end, "stride": node.stride}
    numbers = [w.numbers(f"{node.name}_{name}", values) for name, values in names.items()]
    w.emit(node, "STRIDED_SLICE", [w.input(node), *numbers])


def gather(w: Writing, node: Gather) -> None:
    """GATHER."""
    indices = w.numbers(f"{node.name}_indices", node.indices.tolist())
    w.emit(node, "GATHER", [w.input(node), indices], Axis=node.axis)


def resize_nearest(w: Writing, node: ResizeNearest) -> None:
    """RESIZE_NEAREST_NEIGHBOR where a convention of coordinates has these pixels, else GATHER of rows and columns."""
    sources, sizes = w.graph.tensors[node.inputs[0]].shape[1:3], (len(node.rows), len(node.columns))
    for aligned, half in _CONVENTIONS:
        pixels = [nearest(n, size, aligned, half) for n, size in zip(sources, sizes, strict=True)]
        if pixels == [node.rows, node.columns]:
            size = w.numbers(f"{node.name}_size", sizes)
            options = {"AlignCorners": aligned, "HalfPixelCenters": half}
            w.emit(node, "RESIZE_NEAREST_NEIGHBOR", [w.input(node), size], **options)
            return
    tensor = w.graph.tensors[node.output]
    tall = w.like(tensor, "rows", (1, sizes[0], sources[1], tensor.shape[3]))
    w.file.operator("GATHER", [w.input(node), w.numbers(f"{node.name}_rows", node.rows)], [tall], Axis=1)
    w.emit(node, "GATHER", [tall, w.numbers(f"{node.name}_columns", node.columns)], Axis=2)


def resize_bilinear(w: Writing, node: ResizeBilinear) -> None:
    """RESIZE_BILINEAR, if a convention of coordinates has these weights."""
    sources, sizes = w.graph.tensors[node.inputs[0]].shape[1:3], (len(node.rows), len(node.columns))
    for aligned, half in _CONVENTIONS:
        weights = [bilinear(n, size, aligned, half) for n, size in zip(sources, sizes, strict=True)]
        if np.array_equal(weights[0], node.rows) and np.array_equal(weights[1], node.columns):
            options = {"AlignCorners": aligned, "HalfPixelCenters": half}
            w.emit(node, "RESIZE_BILINEAR", [w.input(node), w.numbers(f"{node.name}_size", sizes)], **options)
            return
    raise InexpressibleError(node, "interpolation between pixels that no convention of coordinates has")


def reshape(w: Writing, node: Reshape) -> None:
    """RESHAPE."""
    w.reshape(w.input(node), node.shape, w.output(node))


def transpose(w: Writing, node: Transpose) -> None:
    """TRANSPOSE."""
    w.emit(node, "TRANSPOSE", [w.input(node), w.numbers(f"{node.name}_order", node.permutation)])


def rearrange(w: Writing, node: Rearrange) -> None:
    """RESHAPE, TRANSPOSE, RESHAPE."""
    tensor, sizes, permutation = w.graph.tensors[node.output], node.sizes, node.permutation
    if len(sizes) > _MOST_AXES:
        sizes, permutation = _joined(sizes, permutation)
    if len(sizes) > _MOST_AXES:
        raise InexpressibleError(node, f"a transposition of {len(sizes)} axes, more than {_MOST_AXES}")
    split = w.like(tensor, "split", sizes)
    moved = w.like(tensor, "moved", tuple(sizes[axis] for axis in permutation))
    w.reshape(w.input(node), sizes, split)
    w.file.operator("TRANSPOSE", [split, w.numbers(f"{node.name}_order", permutation)], [moved])
    w.reshape(moved, node.shape, w.output(node))


def _joined(sizes: Shape, permutation: tuple[int, ...]) -> tuple[Shape, tuple[int, ...]]:
    """The same transposition without axes of size 1, neighbours that stay neighbours as one axis."""
    order = [axis for axis in permutation if sizes[axis] > 1]
    inside = sorted(order)
    place = {axis: number for number, axis in enumerate(inside)}
    runs: list[list[int]] = []
    for axis in order:
        if runs and place[runs[-1][-1]] + 1 == place[axis]:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    before = sorted(runs)
    joined = tuple(math.prod(sizes[axis] for axis in run) for run in before)
    return joined, tuple(before.index(run) for run in runs)


_MOST_AXES = 5
_BROADCASTING = (Add, Sub, Mul, Div, SquaredDifference, Maximum)
_SCALED = "multipliers of float32 scales"
WRITERS: Mapping[type[Node], Row] = MappingProxyType(
    {
        Add: Row(elementwise, _SCALED),
        AveragePool2d: Row(pool, "padding SAME or none"),
        Broadcast: Row(broadcast, "before an operator on two tensors"),
        Clamp: Row(clamp),
        Concat: Row(concat),
        Constant: Row(constant),
        Dequantize: Row(dequantize, "before an operator of TensorFlow Lite"),
        HostOperator: Row(host_operator, "of TensorFlow Lite"),
        Conv2d: Row(conv2d, _SCALED),
        Div: Row(elementwise, _SCALED),
        FullyConnected: Row(fully_connected, _SCALED),
        Gather: Row(gather),
        LogSoftmax: Row(softmax, "scale 1/16, zero point 127"),
        MaxPool2d: Row(pool),
        Maximum: Row(maximum),
        Mean: Row(mean, f"over whole images; {_SCALED}"),
        Mul: Row(elementwise, _SCALED),
        Pad: Row(pad),
        Quantize: Row(quantize, "behind an operator of TensorFlow Lite"),
        Rearrange: Row(rearrange, f"up to {_MOST_AXES} axes"),
        Reshape: Row(reshape),
        ResizeBilinear: Row(resize_bilinear, "in a convention of coordinates"),
        ResizeNearest: Row(resize_nearest),
        Softmax: Row(softmax, "scale 1/256, zero point -128"),
        SquaredDifference: Row(elementwise, _SCALED),
        StridedSlice: Row(strided_slice),
        Sub: Row(elementwise, _SCALED),
        Table: Row(table, "of a known function"),
        Transpose: Row(transpose),
        TransposeConv2d: Row(transpose_conv2d, f"padding SAME or none; {_SCALED}"),
    }
)
"""Every node that has a form in TensorFlow Lite."""
