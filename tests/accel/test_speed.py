"""Time, rates and energy of one inference: figures by hand, and the clock of a configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.cli.invoke import success
from support.networks.small_networks import conv, network

import accel
from accel.report.energy import layer_energies
from accel.report.speed import Speed


@pytest.fixture
def program() -> accel.Program:
    return accel.compile(network((1, 2, 3, 16), conv(16, (1, 1))), replace(accel.preset("edge"), clock_mhz=200))


def test_figures_by_hand(program: accel.Program) -> None:
    """6 pixels in, 6 pixels out, 256 weights, 16 records of 9 bytes, 64 bytes an instruction."""
    energies = layer_energies(program)
    speed = Speed.of(program, 1000, energies, host_seconds=0.25)
    assert speed.machine_ms == pytest.approx(1000 / 200e6 * 1e3)
    assert speed.frames_per_second == pytest.approx(200_000)
    external = 96 + 96 + 256 + 144 + 64 * program.instruction_count
    assert speed.gb_per_second == pytest.approx(external / 1e9 * 200_000)
    assert speed.peak_gb_per_second == pytest.approx(16 * 0.2)
    assert speed.inferences_per_joule == pytest.approx(1 / (sum(one.total for one in energies) * 1e-12))
    assert (speed.host_operators, speed.host_ms) == (0, 250)
    assert str(speed).startswith("at 200 MHz: 0.005 ms, 200,000 frames/s, ")


def test_commands(program: accel.Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program.save("p.program")
    np.save("x.npy", np.zeros((1, 2, 3, 16), np.int8))
    ran = json.loads(success("run", "p.program", "--input", "x.npy", "--json"))
    estimated = json.loads(success("estimate", "p.program", "--json"))
    assert ran["speed"] == estimated["speed"] | {"host_ms": ran["speed"]["host_ms"]}
    assert ran["speed"]["machine_ms"] == pytest.approx(ran["cycles"] / 200e3)
    Path("free.toml").write_text("dram = 0\nmac = 0\nrequantize = 0\nsram_8k = 0\nsram_32k = 0\nsram_1m = 1\n")
    cheap = json.loads(success("run", "p.program", "--input", "x.npy", "--json", "--energy", "free.toml"))
    assert cheap["speed"]["inferences_per_joule"] > ran["speed"]["inferences_per_joule"]
    Path("fast.toml").write_text(replace(program.config, clock_mhz=800).to_toml())
    fast = json.loads(success("estimate", "p.program", "--config", "fast.toml", "--json"))["speed"]
    assert fast["machine_ms"] == pytest.approx(estimated["speed"]["machine_ms"] / 4)
    assert "at 800 MHz: " in success("estimate", "p.program", "--config", "fast.toml")


def test_the_host_stands_beside() -> None:
    speed = Speed(500, 1.0, 1000.0, 1.0, 8.0, 2, None, 1e6)
    assert str(speed).endswith("; beside it the host's operators, not timed")
    assert str(replace(speed, host_ms=1.25)).endswith("; beside it the host's operators, 1.25 ms on this computer")
