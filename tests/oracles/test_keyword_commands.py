"""The commands that docs/quantization.md shows, on the float keyword network: from float to Verilog."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from support.cli.invoke import success

import accel

PAGE = Path(__file__).resolve().parents[2] / "docs" / "quantization.md"


@pytest.mark.slow
def test_float_keyword_network_becomes_verilog(
    shared_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = re.findall(r"^accel (.*kws.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["quantize", "compile", "verify", "verilog"]
    monkeypatch.chdir(tmp_path)
    Path("dscnn_kws_float.onnx").write_bytes((shared_models / "onnx" / "dscnn_kws_float.onnx").read_bytes())
    with np.load(shared_models / "samples" / "kws_1000.npz") as data:
        stored = data["x"][:64]
    source = accel.load_model(shared_models / "mlperf_tiny" / "dscnn_kws_int8.tflite").input_tensors[0]
    np.save("kws.npy", ((stored - np.float32(source.zero_point)) * source.scale).astype(np.float32))
    texts = [success(*shlex.split(command)) for command in commands]
    assert "0 differing bytes" in texts[2]
    assert "0 differing cycles" in texts[2]
    assert "module accel" in next(Path("kws_verilog").glob("*.v")).read_text()
