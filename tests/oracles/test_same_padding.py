"""SAME padding of kernels below their stride: sizes and values are those of ONNX Runtime without optimizations."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from oracles.test_onnx_operators import compare, plain_session
from support.networks.float_models import onnx_model, run_graph
from support.oracles.ort_session import random_samples
from support.oracles.qdq_models import _same

import accel
from accel.frontends.onnx import padding

SAME = ("SAME_UPPER", "SAME_LOWER")


def pool(width: int, **fields: Any) -> bytes:
    return _same(np.random.default_rng(width), "MaxPool", 4, [], shape=(1, 2, 5, width), **fields)


def pools_that_differ() -> tuple[list[dict[str, Any]], int]:
    """Dilated pools whose outputs are not the runtime's, and how many it computes; columns of 5 leave a rest."""
    found, compared = [], 0
    grid = itertools.product(SAME, (0, 1), (3, 4, 5), (2, 3), (2, 3), (3, 4, 5))
    for same, ceil, width, kernel, dilation, stride in grid:
        fields = {"kernel_shape": [1, kernel], "dilations": [1, dilation], "strides": [3, stride]}
        fields |= {"auto_pad": same, "ceil_mode": ceil}
        model = pool(width, **fields)
        runtime = plain_session(model)
        try:
            empty = runtime.run(None, random_samples(runtime, np.random.default_rng(0))[0])[0].size == 0
        except Exception:  # the runtime refuses sizes below 0
            continue
        if empty:
            continue
        compared += 1
        try:
            differs = compare(lambda _, model=model: model, 1).any()
        except Exception:  # refused, or another shape
            differs = True
        if differs:
            found.append({"width": width, **fields})
    return found, compared


def test_dilated_max_pools() -> None:
    found, compared = pools_that_differ()
    print(f"onnxruntime: {len(found)} of {compared} dilated MaxPool differ")
    assert found == []
    assert compared > 50


def test_grid_catches_a_crop_by_negative_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    right = padding._windows

    def wrong(fields: dict[str, Any], sizes: tuple[int, ...], pads: list[int]) -> list[Any]:
        ends = [n + min(pad, 0) for n, pad in zip(sizes, pads[len(sizes) :], strict=True)]
        axes = right(fields, sizes, pads)
        return [axis._replace(stop=min(axis.stop, end)) for axis, end in zip(axes, ends, strict=True)]

    monkeypatch.setattr(padding, "_windows", wrong)
    assert pools_that_differ()[0]


@pytest.mark.parametrize("same", SAME)
@pytest.mark.parametrize(
    ("kernel", "strides"), [((1, 1), (3, 2)), ((2, 1), (3, 3)), ((4, 2), (2, 3)), ((2, 3), (3, 2))]
)
def test_transposed_convolutions(kernel: tuple[int, int], strides: tuple[int, int], same: str) -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(4, 2, *kernel)).astype(np.float32)
    x = rng.normal(size=(4, 4, 8, 7)).astype(np.float32)
    node = ("ConvTranspose", ["x", "w"], "y", {"auto_pad": same, "strides": strides})
    model = onnx_model([node], {"w": w}, (1, 4, 8, 7))
    wanted = plain_session(model).run(None, {"x": x[:1]})[0]
    output = run_graph(accel.quantize(model, x), x[:1])
    assert output.shape == wanted.shape
    assert np.abs(output - wanted).max() < np.abs(wanted).max() / 20
