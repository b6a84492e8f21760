"""The benchmark of float networks: its page, its JSON, and the seeded light models."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.networks.float_networks import NETWORKS, model_of, resnet, samples_of

import accel

FOLDER = Path(accel.__file__).parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script of the benchmarks by name."""
    monkeypatch.syspath_prepend(FOLDER)
    return import_module


SHAPE, RANK, _ = NETWORKS[resnet]


def write(folder: Path, name: str, model: bytes) -> None:
    (folder / f"{name}.onnx").write_bytes(model)
    for kind, count in (("cal", 8), ("eval", 4)):
        np.savez(folder / f"{name}.{kind}.npz", x=samples_of(SHAPE, count, seed=count))


def test_page(tmp_path: Path, scripts: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A network with a last Softmax, and one that is refused; a second run replaces what it measures again."""
    model = onnx.load_from_string(model_of(resnet, SHAPE, RANK))
    model.graph.node.append(onnx.helper.make_node("Softmax", [model.graph.output[0].name], ["shares"], name="last"))
    model.graph.output[0].name = "shares"
    write(tmp_path, "resnet", model.SerializeToString())
    free = onnx.load_from_string(model_of(resnet, SHAPE, RANK))
    free.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    write(tmp_path, "free", free.SerializeToString())
    arguments = [str(tmp_path), "--output", str(tmp_path / "page.md")]
    scripts("float_networks").main(arguments)
    text = (tmp_path / "page.md").read_text()
    assert "1 of 2 networks accepted." in text
    assert text.endswith(capsys.readouterr().out)
    rows = {row["name"]: row for row in json.loads((tmp_path / "page.json").read_text())}
    assert rows["resnet"]["onnxruntime_refusal"] is None
    assert rows["resnet"]["samples"] == 4
    for outcome in rows["resnet"]["outcomes"].values():
        assert outcome["refusal"] is None
        assert outcome["cycles"] > 0
        assert min(outcome["sqnr"], outcome["machine"], outcome["first"]) > 15
        assert abs(outcome["machine"] - outcome["first"]) < 1
        assert outcome["beside"]["ours"] == outcome["sqnr"]
        for figures in (outcome["beside"], outcome["before_softmax"]):
            assert figures["theirs"] > 15
            assert figures["deviation"] > 0
        assert outcome["before_softmax"]["ours"] != outcome["sqnr"]
    assert rows["free"]["outcomes"]["tflite"]["refusal"]
    (tmp_path / "free.onnx").unlink()
    with (tmp_path / "page.md").open("a") as page:
        page.write("\n## Notes\n\nKept.\n")
    scripts("float_networks").main([*arguments, "--samples", "2"])
    assert (tmp_path / "page.md").read_text().endswith(" |\n\n## Notes\n\nKept.\n")
    rows = {row["name"]: row["samples"] for row in json.loads((tmp_path / "page.json").read_text())}
    assert rows == {"free": 4, "resnet": 2}


def test_figures_beside_another_quantizer(scripts: Any) -> None:
    """Two outputs, of which the second is the worse; the jackknife's error is that of the sum's parts."""
    expected = [[np.array([10.0]), np.array([10.0])] for _ in range(3)]
    errors = {"ours": (0.1, 0.1, 0.2), "theirs": (0.2, 0.2, 0.2)}
    ours, theirs = (
        [[np.array([10.0]), np.array([10.0 + error])] for error in errors[name]] for name in ("ours", "theirs")
    )
    found = scripts("float_networks").beside(expected, ours, theirs)
    assert found.ours == pytest.approx(10 * np.log10(300 / 0.06))
    assert found.theirs == pytest.approx(10 * np.log10(300 / 0.12))
    assert found.median == pytest.approx(20 * np.log10(2))
    left_out = [10 * np.log10(0.08 / 0.05)] * 2 + [10 * np.log10(0.08 / 0.02)]
    assert found.deviation == pytest.approx(np.sqrt(2 / 3 * np.square(left_out - np.mean(left_out)).sum()))


def test_macs_are_those_of_the_machine(tmp_path: Path, scripts: Any) -> None:
    model = model_of(resnet, SHAPE, RANK)
    write(tmp_path, "resnet", model)
    program = accel.compile(accel.quantize(model, samples_of(SHAPE, 2)), "edge")
    counted = scripts("onnxruntime_int8").macs(tmp_path / "resnet.onnx", {"x": samples_of(SHAPE, 1)})
    assert counted == sum(layer.macs for layer in program.layers)


def test_a_light_model_is_seeded(scripts: Any) -> None:
    light = scripts("light_networks")
    first, second = (light.seeded(onnx.load(light.FOLDER / "light_squeezenet.onnx")) for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()
    assert {value.name for value in first.graph.input} == {"data_0"}
    assert not [node for node in first.graph.node if node.op_type == "ConstantOfShape"]


def test_images_are_smooth_and_normalized(scripts: Any) -> None:
    images = scripts("light_networks").images(4, (3, 64, 48), seed=0)
    assert images.shape == (4, 3, 64, 48)
    assert abs(images.mean()) < 1
    assert np.abs(np.diff(images, axis=2)).mean() < 0.7 * images.std()  # of white noise: 1.13
