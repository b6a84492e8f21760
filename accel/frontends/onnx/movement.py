"""Translating ONNX operators that move bytes, and maxima: they see integers and real numbers alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.frontends.builder import LARGEST_AXIS, Parameters
from accel.frontends.onnx.float_operators import OnnxNode, window
from accel.frontends.onnx.values import Activation, Importer, Pending, RawInput, Real, Value, graph_shape
from accel.network.nodes import Concat, MaxPool2d, ResizeNearest, Transpose
from accel.network.windows import Shape


def _moved(value: Value, activation: Activation) -> Value:
    """An activation as the kind of value that it came from."""
    return Real(activation) if isinstance(value, Real) else activation


def integers_of(imp: Importer, node: OnnxNode, position: int = 0) -> tuple[Value, Activation]:
    """Input number `position`, real or not, and its integers."""
    value = imp.value(node, node.inputs[position])
    if isinstance(value, RawInput) and not value.is_real:
        known = imp.inputs.get(value.name)
        value = imp.declare(node, value, imp.builder.parameters(known) if known else (1.0, 0))
    if isinstance(value, Real):
        return value, value.activation
    if isinstance(value, Activation):
        return value, value
    raise node.error(f"input {node.inputs[position]!r} must be quantized")


def max_pool(imp: Importer, node: OnnxNode) -> Value:
    """MaxPool."""
    value, x = integers_of(imp, node)
    node.shapes[node.inputs[0]] = x.shape
    kernel = tuple(node.attributes["kernel_shape"])
    stride, padding, dilation = window(node, (kernel[0], kernel[1]))
    node.require("ceil_mode", 0, 0)
    if len(kernel) != 2 or dilation != (1, 1):
        raise node.error(f"only 2-D windows without dilation are supported, got {kernel!r} and {dilation!r}")
    name = imp.builder.emit(
        MaxPool2d, [x.name], imp.parameters(x), node.output, kernel=kernel, stride=stride, padding=padding
    )
    return _moved(value, Activation(name, _image(imp, name)))


def _image(imp: Importer, name: str) -> Shape:
    """ONNX's shape of an image of the graph."""
    _, height, width, channels = imp.builder.shape(name)
    return 1, channels, height, width


def _concat(imp: Importer, node: OnnxNode, parts: list[Activation], axis: int) -> Pending:
    """Parts rescaled to the result's parameters, one after the other."""
    rank = len(parts[0].shape)
    if not -rank <= axis < rank or any(len(part.shape) != rank or part.pixels is not None for part in parts):
        raise node.error(f"inputs must have one rank and axis must be one of theirs, got axis {axis}")
    axis %= rank
    graph_axis = {1: 3, 2: 1, 3: 2}.get(axis, 0) if rank == 4 else axis + len(graph_shape(parts[0].shape)) - rank
    sizes = [part.shape[axis] for part in parts]
    shape = (*parts[0].shape[:axis], sum(sizes), *parts[0].shape[axis + 1 :])

    def finish(parameters: Parameters, clamp: dict[str, int]) -> str:
        names = [imp.rescaled(part, parameters) for part in parts]
        return imp.builder.emit(Concat, names, parameters, node.output, axis=graph_axis)

    return Pending(shape, finish)


def concat(imp: Importer, node: OnnxNode) -> Value:
    """Concat of real numbers, or of integers whose parameters agree."""
    parts = [integers_of(imp, node, position) for position in range(len(node.inputs))]
    pending = _concat(imp, node, [part for _, part in parts], int(node.attributes["axis"]))
    if isinstance(parts[0][0], Real):
        return pending
    parameters = {imp.parameters(part) for _, part in parts}
    if len(parameters) != 1:
        raise node.error(f"inputs must have equal parameters, got {sorted(parameters)!r}")
    return imp.finish(node, pending, parameters.pop())


def q_linear_concat(imp: Importer, node: OnnxNode) -> Value:
    """QLinearConcat of com.microsoft: the output's parameters, then triples."""
    target = imp.scalar_parameters(node, node.inputs[0], node.inputs[1])
    triples = [node.inputs[start : start + 3] for start in range(2, len(node.inputs), 3)]
    parts = [imp.activation(node, x, imp.scalar_parameters(node, scale, point)) for x, scale, point in triples]
    return imp.finish(node, _concat(imp, node, parts, int(node.attributes["axis"])), target)


def _move(imp: Importer, node: OnnxNode, shape: Shape, apply: Callable[[Activation], Activation]) -> Value:
    """Apply a movement to integers now, to what is not quantized yet when it is."""
    value = imp.value(node, node.inputs[0])
    if not (isinstance(value, Pending) or (isinstance(value, RawInput) and value.is_real)):
        kept, x = integers_of(imp, node)
        return _moved(kept, apply(x))
    source = value

    def finish(parameters: Parameters, clamp: dict[str, int]) -> str:
        if isinstance(source, RawInput):
            x = imp.declare(node, source, parameters)
        else:
            x = Activation(source.finish(parameters, clamp), source.shape)
        moved = apply(x)
        return moved.name if moved.pixels is None else imp.builder.reshape(imp.row_major(moved), graph_shape(shape))

    return replace(source, shape=shape, finish=finish) if isinstance(source, Pending) else Pending(shape, finish)


def _shape(imp: Importer, node: OnnxNode) -> Shape:
    """ONNX's shape of the first input."""
    value = imp.value(node, node.inputs[0])
    return value.shape if isinstance(value, Activation | Pending | RawInput | Real) else integers_of(imp, node)[1].shape


def reshape(imp: Importer, node: OnnxNode) -> Value:
    """Reshape, Flatten, Squeeze, Unsqueeze."""
    shape = _new_shape(imp, node, _shape(imp, node))
    return _move(imp, node, shape, lambda x: imp.reshape(x, shape))


def _new_shape(imp: Importer, node: OnnxNode, shape: Shape) -> Shape:
    if node.operator == "Flatten":
        axis = int(node.attributes.get("axis", 1)) % (len(shape) + 1)
        return math.prod(shape[:axis]), math.prod(shape[axis:])
    if node.operator == "Reshape":
        wanted = [int(size) for size in imp.array(node, node.inputs[1]).reshape(-1)]
        wanted = [shape[i] if size == 0 and i < len(shape) else size for i, size in enumerate(wanted)]
    else:
        given = imp.array(node, node.inputs[1]).reshape(-1) if len(node.inputs) > 1 else node.attributes.get("axes", ())
        rank = len(shape) + (len(given) if node.operator == "Unsqueeze" else 0)
        axes = {int(axis) % rank for axis in given}
        if node.operator == "Squeeze":
            wanted = [size for axis, size in enumerate(shape) if (axis not in axes if axes else size != 1)]
        else:
            rest = iter(shape)
            wanted = [1 if axis in axes else next(rest) for axis in range(rank)]
    if wanted.count(-1) == 1:
        known = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = math.prod(shape) // max(known, 1)
    if math.prod(wanted) != math.prod(shape) or any(size < 1 for size in wanted):
        raise node.error(f"shape must have {math.prod(shape)} elements, got {wanted!r}")
    return tuple(wanted)


def transpose(imp: Importer, node: OnnxNode) -> Value:
    """Transpose; the batch stays first."""
    source = _shape(imp, node)
    rank = len(source)
    order = [int(axis) for axis in node.attributes.get("perm", range(rank)[::-1])]
    if sorted(order) != list(range(rank)):
        raise node.error(f"perm must be an order of {rank} axes, got {order!r}")
    shape = tuple(source[axis] for axis in order)

    def apply(x: Activation) -> Activation:
        name = x.name if x.pixels is None else imp.builder.reshape(imp.row_major(x), graph_shape(x.shape))
        if rank == 4:
            place = (0, 2, 3, 1)
            permutation = tuple(place.index(order[place[axis]]) for axis in range(4))
        else:
            offset = len(imp.builder.shape(name)) - rank
            permutation = (*range(offset), *(axis + offset for axis in order))
        if permutation == tuple(range(len(permutation))):
            return Activation(name, shape)
        parameters = imp.builder.parameters(name)
        return Activation(imp.builder.emit(Transpose, [name], parameters, node.output, permutation=permutation), shape)

    return _move(imp, node, shape, apply)


def resize(imp: Importer, node: OnnxNode) -> Value:
    """Resize of height and width to the nearest pixel."""
    value, x = integers_of(imp, node)
    if node.attributes.get("mode", b"nearest") != b"nearest" or len(x.shape) != 4:
        raise node.error(f"mode must be nearest, and the input an image, got {node.attributes.get('mode')!r}")
    scales, sizes = (imp.constants.get(name) for name in (*node.inputs, "", "", "", "")[2:4])
    wanted = None if sizes is None or not sizes.size else [int(size) for size in sizes]
    factors = [np.float32(f) for f in scales] if wanted is None and scales is not None else None
    if wanted is None and factors is not None:
        wanted = [math.floor(n * f) for n, f in zip(x.shape, factors, strict=True)]
    if wanted is None or len(wanted) != 4 or tuple(wanted[:2]) != x.shape[:2] or not _fits(wanted):
        raise node.error(f"scales or sizes must be constant and keep the channels, got {wanted!r}")
    if factors is None:
        factors = [np.float32(n) / np.float32(size) for size, n in zip(x.shape, wanted, strict=True)]
    rows, columns = (_nearest(node, x.shape[axis], wanted[axis], factors[axis]) for axis in (2, 3))
    name = imp.builder.emit(ResizeNearest, [x.name], imp.parameters(x), node.output, rows=rows, columns=columns)
    return _moved(value, Activation(name, _image(imp, name)))


def _fits(sizes: list[int]) -> bool:
    return all(1 <= size <= LARGEST_AXIS for size in sizes)


def _nearest(node: OnnxNode, source: int, target: int, factor: np.float32) -> tuple[int, ...]:
    """The input index of every output index, with float32 coordinates."""
    x, half = np.arange(target, dtype=np.float32), np.float32(0.5)
    mode = node.attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and target > 1):
        position = (x + half) / factor - half
    elif mode == "asymmetric":
        position = x / factor
    elif mode == "align_corners":
        position = x * np.float32(source - 1) / np.float32(max(target - 1, 1))
    elif mode == "pytorch_half_pixel":
        position = np.zeros_like(x)
    else:
        raise node.error(f"coordinate_transformation_mode must be one of the usual ones, got {mode!r}")
    rounding: dict[str, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
        "round_prefer_floor": lambda p: np.ceil(p - half),
        "round_prefer_ceil": lambda p: np.floor(p + half),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    nearest = node.attributes.get("nearest_mode", b"round_prefer_floor").decode()
    if nearest not in rounding:
        raise node.error(f"nearest_mode must be one of {', '.join(rounding)}, got {nearest!r}")
    return tuple(int(i) for i in np.clip(rounding[nearest](position), 0, source - 1))


MOVEMENT: dict[str, Callable[[Importer, OnnxNode], Value]] = {
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), reshape),
    "Concat": concat,
    "MaxPool": max_pool,
    "Resize": resize,
    "Transpose": transpose,
    "com.microsoft.QLinearConcat": q_linear_concat,
}
"""How each operator that moves bytes is translated."""
