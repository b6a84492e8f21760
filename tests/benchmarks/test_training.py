"""The benchmark of training: its table, and tasks whose data are absent."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accel

pytest.importorskip("torch", reason="training needs the extra `train`")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script of the benchmarks by name."""
    monkeypatch.syspath_prepend(Path(accel.__file__).parents[1] / "benchmarks")
    return import_module


def test_losses_are_those_of_each_seed_against_its_own_float_network(scripts: Any) -> None:
    training = scripts("training")
    runs = [
        {"float": 90.0, "W4, PTQ": 80.0, "W4, QAT": 89.0},
        {"float": 80.0, "W4, PTQ": 69.0, "W4, QAT": 79.0},
        {"float": 70.0, "W4, PTQ": 58.0, "W4, QAT": 67.0},
    ]
    table = list(training.lines(training.Case("activity", "residual", 4), runs))
    assert table[0] == (
        "\n| activity, residual, width 4: 3 seeds | top-1 (%) | loss (points) | in errors | recovered |"
    )
    assert table[2:] == [
        "| float | 80.0 ± 5.8 | - | - | - |",
        "| W4, PTQ | 69.0 ± 6.4 | 11.0 ± 0.6 | 19.1 | - |",
        "| W4, QAT | 78.3 ± 6.4 | 1.7 ± 0.7 | 2.5 | 85% |",
    ]


def test_augmented_inputs_begin_with_the_training_samples(scripts: Any) -> None:
    training = scripts("training")
    data = training.Samples(np.random.default_rng(1).random((30, 2, 9), np.float32), np.zeros(30, np.int64))
    found = training.augmented(data, 100)
    assert found.shape == (100, 2, 9)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:30], data.inputs)
    assert not np.array_equal(found[30:60], data.inputs)


def test_a_task_without_data_says_what_to_do(scripts: Any, tmp_path: Path) -> None:
    networks = scripts("small_networks")
    with pytest.raises(networks.MissingDataError, match="give the folder by --samples"):
        networks.activity(tmp_path)
