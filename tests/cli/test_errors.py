"""Exit codes, one sentence for each error, nothing half-written."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli.invoke import error, invoke, success
from support.networks.small_networks import fully_connected, network

import accel
from accel import demo
from accel.coverify import Divergence, VerificationError

RUN = ("run", "a.program", "-o", "y.npy", "--input")
REST = {"run": ["--input", "x.npy", "-o", "y.npy"], "compile": ["-o", "b.program"]}
"""What a command needs besides a model."""


def test_mismatches_exit_with_one(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(*args: Any, **options: Any) -> None:
        raise VerificationError(Divergence(17, 3, "issue", 17, 18, "EXEC"))

    monkeypatch.setattr("accel.coverify.verify", differ)
    assert error("verify", "a.program", code=1) == (
        "Mismatch: cycle 17, instruction 3 (EXEC): issue is 17 in the simulator, 18 in the Verilog"
    )


def test_programs_have_no_schedule_to_show(files: Path) -> None:
    message = (
        "Error: a.program: must be a network to have a schedule, got a program, which holds instructions only; "
        "give the network that it was compiled from"
    )
    assert error("disassemble", "a.program", "--steps") == message
    assert error("compile", "a.program", "-o", "b.program", "--schedule", "b.txt") == message
    assert error("compile", "a.graph", "-o", "b.program", "--schedule", "nowhere/b.txt") == (
        "Error: nowhere/b.txt: its folder does not exist"
    )


def test_wrong_inputs_are_one_sentence(files: Path) -> None:
    np.save("wide.npy", np.zeros((2, 4, 6, 3), np.int8))
    np.save("single.npy", np.zeros((4, 5, 3), np.int8))
    np.save("float.npy", np.zeros((1, 5, 4, 3), np.float32))
    np.save("nan.npy", np.full((1, 4, 5, 3), np.nan, np.float32))
    np.save("unsigned.npy", np.zeros((1, 4, 5, 3), np.uint8))
    np.save("none.npy", np.zeros((0, 4, 5, 3), np.int8))
    np.save("scalar.npy", np.int8(3))
    np.savez("named.npz", image=np.zeros((1, 4, 5, 3), np.int8), mask=np.zeros((1, 4, 5, 3), np.int8))
    np.save("objects.npy", np.array([{}], object), allow_pickle=True)
    Path("text.npy").write_text("hello")
    Path("short.npy").write_bytes(Path("x.npy").read_bytes()[:-1])
    must = "input 't0' must be int8 or float32 of shape (samples, 4, 5, 3), got"
    assert error(*RUN, "wide.npy") == f"Error: wide.npy: {must} int8 (2, 4, 6, 3)"
    assert error(*RUN, "single.npy") == f"Error: single.npy: {must} int8 (4, 5, 3)"
    assert error(*RUN, "float.npy") == f"Error: float.npy: {must} float32 (1, 5, 4, 3)"
    assert error(*RUN, "unsigned.npy") == f"Error: unsigned.npy: {must} uint8 (1, 4, 5, 3)"
    assert error(*RUN, "nan.npy") == "Error: nan.npy: input 't0' must be finite, got nan in sample 0"
    assert error(*RUN, "scalar.npy") == f"Error: scalar.npy: {must} int8 ()"
    assert error(*RUN, "none.npy") == (
        "Error: none.npy: inputs must hold at least one sample along their first axis, got none"
    )
    assert error(*RUN, "named.npz") == "Error: named.npz: inputs must be named t0, got image, mask: t0 is missing"
    assert error(*RUN, "missing.npy") == (
        "Error: missing.npy: must be a readable .npy or .npz file, got No such file or directory"
    )
    Path("empty.npy").touch()
    np.savez("x.npz", t0=np.load("x.npy"))
    Path("short.npz").write_bytes(Path("x.npz").read_bytes()[:200])
    damaged = "another format, or a damaged or incomplete file"
    files_found = {
        "empty.npy": "an empty file",
        "objects.npy": "Python objects",
        **dict.fromkeys(("text.npy", "short.npy", "short.npz"), damaged),
    }
    model = str(demo.load().model_path)
    for name, found in files_found.items():
        message = (
            f"{name}: must be a .npy or .npz file of numbers, got {found}; write it with numpy.save or numpy.savez"
        )
        assert error(*RUN, name) == f"Error: {message}"
        assert error("quantize", model, "--calibration", name, "-o", "g.graph") == f"Error: {message}"


def test_results_go_to_npy_and_npz_only(files: Path) -> None:
    assert error("run", "a.program", "--input", "x.npy", "-o", "y.txt") == (
        "Error: y.txt: must end in .npy, or in .npz for several arrays by name"
    )
    assert not Path("y.txt").exists()


def test_arrays_by_name_have_the_names_of_the_inputs(files: Path) -> None:
    np.savez("x.npz", anything=np.load("x.npy"))
    np.savez("none.npz")
    for name, got in (("x", "anything"), ("none", "none")):
        message = f"Error: {name}.npz: inputs must be named t0, got {got}: t0 is missing"
        assert error(*RUN, f"{name}.npz") == message
        assert error("verify", "a.program", "--input", f"{name}.npz") == message
    model = str(demo.load().model_path)
    np.savez("c.npz", anything=demo.load().calibration[:4])
    message = "Error: calibration must have the inputs ('image',), got ('anything',): name the arrays so"
    assert error("quantize", model, "--calibration", "c.npz", "-o", "g.graph") == message
    assert error("analyze", model, "--calibration", "c.npz") == message


def test_wrong_options_are_one_sentence(files: Path) -> None:
    assert error(*RUN, "x.npy", "--engine", "slow") == "Error: engine must be one of fast, stepped, got 'slow'"
    assert error("verify", "a.program", "--simulator", "modelsim") == (
        "Error: simulator must be one of verilator, icarus, amaranth, got 'modelsim'"
    )
    assert error(*RUN, "x.npy", "--layout", "CHWN") == "Error: layout must be 'NCHW' or 'NHWC', got 'CHWN'"
    assert error("config", "huge") == (
        "Error: config must be one of tiny, edge, large, datacenter or a TOML file, got 'huge'"
    )
    assert error("compile", "a.graph", "-o", "none/b.program") == "Error: none/b.program: its folder does not exist"


def test_usage_errors_exit_with_two(files: Path) -> None:
    for arguments in (["run"], ["colour"], ["compile", "a.graph"], ["verify", "a.program", "--seed", "-1"]):
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert "Error: " in result.stderr


@pytest.mark.parametrize("command", ["run", "disassemble", "check", "verify", "compile"])
def test_programs_for_another_machine_are_refused(files: Path, command: str) -> None:
    assert error(command, "a.program", "--config", "edge", *REST.get(command, [])) == (
        "Error: a.program: must be compiled for config 'edge', got a program for another machine ('tiny'); "
        "compile the model again"
    )


@pytest.mark.parametrize("command", ["run", "disassemble", "check", "verify"])
def test_damaged_programs_are_refused(files: Path, command: str) -> None:
    data = Path("a.program").read_bytes()
    Path("bad.program").write_bytes(data[:-7])
    rest = REST.get(command, [])
    assert error(command, "bad.program", *rest) == (
        f"Error: bad.program: must be {len(data)} bytes long, got {len(data) - 7}; the file is damaged"
    )
    assert error(command, "missing", *rest) == (
        "Error: missing: model must be a readable file, got No such file or directory"
    )
    assert error(command, "missing.program", *rest) == (
        "Error: missing.program: must be a readable program file, got No such file or directory"
    )
    assert error(command, "x.npy", *rest) == (
        "Error: x.npy: model must be a graph, .tflite or quantized .onnx file, got something else"
    )


def test_unsafe_programs_are_refused(files: Path) -> None:
    from accel.machine import isa

    program = accel.Program.load("a.program")
    code = isa.encode(i.replace(wait=0, signal=0) for i in isa.decode(program.code))
    replace(program, code=code).save("race.program")
    assert error("check", "race.program").startswith("Error: instruction ")


def test_layers_that_do_not_fit_are_the_hosts(files: Path) -> None:
    accel.save_graph(network((1, 60000), fully_connected(2)), "b.graph")
    text = " ".join(success("compile", "b.graph", "--config", "tiny", "-o", "b.program").split())
    assert text.endswith(
        "1 operator on the host (120,000 MACs, 100.0% of the network's) host, no tiling fits config 'tiny': the "
        "smallest needs 15001 scratchpad words of 4 bytes, the scratchpad has 8192: n0"
    )


def test_graphs_that_do_not_fit_are_refused(files: Path) -> None:
    Path("bad.toml").write_text(accel.preset("tiny").to_toml().replace("rows = 4", "rows = 3"))
    assert error("compile", "a.graph", "--config", "bad.toml", "-o", "b.program") == (
        "Error: bad.toml: one of rows and cols must divide the other, got rows = 3, cols = 4"
    )


def test_float_models_are_refused(files: Path) -> None:
    model = str(demo.load().model_path)
    assert (
        error("check", model)
        == f"Error: {model}: model must be quantized, got a float model: run `accel quantize` on it first"
    )


def test_models_that_cannot_be_quantized_are_refused(files: Path) -> None:
    Path("bad.onnx").write_text("hello")
    data = demo.load()
    np.save("c.npy", data.calibration[:4])
    np.save("odd.npy", np.zeros((4, 7), np.float32))
    model = str(data.model_path)
    Path("lite.onnx").write_bytes(b"....TFL3" + bytes(range(200)))
    Path("graph.onnx").write_bytes(Path("a.graph").read_bytes())
    for name, problem in (
        ("bad", "an ONNX file, got a damaged file or one of another kind: export the model again"),
        ("lite", "an ONNX file, got a TensorFlow Lite file: if it is quantized, give it to `accel compile` or "),
        (
            "graph",
            "an ONNX file, got an archive: if it is a graph, it is quantized already, give it to `accel compile`",
        ),
        ("missing", "a readable file, got No such file or directory"),
    ):
        message = error("quantize", f"{name}.onnx", "--calibration", "c.npy", "-o", "g")
        assert message.startswith(f"Error: {name}.onnx: model must be {problem}")
    assert error("quantize", model, "--calibration", "odd.npy", "-o", "g").startswith("Error: ")
    assert error("quantize", model, "--calibration", "none.npy", "-o", "g").startswith("Error: none.npy: ")
    for option, value in (("--mode", "double"), ("--calibrate-method", "mean"), ("--percentile", "400")):
        extra = ["--calibrate-method", "percentile"] if option == "--percentile" else []
        message = error("quantize", model, "--calibration", "c.npy", "-o", "g", option, value, *extra)
        assert f"{option[2:].replace('-', '_')} must be " in message
        assert message.endswith((value, f"'{value}'", f"{value}.0"))


def test_a_failed_write_leaves_the_old_file(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("y.npy").write_text("precious")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device", "y.npy")

    monkeypatch.setattr(os, "fsync", full)
    result = invoke(*RUN, "x.npy")
    assert result.exit_code == 2
    assert result.stderr.strip() == "Error: y.npy: No space left on device"
    assert sorted(os.listdir()) == ["a.graph", "a.program", "x.npy", "y.npy"]
    assert Path("y.npy").read_text() == "precious"
