"""The default of ranges: chosen on samples that the ranges have not seen; samples in batches."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.networks.float_models import Node, onnx_model, run_float, sqnr
from support.networks.float_networks import NETWORKS, mobilenet_v3, model_of, samples_of

from accel.frontends.onnx.reader import read_onnx
from accel.network.graph import Graph
from accel.network.graph_file import dump_graph
from accel.quantizer import Choice, activations, choose, quantize
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


def chosen(model: bytes, samples: NDArray[np.float32], **settings: Any) -> tuple[Graph, Choice]:
    """The graph, and what `auto` reported, once."""
    choices: list[Choice] = []
    graph = quantize(model, samples, report=choices.append, **settings)
    (choice,) = choices
    return graph, choice


def test_outliers_that_saturate_are_cut_off() -> None:
    """An outlier of the input drives Tanh to its end, however large: the choice sees that, square errors do not."""
    calibration = images(32, 32, outliers=4e-5)
    others = images(40, 32, outliers=4e-5, seed=2)
    graph, choice = chosen(SATURATING, calibration)
    assert (choice.method, choice.samples, tuple(choice.decibels)) == ("percentile", 32, choose.METHODS)
    assert max(choice.decibels, key=lambda method: choice.decibels[method]) == "percentile"
    expected = quantize(SATURATING, calibration, calibrate_method="expected")
    assert sqnr(SATURATING, graph, others) > sqnr(SATURATING, expected, others) + 2
    assert choice.decibels["percentile"] > choice.decibels["expected"] + 2


def test_a_last_softmax_does_not_decide() -> None:
    """Rules are ranked by the logits, also if the shares are reshaped."""
    softmax = onnx_model(
        [
            ("Conv", ["x", "w"], "a", {}), ("Flatten", ["a"], "f", {}), ("MatMul", ["f", "m"], "l", {}),
            ("Softmax", ["l"], "s", {"axis": 1}), ("Flatten", ["s"], "y", {}),
        ],
        {"w": WEIGHT, "m": 40 * DENSE},
        (1, 3, 8, 8),
    )  # fmt: skip
    logits = onnx_model(
        [("Conv", ["x", "w"], "a", {}), ("Flatten", ["a"], "f", {}), ("MatMul", ["f", "m"], "y", {})],
        {"w": WEIGHT, "m": 40 * DENSE},
        (1, 3, 8, 8),
    )
    calibration = images(24, 8)
    (_, with_softmax), (_, without) = chosen(softmax, calibration), chosen(logits, calibration)
    assert with_softmax == without
    assert with_softmax.decibels


def test_outliers_that_matter_stay() -> None:
    calibration = images(32, 8, outliers=1e-4)
    graph, choice = chosen(LINEAR, calibration)
    assert choice.method == "expected"
    assert dump_graph(graph) == dump_graph(quantize(LINEAR, calibration, calibrate_method="expected"))


def test_few_samples_take_the_expected_range() -> None:
    calibration = images(choose.LEAST_SAMPLES - 1, 32, outliers=4e-5)
    graph, choice = chosen(SATURATING, calibration)
    assert choice == Choice("expected", {}, 15, True)
    assert str(choice) == (
        "calibrate_method auto: expected, mean errors of weights corrected; 15 samples are too few to measure others"
    )
    assert dump_graph(graph) == dump_graph(quantize(SATURATING, calibration, calibrate_method="expected"))


def test_a_choice_is_one_sentence() -> None:
    assert str(Choice("mse", {"expected": 1.04, "mse": 2.0, "minmax": -1.0}, 20, True, 1.26)) == (
        "calibrate_method auto: mse, 2.0 dB on 20 calibration samples that its ranges had not seen "
        "(expected 1.0, minmax -1.0); mean errors of weights corrected (without: 1.3 dB)"
    )
    assert str(Choice("expected", {"expected": 1.04, "mse": 2.0}, 20, False)).endswith(
        "(mse 2.0); mse is better on too few of them; mean errors of weights stay"
    )


def test_measuring_shows_its_progress() -> None:
    steps: list[str] = []

    def stage(task: str, total: int) -> Callable[[], None]:
        return lambda: steps.append(f"{task} of {total}")

    quantize(LINEAR, images(20, 8), stage=stage)
    assert steps == ["calibration of 20"] * 20 + ["choice of ranges of 5"] * 5


def test_other_methods_choose_nothing() -> None:
    choices: list[Choice] = []
    quantize(LINEAR, images(32, 8), calibrate_method="minmax", report=choices.append)
    assert choices == []


def test_samples_that_are_kept_for_the_choice_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    held = choose.Held()
    held.keep([{"x": x[None]} for x in images(100, 4)], {"y": np.zeros((100, 7), np.float32)}, 55)
    assert len(held.samples) == len(held.outputs) == choose.MOST_MEASURED
    assert held.seen == 100
    monkeypatch.setattr(choose, "HELD_BYTES", 5 * (3 * 16 + 7) * 4)
    held = choose.Held()
    for x in images(100, 4):
        held.keep([{"x": x[None]}], {"y": np.zeros((1, 7), np.float32)}, 55)
    assert len(held.samples) == 5


def test_large_networks_are_measured_on_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample has 341 values and those that movements repeat: input 192, inner tensor 144, output 5."""
    monkeypatch.setattr(choose, "MEASURED_VALUES", 6 * (341 + 144))
    assert chosen(LINEAR, images(40, 8))[1].samples == 6
    monkeypatch.setattr(choose, "MEASURED_VALUES", 341)
    assert chosen(LINEAR, images(40, 8))[1].samples == choose.LEAST_MEASURED
    monkeypatch.setattr(choose, "HELD_BYTES", 3 * 4 * 197)
    assert chosen(LINEAR, images(40, 8))[1] == Choice("expected", {}, 40, True)


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


def test_a_rule_whose_noise_is_no_number_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = choose._noise
    factors = {"expected": np.nan}
    monkeypatch.setattr(choose, "_noise", lambda *args: measured(*args) * factors.get(args[-1], 1))
    assert chosen(LINEAR, images(40, 8))[1].method != "expected"


def test_one_of_few_samples_ranks_no_rules() -> None:
    """A range that serves one sample only is luck; of many samples, or of few measured ones, the mean counts."""
    first = np.full((16, 1), 1.0)
    lucky, steady = first.copy(), first * np.linspace(0.8, 1, 16)[:, None]
    lucky[3] = 0.01
    assert choose.best_of({"expected": first, "minmax": lucky}, 16) == "expected"
    assert choose.best_of({"expected": first, "minmax": steady}, 16) == "minmax"
    assert choose.best_of({"expected": first, "minmax": lucky, "mse": 1.1 * first}, 63) == "expected"
    assert choose.best_of({"expected": first, "minmax": lucky}, 64) == "minmax"
    assert choose.best_of({"expected": first[:7], "minmax": lucky[:7]}, 16) == "minmax"


def test_the_worst_tensor_ranks_rules() -> None:
    good, bad = np.full((16, 1), 0.1), np.full((16, 1), 2.0)
    first = np.hstack([good, bad])
    assert choose.best_of({"expected": first, "mse": np.hstack([good / 10, 2 * bad])}, 16) == "expected"
    assert choose.best_of({"expected": first, "mse": np.hstack([2 * good, bad / 2])}, 16) == "mse"


def test_a_network_whose_draw_of_samples_misleads_keeps_the_first_rule() -> None:
    """Ranges of half of these 16 samples clip one of the others: by the mean alone, `mse` was taken, 9 dB below."""
    shape, rank, _ = NETWORKS[mobilenet_v3]
    model, samples = model_of(mobilenet_v3, shape, rank, 3), samples_of(shape, 16, seed=7)
    assert chosen(model, samples, mode="fp32")[1].method == "expected"
    choice = chosen(model, samples, mode="fp32", mean_correction="off")[1]
    assert choice.method == "expected"
    assert choice.decibels["mse"] > choice.decibels["expected"]
    assert "; mse is better on too few of them; " in str(choice)


def test_values_of_samples_that_have_been_seen_are_dropped() -> None:
    """Large networks would otherwise hold those of the first ones to the end."""
    seen = []
    for batch in activations.activations(read_onnx(LINEAR), [{"x": x[None]} for x in images(9, 8)], ["a"]):
        assert sum(values() is not None for values in seen) <= 3
        seen.append(weakref.ref(batch.values["a"].base))
        del batch
    assert len(seen) == 4
