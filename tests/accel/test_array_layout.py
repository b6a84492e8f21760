"""Layouts of arrays beside a graph's tensors: worked examples, round trips, and layouts that tensors refuse."""

from __future__ import annotations

import numpy as np
import pytest

from accel.errors import GraphError
from accel.network.array_layout import ArrayLayout, image_layouts
from accel.network.graph import Tensor


def test_channels_first_by_hand() -> None:
    layout = ArrayLayout.channels_first((1, 2, 3, 4))
    x = np.arange(24).reshape(1, 2, 3, 4)
    graph = layout.to_graph(x, (1, 3, 4, 2))
    assert [graph[0, y, x_, c] == x[0, c, y, x_] for y in range(3) for x_ in range(4) for c in range(2)] == [True] * 24
    assert layout.samples_shape == (2, 3, 4)
    assert ArrayLayout.row_major((4, 5)).samples_shape == (4, 5)
    assert image_layouts((1, 3, 4, 2))["NCHW"] == layout


@pytest.mark.parametrize("seed", range(20))
def test_round_trip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 5, rng.integers(1, 6)))
    layout = ArrayLayout(shape, tuple(int(axis) for axis in rng.permutation(len(shape))))
    assert layout.is_valid
    x = rng.normal(size=shape)
    held = layout.to_graph(x, (1, x.size))
    np.testing.assert_array_equal(held[0], x.transpose(layout.order).ravel())
    np.testing.assert_array_equal(layout.from_graph(held), x)


@pytest.mark.parametrize(
    "layout",
    [
        ArrayLayout((1, 2, 3), (0, 1)),
        ArrayLayout((1, 2, 3), (0, 1, 1)),
        ArrayLayout((1, 2, 4), (0, 1, 2)),
        ArrayLayout((1, 2, 3.0), (0, 1, 2)),
        ArrayLayout((-1, -2, 3), (0, 1, 2)),
    ],
)
def test_wrong_layouts_of_tensors_are_refused(layout: ArrayLayout) -> None:
    with pytest.raises(
        GraphError, match=r"^tensor 'x': source must have the tensor's number of elements and an order "
    ):
        Tensor("x", (1, 6), 1.0, 0, source=layout).check()
