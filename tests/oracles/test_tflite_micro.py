"""Mode `tflite` equals TensorFlow Lite Micro, on random single layers with random and extreme inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from support.oracles.single_node import Case, add_case, conv_case, fully_connected_case, pool_case, softmax_case

from accel.machine import numerics
from accel.network import reference, softmax
from accel.network.graph import AveragePool2d, MaxPool2d

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from support.oracles import tflm_oracle

MakeCase = Callable[[np.random.Generator, str], Case]

SUITES: dict[str, tuple[MakeCase, int]] = {
    "conv": (conv_case, 200_000),
    "fully_connected": (fully_connected_case, 200_000),
    "max_pool": (partial(pool_case, kind=MaxPool2d), 50_000),
    "average_pool": (partial(pool_case, kind=AveragePool2d), 50_000),
    "add": (add_case, 50_000),
    "softmax": (softmax_case, 50_000),
}


def count_differences(make: MakeCase, outputs: int, seed: int) -> tuple[int, int]:
    """Outputs compared, at least `outputs`, and how many of them differ."""
    rng = np.random.default_rng(seed)
    compared = differences = 0
    while compared < outputs:
        case = make(rng, "tflite")
        samples = [case.random_inputs(rng) for _ in range(6)]
        for sample, expected in zip(samples, tflm_oracle.outputs(case, samples), strict=True):
            result = reference.run(case.graph, sample)["y"]
            assert result.shape == expected.shape
            compared += result.size
            differences += np.count_nonzero(result != expected)
    return compared, differences


@pytest.mark.parametrize("suite", SUITES)
def test_reference_equals_tflite_micro(suite: str) -> None:
    make, outputs = SUITES[suite]
    compared, differences = count_differences(make, outputs, seed=1)
    print(f"tflite-micro, {suite}: {differences} of {compared} outputs differ")
    assert differences == 0


def single_rounding(x: numerics.Int64, q: numerics.Int64, e: numerics.Int64) -> numerics.Int64:
    return numerics.requantize_single(x, q, e)


def ties_up(x: numerics.Int64, q: numerics.Int64, e: numerics.Int64) -> numerics.Int64:
    """The right shift rounds ties towards plus infinity instead of away from zero."""
    high = (numerics.wrap_int32(x << (e * (e > 0))) * q + (1 << 30)) >> 31
    n = -e * (e < 0)
    return (high + ((1 << n) >> 1)) >> n


@pytest.mark.parametrize("mutant", [single_rounding, ties_up])
def test_suite_catches_wrong_rounding(mutant: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(numerics._KERNELS, numerics.RequantMode.TFLITE, mutant)
    for make in (conv_case, fully_connected_case):
        assert count_differences(make, 100_000, seed=1)[1] > 0


def test_suite_catches_an_inaccurate_reciprocal(monkeypatch: pytest.MonkeyPatch) -> None:
    right = softmax.reciprocal_of_one_plus
    monkeypatch.setattr(softmax, "reciprocal_of_one_plus", lambda a: right(a) - (1 << 18))
    assert count_differences(softmax_case, 50_000, seed=1)[1] > 0


def test_suite_catches_wrong_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reference.pad
    monkeypatch.setattr(reference, "pad", lambda image, padding, value: right(image, padding, value + 1))
    assert count_differences(conv_case, 50_000, seed=1)[1] > 0
    assert count_differences(SUITES["average_pool"][0], 50_000, seed=1)[1] > 0
