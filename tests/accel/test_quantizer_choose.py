"""The default of ranges: chosen on samples that the ranges have not seen; samples in batches."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from support.networks.float_models import Node, onnx_model, run_float, sqnr

from accel.frontends.onnx.reader import read_onnx
from accel.network.graph_file import dump_graph
from accel.quantizer import activations, choose, quantize
from accel.quantizer.config import LayerConfig
from accel.quantizer.histogram import Histogram
from accel.quantizer.observers import AutoObserver, ExpectedObserver

RNG = np.random.default_rng(1)
WEIGHT = RNG.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
DENSE = RNG.normal(0, 0.2, (4 * 36, 5)).astype(np.float32)
SATURATING = onnx_model([("Conv", ["x", "w"], "a", {}), ("Tanh", ["a"], "y", {})], {"w": WEIGHT}, (1, 3, 32, 32))
LINEAR = onnx_model(
    [("Conv", ["x", "w"], "a", {}), ("Flatten", ["a"], "f", {}), ("MatMul", ["f", "m"], "y", {})],
    {"w": WEIGHT, "m": DENSE},
    (1, 3, 8, 8),
)


def images(count: int, size: int, *, outliers: float = 0.0, seed: int = 1) -> NDArray[np.float32]:
    """Normal values, of which a share is 30 times as large."""
    rng = np.random.default_rng(seed)
    factor = np.where(rng.random((count, 3, size, size)) < outliers, 30, 1)
    return np.asarray(rng.normal(size=(count, 3, size, size)) * factor, np.float32)


def test_outliers_that_saturate_are_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    """An outlier of the input drives Tanh to its end, however large: the choice sees that, square errors do not."""
    calibration = images(32, 32, outliers=4e-5)
    others = images(40, 32, outliers=4e-5, seed=2)
    with caplog.at_level("INFO"):
        found = sqnr(SATURATING, quantize(SATURATING, calibration), others)
    assert "auto takes percentile (on calibration samples that ranges had not seen: expected" in caplog.text
    expected = quantize(SATURATING, calibration, calibrate_method="expected")
    assert found > sqnr(SATURATING, expected, others) + 2


def test_outliers_that_matter_stay(caplog: pytest.LogCaptureFixture) -> None:
    calibration = images(32, 8, outliers=1e-4)
    with caplog.at_level("INFO"):
        graph = quantize(LINEAR, calibration)
    assert "auto takes expected" in caplog.text
    assert dump_graph(graph) == dump_graph(quantize(LINEAR, calibration, calibrate_method="expected"))


def test_few_samples_take_the_expected_range(caplog: pytest.LogCaptureFixture) -> None:
    calibration = images(choose.LEAST_SAMPLES - 1, 32, outliers=4e-5)
    with caplog.at_level("INFO"):
        graph = quantize(SATURATING, calibration)
    assert "auto takes" not in caplog.text
    assert dump_graph(graph) == dump_graph(quantize(SATURATING, calibration, calibrate_method="expected"))


def test_samples_that_are_kept_for_the_choice_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    held = choose.Held()
    held.keep([{"x": x[None]} for x in images(100, 4)], {"y": np.zeros((100, 7), np.float32)})
    assert len(held.samples) == len(held.outputs) == choose.MOST_SAMPLES
    monkeypatch.setattr(choose, "HELD_BYTES", 5 * (3 * 16 + 7) * 4)
    held = choose.Held()
    for x in images(100, 4):
        held.keep([{"x": x[None]}], {"y": np.zeros((1, 7), np.float32)})
    assert len(held.samples) == 5


def test_halves_hold_every_second_sample_and_join_to_all() -> None:
    rng = np.random.default_rng(1)
    rows = np.asarray(rng.laplace(size=(21, 50)) * np.geomspace(1e-3, 1e3, 21)[:, None], np.float32)
    auto, all_of_them = AutoObserver(LayerConfig()), ExpectedObserver(False)
    for part in (rows[:1], rows[1:8], rows[8:9], rows[9:]):
        auto.update(part)
    all_of_them.update(rows)
    assert auto.range() == pytest.approx(all_of_them.range(), rel=1e-9)
    for half in range(2):
        alone = ExpectedObserver(False)
        alone.update(rows[half::2])
        assert auto.range("expected", half) == alone.range()


def test_joined_histograms_count_as_one() -> None:
    """Whichever of the two has the larger values."""
    small, large = (RNG.normal(size=500).astype(np.float32) * np.float32(scale) for scale in (1e-30, 1e20))
    for first, second in ((small, large), (large, small), (small, small)):
        joined, other, together = Histogram(), Histogram(), Histogram()
        joined.update(first)
        other.update(second)
        joined.merge(other)
        together.update(np.concatenate([first, second]))
        assert np.array_equal(joined.counts, together.counts)
        assert (joined.zeros, joined.low, joined.high) == (together.zeros, together.low, together.high)
        assert np.array_equal(joined.edges, together.edges)


MIXING: dict[str, list[Node]] = {
    "softmax over samples": [("Softmax", ["x"], "y", {"axis": 0})],
    "the first four samples": [("Slice", ["x", "zero", "four", "zero"], "s", {}), ("Relu", ["s"], "y", {})],
    "the sum with the first four": [("Slice", ["x", "zero", "four", "zero"], "s", {}), ("Add", ["s", "x"], "y", {})],
    "samples in a row": [("Reshape", ["x", "row"], "r", {}), ("Relu", ["r"], "y", {})],
}


@pytest.mark.parametrize("name", [*MIXING, "samples alone"])
def test_batches_give_the_values_of_single_samples(name: str) -> None:
    """Networks whose operators mix samples run one at a time; the others in batches."""
    constants = {"row": np.array([1, -1]), "zero": np.array([0]), "four": np.array([4])}
    nodes = MIXING.get(name)
    model = onnx_model(nodes, constants, (1, 3, 8, 8)) if nodes else LINEAR
    network = read_onnx(model)
    samples = [{"x": x[None]} for x in images(23, 8)]
    batches = list(activations.activations(network, samples, ["y"]))
    sizes = [len(batch.samples) for batch in batches]
    assert sizes == ([1] * 23 if nodes else [1, 1, 1, 16, 4])
    alone = np.stack([run_float(model, sample["x"]).reshape(-1) for sample in samples])
    assert np.allclose(np.concatenate([batch.values["y"] for batch in batches]), alone, rtol=1e-5, atol=1e-6)


def test_batches_give_the_same_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the last bits: the runtime adds the products of one row in another order than those of several."""
    calibration = images(40, 8)
    together = quantize(LINEAR, calibration)
    monkeypatch.setattr(activations, "MOST_SAMPLES", 1)
    alone = quantize(LINEAR, calibration)
    for name, tensor in together.tensors.items():
        assert alone.tensors[name].scale == pytest.approx(tensor.scale, rel=1e-5)
        assert alone.tensors[name].zero_point == tensor.zero_point


def test_a_rule_whose_noise_is_no_number_is_not_chosen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    measured = choose._noise
    monkeypatch.setattr(choose, "_noise", lambda *args: np.nan if args[-1] == "expected" else measured(*args))
    with caplog.at_level("INFO"):
        quantize(LINEAR, images(40, 8))
    assert "auto takes " in caplog.text
    assert "auto takes expected" not in caplog.text
