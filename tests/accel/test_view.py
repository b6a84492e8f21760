"""Views of memory: every way to read the same bytes, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from accel.quantized.view import View


def read(memory: NDArray[Any], view: View) -> NDArray[Any]:
    """The tensor that a view of `memory` shows."""
    stored = memory.reshape([view.sizes[number] for number in view.order])
    return stored.transpose(np.argsort(view.order)).reshape(view.shape) if view.order else stored.reshape(view.shape)


def split(size: int, choose: Any) -> tuple[int, ...]:
    """Some sizes whose product is `size`."""
    sizes = []
    while size > 1 and len(sizes) < 5:
        divisors = [n for n in range(1, size + 1) if size % n == 0]
        sizes.append(choose(st.sampled_from(divisors)))
        size //= sizes[-1]
    return (*sizes, size)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_views_show_what_numpy_computes(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)))
    x = np.arange(np.prod(shape)).reshape(shape)
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    view, memory = View.of(shape, axes), np.ascontiguousarray(x.transpose(axes)).reshape(-1)
    for _ in range(4):
        if data.draw(st.booleans()):
            order = tuple(data.draw(st.permutations(range(x.ndim))))
            view, x = view.transposed(order), x.transpose(order)
        else:
            target = split(x.size, data.draw)
            reshaped = view.reshaped(target)
            if reshaped is None:  # memory has to move first
                continue
            view, x = reshaped, x.reshape(target)
        assert np.array_equal(read(memory, view), x)
        assert np.array_equal(read(memory, view.merged()), x)
        if (whole := view.axes) is not None:
            assert np.array_equal(np.ascontiguousarray(x.transpose(whole)).reshape(-1), memory)


def test_a_channel_shuffle_moves_nothing_until_the_channels_are_one_axis_again() -> None:
    image = View.of((1, 6, 4, 5), (0, 2, 3, 1))
    split_view = image.reshaped((1, 2, 3, 4, 5))
    assert split_view is not None
    shuffled = split_view.transposed((0, 2, 1, 3, 4)).reshaped((1, 6, 4, 5))
    assert shuffled is not None
    assert (shuffled.factors, shuffled.order) == (((), (3, 2), (4,), (5,)), (2, 3, 1, 0))
    assert shuffled.axes is None
    assert image.axes == (0, 2, 3, 1)
