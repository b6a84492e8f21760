"""Evaluation of networks: the simulated row is the hardware's, metrics are those of the samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.networks.float_models import run_float
from support.networks.float_networks import samples_of
from support.networks.spread import SHAPE, spread_network

import accel
from accel.analysis.decibels import sqnr
from accel.errors import InputError
from accel.evaluation import Evaluation, metrics
from accel.evaluation import evaluation as evaluation_module
from accel.evaluation.metrics import shares, top_k
from accel.evaluation.runtime import run_network
from accel.evaluation.simulation import simulate
from accel.frontends.onnx.reader import read_onnx
from accel.frontends.onnx.write import to_onnx
from accel.network import reference
from accel.program.samples import split_samples
from accel.quantizer import QuantizationConfig, quantize_network

SAMPLES = samples_of(SHAPE, 6)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(spread_network())
    return path


def labels() -> Any:
    """What the float network answers, but for the last sample."""
    found = np.array([run_float(spread_network(), x[None]).argmax() for x in SAMPLES])
    found[-1] = (found[-1] + 1) % 10
    return found


def row(evaluation: Evaluation, name: str) -> Any:
    return next(row for row in evaluation.rows if row.network == name)


def test_rows_of_a_float_model(model: Path) -> None:
    evaluation = accel.evaluate(model, SAMPLES, labels(), calibration=SAMPLES, top=10, mode="fp32")
    assert [row.network for row in evaluation.rows] == ["float", "fake-quantized", "simulated"]
    assert evaluation.samples == 6
    assert row(evaluation, "float").metrics == {"top-1": 5 / 6, "top-10": 1.0}
    graph = accel.quantize(model, SAMPLES, mode="fp32")
    outputs = [
        accel.dequantize_output(graph, reference.run(graph, accel.quantize_input(graph, x[None]))["y"]) for x in SAMPLES
    ]
    expected = [run_float(spread_network(), x[None]) for x in SAMPLES]
    noise = np.square(np.subtract(expected, outputs, dtype=np.float64)).sum()
    sqnr = 10 * np.log10(np.square(expected, dtype=np.float64).sum() / noise)
    assert row(evaluation, "simulated").sqnr == pytest.approx(sqnr, abs=1e-4)
    assert row(evaluation, "fake-quantized").sqnr == pytest.approx(sqnr, abs=0.1)


def test_a_users_metric(model: Path) -> None:
    def mean_error(outputs: Any, given: Any) -> float:
        return float(np.abs(outputs - given).mean())

    expected = np.concatenate([run_float(spread_network(), x[None]) for x in SAMPLES])
    evaluation = accel.evaluate(model, SAMPLES, expected, calibration=SAMPLES, metric=mean_error)
    assert row(evaluation, "float").metrics == {"mean_error": pytest.approx(0, abs=1e-6)}
    assert 0 < row(evaluation, "simulated").metrics["mean_error"] < 0.1


def test_rows_of_quantized_models(model: Path, tmp_path: Path) -> None:
    graph = accel.quantize(model, SAMPLES, mode="fp32")
    accel.save_graph(graph, tmp_path / "m.graph")
    (simulated,) = accel.evaluate(tmp_path / "m.graph", SAMPLES, labels()).rows
    assert simulated.sqnr is None
    assert set(simulated.metrics) == {"top-1", "top-5"}
    network = quantize_network(read_onnx(spread_network()), SAMPLES, QuantizationConfig(mode="fp32"))
    onnx.save(to_onnx(network), tmp_path / "q.onnx")
    rows = accel.evaluate(tmp_path / "q.onnx", SAMPLES, labels()).rows
    assert [one.network for one in rows] == ["fake-quantized", "simulated"]
    assert rows[1].metrics == simulated.metrics


@pytest.mark.slow
def test_workers_give_the_same_outputs(model: Path) -> None:
    program = accel.compile(accel.quantize(model, SAMPLES), "edge")
    samples = split_samples(program, np.concatenate([SAMPLES, -SAMPLES, 2 * SAMPLES]))
    steps: list[str] = []
    alone, together = (
        simulate(program, samples, workers, lambda name, total: lambda: steps.append(name)) for workers in (1, 2)
    )
    np.testing.assert_array_equal(alone["y"], together["y"])
    assert steps == ["simulate"] * 36


def test_top_k_counts_ties_as_argmax_does() -> None:
    outputs, given = np.array([[1, 3, 3, 0], [0, 2, 1, 2]]), np.array([2, 3])
    assert [top_k(k)(outputs, given) for k in (1, 2)] == [0.0, 1.0]
    assert shares({"y": outputs}, given, 9) == {"top-1": 0.0, "top-4": 1.0}


def last_of_ties(k: int) -> Any:
    return lambda outputs, labels: float(
        (np.argsort(outputs, axis=1, kind="stable")[:, ::-1][:, :k] == labels[:, None]).any(axis=1).mean()
    )


MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "samples of the machine backwards": (
        evaluation_module, "simulate", lambda program, samples, *rest: simulate(program, samples[::-1], *rest),
    ),
    "signal and noise exchanged": (
        evaluation_module, "sqnr", lambda expected, found: -sqnr(expected, found),
    ),
    "float network on the quantized weights": (
        evaluation_module, "_run", lambda network, feeds, stage, name: run_network(SPREAD_INT8, feeds),
    ),
    "ties count for the last class": (metrics, "top_k", last_of_ties),
    "the machine's inputs are rounded to whole numbers": (
        evaluation_module, "split_samples",
        lambda program, data: split_samples(program, {name: np.rint(x) for name, x in data.items()}),
    ),
}  # fmt: skip
SPREAD_INT8 = quantize_network(read_onnx(spread_network()), SAMPLES, QuantizationConfig())


@pytest.mark.parametrize("mutant", MUTANTS)
def test_suite_catches(mutant: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*MUTANTS[mutant])

    def suite() -> None:
        test_rows_of_a_float_model(model)
        test_top_k_counts_ties_as_argmax_does()

    with pytest.raises(AssertionError):
        suite()


def test_bad_arguments(model: Path) -> None:
    scores = {"y": np.zeros((2, 4))}
    for given, message in (
        (np.zeros(3, int), "labels must be integers of shape (2,), one for each sample, got int64 (3,)"),
        (np.zeros(2), "labels must be integers of shape (2,), one for each sample, got float64 (2,)"),
        (np.array([0, 4]), "labels must lie in [0, 3], got 0 to 4"),
    ):
        with pytest.raises(InputError) as error:
            shares(scores, given, 5)
        assert str(error.value) == message
    with pytest.raises(InputError, match=r"^top must be at least 1, got 0$"):
        shares(scores, np.zeros(2, int), 0)
    with pytest.raises(InputError, match=r"^top-1 must have a model with one output, got a, b; give a metric function"):
        shares({"a": np.zeros((1, 2)), "b": np.zeros((1, 2))}, np.zeros(1, int), 5)
    with pytest.raises(InputError, match="a float model must have calibration samples, got none"):
        accel.evaluate(model, SAMPLES)
