"""Random networks around one kind of moving operation: what it moves was computed or given, what it makes is used.

Bilinear resizing, which mixes pixels as it moves them, is among them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.network.graph import Graph, Tensor
from accel.network.nodes import (
    Broadcast,
    Concat,
    Constant,
    Gather,
    Node,
    Pad,
    Rearrange,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    StridedSlice,
    Transpose,
    TransposeConv2d,
)
from support.networks.random_graphs import GraphBuilder, Rng


def append_node(builder: GraphBuilder, kind: type[Node], sources: list[Tensor], **fields: Any) -> Tensor:
    """Append a node of a kind that keeps scale and zero point."""
    name = f"{kind.__name__.lower()}{len(builder.nodes)}"
    node = kind(name=name, inputs=tuple(source.name for source in sources), output="", **fields)
    return builder.append(node, builder.tensor(node.output_shape(*(s.shape for s in sources)), like=sources[0]))


def _sizes(builder: GraphBuilder, low: int, high: int, count: int = 3) -> tuple[int, ...]:
    return tuple(builder.pick(low, high) for _ in range(count))


def _image(builder: GraphBuilder, source: Tensor) -> Tensor:
    """The source with four axes."""
    if len(source.shape) == 4:
        return source
    return append_node(builder, Reshape, [source], shape=_factors(builder, source.shape[1]))


def _factors(builder: GraphBuilder, number: int) -> tuple[int, ...]:
    first = builder.pick_divisor(number)
    second = builder.pick_divisor(number // first)
    return 1, *builder.rng.permutation([first, second, number // first // second]).tolist()


def pad(builder: GraphBuilder, source: Tensor) -> Tensor:
    spatial = builder.rng.random() < 0.6
    before, after = ((0, *_sizes(builder, 0, 3, 2), 0 if spatial else builder.pick(0, 9)) for _ in "ba")
    value = source.zero_point if builder.rng.random() < 0.6 else builder.pick(-128, 127)
    if len(source.shape) == 2:
        before, after = before[::3], after[::3]
    return append_node(builder, Pad, [source], before=before, after=after, value=value)


def concat(builder: GraphBuilder, source: Tensor) -> Tensor:
    axis = builder.pick(1, len(source.shape) - 1) if builder.rng.random() < 0.5 else len(source.shape) - 1
    parts = [source]
    for _ in range(builder.pick(0, 2)):
        shape = list(source.shape)
        shape[axis] = builder.pick(1, 12)
        parts.append(_partner(builder, source, tuple(shape)))
    return append_node(builder, Concat, [parts[i] for i in builder.rng.permutation(len(parts))], axis=axis)


def _partner(builder: GraphBuilder, source: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor of the source's parameters and another shape, of any origin."""
    draw = builder.rng.random()
    if shape == source.shape and draw < 0.5:
        return source
    if draw < 0.3 and shape[1:3] == source.shape[1:3] and len(shape) == 4:
        return builder.pointwise(source, shape[3])
    if draw < 0.4:
        return constant(builder, source, shape)
    return builder.given(shape, source)


def constant(builder: GraphBuilder, source: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    shape = shape or _image(builder, source).shape
    if len(shape) == 2:
        return builder.given(shape, source)
    value = builder.rng.integers(-128, 128, shape).astype(np.int8)
    node = Constant(name=f"constant{len(builder.nodes)}", inputs=(), output="", value=value)
    return builder.append(node, builder.tensor(shape, like=source))


def resize(builder: GraphBuilder, source: Tensor) -> Tensor:
    source = _image(builder, source)
    lists = []
    for size in source.shape[1:3]:
        style, length = builder.pick(0, 2), builder.pick(1, 12)
        factor = builder.pick(1, 3)
        whole = [i // factor for i in range(size * factor)]
        scaled = [min(size - 1, int((i + 0.5 * (style == 1)) * size / length)) for i in range(length)]
        lists.append(tuple(whole if style == 2 else scaled))
    return append_node(builder, ResizeNearest, [source], rows=lists[0], columns=lists[1])


def bilinear(builder: GraphBuilder, source: Tensor) -> Tensor:
    source = _image(builder, source)
    rows, columns = (mixes(builder, size, builder.pick(1, 12)) for size in source.shape[1:3])
    return append_node(builder, ResizeBilinear, [source], rows=rows, columns=columns)


def mixes(builder: GraphBuilder, size: int, length: int) -> NDArray[np.int32]:
    """Neighbours and weights along one axis: any, or evenly spaced positions with or without an exact factor."""
    style, limit = builder.pick(0, 3), size - 1
    if style == 0:
        weights = builder.rng.choice([0, 1, 512, 1024, builder.pick(0, 1024)], length)
        return np.column_stack([builder.rng.integers(0, size, (length, 2)), weights]).astype(np.int32)
    if style == 1:
        length = size * int(builder.rng.choice([1, 2, 4]))
    scale = (1024 * size + length // 2) // length
    position = np.arange(length) * scale + (scale // 2 - 512 if builder.rng.random() < 0.5 else 0)
    first, second = (position // 1024).clip(0, limit), (-(-position // 1024)).clip(0, limit)
    return np.column_stack([first, second, position - 1024 * first]).astype(np.int32)


def strided_slice(builder: GraphBuilder, source: Tensor) -> Tensor:
    begin = [0, *(builder.pick(0, size - 1) for size in source.shape[1:])]
    if builder.rng.random() < 0.5:
        begin[-1] -= begin[-1] % int(builder.rng.choice([4, 16, 128]))
    end = [1, *(builder.pick(first + 1, size) for first, size in zip(begin[1:], source.shape[1:], strict=True))]
    stride = [1, *_sizes(builder, 1, 3, len(begin) - 1)]
    if builder.rng.random() < 0.6:
        stride[-1] = 1
    return append_node(builder, StridedSlice, [source], begin=tuple(begin), end=tuple(end), stride=tuple(stride))


def transpose(builder: GraphBuilder, source: Tensor) -> Tensor:
    order = builder.rng.permutation(np.arange(1, len(source.shape))).tolist()
    return append_node(builder, Transpose, [source], permutation=(0, *order))


def rearrange(builder: GraphBuilder, source: Tensor) -> Tensor:
    sizes = [int(size) for n in source.shape[1:] for size in _factors(builder, n)[1:]]
    order = builder.rng.permutation(len(sizes)).tolist()
    shape = _factors(builder, int(np.prod(sizes)))
    return append_node(builder, Rearrange, [source], sizes=tuple(sizes), permutation=tuple(order), shape=shape)


def gather(builder: GraphBuilder, source: Tensor) -> Tensor:
    axis = builder.pick(1, len(source.shape) - 1)
    indices = builder.rng.integers(0, source.shape[axis], builder.pick(1, 12)).astype(np.int32)
    return append_node(builder, Gather, [source], axis=axis, indices=indices)


def reshape(builder: GraphBuilder, source: Tensor) -> Tensor:
    elements = int(np.prod(source.shape))
    shape = (1, elements) if builder.rng.random() < 0.3 else _factors(builder, elements)
    return append_node(builder, Reshape, [source], shape=shape)


def broadcast(builder: GraphBuilder, source: Tensor) -> Tensor:
    thin = [size if builder.rng.random() < 0.5 else 1 for size in source.shape]
    begin = (0,) * len(thin)
    source = append_node(builder, StridedSlice, [source], begin=begin, end=tuple(thin), stride=(1,) * len(thin))
    shape = (1, *(n if n > 1 else builder.pick(1, 6) for n in thin[1:]))
    return append_node(builder, Broadcast, [source], shape=shape)


def transpose_conv(builder: GraphBuilder, source: Tensor) -> Tensor:
    source = _image(builder, source)
    kernel, stride = _sizes(builder, 1, 4, 2), _sizes(builder, 1, 3, 2)
    padding = tuple(builder.pick(0, k) for k in kernel)
    natural = [(n - 1) * s + k - p for n, s, k, p in zip(source.shape[1:3], stride, kernel, padding, strict=True)]
    size = tuple(max(1, n - builder.pick(-2, 2)) for n in natural)
    name = f"up{len(builder.nodes)}"
    node = TransposeConv2d(
        name=name, inputs=(source.name,), output="", stride=stride, padding=padding, size=size, **builder.clamp(),
        **builder.weights((builder.pick(1, 12), *kernel, source.shape[3])),
    )  # fmt: skip
    return builder.append(node, builder.tensor(node.output_shape(source.shape)))


def grouped_transposes(builder: GraphBuilder, x: Tensor) -> Tensor:
    """Transposed convolutions of four groups of channels, of each channel alone, and of two results per channel."""
    for groups, channels in ((4, 12), (12, 12), (12, 24)):
        weights: dict[str, Any] = builder.weights((channels, 3, 2, x.shape[3] // groups))
        sizes: dict[str, Any] = {"stride": (2, 2), "padding": (1, 0), "size": tuple(2 * n for n in x.shape[1:3])}
        node = TransposeConv2d(
            name=f"up{groups}_{channels}", inputs=(x.name,), output="", groups=groups, **sizes, **weights
        )
        x = builder.append(node, builder.tensor(node.output_shape(x.shape)))
    return x


MOVES: dict[str, Callable[[GraphBuilder, Tensor], Tensor]] = {
    "Pad": pad,
    "Concat": concat,
    "Constant": constant,
    "ResizeNearest": resize,
    "ResizeBilinear": bilinear,
    "StridedSlice": strided_slice,
    "Transpose": transpose,
    "Reshape": reshape,
    "Broadcast": broadcast,
    "TransposeConv2d": transpose_conv,
}
"""Operations anywhere in a network."""

ALWAYS_GATHERED: dict[str, Callable[[GraphBuilder, Tensor], Tensor]] = {"Gather": gather, "Rearrange": rearrange}
"""Operations that are always gathered; in the middle of a network only."""


def random_movement_graph(rng: Rng, mode: str, kind: str, *, channels: int = 20, size: int = 7, more: int = 3) -> Graph:
    """A network with a node of `kind` in the middle: up to `more` nodes before and after it, moving or computing.

    Parameters
    ----------
    rng : numpy Generator
    mode : str
        Requantization mode.
    kind : str
        A key of `MOVES` or `ALWAYS_GATHERED`.
    channels, size, more : int
        Upper bounds.
    """
    builder = GraphBuilder(rng, mode)
    shape = (1, *_sizes(builder, 1, size, 2), builder.pick(1, channels))
    current = builder.given(shape if rng.random() < 0.9 else (1, shape[3]))
    kinds = list(MOVES)

    def some(limit: int) -> list[str]:
        drawn = [str(rng.choice([*kinds, *["conv"] * 6, *["add"] * 2])) for _ in range(builder.pick(0, limit))]
        return [*drawn, "conv"] if rng.random() < 0.3 else drawn

    used = ["conv"] if rng.random() < 0.4 else []
    for step in (*some(more - 1), kind, *used, *some(more)):
        if np.prod(current.shape) > 30 * channels * size:
            break
        if step == "conv":
            current = builder.conv(_image(builder, current), builder.pick(1, channels))
        elif step == "add":
            partners = [t for t in builder.tensors.values() if t.shape == current.shape]
            current = builder.combined(current, partners[builder.pick(0, len(partners) - 1)])
        else:
            current = (MOVES | ALWAYS_GATHERED)[step](builder, current)
    return builder.graph(current)
