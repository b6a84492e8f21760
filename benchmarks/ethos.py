"""Vela's estimate of a network's cycles on Arm's Ethos-U55-256, a machine with as many multipliers as `edge`."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

ACCELERATOR = "ethos-u55-256"


@dataclass(frozen=True)
class Estimate:
    """Cycles in which the machine computes, and of all, stalls of its memories included."""

    npu: int
    total: int


def is_installed() -> bool:
    """Whether the package `ethos-u-vela` (the extra `bench`) is there."""
    return find_spec("ethosu") is not None


def estimate(model: Path) -> Estimate:
    """Compile an int8 .tflite file with Vela's default system configuration; RuntimeError if Vela fails."""
    command = [sys.executable, "-m", "ethosu.vela", str(model), "--accelerator-config", ACCELERATOR]
    with TemporaryDirectory() as folder:
        run = subprocess.run([*command, "--output-dir", folder], capture_output=True, text=True, check=False)
        if run.returncode:
            raise RuntimeError(f"Vela must compile {model.name}, got:\n{run.stdout}{run.stderr}")
        (summary,) = Path(folder).glob("*_summary_*.csv")
        return parse(summary.read_text())


def parse(text: str) -> Estimate:
    """The estimate in a summary, a table of one row."""
    (row,) = csv.DictReader(text.splitlines())
    return Estimate(round(float(row["cycles_npu"])), round(float(row["cycles_total"])))
