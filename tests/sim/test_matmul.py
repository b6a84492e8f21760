"""The vector kernel against the plain one."""

from __future__ import annotations

import numpy as np
import pytest

from sim import jit
from sim.fast import matmul


@pytest.mark.skipif(jit.DISABLED, reason="there is no vector kernel without compilation")
def test_vectors_equal_loops() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        taps, chunks, pairs = (int(n) for n in rng.integers(1, [5, 5, 9]))
        width = 16
        spad = rng.integers(-128, 128, (64, width)).astype(np.int16)
        places = np.zeros((taps, 2, matmul.BLOCK), np.int64)
        places[:, 0] = rng.integers(0, 40, (taps, matmul.BLOCK)) * width
        places[:, 1] = rng.integers(0, 5, (taps, matmul.BLOCK)) * width
        halves = rng.choice(np.array([-128, 127, 5, -1], np.int16), (3, chunks * taps * pairs, matmul.PANEL, 2))
        weights = halves.view(np.int32)[..., 0].copy()
        expected = np.zeros((matmul.BLOCK, matmul.PANEL), np.int32)
        got = np.zeros_like(expected)
        matmul.sum_block_plain(spad, places, taps, chunks, pairs, weights, 1, expected)
        matmul.sum_block(spad, places, taps, chunks, pairs, weights, 1, got)
        np.testing.assert_array_equal(got, expected)
