"""The scripts in examples/ run, and their figures agree with each other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def output(*command: str) -> str:
    run = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr + run.stdout
    return run.stdout


def test_quantize_and_run() -> None:
    first, *layers = output("examples/quantize_and_run.py").splitlines()
    found = re.fullmatch(r"(\d+) of 360 images right, ([\d,]+) cycles each", first)
    assert found
    assert int(found[1]) >= 350
    cycles = [int(re.search(r"([\d,]+) cycles", line)[1].replace(",", "")) for line in layers]
    assert sum(cycles) == int(found[2].replace(",", ""))


def test_sweep_a_parameter() -> None:
    rows = [line.replace(",", "").split() for line in output("examples/sweep_a_parameter.py").splitlines()[1:]]
    assert [int(row[0]) for row in rows] == [4, 8, 16, 32]
    cycles = [int(row[1]) for row in rows]
    assert cycles == sorted(cycles, reverse=True)


@pytest.mark.slow
@pytest.mark.rtl
def test_a_test_of_ones_own() -> None:
    assert "3 passed" in output("-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/test_my_network.py")
