"""Mean correction: mean inputs of every kind of layer, errors of rounded weights, where biases are, and the choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.networks.float_models import FloatArray, Node, onnx_model, sqnr

import accel
from accel.errors import InputError
from accel.frontends.onnx.reader import read_onnx
from accel.machine.numerics import RequantMode
from accel.network import reference
from accel.network.graph_file import dump_graph
from accel.network.real import dequantize_output, quantize_input
from accel.quantized.lower import lower
from accel.quantized.network import Network
from accel.quantizer import Choice, QuantizationConfig, quantize_network
from accel.quantizer.means import Halves, MeanInputs, correct_means
from accel.quantizer.quantize import before_calibration
from accel.quantizer.runner import Runner

RNG = np.random.default_rng(3)


def weight(*shape: int) -> FloatArray:
    return RNG.normal(0, 0.3, shape).astype(np.float32)


LAYERS: dict[str, tuple[list[Node], dict[str, FloatArray], tuple[int, ...]]] = {
    "strides, border": (
        [("Conv", ["x", "w", "b"], "y", {"strides": [2, 3], "pads": [1, 2, 0, 1]})],
        {"w": weight(5, 4, 3, 3), "b": weight(5)}, (1, 4, 9, 11),
    ),
    "a border wider than a stride": (
        [("Conv", ["x", "w", "b"], "y", {"strides": [1, 2], "pads": [3, 3, 3, 3], "dilations": [2, 1]})],
        {"w": weight(5, 4, 3, 5), "b": weight(5)}, (1, 4, 5, 6),
    ),
    "groups, no bias": (
        [("Conv", ["x", "w"], "y", {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]})],
        {"w": weight(6, 2, 3, 2)}, (1, 4, 8, 8),
    ),
    "depthwise": ([("Conv", ["x", "w"], "y", {"group": 4, "pads": [1] * 4})], {"w": weight(8, 1, 3, 3)}, (1, 4, 6, 6)),
    "1-D": ([("Conv", ["x", "w"], "y", {"pads": [2, 1], "dilations": [2]})], {"w": weight(3, 4, 5)}, (1, 4, 20)),
    "Gemm": ([("Gemm", ["x", "w", "b"], "y", {"transB": 1})], {"w": weight(5, 12), "b": weight(5)}, (1, 12)),
    "Gemm, factor": ([("Gemm", ["x", "w"], "y", {"alpha": 0.5})], {"w": weight(12, 5)}, (1, 12)),
    "MatMul, Add": ([("MatMul", ["x", "w"], "m", {}), ("Add", ["b", "m"], "y", {})],
                    {"w": weight(12, 5), "b": weight(5)}, (1, 7, 12)),
    "MatMul, Sub of one number": ([("MatMul", ["x", "w"], "m", {}), ("Sub", ["m", "b"], "y", {})],
                                  {"w": weight(12, 5), "b": weight(1)}, (1, 7, 12)),
}  # fmt: skip


def calibrated(name: str, count: int = 5, **settings: Any) -> tuple[Network, Network, MeanInputs, FloatArray]:
    """A layer's float network, quantized without correction, and what has been seen of uneven batches of samples."""
    nodes, constants, shape = LAYERS[name]
    samples = np.random.default_rng(7).uniform(0, 4, (count, *shape[1:])).astype(np.float32)
    model, config = onnx_model(nodes, constants, shape), QuantizationConfig(mean_correction="off", **settings)
    network = before_calibration(read_onnx(model), config)
    means = MeanInputs(network)
    for part in (samples[:1], samples[1:4], samples[4:]):
        if len(part):
            means.update({"x": part.reshape(len(part), -1)})
    return network, quantize_network(read_onnx(model), samples, config), means, samples


def channel_means(network: Network, samples: FloatArray, channel_axis: int) -> FloatArray:
    """The mean of each channel of the output."""
    runner, shape = Runner(network), network.tensors["x"].shape
    outputs = np.stack([runner({"x": x.reshape(shape)})[network.outputs[0]] for x in samples])
    return np.moveaxis(outputs, channel_axis, -1).astype(np.float64).reshape(-1, outputs.shape[channel_axis]).mean(0)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", LAYERS)
def test_errors_are_those_of_running_all_samples(name: str, bits: int) -> None:
    """By ONNX Runtime: outputs with rounded weights less those with the real ones, averaged; by halves, and shifted."""
    network, quantized, means, samples = calibrated(name, weight_bits=bits)
    axis = -1 if name.startswith("MatMul") else 2
    weights = {n: q for n, q in quantized.parameters.items() if q.integers is not None and q.kind != "int32"}
    rounded, real = replace(quantized, parameters=weights), replace(quantized, parameters={})
    (found,) = means.errors(quantized).values()
    for half in range(2):
        part = samples[half::2]
        expected = channel_means(rounded, part, axis) - channel_means(real, part, axis)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found[half], expected, rtol=0, atol=1e-4 * np.abs(expected).max() + 2e-6)
    exact = Halves(found.first, found.first)
    corrected = correct_means(quantized, dict.fromkeys(means.errors(quantized), exact), RequantMode.TFLITE)
    constants = {n: q for n, q in corrected.parameters.items() if q.integers is not None}
    left = channel_means(replace(corrected, parameters=constants), samples[::2], axis)
    left -= channel_means(real, samples[::2], axis)
    # Biases are multiples of the products' step.
    step = max(float(q.scale.max()) for q in constants.values() if q.kind == "int32")
    assert np.abs(left).max() <= 1.01 * step + 2e-5
    (source,) = network.inputs
    assert corrected.parameters[source] is quantized.parameters[source]


def test_a_product_without_a_place_for_a_bias_stays() -> None:
    _, constants, shape = LAYERS["MatMul, Add"]
    model = onnx_model([("MatMul", ["x", "w"], "y", {})], {"w": constants["w"]}, shape)
    samples = np.random.default_rng(7).uniform(0, 4, (4, *shape[1:])).astype(np.float32)
    on, off = (accel.quantize(model, samples, mean_correction=value) for value in ("on", "off"))
    assert dump_graph(on) == dump_graph(off)


def test_halves_that_differ_correct_less() -> None:
    agree, differ, opposed = np.array([1.0, 2.0]), np.array([2.0, 0.0]), np.array([-1.0, 1.0])
    assert Halves(agree, agree).best().tolist() == [1.0, 2.0]
    share = (agree @ differ) / np.square((agree + differ) / 2).sum()
    assert 0 < share < 1
    assert Halves(agree, differ).best() == pytest.approx(share * (agree + differ) / 2)
    assert Halves(agree, differ).best(1) == pytest.approx(share * differ)
    assert not np.any(Halves(differ, opposed).best())
    assert not np.any(Halves(np.zeros(2), np.zeros(2)).best())


def test_one_sample_corrects_nothing() -> None:
    _, quantized, means, _ = calibrated("Gemm", count=1)
    assert means.errors(quantized) == {}


@pytest.mark.parametrize("name", ["MatMul, Add", "MatMul, Sub of one number", "Gemm"])
def test_the_machine_has_the_corrected_biases(name: str) -> None:
    """The graph of integers follows the QDQ model, not the float network's biases."""
    nodes, constants, shape = LAYERS[name]
    samples = np.random.default_rng(7).uniform(0, 4, (6, *shape[1:])).astype(np.float32)
    config = QuantizationConfig(mode="fp32", weight_bits=4, mean_correction="on")
    quantized = quantize_network(read_onnx(onnx_model(nodes, constants, shape)), samples, config)
    graph = lower(quantized, RequantMode.FP32)
    (step,) = (tensor.scale for tensor in graph.output_tensors)
    runner = Runner(quantized)
    for x in samples:
        (expected,) = runner({"x": x.reshape(shape)}).values()
        found = dequantize_output(graph, reference.run(graph, quantize_input(graph, x[None]))["y"])
        assert np.abs(found - expected).max() <= 1.01 * step


def positive_model() -> tuple[bytes, FloatArray]:
    """Two layers of positive inputs: most of the noise is a shift."""
    constants = {"w": weight(8, 3, 3, 3), "v": weight(8, 8, 3, 3), "b": np.ones(8, np.float32)}
    nodes: list[Node] = [("Conv", ["x", "w", "b"], "c", {}), ("Relu", ["c"], "r", {}), ("Conv", ["r", "v"], "y", {})]
    return onnx_model(nodes, constants, (1, 3, 8, 8)), RNG.uniform(0, 4, (48, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("settings", [{}, {"mode": "fp32"}, {"calibrate_method": "minmax"}, {"weight_bits": 4}])
def test_noise_on_other_samples_shrinks(settings: dict[str, Any]) -> None:
    model, samples = positive_model()
    on, off = (
        sqnr(model, accel.quantize(model, samples[:24], mean_correction=value, **settings), samples[24:])
        for value in ("auto", "off")
    )
    assert on > off + 0.5


def test_a_correction_that_does_not_serve_other_samples_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `on` it stays."""
    best, (model, samples) = Halves.best, positive_model()
    monkeypatch.setattr(Halves, "best", lambda self, half=None: -2 * best(self, half))
    graphs, choices = {}, list[Choice]()
    for value in ("auto", "on", "off"):
        graphs[value] = dump_graph(accel.quantize(model, samples[:24], mean_correction=value, report=choices.append))
    assert graphs["auto"] == graphs["off"] != graphs["on"]
    auto, on, off = choices
    assert (auto.mean_correction, on.mean_correction, off.mean_correction) == (False, True, False)
    assert auto.decibels[auto.method] == off.decibels[off.method]
    assert auto.uncorrected is on.uncorrected is off.uncorrected is None


def test_the_choice_has_both_figures() -> None:
    model, samples = positive_model()
    choices: list[Choice] = []
    for value in ("auto", "off"):
        accel.quantize(model, samples[:24], mean_correction=value, report=choices.append)
    auto, off = choices
    assert auto.mean_correction
    assert auto.uncorrected == off.decibels[auto.method] < auto.decibels[auto.method]


def test_steps_that_learn_take_up_mean_errors_themselves() -> None:
    model, samples = positive_model()
    for step in ("bias_correction", "adaround"):
        settings = {"prepare": (step,), "adaround_steps": 2} if step == "adaround" else {"prepare": (step,)}
        auto, off = (accel.quantize(model, samples[:4], mean_correction=v, **settings) for v in ("auto", "off"))
        assert dump_graph(auto) == dump_graph(off)
        with pytest.raises(InputError) as caught:
            accel.quantize(model, samples[:4], mean_correction="on", **settings)
        assert str(caught.value) == (
            "mean_correction must not be on with prepare adaround or bias_correction, which take up mean errors "
            "themselves"
        )
