"""Mode `fp32` equals ONNX Runtime's QLinearConv and QLinearMatMul, on random single layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from support.oracles import ort_oracle
from support.oracles.single_node import Case, conv_case, fully_connected_case, single

from accel.machine import numerics
from accel.network import reference

MakeCase = Callable[[np.random.Generator, str], Case]


def without_bias_and_clamp(case: Case) -> Case:
    """The runtime's operators clamp to int8 only, and QLinearMatMul has no bias."""
    node = dataclasses.replace(case.node, act_min=-128, act_max=127)
    if node.op == "FullyConnected":
        node = dataclasses.replace(node, bias=np.zeros_like(node.bias))
    tensors = case.graph.tensors
    return dataclasses.replace(case, graph=single(node, str(case.graph.mode), [tensors["x"]], tensors["y"]))


def count_differences(make: MakeCase, outputs: int, seed: int) -> tuple[int, int]:
    """Outputs compared, at least `outputs`, and how many of them differ."""
    rng = np.random.default_rng(seed)
    compared = differences = 0
    while compared < outputs:
        case = without_bias_and_clamp(make(rng, "fp32"))
        samples = [case.random_inputs(rng) for _ in range(6)]
        for sample, expected in zip(samples, ort_oracle.outputs(case, samples), strict=True):
            result = reference.run(case.graph, sample)["y"]
            assert result.shape == expected.shape
            compared += result.size
            differences += np.count_nonzero(result != expected)
    return compared, differences


@pytest.mark.parametrize("make", [conv_case, fully_connected_case])
def test_reference_equals_onnxruntime(make: MakeCase) -> None:
    compared, differences = count_differences(make, 200_000, seed=1)
    print(f"onnxruntime, {make.__name__}: {differences} of {compared} outputs differ")
    assert differences == 0


def half_away(x: numerics.Int64, q: numerics.Int64, e: numerics.Int64) -> numerics.Int64:
    """Ties away from zero instead of to even."""
    product = np.float32(x) * np.ldexp(np.float64(q), e - 31).astype(np.float32)
    return numerics.round_half_away(np.clip(product, numerics.INT32_MIN, numerics.INT32_MAX)).astype(np.int64)


@pytest.mark.parametrize("mutant", [half_away, numerics.requantize_tflite, numerics.requantize_single])
def test_suite_catches_wrong_rounding(mutant: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(numerics._KERNELS, numerics.RequantMode.FP32, mutant)
    assert count_differences(conv_case, 100_000, seed=1)[1] > 0


def test_suite_catches_wrong_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reference.pad
    monkeypatch.setattr(reference, "pad", lambda image, padding, value: right(image, padding, value + 1))
    assert count_differences(conv_case, 50_000, seed=1)[1] > 0
