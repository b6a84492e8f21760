"""Windows with numbers that the fields of an instruction do not hold, rewritten to equal ones that they do."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from accel.machine.isa import FIELDS, Opcode
from accel.network.graph import Graph, Tensor
from accel.network.nodes import AveragePool2d, Conv2d, MaxPool2d, Mean, Node, Pad, Reshape
from accel.network.windows import Shape

PADDING_MAX = -next(field.minimum for field in FIELDS[Opcode.EXEC] if field.name == "y_start")
"""Rows above an image, and columns left of it."""
_POOL_TAPS_MAX = next(field.maximum for field in FIELDS[Opcode.POST] if field.name == "ky_count")


def narrow_windows(graph: Graph) -> Graph:
    """The graph with a node before each window that is too wide for an instruction.

    Padding of a convolution becomes a Pad node. The whole image that a pool reads in one window gets another height and
    width; its pixels lie in memory as before.
    """
    nodes, tensors, names = list[Node](), dict(graph.tensors), {node.name for node in graph.nodes}
    for node in graph.nodes:
        change = next((change for kind, change in _CHANGES.items() if isinstance(node, kind)), None)
        pair = change(node, tensors[node.inputs[0]]) if change else None
        if pair is None:
            nodes.append(node)
            continue
        source = tensors[node.inputs[0]]
        value, name = _free(f"{source.name}_for_{node.name}", tensors), _free(f"{node.name}_window", names)
        before, after = replace(pair[0], name=name, output=value), replace(pair[1], inputs=(value,))
        names.add(name)
        tensors[value] = Tensor(value, before.output_shape(source.shape), *source.parameters)
        nodes += [before, after]
    return replace(graph, nodes=tuple(nodes), tensors=tensors) if len(nodes) > len(graph.nodes) else graph


def _padded_apart(node: Conv2d, source: Tensor) -> tuple[Node, Node] | None:
    top, left, bottom, right = node.padding
    if max(top, left) <= PADDING_MAX:
        return None
    before, after = (0, top, left, 0), (0, bottom, right, 0)
    border = Pad(name="", inputs=node.inputs, output="", before=before, after=after, value=source.zero_point)
    return border, replace(node, padding=(0, 0, 0, 0))


def _squarer(node: MaxPool2d | AveragePool2d | Mean, source: Tensor) -> tuple[Node, Node] | None:
    height, width = node.kernel
    sides = _sides(height * width)
    if max(node.kernel) <= _POOL_TAPS_MAX or source.shape[1:3] != node.kernel or any(node.padding) or sides is None:
        return None
    shape: Shape = (1, *sides, source.shape[3])
    return Reshape(name="", inputs=node.inputs, output="", shape=shape), replace(node, kernel=sides)


def _sides(pixels: int) -> tuple[int, int] | None:
    """Height and width of an image of so many pixels, neither larger than a window may be; None if there are none."""
    heights = (n for n in range(_POOL_TAPS_MAX, 0, -1) if pixels % n == 0 and pixels // n <= _POOL_TAPS_MAX)
    height = next(heights, None)
    return None if height is None else (height, pixels // height)


_CHANGES: dict[type[Node], Callable[..., tuple[Node, Node] | None]] = {
    Conv2d: _padded_apart,
    MaxPool2d: _squarer,
    AveragePool2d: _squarer,
    Mean: _squarer,
}
"""The node before a window, and the window behind it, by the kind of the window."""


def _free(name: str, taken: Collection[str]) -> str:
    """`name`, or one like it that is not taken."""
    return name if name not in taken else _free(f"{name}_", taken)
