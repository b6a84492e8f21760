"""Files for the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.networks.small_networks import conv, fully_connected, network

import accel


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a graph, its program for `tiny`, and inputs; it is the working folder."""
    graph = network((1, 4, 5, 3), conv(6, (2, 2)), fully_connected(4))
    accel.save_graph(graph, tmp_path / "a.graph")
    accel.compile(graph, "tiny").save(tmp_path / "a.program")
    batch = np.random.default_rng(0).integers(-128, 128, (3, 4, 5, 3)).astype(np.int8)
    np.save(tmp_path / "x.npy", batch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels and the Verilog's models count as compiled: what the first run says is no part of errors."""
    monkeypatch.setattr("sim.jit.IS_COLD", False)
    monkeypatch.setattr("rtl.testbench.verilate.is_built", lambda config: True)
