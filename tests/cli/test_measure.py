"""Commands that measure: analyze, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.cli.invoke import error, invoke, success
from support.networks.float_models import onnx_model, run_float
from support.networks.float_networks import samples_of
from support.networks.spread import SHAPE, spread_network


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A float network and samples of it, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("m.onnx").write_bytes(spread_network())
    np.save("x.npy", samples_of(SHAPE, 4))
    return "m.onnx"


def test_analyze(model: str) -> None:
    text = success("analyze", model, "--calibration", "x.npy")
    assert "m.onnx: " in text
    assert "dB end to end on 4 samples" in text
    assert "of all weights lie within 0.1; in every layer, 99 %" in text
    assert "calibrate_method auto: expected, mean errors of weights corrected;" in text
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "weight spread" in success("analyze", model, "--calibration", "x.npy", "--wide")
    facts = json.loads(success("analyze", model, "--calibration", "x.npy", "--json", "--samples", "2"))
    assert facts["samples"] == 2
    assert facts["choice"] == {
        "method": "expected", "decibels": {}, "samples": 4, "mean_correction": True, "uncorrected": None,
    }  # fmt: skip
    assert {"only_quantized", "only_float", "weights", "activations", "advice"} <= set(facts["layers"][1])


def test_the_page_is_one_file(model: str) -> None:
    assert "a.html: histograms of " in success("analyze", model, "--calibration", "x.npy", "-o", "a.html")
    page = Path("a.html").read_text()
    assert "calibrate_method auto: expected" in page
    assert page.count("<svg") == 1 + page.count("<h3>")
    for outside in ("<script", "<link", "<img", "src=", "@import"):
        assert outside not in page


def test_a_network_of_the_host_alone(model: str) -> None:
    """There is nothing to measure, which is no fault of the model."""
    Path("h.onnx").write_bytes(onnx_model([("CumSum", ["x", "axis"], "y", {})], {"axis": np.int64(1)}, (1, 8)))
    np.save("h.npy", np.ones((4, 8), np.float32))
    text = success("analyze", "h.onnx", "--calibration", "h.npy", "-o", "h.html")
    fact = "nothing is quantized: the host computes, in real numbers, Y"
    assert text.startswith(f"h.onnx: {fact}\n")
    assert fact in Path("h.html").read_text()
    facts = json.loads(success("analyze", "h.onnx", "--calibration", "h.npy", "--json"))
    assert (facts["layers"], facts["real"]) == ([], ["Y"])


def test_bad_files_are_refused_before_any_work(model: str) -> None:
    assert error("analyze", model, "--calibration", "x.npy", "-o", "none/a.html") == (
        "Error: none/a.html: its folder does not exist"
    )
    assert error("analyze", model, "--calibration", "x.npy", "--samples", "0") == (
        "Error: samples must be at least 1, got 0"
    )


def test_evaluate(model: str) -> None:
    np.save("l.npy", np.array([0, 1, 2, 3]))
    arguments = ["evaluate", model, "--data", "x.npy", "--labels", "l.npy", "--calibration", "x.npy", "--workers", "1"]
    text = success(*arguments)
    assert [line.split()[0] for line in text.splitlines()[4:7]] == ["float", "fake-quantized", "simulated"]
    assert "m.onnx: 4 samples" in text
    facts = json.loads(success(*arguments, "--json", "--top", "3"))
    assert facts["samples"] == 4
    assert set(facts["rows"][2]["metrics"]) == {"top-1", "top-3"}
    np.savez("two.npz", a=np.zeros(1), b=np.zeros(1))
    assert error("evaluate", model, "--data", "x.npy", "--labels", "two.npz", "--calibration", "x.npy") == (
        "Error: two.npz: must hold one array, got a, b"
    )


def test_samples_in_folders(model: str) -> None:
    """Files of one sample each, or images with preprocessing: as calibration data and as data to evaluate on."""
    for name in ("some", "pictures"):
        Path(name).mkdir()
    for index, x in enumerate(np.load("x.npy")):
        np.save(f"some/{index}.npy", x.reshape(SHAPE[1:]))
        pixels = np.random.default_rng(index).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"pictures/{index}.png")
    np.save("l.npy", np.array([0, 1, 2, 3]))
    common = ["--labels", "l.npy", "--calibration"]
    by_folder = success("evaluate", model, "--data", "some", *common, "some", "--workers", "1", "--json")
    by_file = success("evaluate", model, "--data", "x.npy", *common, "x.npy", "--workers", "1", "--json")
    assert [row["sqnr"] for row in json.loads(by_folder)["rows"]] == [
        row["sqnr"] for row in json.loads(by_file)["rows"]
    ]
    images = ["--image", f"crop={SHAPE[2]}"]
    assert "m.onnx: 4 samples" in success("evaluate", model, "--data", "pictures", *common, "pictures", *images)
    success("quantize", model, *common, "pictures", *images, "--max-drop", "100", "--data", "pictures", "-o", "a.graph")
    success("quantize", model, "--calibration", "pictures", *images, "--average-bits", "6", "-o", "b.graph")
    success("analyze", model, "--calibration", "pictures", *images)
    success("quantize", model, "--calibration", "some", "-o", "m.graph")
    in_folder, in_file = (
        success("evaluate", "m.graph", "--data", data, "--labels", "l.npy", "--workers", "1", "--json")
        for data in ("some", "x.npy")
    )
    assert json.loads(in_folder)["rows"][0]["metrics"] == json.loads(in_file)["rows"][0]["metrics"]


def test_quantize_within_a_limit(model: str) -> None:
    np.save("l.npy", np.array([run_float(spread_network(), x[None]).argmax() for x in np.load("x.npy")]))
    arguments = ["quantize", model, "--calibration", "x.npy", "--labels", "l.npy", "-o", "m.graph"]
    text = success(*arguments, "--max-drop", "50")
    assert text.startswith("settings as given: top-1 ")
    assert " (simulated), " in text
    assert "calibrate_method auto: expected, mean errors of weights corrected;" in text
    assert Path("m.graph").exists()
    assert error("quantize", model, "--calibration", "x.npy", "-o", "m.graph", "--max-drop", "1") == (
        "Error: --max-drop must have the class of each sample, got no --labels"
    )


def test_no_file_when_the_limit_is_missed(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, and by how much the best falls short."""
    from accel.evaluation import control

    np.save("l.npy", np.array([run_float(spread_network(), x[None]).argmax() for x in np.load("x.npy")]))
    monkeypatch.setattr(control, "simulate", lambda *_: {"y": np.zeros((4, 10)) - np.eye(10)[np.load("l.npy")]})
    monkeypatch.setattr(control, "_rungs", lambda ladder, first: [("settings as given", first)])
    text = invoke("quantize", model, "--calibration", "x.npy", "--labels", "l.npy", "-o", "m.graph", "--max-drop", "50")
    assert text.exit_code == 1
    assert text.stderr == (
        "Short: no settings lose at most 50 points of 100.00%; the best is 'settings as given', 50.00 points more; "
        "no file is written\n"
    )
    assert not Path("m.graph").exists()
