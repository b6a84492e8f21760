"""Tensors in external memory: channel chunks of `rows`."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accel.machine import layout

sizes = st.integers(1, 9)
shapes = st.tuples(st.just(1), sizes, sizes, st.integers(1, 40)) | st.tuples(st.just(1), st.integers(1, 200))


def naive_offset(shape: tuple[int, ...], rows: int, y: int, x: int, c: int) -> int:
    """Byte of one value, by counting the values before it."""
    height, width, depth = layout.hwc(shape)
    chunk, within = divmod(c, rows)
    return height * width * rows * chunk + (y * width + x) * min(rows, depth - chunk * rows) + within


@given(shapes, st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_unpacking_undoes_packing(shape: tuple[int, ...], rows: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
    data = layout.pack(values, rows)
    assert len(data) == layout.tensor_bytes(shape) == values.size
    back = layout.unpack(np.frombuffer(data, np.uint8), shape, rows)
    assert back.dtype == np.int8
    np.testing.assert_array_equal(back, values)


@given(shapes, st.integers(1, 20))
def test_each_value_lies_where_the_page_says(shape: tuple[int, ...], rows: int) -> None:
    values = (np.arange(np.prod(shape)) % 251).astype(np.uint8).view(np.int8).reshape(shape)
    data = np.frombuffer(layout.pack(values, rows), np.int8)
    image = values.reshape(layout.hwc(shape))
    for (y, x, c), value in np.ndenumerate(image):
        assert data[naive_offset(shape, rows, y, x, c)] == value
    for chunk in range(-(-image.shape[2] // rows)):
        assert layout.chunk_offset(layout.hwc(shape), chunk, rows) == naive_offset(shape, rows, 0, 0, chunk * rows)


def test_few_channels_are_plain_nhwc() -> None:
    values = np.arange(60, dtype=np.int8).reshape(1, 4, 5, 3)
    assert layout.pack(values, 3) == layout.pack(values, 16) == values.tobytes()
    assert layout.pack(values, 2) == values[..., :2].tobytes() + values[..., 2:].tobytes()


def test_shapes() -> None:
    assert layout.hwc((1, 7)) == (1, 1, 7)
    assert layout.hwc((1, 2, 3, 4)) == (2, 3, 4)
