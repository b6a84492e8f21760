"""The benchmark script runs, and reads Vela's summaries."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks.small_networks import conv, network

import accel

FOLDER = Path(accel.__file__).parents[1] / "benchmarks"


@pytest.fixture
def ethos(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    return import_module("ethos")


def test_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Results\n\n## Accuracy on real samples\n\nold\n\n## Training\n\nBy `another.py`.\n\n| a | b |\n")
    command = [sys.executable, str(FOLDER / "run.py"), "--quick", "--output", str(page)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    text = page.read_text()
    assert text.startswith("# Results\n")
    assert text.endswith("\n\n## Training\n\nBy `another.py`.\n\n| a | b |\n")
    assert "old" not in text.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    (digits,) = (row for row in rows if row[0] == "digits (accel demo)")
    assert int(digits[2].replace(",", "")) > 0
    assert float(digits[5]) >= 1
    assert digits[7:] == ["-"] * 3
    (expand,) = (row for row in rows if row[0] == "expand")
    assert expand[6] in ("array", "depthwise", "post", "load", "store", "latency")


def test_summary_of_vela(ethos: Any) -> None:
    text = "experiment,network,cycles_npu,cycles_sram_access,cycles_total\ndefault,net,107389,52751,141933.0\n"
    assert ethos.parse(text) == ethos.Estimate(107389, 141933)


def test_estimate(ethos: Any, shared_models: Path) -> None:
    if not ethos.is_installed():
        pytest.skip("needs the package ethos-u-vela (extra `bench`)")
    found = ethos.estimate(shared_models / "mlperf_tiny" / "dscnn_kws_int8.tflite")
    assert 40_000 < found.npu <= found.total
    with pytest.raises(RuntimeError, match=r"^Vela must compile LICENSE\.md, got:"):
        ethos.estimate(shared_models / "mlperf_tiny" / "LICENSE.md")


def test_int4_weights_halve_bytes_and_cycles_where_weights_bind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    int4 = import_module("int4")
    cells = [cell.strip().replace(",", "") for cell in int4.row(int4.autoencoder(), "edge").split("|")[1:-1]]
    assert cells[:2] == ["autoencoder", "edge"]
    assert float(cells[4]) < 0.6
    assert float(cells[7]) < 0.51


def test_accuracy(monkeypatch: pytest.MonkeyPatch, shared_models: Path, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    accuracy = import_module("accuracy")
    model = shared_models / "mlperf_tiny" / "dscnn_kws_int8.tflite"
    program = accel.compile(model)
    assert accuracy.row(model, program, tmp_path) is None
    with np.load(shared_models / "samples" / "kws_1000.npz") as data:
        x, y = data["x"][:4], data["y"][:4]
    labels = y.copy()
    labels[0] = (y[0] + 1) % 12
    np.savez(tmp_path / "kws_1000.npz", x=x, y=labels)
    found = accuracy.row(model, program, tmp_path)
    right = [accel.run(program, sample[None]).outputs[program.output_names[0]].argmax() for sample in x] == labels
    ours = f"{right.mean():.1%}"
    assert found in (f"| dscnn_kws_int8 | 4 | {ours} | {ours} | 0 |", f"| dscnn_kws_int8 | 4 | {ours} | - | - |")


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    ["mlperf_tiny/resnet8_int8.tflite", "mlperf_tiny/dscnn_kws_int8.tflite", "imagenet/mobilenet_v2_int8.tflite"],
)
def test_real_networks_are_fast_on_the_machine(
    model: str, monkeypatch: pytest.MonkeyPatch, shared_models: Path
) -> None:
    """Cycles are exact, so that what was reached can be held: the roofline, and the diagonal by 2.5 in every layer."""
    monkeypatch.syspath_prepend(FOLDER)
    run, depthwise = import_module("run"), import_module("depthwise")
    graph = accel.load_model(shared_models / model)
    program = accel.compile(graph, "edge")
    line, _ = run.network_row(graph, program, None)
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert float(cells[5]) <= 1.25
    row = depthwise.row(graph, program)
    assert row is None or least_ratio(row) >= 2.5


@pytest.mark.slow
@pytest.mark.parametrize("kernel", range(3, 8))
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_layers_of_every_width(kernel: int, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    before, after = kernel // 2, kernel - 1 - kernel // 2
    graph = network(
        (1, 14, 14, 96),
        conv(96, (1, 1)),
        conv(96, (kernel, kernel), groups=96, stride=(stride, stride), padding=(before, before, after, after)),
        conv(96, (1, 1)),
    )
    row = import_module("depthwise").row(graph, accel.compile(graph, "edge"))
    assert least_ratio(row) >= 2.5


def least_ratio(row: str) -> float:
    """Speed of the slowest depthwise layer over its speed on the diagonal, from the last cell."""
    return float(row.split("|")[-2].split("(")[0])
