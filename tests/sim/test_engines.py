"""Naive, fast and stepped execution of random programs on random machines: every memory, stamp and counter."""

from __future__ import annotations

import numpy as np
import pytest
from support.machine.compare import differences
from support.machine.random_programs import random_config, random_program


def _check(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    config = random_config(rng)
    assert differences(config, random_program(config, rng, int(rng.integers(1, size)))) == [], f"seed {seed}"


@pytest.mark.parametrize("block", range(4))
def test_random_programs_agree_in_everything(block: int) -> None:
    for seed in range(block * 15, block * 15 + 15):
        _check(seed, 40)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(4))
def test_more_random_programs_agree_in_everything(block: int) -> None:
    for seed in range(1000 + block * 75, 1075 + block * 75):
        _check(seed, 60)


@pytest.mark.marathon
def test_many_random_programs_agree_in_everything() -> None:
    for seed in range(2000, 4000):
        _check(seed, 60)
