"""The command line: every command, --json, exit codes, one sentence for each error, nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from small_networks import conv, every_compiled_operation, fully_connected, network

import accel
from accel import console, demo, reference
from accel.cli import main
from accel.coverify import Divergence, VerificationError
from accel.graph import Graph

ROOT = Path(accel.__file__).parents[1]
HEAVY = ("numba", "amaranth", "onnx", "onnxruntime", "torch", "numpy", "rich")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a graph, its program for `tiny`, and inputs; it is the working folder."""
    graph = network((1, 4, 5, 3), conv(6, (2, 2)), fully_connected(4))
    accel.save_graph(graph, tmp_path / "a.graph")
    accel.compile(graph, "tiny").save(tmp_path / "a.program")
    batch = np.random.default_rng(0).integers(-128, 128, (3, 4, 5, 3)).astype(np.int8)
    np.save(tmp_path / "x.npy", batch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def success(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def error(*arguments: str, code: int = 2) -> str:
    """The one sentence of a failing command."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert isinstance(result.exception, SystemExit)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    (line,) = result.stderr.splitlines()
    return line


def subprocess_run(*arguments: str, code: str = "from accel.cli import main; main()") -> Any:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)  # fmt: skip


# What works -----------------------------------------------------------------------------------------------------------


def test_compile(files: Path) -> None:
    out = success("compile", "a.graph", "--config", "tiny", "-o", "b.program")
    program = accel.Program.load("b.program")
    assert out == (
        f"b.program: {program.instruction_count} instructions, {len(program.constants)} constant bytes, "
        f"{program.memory_bytes} bytes of memory, for tiny\n"
    )
    assert Path("b.program").read_bytes() == Path("a.program").read_bytes()
    facts = json.loads(success("compile", "a.graph", "--config", "tiny", "-o", "b.program", "--json"))
    assert facts == {
        "program": "b.program",
        "instructions": program.instruction_count,
        "constant_bytes": len(program.constants),
        "memory_bytes": program.memory_bytes,
        "fingerprint": program.config.fingerprint(),
    }


def test_compile_for_a_configuration_file(files: Path) -> None:
    config = replace(accel.preset("tiny"), name="mine", queue_depth=3)
    Path("mine.toml").write_text(config.to_toml())
    success("compile", "a.graph", "--config", "mine.toml", "-o", "b.program")
    assert accel.Program.load("b.program").config == config


def test_run_several_samples(files: Path) -> None:
    out = success("run", "a.program", "--input", "x.npy", "-o", "y.npy")
    assert out.splitlines()[-1] == "y.npy: 3 samples"
    assert [name for name in ("n0", "n1", "total", "SCALE-Sim") if name not in out] == []
    graph, batch = accel.load_graph("a.graph"), np.load("x.npy")
    expected = np.concatenate([reference.run(graph, batch[i : i + 1])["t2"] for i in range(3)])
    np.testing.assert_array_equal(np.load("y.npy"), expected)
    success("run", "a.program", "--input", "x.npy", "-o", "z.npy", "--engine", "stepped", "--config", "tiny")
    assert Path("z.npy").read_bytes() == Path("y.npy").read_bytes()


def test_run_json(files: Path) -> None:
    facts = json.loads(success("run", "a.program", "--input", "x.npy", "-o", "y.npy", "--json"))
    assert facts["samples"] == 3
    assert sum(row["cycles"] for row in facts["layers"]) == facts["cycles"]
    assert [row["name"] for row in facts["layers"]] == ["n0", "n1"]


def test_run_with_several_outputs(files: Path) -> None:
    accel.compile(every_compiled_operation(), "tiny").save("b.program")
    np.savez("x.npz", t0=np.ones((2, 9, 8, 3), np.int8))
    success("run", "b.program", "--input", "x.npz", "-o", "y.npz")
    expected = reference.run(every_compiled_operation(), np.ones((1, 9, 8, 3), np.int8))
    with np.load("y.npz") as outputs:
        assert sorted(outputs) == ["t6", "t7"]
        for name in outputs:
            np.testing.assert_array_equal(outputs[name], np.concatenate([expected[name]] * 2))
    assert error("run", "b.program", "--input", "x.npz", "-o", "y.npy") == (
        "Error: y.npy: must end in .npz to hold t6, t7"
    )


def test_disassemble_and_check(files: Path) -> None:
    program = accel.Program.load("a.program")
    lines = success("disassemble", "a.program").splitlines()
    assert len(lines) == program.instruction_count
    assert lines[0].split()[:2] == ["0", "LOAD"]
    start = f"a.program: proven safe; {program.instruction_count} instructions, "
    assert success("check", "a.program").startswith(start)
    facts = json.loads(success("check", "a.program", "--json"))
    assert sum(facts["instructions"].values()) == program.instruction_count


def test_config(files: Path) -> None:
    text = success("config", "tiny")
    assert accel.ArchConfig.from_toml(text) == accel.preset("tiny")
    assert text.splitlines()[-1] == f"# fingerprint {accel.preset('tiny').fingerprint()}"


def test_quantize(files: Path) -> None:
    data = demo.load()
    np.save("c.npy", data.calibration[:32])
    out = success("quantize", str(data.model_path), "--calibration", "c.npy", "-o", "d.graph", "--mode", "single")
    graph = accel.load_graph("d.graph")
    lines = out.splitlines()
    assert lines[0] == f"d.graph: {len(graph.nodes)} nodes, mode single"
    assert lines[1].startswith("  image: int8 (1, 8, 8, 1), scale ")
    arguments = ["quantize", str(data.model_path), "--calibration", "c.npy", "-o", "d.graph", "--json"]
    facts = json.loads(success(*arguments, "--calibrator", "percentile", "--percentile", "99.9"))
    assert facts["nodes"] == len(graph.nodes)
    assert facts["tensors"]["image"]["shape"] == [1, 8, 8, 1]


def test_verilog(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtl.verilog.emit", lambda config: f"// {config.fingerprint()}")
    assert success("verilog", "--config", "tiny", "-o", "new/folder").splitlines() == [
        "new/folder/tiny.v", "new/folder/tiny.toml",
    ]  # fmt: skip
    assert Path("new/folder/tiny.v").read_text() == f"// {accel.preset('tiny').fingerprint()}"
    assert accel.load_config("new/folder/tiny.toml") == accel.preset("tiny")
    assert error("verilog", "--config", "huge", "-o", "other").startswith("Error: config must be one of ")
    assert not Path("other").exists()
    assert error("verilog", "--config", "tiny", "-o", "new/folder/tiny.v/x").endswith(": Not a directory")


def test_help_of_every_command() -> None:
    commands = ["check", "compile", "config", "demo", "disassemble", "quantize", "run", "verify", "verilog"]
    assert sorted(main.commands) == commands
    assert success("--version") == f"accel, version {accel.__version__}\n"
    for name in commands:
        assert success(name, "--help").startswith(f"Usage: main {name} ")
        assert "Options:" in success(name, "-h")


# Errors ---------------------------------------------------------------------------------------------------------------


def test_mismatches_exit_with_one(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(*args: Any, **options: Any) -> None:
        raise VerificationError(Divergence(17, 3, "issue", 17, 18, "EXEC"))

    monkeypatch.setattr("accel.coverify.verify", differ)
    assert error("verify", "a.program", code=1) == (
        "Mismatch: cycle 17, instruction 3 (EXEC): issue is 17 in the simulator, 18 in the Verilog"
    )


def test_verify_reports_what_was_compared(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def same(program: accel.Program, inputs: Any, **options: Any) -> accel.Verification:
        seen.append((inputs, options))
        return accel.Verification(1234, 5, 4096, {})

    monkeypatch.setattr("accel.coverify.verify", same)
    assert success("verify", "a.program", "--seed", "7") == (
        "equal: 4,096 bytes, 1,234 cycles, stamps of 5 instructions (1 sample in verilator)\n"
    )
    assert seen.pop() == (None, {"simulator": "verilator", "seed": 7})
    arguments = ["verify", "a.program", "--input", "x.npy", "--simulator", "icarus"]
    assert json.loads(success(*arguments, "--json")) == {
        "samples": 3, "cycles": 1234, "instructions": 5, "memory_bytes": 4096, "differing_bytes": 0,
        "differing_cycles": 0,
    }  # fmt: skip
    np.testing.assert_array_equal(np.concatenate([inputs["t0"] for inputs, _ in seen]), np.load("x.npy"))


RUN = ("run", "a.program", "-o", "y.npy", "--input")


def test_wrong_inputs_are_one_sentence(files: Path) -> None:
    np.save("wide.npy", np.zeros((2, 4, 6, 3), np.int8))
    np.save("single.npy", np.zeros((4, 5, 3), np.int8))
    np.save("float.npy", np.zeros((1, 4, 5, 3), np.float32))
    np.save("none.npy", np.zeros((0, 4, 5, 3), np.int8))
    np.save("scalar.npy", np.int8(3))
    np.savez("named.npz", image=np.zeros((1, 4, 5, 3), np.int8))
    np.save("objects.npy", np.array([{}], object), allow_pickle=True)
    Path("text.npy").write_text("hello")
    Path("short.npy").write_bytes(Path("x.npy").read_bytes()[:-1])
    must = "Error: input 't0' must be int8 of shape (samples, 4, 5, 3), got"
    assert error(*RUN, "wide.npy") == f"{must} int8 (2, 4, 6, 3)"
    assert error(*RUN, "single.npy") == f"{must} int8 (4, 5, 3)"
    assert error(*RUN, "float.npy") == f"{must} float32 (1, 4, 5, 3)"
    assert error(*RUN, "scalar.npy") == f"{must} int8 ()"
    assert error(*RUN, "none.npy") == "Error: inputs must hold one number of samples along their first axis, got [0]"
    assert error(*RUN, "named.npz") == "Error: inputs must be named t0, got image"
    assert error(*RUN, "missing.npy") == (
        "Error: missing.npy: must be a readable .npy or .npz file, got No such file or directory"
    )
    for name in ("objects", "text", "short"):
        assert error(*RUN, f"{name}.npy").startswith(
            f"Error: {name}.npy: must be a .npy or .npz file without Python objects, got "
        )


def test_wrong_options_are_one_sentence(files: Path) -> None:
    assert error(*RUN, "x.npy", "--engine", "slow") == "Error: engine must be one of fast, stepped, got 'slow'"
    assert error("verify", "a.program", "--simulator", "modelsim") == (
        "Error: simulator must be one of verilator, icarus, amaranth, got 'modelsim'"
    )
    assert error("config", "huge") == (
        "Error: config must be one of tiny, edge, large, datacenter or a TOML file, got 'huge'"
    )
    assert error("compile", "a.graph", "-o", "none/b.program") == "Error: none/b.program: its folder does not exist"


def test_usage_errors_exit_with_two(files: Path) -> None:
    for arguments in (["run"], ["colour"], ["compile", "a.graph"], ["verify", "a.program", "--seed", "-1"]):
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert "Error: " in result.stderr


def test_programs_for_another_machine_are_refused(files: Path) -> None:
    assert error(*RUN, "x.npy", "--config", "edge") == (
        "Error: a.program: must be compiled for config 'edge', got a program for another machine ('tiny'); "
        "compile the graph again"
    )


@pytest.mark.parametrize("command", ["run", "disassemble", "check", "verify"])
def test_damaged_programs_are_refused(files: Path, command: str) -> None:
    data = Path("a.program").read_bytes()
    Path("bad.program").write_bytes(data[:-7])
    rest = ["--input", "x.npy", "-o", "y.npy"] if command == "run" else []
    assert error(command, "bad.program", *rest) == (
        f"Error: bad.program: must be {len(data)} bytes long, got {len(data) - 7}; the file is damaged"
    )
    assert error(command, "missing", *rest) == (
        "Error: missing: must be a readable program file, got No such file or directory"
    )
    assert error(command, "a.graph", *rest) == (
        "Error: a.graph: must be a program file (magic ACCELPRG), got something else"
    )


def test_unsafe_programs_are_refused(files: Path) -> None:
    from accel import isa

    program = accel.Program.load("a.program")
    code = isa.encode(i.replace(wait=0, signal=0) for i in isa.decode(program.code))
    replace(program, code=code).save("race.program")
    assert error("check", "race.program").startswith("Error: instruction ")


def test_graphs_that_do_not_fit_are_refused(files: Path) -> None:
    def save(graph: Graph) -> None:
        accel.save_graph(graph, "b.graph")

    save(network((1, 60000), fully_connected(2)))
    assert error("compile", "b.graph", "--config", "tiny", "-o", "b.program") == (
        "Error: layer 'n0' (FullyConnected): no tiling fits config 'tiny': the smallest needs 15001 scratchpad words "
        "of 4 bytes, the scratchpad has 8192"
    )
    Path("bad.toml").write_text(accel.preset("tiny").to_toml().replace("rows = 4", "rows = 3"))
    assert error("compile", "a.graph", "--config", "bad.toml", "-o", "b.program") == (
        "Error: bad.toml: one of rows and cols must divide the other, got rows = 3, cols = 4"
    )
    assert error("compile", "a.program", "-o", "b.program").startswith("Error: a.program: graph file must be ")


def test_models_that_cannot_be_quantized_are_refused(files: Path) -> None:
    Path("bad.onnx").write_text("hello")
    data = demo.load()
    np.save("c.npy", data.calibration[:4])
    np.save("odd.npy", np.zeros((4, 7), np.float32))
    model = str(data.model_path)
    assert error("quantize", "bad.onnx", "--calibration", "c.npy", "-o", "g").startswith("Error: ")
    assert error("quantize", "missing.onnx", "--calibration", "c.npy", "-o", "g").startswith("Error: ")
    assert error("quantize", model, "--calibration", "odd.npy", "-o", "g").startswith("Error: ")
    assert error("quantize", model, "--calibration", "none.npy", "-o", "g").startswith("Error: none.npy: ")
    for option, value in (("--mode", "double"), ("--calibrator", "mean"), ("--percentile", "400")):
        extra = ["--calibrator", "percentile"] if option == "--percentile" else []
        message = error("quantize", model, "--calibration", "c.npy", "-o", "g", option, value, *extra)
        assert f"{option[2:]} must be " in message
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


def test_interruption_is_not_a_mismatch(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("accel.isa.disassemble", interrupt)
    assert error("disassemble", "a.program", code=130) == "Interrupted"


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from accel.report import LayerRow

    console.print_layers([LayerRow("a[/b] :smile:", "Add", 0, 1, 0.0, 0, 0, 0)], "[bold]")
    out = capsys.readouterr().out
    assert "a[/b] :smile:" in out
    assert "[bold]" in out


# Processes ------------------------------------------------------------------------------------------------------------


def test_help_is_instant_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom accel.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n"
        f"    print(end.code, *[name for name in {HEAVY} if name in sys.modules])"
    )
    best = min(_timed(code) for _ in range(3))
    assert best < 1.0  # 0.3 s on a machine that does nothing else


def _timed(code: str) -> float:
    start = time.perf_counter()
    run = subprocess_run(code=code)
    assert run.stdout.splitlines()[-1] == "0", run
    return time.perf_counter() - start


def test_processes_end_without_traceback(files: Path) -> None:
    for arguments, code in (
        (["disassemble", "x.npy"], 2),
        (["run", "a.program", "--input", "x.npy"], 2),
        (["config", "edge"], 0),
    ):
        run = subprocess_run(*arguments)
        assert run.returncode == code, run
        assert "Traceback" not in run.stderr


def test_a_closed_pipe_is_quiet(files: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = "from accel.cli import main; main()"
    with subprocess.Popen([sys.executable, "-c", code, "disassemble", "a.program"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment) as process:  # fmt: skip
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.slow
@pytest.mark.rtl
def test_demo(files: Path) -> None:
    facts = json.loads(success("demo", "--config", "tiny", "-o", "out", "--json"))
    assert facts["images"] == 360
    assert facts["float_accuracy"] - facts["int8_accuracy"] <= 0.01
    assert (facts["differing_bytes"], facts["differing_cycles"], facts["verified_images"]) == (0, 0, 1)
    assert sum(row["cycles"] for row in facts["layers"]) == facts["cycles"]
    assert sorted(os.listdir("out")) == ["digits.graph", "digits.program", "tiny.toml", "tiny.v"]
    assert facts["verilog"] == "out/tiny.v"
    out = success("demo", "--config", "tiny", "-o", "out")
    assert "0 differing bytes of " in out
    assert "0 differing cycles of " in out
