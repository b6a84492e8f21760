"""Kernels: how they are called, and their cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from support.machine import scattered_memory

from sim import jit

ROOT = Path(__file__).parents[2]


class Pair(NamedTuple):
    """Arrays that a kernel takes together."""

    left: np.ndarray
    right: np.ndarray


def add(pair: Pair, factor: int) -> int:
    """Add to the left array in place; its sum."""
    total = 0
    for i in range(len(pair.left)):
        for j in range(pair.left.shape[1]):
            pair.left[i, j] += factor * pair.right[i, j]
            total += pair.left[i, j]
    return total


def test_kernels_depend_on_every_source_of_simulator_and_machine() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in jit.kernel_sources()}
    assert {"sim/timeline.py", "sim/fast/post.py", "sim/stepped/lanes.py", "accel/machine/timing.py"} <= names


@pytest.mark.parametrize("dtype", [np.int8, np.int64])
def test_kernels_compute_what_their_functions_do(dtype: type) -> None:
    pairs = [Pair(np.arange(6, dtype=dtype).reshape(2, 3), np.full((2, 3), -3, dtype)) for _ in range(2)]
    kernel = jit.kernel(add)
    assert kernel(pairs[0], 2) == add(pairs[1], 2)
    assert jit.bind(kernel, pairs[0], further=1)(-1) == add(pairs[1], -1)
    np.testing.assert_array_equal(pairs[0].left, pairs[1].left)


@pytest.mark.skipif(jit.DISABLED, reason="plain functions take any array")
def test_arrays_with_gaps_are_refused() -> None:
    gaps = np.zeros((4, 6), np.int64)[:, ::2]
    with pytest.raises(ValueError, match=r"^arrays of kernels must be contiguous, got strides \(48, 16\) of shape"):
        jit.kernel(add)(Pair(gaps, gaps), 1)


@pytest.mark.skipif(jit.DISABLED, reason="there is no cache without compilation")
def test_the_cache_serves_other_processes_and_a_damaged_file_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit, "_CACHE", tmp_path / "kernels")
    pair = Pair(np.ones((2, 3), np.int64), np.ones((2, 3), np.int64))
    assert jit.kernel(add)(pair, 1) == 12
    (path,) = (tmp_path / "kernels").iterdir()
    whole = path.read_bytes()
    monkeypatch.setitem(sys.modules, "sim.compilation", None)
    assert jit.kernel(add)(pair, 1) == 18
    path.write_bytes(whole[:-1])
    with pytest.raises(ImportError):
        jit.kernel(add)(pair, 1)
    monkeypatch.delitem(sys.modules, "sim.compilation")
    assert jit.kernel(add)(pair, 1) == 24
    assert len(path.read_bytes()) == len(whole)


@pytest.mark.skipif(jit.DISABLED, reason="there is no cache without compilation")
def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(jit, "_CACHE", tmp_path / "file" / "kernels")
    pair = Pair(np.ones((2, 3), np.int64), np.ones((2, 3), np.int64))
    assert jit.kernel(add)(pair, 1) == 12


def test_the_cache_is_the_users_where_the_package_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert jit.cache_folder() == ROOT / "sim" / "__pycache__"
    monkeypatch.setattr("os.access", lambda *_: False)
    assert jit.cache_folder() == Path("/caches/accel")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/mine")
    assert jit.cache_folder() == Path("/mine")


@pytest.mark.skipif(jit.DISABLED, reason="plain functions need no Numba at all")
def test_a_warm_run_imports_no_numba() -> None:
    code = (
        "import sys, numpy, sim\nfrom accel.machine.config import preset\n"
        "from accel.machine.isa import Instruction, Opcode, encode\n"
        "code = encode([Instruction(Opcode.LOAD, {'row_bytes': 1, 'word_bytes': 1, 'step_bytes': 1})])\n"
        "for engine in sim.ENGINES:\n"
        "    sim.execute(preset('edge'), code, 0, numpy.zeros(4096, numpy.uint8), engine=engine)\n"
        "print(*[name for name in ('numba', 'scipy') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    outputs = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert outputs[-1].stdout.split() == []


@pytest.mark.skipif(jit.DISABLED or sys.platform != "linux", reason="about kernels in the memory of Linux")
def test_kernels_run_where_free_memory_lies_far_apart() -> None:
    """Code and constants more than 2 GB apart ended the process: some libraries leave no room between them."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, str(Path(scattered_memory.__file__))]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
