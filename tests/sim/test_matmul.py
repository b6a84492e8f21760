"""The vector kernels against the plain one."""

from __future__ import annotations

import numpy as np
import pytest

from accel.errors import InputError
from sim import jit
from sim.fast import matmul, vectors
from sim.fast.vectors import BLOCK, PANEL, QUAD
from sim.processor import Processor


@pytest.mark.skipif(jit.DISABLED, reason="there is no vector kernel without compilation")
@pytest.mark.parametrize("dot", vectors.available_dots())
def test_vectors_equal_loops(dot: str) -> None:
    vectors_of_dot = vectors.sum_block_vectors_of(dot)

    @jit.kernel
    def sum_block(spad, places, taps, chunks, quads, weights, biases, sums, accumulate):
        vectors_of_dot(
            spad.ctypes.data, places.ctypes.data, taps, chunks, quads, weights.ctypes.data, biases.ctypes.data,
            sums.ctypes.data + 4, 4 * sums.shape[1], accumulate,
        )  # fmt: skip

    rng = np.random.default_rng(3)
    for _ in range(50):
        taps, chunks, quads = (int(n) for n in rng.integers(1, [5, 5, 9]))
        width, words = 32, 64
        spad = rng.choice(np.array([0, 255, 128, 77], np.uint8), (words, width))
        places = np.zeros((taps, 2, BLOCK), np.int64)
        places[:, 0] = rng.integers(0, 40, (taps, BLOCK)) * width
        places[:, 1] = rng.integers(0, 5, (taps, BLOCK)) * width
        weights = rng.choice(np.array([-128, 127, 5, -1], np.int8), (3, chunks * taps * quads, PANEL, QUAD))
        packed = weights.reshape(-1).view(np.int32)
        before = rng.integers(-(2**31), 2**31, (BLOCK, PANEL + 3), dtype=np.int32)
        expected, got = before.copy(), before.copy()
        start, biases, accumulate = packed.size // 3, packed.size // 2, int(rng.integers(2))
        matmul.sum_block_plain(spad, places, taps, chunks, quads, packed, start, biases, expected, 0, 1, accumulate)
        sum_block(spad, places, taps, chunks, quads, packed[start:], packed[biases:], got, accumulate)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(got[:, [0, -2, -1]], before[:, [0, -2, -1]])


def test_a_product_that_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vectors.available_dots()[-1] == "portable"
    monkeypatch.setattr(vectors, "processor", lambda: Processor("x86-64", "+sse2,+avx2"))
    assert vectors.available_dots() == ["portable"]
    monkeypatch.setenv("ACCEL_DOT", "avx512_vnni")
    with pytest.raises(InputError, match="ACCEL_DOT must be one of portable on this processor, got 'avx512_vnni'"):
        vectors.chosen_dot()
