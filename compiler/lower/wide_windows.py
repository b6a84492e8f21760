"""Windows with numbers that the fields of an instruction do not hold, rewritten to equal ones that they do."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from accel.machine.isa import FIELDS, Opcode
from accel.network.graph import Graph, Tensor
from accel.network.nodes import AveragePool2d, Conv2d, MaxPool2d, Mean, Node, Pad, Reshape, StridedSlice
from accel.network.windows import Shape

_EXEC = {field.name: field for field in FIELDS[Opcode.EXEC]}
PADDING_MAX = -_EXEC["y_start"].minimum
"""Rows above an image, and columns left of it."""
STRIDE_MAX = _EXEC["y_step"].maximum
_POOL_TAPS_MAX = next(field.maximum for field in FIELDS[Opcode.POST] if field.name == "ky_count")

Change = Callable[[Any, Tensor, Tensor], list[Node]]
"""From a window, its input and output to the nodes that stand for it, whose names and tensors are still open."""


class Narrowed(NamedTuple):
    """A graph, and the windows that the nodes added to it are for, by their names."""

    graph: Graph
    windows: dict[str, str]


def narrow_windows(graph: Graph) -> Narrowed:
    """The graph with other nodes for each window that is too wide for an instruction.

    Padding of a convolution becomes a Pad node. A stride along a signal becomes pixels that are the channels of one.
    The whole image that a pool reads in one window gets another height and width.
    """
    nodes, tensors, windows = list[Node](), dict(graph.tensors), dict[str, str]()
    names = {node.name for node in graph.nodes}
    for node in graph.nodes:
        change = next((change for kind, change in _CHANGES.items() if isinstance(node, kind)), None)
        if change is None:
            nodes.append(node)
            continue
        before, result = tensors[node.inputs[0]], tensors[node.output]
        chain = change(node, before, result)
        for number, step in enumerate(chain, 1):
            window, last = type(step) is type(node), number == len(chain)
            name = node.name if window else _free(f"{node.name}_{step.op.lower()}", {*names, *windows})
            windows |= {} if window else {name: node.name}
            output = node.output if last else _free(f"{node.output}_{step.op.lower()}", tensors)
            nodes.append(replace(step, name=name, inputs=(before.name,), output=output))
            parameters = result.parameters if window else before.parameters
            if not last:
                before = tensors[output] = Tensor(output, step.output_shape(before.shape), *parameters)
        nodes += [] if chain else [node]
    return Narrowed(replace(graph, nodes=tuple(nodes), tensors=tensors) if windows else graph, windows)


def _convolution(node: Conv2d, source: Tensor, result: Tensor) -> list[Node]:
    return _strided(node, source, result) or _padded(node, source)


def _padded(node: Conv2d, source: Tensor) -> list[Node]:
    """Padding apart from the convolution."""
    top, left, bottom, right = node.padding
    if max(top, left) <= PADDING_MAX:
        return []
    return [_border(source, (top, left), (bottom, right)), replace(node, padding=(0, 0, 0, 0))]


def _strided(node: Conv2d, source: Tensor, result: Tensor) -> list[Node]:
    """A convolution along a signal whose stride is a pixel, the pixels that it steps over being channels of one."""
    axis = 1 if source.shape[1] == 1 == node.kernel[0] else 0
    across = 1 - axis
    stride, taps, outputs = node.stride[axis], node.kernel[axis], result.shape[1 + axis]
    along = (source.shape[1 + across], node.kernel[across], node.dilation[axis], node.groups) == (1, 1, 1, 1)
    if stride <= STRIDE_MAX or not along or node.padding[across] or node.padding[2 + across]:
        return []
    parts = -(-taps // stride)
    length = (outputs - 1 + parts) * stride
    first = node.padding[axis]
    beyond = length - first - source.shape[1 + axis]
    steps = list[Node]()
    if first or beyond > 0:
        steps.append(_border(source, _along(axis, first), _along(axis, max(beyond, 0))))
    if beyond < 0:
        end = (1, *_along(axis, length, 1), source.shape[3])
        steps.append(_node(StridedSlice, begin=(0, 0, 0, 0), end=end, stride=(1, 1, 1, 1)))
    kernel = node.weight.reshape(len(node.weight), taps, source.shape[3])
    kernel = np.pad(kernel, ((0, 0), (0, parts * stride - taps), (0, 0)))
    weight = np.ascontiguousarray(kernel.reshape(len(kernel), 1, parts, stride * source.shape[3]))
    return [
        *steps,
        _node(Reshape, shape=(1, 1, length // stride, stride * source.shape[3])),
        replace(node, weight=weight, stride=(1, 1), padding=(0, 0, 0, 0)),
        _node(Reshape, shape=result.shape),
    ]


def _along(axis: int, number: int, other: int = 0) -> tuple[int, int]:
    """A pair for rows and columns with a number for one of them."""
    return (number, other) if axis == 0 else (other, number)


def _border(source: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Node:
    return _node(Pad, before=(0, *before, 0), after=(0, *after, 0), value=source.zero_point)


def _node(kind: type[Node], **fields: Any) -> Node:
    return kind(name="", inputs=("",), output="", **fields)


def _squarer(node: MaxPool2d | AveragePool2d | Mean, source: Tensor, result: Tensor) -> list[Node]:
    """A pool of the whole image, whose pixels lie in memory as before."""
    height, width = node.kernel
    sides = _sides(height * width)
    if max(node.kernel) <= _POOL_TAPS_MAX or source.shape[1:3] != node.kernel or any(node.padding) or sides is None:
        return []
    shape: Shape = (1, *sides, source.shape[3])
    return [_node(Reshape, shape=shape), replace(node, kernel=sides)]


def _sides(pixels: int) -> tuple[int, int] | None:
    """Height and width of an image of so many pixels, neither larger than a window may be; None if there are none."""
    heights = (n for n in range(_POOL_TAPS_MAX, 0, -1) if pixels % n == 0 and pixels // n <= _POOL_TAPS_MAX)
    height = next(heights, None)
    return None if height is None else (height, pixels // height)


_CHANGES: dict[type[Node], Change] = {
    Conv2d: _convolution,
    MaxPool2d: _squarer,
    AveragePool2d: _squarer,
    Mean: _squarer,
}


def _free(name: str, taken: Collection[str]) -> str:
    """`name`, or one like it that is not taken."""
    return name if name not in taken else _free(f"{name}_", taken)
