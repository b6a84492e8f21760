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
    for kind, count in (("cal", 8), ("eval", 2)):
        np.savez(folder / f"{name}.{kind}.npz", x=samples_of(SHAPE, count, seed=count))


def test_page(tmp_path: Path, scripts: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "resnet", model_of(resnet, SHAPE, RANK))
    free = onnx.load_from_string(model_of(resnet, SHAPE, RANK))
    free.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    write(tmp_path, "free", free.SerializeToString())
    scripts("float_networks").main([str(tmp_path), "--output", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text()
    assert "1 of 2 networks accepted." in text
    assert text.endswith(capsys.readouterr().out)
    rows = {row["name"]: row for row in json.loads((tmp_path / "page.json").read_text())}
    outcome = rows["resnet"]["outcomes"]["fp32"]
    assert outcome["refusal"] is None
    assert outcome["cycles"] > 0
    assert outcome["sqnr"] > 15
    assert rows["resnet"]["onnxruntime_sqnr"] > 15
    assert rows["free"]["outcomes"]["tflite"]["refusal"]


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
