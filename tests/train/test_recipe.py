"""Recipes: what is refused, and one whole run from the command line."""

import json
import re
import sys
from pathlib import Path

import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from support.cli.invoke import error, success  # noqa: E402

from accel.errors import InputError  # noqa: E402
from accel.train.recipe import read_recipe  # noqa: E402

FUNCTIONS = """
import numpy as np
from torch import nn

def make_model():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))

def make_data():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=96)
    images = rng.random((96, 1, 6, 6), np.float32) * 0.3
    images[np.arange(96), 0, labels, :] += 1
    return (images[:64], labels[:64]), (images[64:], labels[64:])

def wrong():
    return 3
"""
RECIPE = """
model = "functions.py:make_model"
data = "functions.py:make_data"
max_drop = -100.0
[float_training]
epochs = 4
learning_rate = 1e-2
[training]
epochs = 2
[distillation]
alpha = 0.5
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


@pytest.mark.slow
def test_a_whole_run_twice_gives_the_same_bytes(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recipe.parent)
    text = RECIPE.replace("[distillation]", "[quantization]\nweight_bits = 4\n[distillation]")
    recipe.write_text(text)
    for name in ("first", "second"):
        found = json.loads(success("train", "--recipe", str(recipe), "-o", str(recipe.parent / name), "--json"))
    assert [row["stage"] for row in found["rows"]] == ["PTQ", "QAT"]
    assert all(row["same_class"] >= 95 for row in found["rows"])
    onnxruntime.InferenceSession(recipe.parent / "first" / "model_qdq.onnx", providers=["CPUExecutionProvider"])
    for file in (*found["files"], "trained.checkpoint"):
        assert (recipe.parent / "first" / file).read_bytes() == (recipe.parent / "second" / file).read_bytes()
    again = success("train", "--recipe", str(recipe), "-o", str(recipe.parent / "first"), "--json")
    assert json.loads(again) == found, "a finished run is not trained again"
    recipe.write_text(text.replace("epochs = 2", "epochs = 3"))
    assert "that of the same recipe" in error("train", "--recipe", str(recipe), "-o", str(recipe.parent / "first"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_drop", "drop", "key must be one of model, data, seed"),
        ('"functions.py:make_data"', "3", "must have the key 'data' with FILE.py:FUNCTION, got 3"),
        ("epochs = 4", 'epochs = "x"', "float_training.epochs must be of type int, got 'x'"),
        ("epochs = 4", "epoch = 4", "float_training must have keys of epochs"),
        ("alpha = 0.5", "alpha = 2", "distillation must have alpha in [0, 1]"),
        ("max_drop = -100.0", "max_drop = [", "must be TOML"),
        ("[distillation]", "[quantization]\nweight_bits = 5\n[distillation]", "weight_bits must be one of 4, 8, got 5"),
    ],
)
def test_recipes_that_do_not_fit(recipe: Path, old: str, new: str, message: str) -> None:
    recipe.write_text(RECIPE.replace(old, new))
    with pytest.raises(InputError, match=re.escape(message)):
        read_recipe(recipe)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("missing.py:make_data", "'missing.py:make_data' must be FILE.py:FUNCTION of a file beside the recipe"),
        ("functions.py:absent", "'functions.py:absent' must name a function of functions.py, got None"),
        ("functions.py:wrong", "functions.py:wrong must give ((inputs, labels), (inputs, labels))"),
    ],
)
def test_functions_that_do_not_fit(recipe: Path, reference: str, message: str) -> None:
    recipe.write_text(RECIPE.replace("functions.py:make_data", reference))
    with pytest.raises(InputError, match=re.escape(message)):
        read_recipe(recipe).make_data()


def test_functions_may_use_modules_beside_theirs(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And dataclasses, whose annotations are looked up in `sys.modules`."""
    monkeypatch.setattr("sys.path", [*sys.path])
    text = "from torch import nn\ndef layer(width):\n    return nn.Linear(width, 3)\n"
    (recipe.parent / "layers_of_the_recipe.py").write_text(text)
    (recipe.parent / "functions.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from layers_of_the_recipe import layer\n"
        "@dataclass\nclass Shape:\n    width: int = 4\n"
        "def make_model():\n    return layer(Shape().width)\n"
    )
    assert read_recipe(recipe).make_model().in_features == 4
