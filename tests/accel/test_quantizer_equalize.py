"""Cross-layer equalization: the same function, equal ranges of every channel, and pairs that are left alone."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from support.networks.float_models import onnx_model, run_float, sqnr
from support.networks.float_networks import FloatWriter, densenet, mobilenet_v2, model_of, resnet, samples_of, vgg
from support.networks.spread import SHAPE, spread_network

import accel
from accel.frontends.onnx.reader import read_onnx
from accel.frontends.onnx.write import to_onnx
from accel.quantized.network import Network, Operator
from accel.quantizer.equalize import equalize, pairs
from accel.quantizer.fold import fold


def weight_of(network: Network, name: str) -> np.ndarray:
    value = network.value(next(op for op in network.operators if op.name == name).inputs[1])
    assert value is not None
    return value


def check_same_function(model: bytes, network: Network, shape: tuple[int, ...]) -> None:
    for x in samples_of(shape, 3):
        expected = run_float(model, x[None])
        result = run_float(to_onnx(network).SerializeToString(), x[None])
        np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_ranges_of_a_depthwise_chain_become_equal() -> None:
    network = fold(read_onnx(spread_network()))
    equalized = equalize(network)
    check_same_function(spread_network(), equalized, SHAPE)
    first, middle, last = (weight_of(equalized, name) for name in ("C0", "C1", "C2"))
    ranges = [np.abs(first).max(axis=(1, 2, 3)), np.abs(middle).max(axis=(1, 2, 3)), np.abs(last).max(axis=(0, 2, 3))]
    np.testing.assert_allclose(ranges[1], ranges[0], rtol=0.01)
    np.testing.assert_allclose(ranges[2], ranges[1], rtol=0.01)
    spread = [np.ptp(np.log(np.abs(weight_of(n, "C1")).max(axis=(1, 2, 3)))) for n in (network, equalized)]
    assert spread[0] > np.log(100)
    assert spread[1] < np.log(5)


@pytest.mark.parametrize("make", [vgg, resnet, densenet, mobilenet_v2])
def test_functions_stay(make: Callable[[FloatWriter, str], str]) -> None:
    model = model_of(make, (1, 3, 16, 16), 2)
    network = fold(read_onnx(model))
    check_same_function(model, equalize(network), (1, 3, 16, 16))


def test_a_finite_clip_ends_a_pair() -> None:
    """`clip(s x, 0, 6)` is no multiple of `clip(x, 0, 6)`."""
    network = fold(read_onnx(spread_network(clip=6)))
    assert [(pair.first.name, pair.second.name) for pair in pairs(network)] == [("C2", "Y")]
    check_same_function(spread_network(clip=6), equalize(network), SHAPE)
    unbounded = fold(read_onnx(spread_network(clip=np.inf)))
    assert [pair.first.name for pair in pairs(unbounded)] == ["C0", "C1", "C2"]
    check_same_function(spread_network(clip=np.inf), equalize(unbounded), SHAPE)


def test_a_tensor_that_others_see_ends_a_pair() -> None:
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.normal(size=(4, 4, 1, 1)).astype(np.float32) for i in range(2)}
    nodes = [("Conv", ["x", "w0"], "c", {}), ("Relu", ["c"], "r", {}), ("Conv", ["r", "w1"], "y", {})]
    plain = onnx_model(nodes, weights, (1, 4, 5, 5))
    assert len(pairs(read_onnx(plain))) == 1
    seen = onnx_model(nodes, weights, (1, 4, 5, 5), outputs=("y", "r"))
    summed = onnx_model(
        [*nodes[:2], ("Conv", ["r", "w1"], "z", {}), ("Add", ["z", "r"], "y", {})], weights, (1, 4, 5, 5)
    )
    assert pairs(read_onnx(seen)) == pairs(read_onnx(summed)) == []


def test_dead_channels_and_weights_that_are_shared() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 4, 1, 1)).astype(np.float32)
    weight[2] = 0
    weight[:, 1] = 0
    nodes = [("Conv", ["x", "w"], "c", {}), ("LeakyRelu", ["c"], "r", {}), ("Conv", ["r", "w"], "y", {})]
    model = onnx_model(nodes, {"w": weight}, (1, 4, 5, 5))
    equalized = equalize(read_onnx(model))
    check_same_function(model, equalized, (1, 4, 5, 5))
    assert np.all(np.isfinite(weight_of(equalized, "C")))


def test_gemm_of_both_orders() -> None:
    rng = np.random.default_rng(0)
    constants = {
        "w0": (rng.normal(size=(6, 8)) * np.geomspace(1, 100, 8)).astype(np.float32),
        "b0": rng.normal(size=8).astype(np.float32),
        "w1": rng.normal(size=(5, 8)).astype(np.float32),
    }
    nodes = [("Gemm", ["x", "w0", "b0"], "c", {}), ("Relu", ["c"], "r", {}), ("Gemm", ["r", "w1"], "y", {"transB": 1})]
    model = onnx_model(nodes, constants, (1, 6))
    equalized = equalize(read_onnx(model))
    check_same_function(model, equalized, (1, 6))
    first, second = weight_of(equalized, "C"), weight_of(equalized, "Y")
    np.testing.assert_allclose(np.abs(first).max(axis=0), np.abs(second).max(axis=0), rtol=1e-3)
    onnx.checker.check_model(to_onnx(equalized))


def test_spread_weights_collapse_per_tensor_and_recover() -> None:
    """One scale for weights that differ a hundredfold; a scale per channel and equalization give 20 dB back, each."""
    model, samples, others = spread_network(), samples_of(SHAPE, 16), samples_of(SHAPE, 8, seed=9)

    def measured(**settings: object) -> float:
        return sqnr(model, accel.quantize(model, samples, mean_correction="off", **settings), others)

    collapsed = measured(per_channel=False)
    assert collapsed < 13
    assert measured(per_channel=True) > collapsed + 20
    assert measured(per_channel=False, prepare=("equalize",)) > collapsed + 20


def test_a_bias_that_keeps_its_scale_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant that scales weights alone computes another function."""
    module = importlib.import_module("accel.quantizer.equalize")
    real = module._with_arrays

    def without_bias(op: Operator, weights: dict[str, Any], tensors: dict[str, Any]) -> Operator:
        return real(op, {key: value for key, value in weights.items() if not key.endswith("/bias")}, tensors)

    monkeypatch.setattr(module, "_with_arrays", without_bias)
    with pytest.raises(AssertionError):
        check_same_function(spread_network(), equalize(fold(read_onnx(spread_network()))), SHAPE)
