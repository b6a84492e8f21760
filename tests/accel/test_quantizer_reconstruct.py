"""Layers improved one after the other: what each sees, bias correction, and AdaRound on a whole network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.networks.float_models import FloatArray, Node, onnx_model, sqnr
from support.networks.float_networks import NETWORKS, model_of, samples_of

import accel
from accel.analysis.decibels import sqnr as decibels_of
from accel.analysis.sensitivity import outputs_of
from accel.frontends.onnx.reader import read_onnx
from accel.machine.numerics import RequantMode
from accel.quantized.network import Network, Operator
from accel.quantizer import QuantizationConfig, quantize_network
from accel.quantizer.correct import correct_biases
from accel.quantizer.prepare import feeds_of
from accel.quantizer.reconstruct import LayerInputs, improve_layers
from accel.quantizer.runner import Prefix, Runner

BY_NAME = {make.__name__: (make, shape, rank) for make, (shape, rank, _) in NETWORKS.items()}


@pytest.mark.parametrize("name", ["resnet", "shufflenet", "unet"])
def test_layers_see_the_values_of_whole_networks(name: str) -> None:
    """The inputs that parts of a network compute one after the other equal those of one run, byte for byte."""
    make, shape, rank = BY_NAME[name]
    samples = samples_of(shape, 3)
    network = quantize_network(read_onnx(model_of(make, shape, rank)), samples, QuantizationConfig())
    feeds, seen = feeds_of(network, {"x": samples}), dict[str, LayerInputs]()

    def look(current: Network, op: Operator, inputs: LayerInputs) -> Network:
        seen[op.inputs[0]] = inputs
        return current

    improve_layers(network, feeds, look, "look")
    assert len(seen) >= 5
    whole = Runner(network, tuple(name for name in seen if name not in network.inputs))
    real = Runner(replace(network, parameters={}), whole.outputs)
    for index, feed in enumerate(feeds):
        for runner, field in ((whole, 1), (real, 0)):
            for tensor, value in runner(feed).items():
                np.testing.assert_array_equal(seen[tensor][field][index], value)


def test_a_prefix_that_stays_real_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant whose quantized layers see the float network's values."""

    class RealPrefix(Prefix):
        def advance(self, network: Network, place: int) -> None:
            super().advance(replace(network, parameters={}), place)

    monkeypatch.setattr("accel.quantizer.reconstruct.Prefix", RealPrefix)
    with pytest.raises(AssertionError):
        test_layers_see_the_values_of_whole_networks("resnet")


def biased_model() -> tuple[bytes, FloatArray]:
    """Two layers whose weights all lie 0.4 steps above an integer, so that rounding moves every mean."""
    rng = np.random.default_rng(0)
    weights = {f"w{i}": ((rng.integers(-120, 120, (6, 6, 1, 1)) + 0.4) / 2000).astype(np.float32) for i in range(2)}
    for weight in weights.values():
        weight[:, 0] = 127 / 2000
    nodes: list[Node] = [
        ("Conv", ["x", "w0", "b"], "c", {}), ("Relu", ["c"], "r", {}), ("Conv", ["r", "w1"], "y", {}),
    ]  # fmt: skip
    arrays = {**weights, "b": np.full(6, 0.1, np.float32)}
    return onnx_model(nodes, arrays, (1, 6, 8, 8)), rng.uniform(0, 10, (8, 6, 8, 8)).astype(np.float32)


def test_bias_correction_leaves_no_mean_error() -> None:
    model, samples = biased_model()
    network = quantize_network(read_onnx(model), samples, QuantizationConfig(mean_correction="off"))
    feeds = feeds_of(network, {"x": samples})
    corrected = correct_biases(network, feeds, RequantMode.TFLITE)
    expected = Runner(replace(network, parameters={}))
    before, after = (
        np.mean([runner(feed)["y"] - expected(feed)["y"] for feed in feeds], axis=(0, 1, 3, 4))
        for runner in (Runner(network), Runner(corrected))
    )
    step = float(network.parameters["y"].scale[0])
    assert np.abs(before).max() > 0.3 * step
    assert np.abs(after).max() < 0.05 * step
    last = corrected.operators[-1]
    assert len(last.inputs) == 3, "a layer without a bias gets one"
    assert sqnr(model, accel.quantize(model, samples, prepare=("bias_correction",)), samples[:4]) > 1 + sqnr(
        model, accel.quantize(model, samples, mean_correction="off"), samples[:4]
    )


@pytest.mark.parametrize("name", ["convnext", "speech", "unet"])
def test_networks_with_products_of_other_kinds(name: str) -> None:
    """MatMul, 1-D and transposed convolutions, operators on the host: every step runs and the noise does not grow."""
    make, shape, rank = BY_NAME[name]
    model, samples = model_of(make, shape, rank), samples_of(shape, 4)
    steps = ("equalize", "adaround", "bias_correction")
    improved = accel.quantize(model, samples, prepare=steps, adaround_steps=10, weight_bits=4)
    plain = accel.quantize(model, samples, weight_bits=4, mean_correction="off")
    assert sqnr(model, improved, samples[:2]) > sqnr(model, plain, samples[:2])


def test_steps_change_what_they_say_and_nothing_else() -> None:
    make, shape, rank = BY_NAME["vgg"]
    network, samples = read_onnx(model_of(make, shape, rank)), samples_of(shape, 8)
    plain, rounded, corrected = (
        quantize_network(network, samples, QuantizationConfig(prepare=steps, adaround_steps=60))
        for steps in ((), ("adaround",), ("bias_correction",))
    )
    changes = 0
    for op in plain.operators:
        weight = op.inputs[1] if op.kind in ("Conv", "Gemm") else None
        if weight is None:
            continue
        old, new = plain.parameters[weight], rounded.parameters[weight]
        assert old.integers is not None
        assert new.integers is not None
        assert np.abs(old.integers - new.integers).max() <= 1
        changes += np.count_nonzero(old.integers - new.integers)
        np.testing.assert_array_equal(old.scale, new.scale)
        np.testing.assert_array_equal(corrected.parameters[weight].integers, old.integers)
    assert changes > 0
    again = quantize_network(network, samples, QuantizationConfig(prepare=("adaround",), adaround_steps=60))
    for name, found in rounded.parameters.items():
        if found.integers is not None:
            np.testing.assert_array_equal(again.parameters[name].integers, found.integers)


def test_adaround_improves_the_keyword_network_of_four_bits(shared_models: Path) -> None:
    """On samples that it has not seen, with a small budget: by 6 dB or more."""
    with np.load(shared_models / "samples" / "kws_1000.npz") as data:
        integers = data["x"]
    stored = accel.load_model(shared_models / "mlperf_tiny" / "dscnn_kws_int8.tflite").input_tensors[0]
    samples = ((integers.astype(np.float32) - stored.zero_point) * np.float32(stored.scale))[:112]
    model = read_onnx(shared_models / "onnx" / "dscnn_kws_float.onnx")

    def noise(*steps: str) -> float:
        config = QuantizationConfig(weight_bits=4, prepare=steps, adaround_steps=15, mean_correction="off")
        network = quantize_network(model, samples[:64], config)
        feeds = feeds_of(network, {model.inputs[0]: samples[64:]})
        expected = outputs_of(replace(network, parameters={}), feeds)
        return decibels_of(expected, outputs_of(network, feeds))

    plain = noise()
    assert noise("adaround") > plain + 6
    assert noise("bias_correction") > plain + 3
