"""The cache of compiled kernels."""

from __future__ import annotations

from pathlib import Path

from sim import jit

ROOT = Path(__file__).parents[2]


def test_kernels_depend_on_every_source_of_simulator_and_machine() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in jit.kernel_sources()}
    assert {"sim/timeline.py", "sim/fast/post.py", "sim/stepped/lanes.py", "accel/machine/timing.py"} <= names
