"""Output for people fits a terminal of 80 columns; --wide brings back the columns that are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli.invoke import success
from support.cli.verification import verification
from support.networks.small_graphs import every_operation

import accel
from accel.cli import console
from accel.demo.run import DemoResult
from accel.report.layers import LayerRow

LONG = "features/stage_3/block_2/expand/Conv2D;features/stage_3/block_2/expand/BiasAdd"
BIG = LayerRow(LONG, "TransposeConv2d", 4_089_184_256_000, 1_015_808_123_456, 98_765_432, 0.999, "depthwise",
               10**9, 10**9, 10**12)  # fmt: skip


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def check_width(text: str) -> None:
    assert "…" not in text
    assert [line for line in text.splitlines() if len(line) > 80] == []


def test_layers_of_a_large_network(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_layers([BIG, BIG], f"{LONG} on edge", wide=False)
    text = capsys.readouterr().out
    check_width(text)
    assert text.count("4,089,184,256,000") == text.count("1,015,808,123,456") == 2
    assert "8,178,368,512,000" in text
    console.print_layers([BIG, BIG], f"{LONG} on edge", wide=True)
    wide = capsys.readouterr().out
    assert "…" not in wide
    for name in ("hidden", "read B", "written B", "SCALE-Sim"):
        assert name in wide
        assert name not in text
    assert wide.count("1,000,000,000,000") == 2


def test_commands(files: Path, shared_models: Path) -> None:
    model = str(shared_models / "imagenet" / "mobilenet_v2_int8.tflite")
    graph = accel.load_model(model)
    accel.compile(graph, "edge").save("m.program")
    np.save("i.npy", np.zeros((1, 224, 224, 3), np.int8))
    accel.save_graph(every_operation(), "every.graph")
    for arguments in (["inspect", model], ["inspect", "m.program"], ["inspect", "every.graph"]):
        text = success(*arguments)
        check_width(text)
        assert len(success(*arguments, "--wide").splitlines()[2]) > 80
    text = success("run", "m.program", "--input", "i.npy")
    check_width(text)
    assert f"{sum(layer.macs for layer in accel.Program.load('m.program').layers):,}" in text


def test_demo(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command prints the counts in the result, not a fixed 0."""

    def fake(*args: Any) -> DemoResult:
        found = verification(1_015_808, 123_456, 123_456_789, 12_345, 67, 8)
        return DemoResult(360, 0.98889, 0.9777, 1_015_808, [BIG], found, "build/demo/edge.v")

    monkeypatch.setattr("accel.demo.run.run_demo", fake)
    text = success("demo")
    check_width(text)
    assert " ".join(" ".join(text.split()).split("co-verification ")[1:]) == (
        "12,345 differing bytes of 123,456,789, 67 differing cycles of 1,015,808, 8 differing stamps of 246,912 "
        "(1 image in Verilator)"
    )
