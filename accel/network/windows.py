"""Sliding windows: the geometry that convolutions and pools share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from accel.errors import GraphError

if TYPE_CHECKING:
    from accel.network.nodes import Node

Shape: TypeAlias = tuple[int, ...]


def window_output(
    node: Node,
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """Height and width of the output of a window that slides over an NHWC image of `shape`.

    Raises
    ------
    GraphError
        The image is not 4-D or smaller than one window.
    """
    if len(shape) != 4:
        raise node.error(f"input must have shape (1, height, width, channels), got {shape!r}")
    sizes = []
    for axis in (0, 1):
        padded = shape[1 + axis] + padding[axis] + padding[axis + 2]
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        if padded < extent:
            raise node.error(f"padded input must cover a window of {extent}, got {padded} in axis {1 + axis}")
        sizes.append((padded - extent) // stride[axis] + 1)
    return sizes[0], sizes[1]


def check_window(
    node: Node, stride: tuple[int, int], padding: tuple[int, int, int, int], other: tuple[int, int]
) -> None:
    """Raise `GraphError` unless stride, padding and one more pair of positive sizes (kernel or dilation) are sane."""
    for values, length, least in ((stride, 2, 1), (other, 2, 1), (padding, 4, 0)):
        sized = isinstance(values, tuple) and len(values) == length
        if not (sized and all(isinstance(value, int) and least <= value < 2**15 for value in values)):
            raise node.error(f"window must be made of {length} integers in [{least}, 32767], got {values!r}")


def check_range(where: str, field: str, value: object, lo: int, hi: int) -> None:
    """Raise `GraphError` unless `value` is an integer in ``[lo, hi]``; `where` begins the message."""
    if not (isinstance(value, int) and lo <= value <= hi):
        raise GraphError(f"{where}: {field} must be an integer in [{lo}, {hi}], got {value!r}")
