"""The public names of `accel`, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import accel

HEAVY = ("numba", "llvmlite", "amaranth", "onnx", "onnxruntime", "torch", "rich", "sim", "rtl", "compiler")


def imported_by(code: str) -> list[str]:
    """The modules of HEAVY that a fresh interpreter has loaded after `code`."""
    script = f"{code}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                         cwd=Path(accel.__file__).parents[1])  # fmt: skip
    return run.stdout.split()


def test_public_names() -> None:
    assert accel.__all__ == [
        "AccelError", "Analysis", "ArchConfig", "Estimate", "Evaluation", "Graph", "Program", "RunResult",
        "Verification", "VerificationError", "analyze", "compile", "dequantize_output", "estimate", "evaluate",
        "export", "load", "load_config", "load_graph", "load_model", "load_program", "preset", "quantize",
        "quantize_input", "run", "save_graph", "verify", "verilog",
    ]  # fmt: skip
    assert sorted(accel._EXPORTS) == accel.__all__
    assert set(accel.__all__) <= set(dir(accel))


@pytest.mark.parametrize("name", accel.__all__)
def test_every_name_exists_and_says_what_it_is(name: str) -> None:
    value = getattr(accel, name)
    assert value.__name__ == name
    assert value.__doc__


@pytest.mark.parametrize("name", ["colour"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(AttributeError, match=r"^module 'accel' has no attribute 'colour'$"):
        getattr(accel, name)


def test_importing_is_instant() -> None:
    assert imported_by("import accel") == []
    assert imported_by("import accel; accel.__all__") == []


def test_core_modules_import_nothing_heavy() -> None:
    assert imported_by("from accel import *") == []
    folder = Path(accel.__file__).parent
    files = [path.relative_to(folder.parent).with_suffix("") for path in folder.rglob("*.py")]
    names = sorted(".".join(path.parts).removesuffix(".__init__") for path in files)
    assert "accel.machine.config" in names
    names = [name for name in names if not name.startswith("accel.train")]  # made for PyTorch
    assert imported_by(";".join(f"import {name}" for name in names)) == []
