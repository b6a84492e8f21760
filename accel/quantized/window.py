"""The windows of convolutions and pools, from the attributes of their operators."""

from __future__ import annotations

from typing import NamedTuple

from accel.network.windows import Shape
from accel.quantized.network import Operator

Pair = tuple[int, int]


class Window(NamedTuple):
    """Vertical, horizontal; a 1-D window has height 1. `beyond` are rows and columns that `ceil_mode` adds."""

    kernel: Pair
    stride: Pair
    padding: tuple[int, int, int, int]
    dilation: Pair
    output: Pair
    beyond: Pair


def window_of(op: Operator, shape: Shape, kernel: tuple[int, ...]) -> Window:
    """The window of an operator on an image (1, channels, height, width) or (1, channels, size)."""
    rank = len(kernel)
    if rank not in (1, 2) or len(shape) != rank + 2:
        raise op.error(f"input must have shape (N, channels, height, width) or (N, channels, size), got {shape!r}")
    stride, dilation = (_pair(op, name, rank) for name in ("strides", "dilations"))
    kernel2 = _two(kernel)
    if min(*stride, *dilation, *kernel2) < 1:
        raise op.error(f"kernel, strides and dilations must be positive, got {kernel!r}, {stride!r}, {dilation!r}")
    sizes = _two(shape[2:])
    extent = (dilation[0] * (kernel2[0] - 1) + 1, dilation[1] * (kernel2[1] - 1) + 1)
    top, left, bottom, right = _padding(op, rank, sizes, extent, stride)
    rounding = int(op.attributes.get("ceil_mode", 0))
    output, beyond = [], []
    for n, before, after, e, s in zip(sizes, (top, left), (bottom, right), extent, stride, strict=True):
        rest = n + before + after - e
        count = (-(-rest // s) if rounding else rest // s) + 1
        if rounding and (count - 1) * s >= n + before:
            count -= 1
        if count < 1:
            raise op.error(f"window must fit the padded image, got {e} elements of {n + before + after}")
        output.append(count)
        beyond.append(max((count - 1) * s + e - n - before - after, 0))
    return Window(kernel2, stride, (top, left, bottom, right), dilation, (output[0], output[1]), (beyond[0], beyond[1]))


def _two(values: tuple[int, ...], filling: int = 1) -> Pair:
    """One or two numbers as those of height and width."""
    full = (filling,) * (2 - len(values)) + tuple(int(value) for value in values)
    return full[0], full[1]


def _pair(op: Operator, attribute: str, rank: int) -> Pair:
    values = tuple(op.attributes.get(attribute, (1,) * rank))
    if len(values) != rank:
        raise op.error(f"{attribute} must hold {rank} integers, got {values!r}")
    return _two(values)


def _padding(op: Operator, rank: int, sizes: Pair, extent: Pair, stride: Pair) -> tuple[int, int, int, int]:
    """Top, left, bottom, right."""
    pads = tuple(int(n) for n in op.attributes.get("pads", (0,) * (2 * rank)))
    auto = str(op.attributes.get("auto_pad", "NOTSET"))
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max((-(-n // s) - 1) * s + e - n, 0) for n, e, s in zip(sizes, extent, stride, strict=True)]
        less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
        first, second = (less, more) if auto == "SAME_UPPER" else (more, less)
        return first[0], first[1], second[0], second[1]
    if auto == "VALID":
        return 0, 0, 0, 0
    if len(pads) != 2 * rank or min(pads, default=0) < 0:
        raise op.error(f"pads must hold {2 * rank} integers that are not negative, got {pads!r}")
    before, after = _two(pads[:rank], 0), _two(pads[rank:], 0)
    return *before, *after
