"""The analysis of quantized networks beside slow computations of the same figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.networks.float_models import onnx_model
from support.networks.float_networks import NETWORKS, model_of, samples_of
from support.networks.spread import SHAPE, spread_network

import accel
from accel.analysis import analyze_network
from accel.analysis.advice import RULES, Case, advice
from accel.analysis.decibels import LIMIT, decibels, sqnr
from accel.analysis.layers import layers_of
from accel.analysis.statistics import ActivationRecord, weight_statistics
from accel.errors import InputError, ToolError
from accel.frontends.onnx.reader import read_onnx
from accel.quantized.network import Network, Quantization
from accel.quantizer import QuantizationConfig, quantize_network
from accel.quantizer.prepare import feeds_of
from accel.quantizer.runner import Prefix, Runner, Values

BY_NAME = {make.__name__: (make, shape, rank) for make, (shape, rank, _) in NETWORKS.items()}


def quantized(name: str, count: int = 4) -> tuple[Network, list[Values]]:
    """A network of `NETWORKS` with parameters, and its samples."""
    make, shape, rank = BY_NAME[name]
    samples = samples_of(shape, count)
    network = quantize_network(read_onnx(model_of(make, shape, rank)), samples, QuantizationConfig())
    return network, feeds_of(network, {"x": samples})


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_layers_share_out_all_parameters(name: str) -> None:
    network, _ = quantized(name, 1)
    layers = layers_of(network)
    owned = [tensor for layer in layers for tensor in layer.tensors]
    read = {name for op in network.operators for name in op.inputs} | set(network.outputs)
    assert len(owned) == len(set(owned))
    assert set(owned) >= set(network.parameters) & read
    weighted = [op for op in network.operators if op.kind in ("Conv", "Gemm", "ConvTranspose")]
    assert {op.name for op in weighted} <= {layer.name for layer in layers}
    assert len({layer.name for layer in layers}) == len(layers)


@pytest.mark.parametrize("name", ["resnet", "mobilenet_v3", "googlenet"])
def test_sensitivities_equal_runs_of_whole_networks(name: str) -> None:
    network, feeds = quantized(name)
    analysis = analyze_network(network, feeds)

    def of(parameters: dict[str, Quantization]) -> list[Any]:
        runner = Runner(replace(network, parameters=parameters))
        return [runner(feed) for feed in feeds]

    expected = of({})
    assert analysis.sqnr == sqnr(expected, of(dict(network.parameters)))
    assert analysis.sqnr == min(layer.only_float for layer in analysis.layers) or analysis.sqnr < 60
    for layer, row in zip(layers_of(network), analysis.layers, strict=True):
        only = {tensor: network.parameters[tensor] for tensor in layer.tensors}
        rest = {tensor: found for tensor, found in network.parameters.items() if tensor not in layer.tensors}
        assert (row.only_quantized, row.only_float) == (sqnr(expected, of(only)), sqnr(expected, of(rest)))
    noises = [10 ** (-row.only_quantized / 10) for row in analysis.layers]
    assert abs(-10 * np.log10(sum(noises)) - analysis.sqnr) < 3, "noises of single layers add up to about the whole"


def test_a_prefix_that_stays_real_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant whose layers before are never quantized gives other figures than whole networks."""

    class RealPrefix(Prefix):
        def advance(self, network: Network, place: int) -> None:
            super().advance(replace(network, parameters={}), place)

    monkeypatch.setattr("accel.analysis.sensitivity.Prefix", RealPrefix)
    with pytest.raises(AssertionError):
        test_sensitivities_equal_runs_of_whole_networks("resnet")


@pytest.mark.parametrize(
    ("nodes", "layers", "host"),
    [
        (
            [("Softmax", ["x"], "s", {"axis": -1}), ("CumSum", ["s", "axis"], "y", {})], 0,
            "nothing is quantized: the host computes, in real numbers, S, Y",
        ),
        ([("Relu", ["x"], "y", {})], 1, ""),
    ],
)  # fmt: skip
def test_networks_without_weights_or_without_layers(nodes: list[Any], layers: int, host: str) -> None:
    model = onnx_model(nodes, {"axis": np.int64(1)}, (1, 8))
    found = accel.analyze(model, np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32))
    assert (len(found.layers), found.host, found.claim) == (layers, host, "")


def test_statistics_of_weights() -> None:
    weight = np.array([[0.05, -1.27], [0.0, 0.635], [0.0, 0.0]], np.float32)
    scale = np.array([0.01, 0.004, 1.0], np.float32)
    integers = np.array([[5, -127], [0, 127], [0, 0]])
    found = weight_statistics(weight, Quantization(scale, np.zeros(1, np.int64), "int8", 0, integers))
    noise = (0.635 - 0.004 * 127) ** 2
    assert found.sqnr == pytest.approx(10 * np.log10((0.05**2 + 1.27**2 + 0.635**2) / noise), abs=1e-3)
    assert (found.clipped, found.bits, found.scales) == (1 / 6, 8, 3)
    assert found.dead_codes == 1 - 4 / 255
    assert found.spread == pytest.approx(2)
    assert found.small == 4 / 6
    assert (found.low, found.high) == pytest.approx((0.508, 127.0))
    assert found.histogram.counts.sum() == 6


def test_statistics_of_activations() -> None:
    record = ActivationRecord(Quantization.of((0.5, -128)))
    real = np.array([[[0.0, 10.2], [130.0, -0.3]]], np.float32)
    record.add(real, real + np.array([[[1.0, 1.0], [-2.0, 0.0]]]))
    found = record.statistics()
    noise = 0.2**2 + 2.5**2 + 0.3**2
    power = 10.2**2 + 130.0**2 + 0.3**2
    assert found.sqnr == pytest.approx(10 * np.log10(power / noise), abs=1e-3)
    assert found.sqnr_so_far == pytest.approx(10 * np.log10(power / 6), abs=1e-3)
    assert found.mean_error == pytest.approx((2 * 1 + 2 * 1) / 6)
    assert found.clipped == 2 / 4
    assert found.dead_codes == 253 / 256
    assert (found.seen_low, found.seen_high) == pytest.approx((-0.3, 130.0))
    assert (found.low, found.high) == (0.0, 127.5)
    assert found.spread == pytest.approx(130 / 10.2)
    assert found.histogram.counts.sum() == 4
    np.testing.assert_allclose(record.rounded(real), [[[0, 10], [127.5, 0]]])


def test_decibels_stay_numbers() -> None:
    assert (decibels(1, 0), decibels(0, 1), decibels(100, 1)) == (LIMIT, -LIMIT, 20)


def test_every_rule_has_a_case() -> None:
    """Each rule's advice appears for figures beyond its threshold, and for those alone."""
    weight = np.ones((2, 2), np.float32)
    steps = np.ones((2, 2), np.int64)
    calm = weight_statistics(weight, Quantization(np.ones(1, np.float32), np.zeros(1, np.int64), "int8", 0, steps))
    record = ActivationRecord(Quantization.of((1.0, 0)))
    record.add(np.arange(-128.0, 128.0).reshape(1, 2, -1), np.arange(-128.0, 128.0).reshape(1, 2, -1))
    values = record.statistics()
    assert advice(Case("a", calm, values, 1.0)) == ()
    cases = [
        Case("a", replace(calm, spread=100.0), values, 1.0),
        Case("a", replace(calm, bits=4, sqnr=10.0), values, 1.0),
        Case("a", calm, replace(values, clipped=0.05), 1.0),
        Case("a", calm, replace(values, core=0.2), 2.0),
        Case("a", calm, replace(values, mean_error=0.8), 2.0),
        Case("a", calm, replace(values, spread=100.0), 9.0),
    ]
    assert [[rule.fits(case) for rule in RULES] for case in cases] == np.eye(len(RULES), dtype=bool).tolist()
    assert advice(Case("a", calm, values, 9.0)) == (
        "makes 9.0 times the noise of the average layer: more bits, or nodes_to_exclude to keep it real",
    )


def test_the_layer_with_an_outlier_is_named() -> None:
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.normal(0, 0.3, (8, 8, 3, 3)).astype(np.float32) for i in range(3)}
    factor = np.ones((1, 8, 1, 1), np.float32)
    factor[0, 3] = 300
    nodes = [
        ("Conv", ["x", "w0"], "a", {"pads": [1] * 4}), ("Mul", ["a", "f"], "m", {}), ("Relu", ["m"], "r", {}),
        ("Div", ["r", "f"], "d", {}), ("Conv", ["d", "w1"], "b", {"pads": [1] * 4}), ("Relu", ["b"], "q", {}),
        ("Conv", ["q", "w2"], "y", {"pads": [1] * 4}),
    ]  # fmt: skip
    model = onnx_model(nodes, {**weights, "f": factor}, (1, 8, 10, 10))
    analysis = accel.analyze(model, samples_of((1, 8, 10, 10), 4))
    assert analysis.suspicious[0].name == "A"
    assert any("prepare = equalize" in text for text in analysis.suspicious[0].advice)


def test_a_sensitive_network_per_tensor_is_told_about_channels() -> None:
    analysis = accel.analyze(spread_network(), samples_of(SHAPE, 4), per_channel=False)
    found = {one.name: one.advice for one in analysis.suspicious}
    assert "share a scale: per_channel, or prepare = equalize" in found["C1"][0]


def test_samples_that_are_given_once() -> None:
    samples = samples_of(SHAPE, 4)
    whole = accel.analyze(spread_network(), samples, samples=2)
    once = accel.analyze(spread_network(), (sample for sample in samples), samples=2)
    assert (once.samples, once.sqnr) == (2, whole.sqnr)


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match=r"^samples must be at least 1, got 0$"):
        accel.analyze(spread_network(), samples_of(SHAPE, 2), samples=0)


def test_the_page_is_the_same_each_time() -> None:
    from accel.analysis.page import to_html

    analysis = accel.analyze(spread_network(), samples_of(SHAPE, 2))
    first, second = (to_html(replace(analysis, layers=analysis.layers[1:2])) for _ in range(2))
    assert first == second


def test_page_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    from accel.analysis import page

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = r"^the HTML page needs matplotlib, which is not installed: pip install 'accel\[plot\]'$"
    with pytest.raises(ToolError, match=message):
        page.check_library()
