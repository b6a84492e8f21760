"""AdaRound's parts: rows of every layer beside ONNX Runtime, learned rounding beside all combinations."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from support.networks.float_models import onnx_model, run_float

from accel.frontends.onnx.reader import read_onnx
from accel.quantizer.rounding import Problem, Schedule, learn_rounding
from accel.quantizer.rows import positions, rows_of, weight_matrices

CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 4, 9, 8), (6, 4, 3, 3), {"pads": [1, 0, 2, 1]}),
    ((1, 4, 9, 8), (6, 2, 3, 2), {"group": 2, "strides": [2, 1], "dilations": [2, 3]}),
    ((1, 4, 9, 8), (8, 1, 3, 3), {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((1, 4, 11), (5, 4, 3), {"pads": [1, 1], "strides": [2]}),
]


@pytest.mark.parametrize(("shape", "kernel", "attributes"), CONVOLUTIONS)
def test_rows_of_convolutions(shape: tuple[int, ...], kernel: tuple[int, ...], attributes: dict[str, Any]) -> None:
    check_rows("Conv", shape, kernel, attributes)


@pytest.mark.parametrize(
    ("kind", "shape", "kernel", "attributes"),
    [
        ("Gemm", (1, 7), (7, 5), {}),
        ("Gemm", (1, 7), (5, 7), {"transB": 1}),
        ("MatMul", (1, 6, 7), (7, 5), {}),
    ],
)
def test_rows_of_products(
    kind: str, shape: tuple[int, ...], kernel: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    check_rows(kind, shape, kernel, attributes)


def check_rows(kind: str, shape: tuple[int, ...], kernel: tuple[int, ...], attributes: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    weight, x = (rng.normal(size=sizes).astype(np.float32) for sizes in (kernel, shape))
    model = onnx_model([(kind, ["x", "w"], "y", attributes)], {"w": weight}, shape)
    network = read_onnx(model)
    op = network.operators[0]
    matrices = weight_matrices(op, weight)
    assert matrices is not None
    expected = run_float(model, x)
    expected = expected.reshape(*expected.shape[:2], -1)[0].T if kind == "Conv" else expected
    expected = expected.reshape(-1, expected.shape[-1])
    for places in (positions(network, op, 10**9, rng), positions(network, op, 3, rng)):
        found = rows_of(network, op, x, places) @ matrices.weight.transpose(0, 2, 1)
        np.testing.assert_allclose(np.concatenate(list(found), axis=1), expected[places], atol=1e-5)
    np.testing.assert_array_equal(matrices.restored(matrices.weight), weight)


def random_problem(seed: int, low: float = -np.inf) -> Problem:
    """Four rows of nine weights whose inputs depend on each other, so that nearest is not best."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(1, 4, 9)).astype(np.float32)
    scale = np.abs(weight).max(axis=2, keepdims=True) / 7
    rows = rng.normal(size=(1, 400, 3)) @ rng.normal(size=(3, 9)) + 0.3 * rng.normal(size=(1, 400, 9)) + 0.2
    rows = rows.astype(np.float32)
    target = np.clip(rows @ weight.transpose(0, 2, 1), low, np.inf)
    return Problem(weight, scale, 7, rows, target, np.zeros((1, 1, 4), np.float32), low, np.inf)


def error(problem: Problem, integers: np.ndarray) -> np.ndarray:
    sums = problem.rows[0] @ (integers * problem.scale[0]).T
    return np.square(np.clip(sums, problem.low, problem.high) - problem.target[0]).sum(axis=0)


@pytest.mark.parametrize("low", [-np.inf, 0.0])
def test_learned_rounding_is_close_to_the_best_of_all(low: float) -> None:
    gains, rests = [], []
    for seed in range(4):
        problem = random_problem(seed, low)
        learned = learn_rounding(problem, Schedule(steps=500))[0]
        steps = problem.weight[0] / problem.scale[0]
        assert np.all((learned == np.floor(steps)) | (learned == np.ceil(steps)))
        options = [np.clip(np.floor(steps) + np.array(up), -7, 7) for up in product((0, 1), repeat=9)]
        best = np.min([error(problem, option) for option in options], axis=0).sum()
        nearest = error(problem, np.clip(np.rint(steps), -7, 7)).sum()
        found = error(problem, learned).sum()
        assert best - 1e-3 <= found <= nearest
        gains.append(10 * np.log10(nearest / found))
        rests.append(10 * np.log10(found / best))
    assert np.mean(gains) > 2
    assert np.mean(rests) < 5


def test_integers_stay_in_their_range_and_seeds_decide() -> None:
    problem = random_problem(5)._replace(largest=5)
    first, second = (learn_rounding(problem, Schedule(steps=50, seed=3)) for _ in range(2))
    assert np.abs(first).max() <= 5
    np.testing.assert_array_equal(first, second)


def test_what_nearest_gives_exactly_stays() -> None:
    problem = random_problem(0)
    exact = np.rint(problem.weight / problem.scale) * problem.scale
    target = problem.rows @ exact.transpose(0, 2, 1)
    learned = learn_rounding(problem._replace(weight=exact, target=target), Schedule(steps=20))
    np.testing.assert_array_equal(learned, np.rint(exact / problem.scale))
