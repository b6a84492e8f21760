"""Without the extra `train`: the command says what is missing."""

import sys
from pathlib import Path

import pytest
from support.cli.invoke import error


def test_the_command_names_the_missing_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name == "accel.train" or name.startswith("accel.train.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text("")
    found = error("train", "--recipe", "recipe.toml", "-o", "run")
    assert "training must have PyTorch, which is not installed: pip install 'accel[train]'" in found
