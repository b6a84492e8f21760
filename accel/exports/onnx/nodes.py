"""How every node becomes operators of ONNX: the table behind the formats `qdq`, `qoperator` and `tensorrt`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from accel.exports.inexpressible import NO_SCALES, InexpressibleError
from accel.exports.onnx import bodies, functions, steps
from accel.exports.onnx.raising import Raising
from accel.exports.scales import follows_recipe, is_sum, weight_scales
from accel.frontends.onnx.reader import as_operator
from accel.network.nodes import (
    Add,
    AveragePool2d,
    Broadcast,
    Clamp,
    Concat,
    Constant,
    Conv2d,
    Dequantize,
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
    Pool2d,
    Quantize,
    Rearrange,
    Reshape,
    ResizeNearest,
    Softmax,
    StridedSlice,
    Sub,
    Table,
    Transpose,
    TransposeConv2d,
    UnsignedAveragePool2d,
    Weighted,
)
from accel.network.nodes.host import FUNCTION_BODY, FUNCTION_DOMAIN, TFLITE_DOMAIN
from accel.quantized.network import TABLE, Operator, Quantization, TensorInfo


class Row(NamedTuple):
    """A node: how it becomes operators, and what of it does, for the page of formats."""

    raise_: Callable[[Raising, Any], None]
    notes: str = "yes"


def _weights(low: Raising, node: Weighted, value: np.ndarray[Any, Any], axis: int, groups: int = 1) -> list[str]:
    """Names of a node's weights, whose integers are `value`, and of its bias; groups of channels share scales."""
    scales = weight_scales(low.graph, node)
    if scales is None:
        raise InexpressibleError(node, NO_SCALES)
    if np.any(scales.reshape(groups, -1) != scales[: scales.size // groups]):
        raise InexpressibleError(node, "scales of the weights that differ from group to group")
    scales = scales[: scales.size // groups]
    sums = np.float32(low.graph.tensors[node.inputs[0]].scale) * np.resize(scales, node.bias.shape)
    kind = "int4" if node.weight_bits == 4 else "int8"
    weight = low.integers(f"{node.name}_weight", np.ascontiguousarray(value), scales, kind, axis)
    return [weight, low.integers(f"{node.name}_bias", node.bias, sums, "int32")]


def conv2d(low: Raising, node: Conv2d) -> None:
    """Conv."""
    constants = _weights(low, node, node.weight.transpose(0, 3, 1, 2), 0)
    window = {"strides": node.stride, "pads": node.padding, "dilations": node.dilation, "group": node.groups}
    fields = {name: list(v) if isinstance(v, tuple) else v for name, v in window.items()}
    low.result(node, "Conv", [low.names[node.inputs[0]], *constants], kernel_shape=list(node.kernel), **fields)


def transpose_conv2d(low: Raising, node: TransposeConv2d) -> None:
    """ConvTranspose: what the output has more than the spread input is output padding, what it has less is padding."""
    parts = np.split(node.weight.transpose(3, 0, 1, 2), node.groups, axis=1)
    constants = _weights(low, node, np.concatenate(parts), 1, node.groups)
    sizes, kernel = low.graph.tensors[node.inputs[0]].shape[1:3], node.weight.shape[1:3]
    spread = [(n - 1) * s + k for n, s, k in zip(sizes, node.stride, kernel, strict=True)]
    rest = [n - first - size for n, first, size in zip(spread, node.padding, node.size, strict=True)]
    extra = [max(-cut, 0) for cut in rest]
    if any(more >= stride for more, stride in zip(extra, node.stride, strict=True)):
        raise InexpressibleError(node, f"an output padding {extra} that is not below the stride {node.stride}")
    fields: dict[str, Any] = {"strides": list(node.stride), "pads": [*node.padding, *(max(cut, 0) for cut in rest)]}
    fields |= {"group": node.groups}
    inputs = [low.names[node.inputs[0]], *constants]
    low.result(node, "ConvTranspose", inputs, kernel_shape=list(kernel), output_padding=extra, **fields)


def fully_connected(low: Raising, node: FullyConnected) -> None:
    """Gemm of the features in the graph's order."""
    source, (_, features) = node.inputs[0], node.weight.shape
    image = [steps.transpose(steps.TO_CHANNELS_LAST)] if low.is_image(source) else []
    chain = steps.shortened(low.shape(source), [*image, steps.reshape((1, features))])
    flat = low.fresh(f"{source}_flat") if chain else low.names[source]
    low.move(f"{node.name}_flat", source, low.names[source], chain, flat)
    low.result(node, "Gemm", [flat, *_weights(low, node, node.weight, 0)], transB=1)


def _elementwise(kind: str) -> Callable[[Raising, Node], None]:
    def translate(low: Raising, node: Node) -> None:
        if isinstance(node, Add | Sub | Mul) and not follows_recipe(low.graph, node):
            raise InexpressibleError(node, NO_SCALES)
        low.result(node, kind, [low.names[name] for name in node.inputs])

    return translate


def pool(low: Raising, node: Pool2d) -> None:
    """MaxPool, AveragePool of the taps inside the image."""
    kind = "MaxPool" if isinstance(node, MaxPool2d) else "AveragePool"
    fields = {"kernel_shape": list(node.kernel), "strides": list(node.stride), "pads": list(node.padding)}
    low.result(node, kind, [low.names[node.inputs[0]]], **fields)


def mean(low: Raising, node: Mean) -> None:
    """GlobalAveragePool, AveragePool of all taps, or ReduceSum over all rows, all columns, or both."""
    source, whole = low.names[node.inputs[0]], low.graph.tensors[node.inputs[0]].shape[1:3]
    is_global = node.kernel == whole and not any(node.padding)
    axes = [axis for axis, taps in zip((2, 3), node.kernel, strict=True) if taps > 1]
    lines = not any(node.padding) and all(taps in (1, size) for taps, size in zip(node.kernel, whole, strict=True))
    if follows_recipe(low.graph, node):
        if is_global:
            low.result(node, "GlobalAveragePool", [source])
            return
        fields = {"kernel_shape": list(node.kernel), "strides": list(node.stride), "pads": list(node.padding)}
        low.result(node, "AveragePool", [source], count_include_pad=1, **fields)
    elif lines and node.stride == (1, 1) and is_sum(low.graph, node):
        low.result(node, "ReduceSum", [source, low.numbers(f"{node.name}_axes", axes or (2, 3))], keepdims=1)
    else:
        raise InexpressibleError(node, NO_SCALES)


def clamp(low: Raising, node: Clamp) -> None:
    """Relu, Clip."""
    low.limit(node, low.names[node.inputs[0]], low.declare(node.output), node.act_min, node.act_max)


def table(low: Raising, node: Table) -> None:
    """The function that makes the table, or the table.

    Other parameters for the same numbers are a Sum of one operand: ONNX Runtime's optimizations would remove an
    Identity, and then one of the two roundings.
    """
    source, target = (low.graph.tensors[name].parameters for name in (node.inputs[0], node.output))
    found = functions.find(node.table, source, target, low.graph.mode)
    if found is None:
        low.result(node, TABLE, [low.names[node.inputs[0]]], table=node.table)
        return
    if found.different:
        low.notes.append(f"{node.op} {node.name!r}: {found.different} of 256 values of {found.kind} differ by a step")
    x, output, attributes = low.names[node.inputs[0]], low.declare(node.output), dict(found.attributes)
    if found.kind == "Silu":
        share = low.fresh(f"{output}_sigmoid")
        low.tensors[share] = TensorInfo(share, low.shape(node.output))
        low.operator(node, "Sigmoid", [x], share)
        low.operator(node, "Mul", [x, share], output)
    elif found.kind == "Square":
        low.operator(node, "Mul", [x, x], output)
    elif found.kind == "Mul":
        factor = low.constant(f"{output}_factor", np.asarray(np.float32(attributes["factor"])))
        low.operator(node, "Mul", [x, factor], output)
    elif found.kind == "Clip":
        names = [low.constant(f"{output}_{what}", np.asarray(np.float32(attributes[what]))) for what in ("min", "max")]
        low.operator(node, "Clip", [x, *names], output)
    elif found.kind == "Identity":
        low.operator(node, "Sum", [x], output)
    else:
        low.operator(node, found.kind, [x], output, functions.OPSETS.get(found.kind, 0), **attributes)


def softmax(low: Raising, node: Softmax | LogSoftmax) -> None:
    """Softmax, LogSoftmax over the channels.

    A Sum of one operand behind it keeps ONNX Runtime's optimizations from its own operator on integers, which gives 0
    for shares of 1.
    """
    if isinstance(node, Softmax) and node.beta != 1:
        raise InexpressibleError(node, f"a softmax of {node.beta} times its input")
    axis = low.axis(node.inputs[0], len(low.graph.tensors[node.inputs[0]].shape) - 1)
    real = low.fresh(f"{node.output}_real")
    low.tensors[real] = TensorInfo(real, low.shape(node.output))
    low.operator(node, node.op, [low.names[node.inputs[0]]], real, axis=axis)
    low.result(node, "Sum", [real])


def concat(low: Raising, node: Concat) -> None:
    """Concat."""
    low.result(node, "Concat", [low.names[name] for name in node.inputs], axis=low.axis(node.output, node.axis))


def pad(low: Raising, node: Pad) -> None:
    """Pad with the real number that the border stands for."""
    scale, zero_point = low.graph.tensors[node.output].parameters
    rank = len(node.before)
    order = sorted(range(rank), key=lambda axis: low.axis(node.output, axis))
    sizes = low.numbers(f"{node.name}_pads", [side[axis] for side in (node.before, node.after) for axis in order])
    value = low.constant(f"{node.name}_value", np.asarray(np.float32(scale) * np.float32(node.value - zero_point)))
    low.result(node, "Pad", [low.names[node.inputs[0]], sizes, value])


def strided_slice(low: Raising, node: StridedSlice) -> None:
    """Slice of the axes that lose elements."""
    whole = low.graph.tensors[node.inputs[0]].shape
    bounds = list(zip(node.begin, node.end, node.stride, strict=True))
    cut = [axis for axis, size in enumerate(whole) if bounds[axis] != (0, size, 1)] or [len(whole) - 1]
    begin, end, stride = zip(*(bounds[axis] for axis in cut), strict=True)
    axes = [low.axis(node.output, axis) for axis in cut]
    numbers = {"starts": begin, "ends": end, "axes": axes, "steps": stride}
    names = [low.numbers(f"{node.name}_{what}", values) for what, values in numbers.items()]
    low.result(node, "Slice", [low.names[node.inputs[0]], *names])


def gather(low: Raising, node: Gather) -> None:
    """Gather."""
    indices = low.numbers(f"{node.name}_indices", node.indices.tolist())
    low.result(node, "Gather", [low.names[node.inputs[0]], indices], axis=low.axis(node.output, node.axis))


def resize_nearest(low: Raising, node: ResizeNearest) -> None:
    """Gather of rows, then of columns."""
    x, output = low.names[node.inputs[0]], low.declare(node.output)
    tall = low.fresh(f"{output}_rows")
    low.tensors[tall] = TensorInfo(tall, (*low.shape(node.output)[:3], low.shape(node.inputs[0])[3]))
    low.parameters[tall] = low.parameters[x]
    low.operator(node, "Gather", [x, low.numbers(f"{node.name}_rows", node.rows)], tall, axis=2)
    low.operator(node, "Gather", [tall, low.numbers(f"{node.name}_columns", node.columns)], output, axis=3)


def broadcast(low: Raising, node: Broadcast) -> None:
    """Expand."""
    shape = low.numbers(f"{node.name}_shape", low.shape(node.output))
    low.result(node, "Expand", [low.names[node.inputs[0]], shape])


def constant(low: Raising, node: Constant) -> None:
    """A constant with the parameters of its tensor."""
    scale, zero_point = low.graph.tensors[node.output].parameters
    value = node.value.transpose(steps.TO_CHANNELS_FIRST).astype(np.int64)
    found = Quantization(np.array([scale], np.float32), np.array([zero_point]), "int8", 0, value)
    low.names[node.output] = low.constant(f"{node.output}_value", found.real, found)


def quantize(low: Raising, node: Quantize | Dequantize) -> None:
    """The border between real numbers and integers: a movement into the other's order of axes.

    What the host reads passes through a Sum of one operand: ONNX Runtime's optimizations would else join the
    conversions and the host's operator to one on integers.
    """
    source, target = low.is_image(node.inputs[0]), low.is_image(node.output)
    order = steps.TO_CHANNELS_FIRST if target else steps.TO_CHANNELS_LAST
    chain = steps.shortened(low.shape(node.inputs[0]), [steps.transpose(order)] if source != target else [])
    name, output = low.names[node.inputs[0]], low.declare(node.output)
    if any(isinstance(reader, HostOperator) for reader in low.graph.consumers(node.output)):
        real = output
        if chain:
            real = low.fresh(f"{output}_unmoved")
            low.tensors[real] = TensorInfo(real, low.shape(node.inputs[0]))
        low.operator(node, "Sum", [name], real)
        name = real
    elif not chain:
        low.operator(node, "Identity", [name], output)
    if chain:
        low.move(node.name, node.output, name, chain, output)


def host_operator(low: Raising, node: HostOperator) -> None:
    """The operator itself, in the version of those around it."""
    if node.domain == TFLITE_DOMAIN:
        raise InexpressibleError(node, f"{node.op_type} of TensorFlow Lite")
    kept = {name: low.constant(f"{node.name}_{name}", value) for name, value in node.constants.items()}
    inputs = tuple(kept.get(name) or low.names.get(name, name) for name in node.arguments)
    outputs = tuple(low.declare(name) for name in node.outputs)
    if not node.domain:
        nodes = bodies.in_version(bodies.as_node(node, inputs, outputs), node.opset, low.opset)
        for place, one in enumerate(nodes):
            op = as_operator(one, place, {"": low.opset})
            if op.kind == "Constant":
                low.constant(op.outputs[0], op.attributes["value"])
            else:
                low.operators.append(op)
        return
    attributes: dict[str, Any] = {n: list(v) if isinstance(v, tuple) else v for n, v in node.attributes.items()}
    if node.domain == FUNCTION_DOMAIN:
        attributes[FUNCTION_BODY] = bodies.body_in_version(node, low.opset)
    kind = f"{node.domain}.{node.op_type}"
    low.operators.append(Operator(node.name, kind, inputs, outputs, attributes, low.opset))


def reshape(low: Raising, node: Reshape) -> None:
    """Reshape, behind a Transpose where images keep the channels last."""
    low.moved(node, [steps.reshape(node.shape)])


def transpose(low: Raising, node: Transpose) -> None:
    """Transpose."""
    low.moved(node, [steps.transpose(node.permutation)])


def rearrange(low: Raising, node: Rearrange) -> None:
    """Reshape, Transpose, Reshape."""
    low.moved(node, [steps.reshape(node.sizes), steps.transpose(node.permutation), steps.reshape(node.shape)])


_SCALED = "multipliers of float32 scales"
RAISERS: Mapping[type[Node], Row] = MappingProxyType(
    {
        Add: Row(_elementwise("Add"), _SCALED),
        AveragePool2d: Row(pool),
        Broadcast: Row(broadcast),
        Clamp: Row(clamp),
        Concat: Row(concat),
        Constant: Row(constant),
        Conv2d: Row(conv2d, _SCALED),
        Dequantize: Row(quantize),
        FullyConnected: Row(fully_connected, _SCALED),
        Gather: Row(gather),
        HostOperator: Row(host_operator, "of compatible opsets"),
        LogSoftmax: Row(softmax),
        MaxPool2d: Row(pool),
        Maximum: Row(_elementwise("Max")),
        Mean: Row(mean, f"{_SCALED}; sums over all rows or columns"),
        Mul: Row(_elementwise("Mul"), _SCALED),
        Pad: Row(pad),
        Quantize: Row(quantize),
        Rearrange: Row(rearrange),
        Reshape: Row(reshape),
        ResizeNearest: Row(resize_nearest),
        Softmax: Row(softmax, "beta 1"),
        StridedSlice: Row(strided_slice),
        Sub: Row(_elementwise("Sub"), _SCALED),
        Table: Row(table, "tensorrt: of a known function"),
        Transpose: Row(transpose),
        TransposeConv2d: Row(transpose_conv2d, f"{_SCALED}; output padding below the stride"),
        UnsignedAveragePool2d: Row(pool),
    }
)
"""Every node that has a form in ONNX."""
