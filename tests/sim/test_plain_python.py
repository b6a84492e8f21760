"""The engines without compilation, in a process of their own, and the mutants that only there can be made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.machine import plain_python

PATHS = [str(Path(plain_python.__file__).parents[i]) for i in (2, 3)]


@pytest.mark.parametrize("every", [25, pytest.param(1, marks=pytest.mark.slow)])
def test_plain_python_gives_the_same_results_and_mutants_are_caught(every: int) -> None:
    command = [sys.executable, str(Path(plain_python.__file__)), str(every)]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(PATHS)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    first, *mutants = run.stdout.splitlines()
    assert first == f"digest {plain_python.digest()}"
    assert len(mutants) == len(plain_python.MUTANTS[::every])
    assert [line for line in mutants if not line.endswith(" caught")] == []
