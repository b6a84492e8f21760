"""How arrays outside of a graph hold a tensor: other shapes, and axes in another order."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError
from accel.network.windows import Shape

LAYOUTS = ("NCHW", "NHWC")


def check_layout(name: str | None) -> None:
    """Raise InputError unless `name` is one of `LAYOUTS`, or none."""
    if name not in (None, *LAYOUTS):
        raise InputError(f"layout must be {' or '.join(map(repr, LAYOUTS))}, got {name!r}")


class ArrayLayout(NamedTuple):
    """Arrays whose elements, with the axes transposed to `order`, follow one another as in the graph's tensor.

    Parameters
    ----------
    shape : tuple of int
        Of one sample.
    order : tuple of int
        A permutation of the axes: ``(0, 2, 3, 1)`` for NCHW.
    """

    shape: Shape
    order: tuple[int, ...]

    @classmethod
    def row_major(cls, shape: Shape) -> ArrayLayout:
        """Axes in the graph's order."""
        return cls(shape, tuple(range(len(shape))))

    @classmethod
    def channels_first(cls, shape: Shape) -> ArrayLayout:
        """Arrays of `shape` (1, channels, ...): the graph has the channels last."""
        axes = range(len(shape))
        return cls(shape, (*axes[:1], *axes[2:], *axes[1:2]))

    @classmethod
    def parse(cls, value: Any) -> ArrayLayout | None:
        """The layout in a JSON value, its two fields as lists; None if there is none."""
        return None if value is None else cls(*map(tuple, value))

    @property
    def is_valid(self) -> bool:
        """Whether sizes are positive integers and `order` is a permutation of the axes."""
        sizes = all(type(size) is int and size > 0 for size in self.shape)
        return sizes and all(type(a) is int for a in self.order) and sorted(self.order) == list(range(len(self.shape)))

    @property
    def elements(self) -> int:
        """Elements of an array."""
        return math.prod(self.shape)

    @property
    def samples_shape(self) -> Shape:
        """Shape of one sample in a batch, whose first axis counts samples: without the model's own batch of 1."""
        return self.shape[1:] if self.shape[:1] == (1,) else self.shape

    def to_graph(self, array: NDArray[Any], shape: Shape) -> NDArray[Any]:
        """An array of this layout as the graph's tensor of `shape`."""
        return np.ascontiguousarray(array.transpose(self.order)).reshape(shape)

    def from_graph(self, array: NDArray[Any]) -> NDArray[Any]:
        """The graph's tensor as an array of this layout."""
        transposed = array.reshape([self.shape[axis] for axis in self.order])
        # NumPy's ascontiguousarray makes one axis of none.
        return np.ascontiguousarray(transposed.transpose(np.argsort(self.order))).reshape(self.shape)


def image_layouts(shape: Shape) -> dict[str, ArrayLayout]:
    """The layouts of an image that the graph holds as `shape` (1, height, width, channels), by the names `LAYOUTS`."""
    n, height, width, channels = shape
    return {
        "NCHW": ArrayLayout.channels_first((n, channels, height, width)),
        "NHWC": ArrayLayout.row_major(shape),
    }
