"""Quantizing within a limit of accuracy: the ladder's order, where it stops, and by how much it falls short."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.networks.float_models import run_float
from support.networks.float_networks import samples_of
from support.networks.spread import SHAPE, spread_network

from accel.errors import InputError
from accel.evaluation import Rung, quantize_within
from accel.quantizer.config import CALIBRATE_METHODS, PREPARATION

MODEL = spread_network(spread=1)
SAMPLES = samples_of(SHAPE, 12)
LABELS = np.array([run_float(MODEL, x[None]).argmax() for x in SAMPLES])


def test_the_first_rung_that_holds_is_the_last() -> None:
    seen: list[Rung] = []
    clipped = {"calibrate_method": "percentile", "percentile": 51.0}
    result = quantize_within(MODEL, SAMPLES, LABELS, max_drop=10, report=seen.append, **clipped)
    assert result.reference == 1.0
    assert seen == list(result.rungs)
    assert result.rungs[0].name == "settings as given"
    assert result.rungs[0].drop > 10
    assert result.rungs[0].simulated is None
    assert [rung.holds for rung in result.rungs] == [False] * (len(seen) - 1) + [True]
    assert result.rungs[-1].name.startswith("observer ")
    assert result.rungs[-1].simulated == pytest.approx(1 - result.rungs[-1].drop / 100)
    assert result.settings.calibrate_method == result.rungs[-1].name.split()[1]
    assert result.shortfall == 0


def test_all_rungs_when_none_holds() -> None:
    expected = np.concatenate([run_float(MODEL, x[None]) for x in SAMPLES])

    def closeness(outputs: Any, given: Any) -> float:
        return -float(np.abs(outputs - given).mean())

    result = quantize_within(MODEL, SAMPLES, expected, max_drop=0, metric=closeness, adaround_steps=5, weight_bits=4)
    names = [rung.name for rung in result.rungs]
    observers = [f"observer {name}" for name in CALIBRATE_METHODS]
    assert set(names[1 : len(observers)]) < set(observers)
    assert names[len(observers) : len(observers) + len(PREPARATION)] == [f"with {step}" for step in PREPARATION]
    last = names[len(observers) + len(PREPARATION) :]
    assert [name.split()[0] for name in last] == ["8"] * 3 + ["in"] * 3
    assert [" 2 layers, " in name for name in last] == [False, True, False] * 2
    assert result.shortfall == pytest.approx(min(rung.drop for rung in result.rungs))
    assert result.shortfall > 0
    assert not any(rung.holds for rung in result.rungs)


def test_the_simulated_machine_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rung whose fake-quantized network holds, but whose simulated one does not, is not the last."""
    from accel.evaluation import control

    real, calls = control.simulate, list[int]()

    def broken_at_first(*arguments: Any) -> Any:
        calls.append(1)
        outputs = real(*arguments)
        return {name: -value for name, value in outputs.items()} if len(calls) == 1 else outputs

    monkeypatch.setattr(control, "simulate", broken_at_first)
    result = quantize_within(MODEL, SAMPLES, LABELS, max_drop=20)
    assert [rung.holds for rung in result.rungs] == [False, True]
    first = result.rungs[0]
    assert first.simulated is not None
    assert first.metric > first.simulated


def test_bad_limits() -> None:
    for limit in (-1.0, float("nan")):
        with pytest.raises(InputError, match=r"^max_drop must not be negative, got "):
            quantize_within(MODEL, SAMPLES, LABELS, max_drop=limit)
