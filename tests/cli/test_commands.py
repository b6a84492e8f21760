"""Every command writes its files and prints its tables and its JSON."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli.invoke import error, invoke, success
from support.cli.verification import verification
from support.networks.small_networks import every_compiled_operation, network, pool

import accel
from accel import demo
from accel.cli import console
from accel.cli.main import main
from accel.network import reference
from accel.network.graph import AveragePool2d


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
        "host": {"macs": 0, "operators": [], "share": 0.0},
    }


def test_compile_for_a_configuration_file(files: Path) -> None:
    config = replace(accel.preset("tiny"), name="mine", queue_depth=3)
    Path("mine.toml").write_text(config.to_toml())
    success("compile", "a.graph", "--config", "mine.toml", "-o", "b.program")
    assert accel.Program.load("b.program").config == config


def test_run_several_samples(files: Path) -> None:
    out = success("run", "a.program", "--input", "x.npy", "-o", "y.npy")
    assert out.splitlines()[-1] == "y.npy: 3 samples"
    assert [name for name in ("n0", "n1", "total", "utilization") if name not in out] == []
    assert "array, sums of products: n0, n1" in out
    graph, batch = accel.load_graph("a.graph"), np.load("x.npy")
    expected = np.concatenate([reference.run(graph, batch[i : i + 1])["t2"] for i in range(3)])
    np.testing.assert_array_equal(np.load("y.npy"), expected)
    success("run", "a.program", "--input", "x.npy", "-o", "z.npy", "--engine", "stepped", "--config", "tiny")
    assert Path("z.npy").read_bytes() == Path("y.npy").read_bytes()


def test_the_first_run_says_what_it_compiles(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.jit.IS_COLD", True)
    text = "First run: Numba compiles the simulator's kernels, once, in about 20 seconds\n"
    assert invoke("estimate", "a.program").stderr == text
    assert invoke("run", "a.program", "--input", "x.npy").stderr == text


def test_the_first_co_verification_says_what_it_compiles(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accel.coverify.verify", lambda program, inputs, **options: verification(12, 3, 400))
    asked: list[str] = []
    monkeypatch.setattr("rtl.testbench.verilate.is_built", lambda config: bool(asked.append(config.name)))
    text = "First run of tiny: Verilator compiles the model of the machine, once\n"
    for options in ([], ["--json"]):
        shown = invoke("verify", "a.program", *options)
        assert shown.stderr == text
        assert "Verilator" not in shown.stdout
    assert asked == ["tiny", "tiny"]
    assert invoke("verify", "a.program", "--simulator", "icarus").stderr == ""


def test_quantize_says_that_nothing_became_integers(files: Path) -> None:
    model, line = str(demo.load().model_path), "nothing became integers: the host computes the whole network"
    np.save("c.npy", demo.load().calibration[:2])
    assert line not in success("quantize", model, "--calibration", "c.npy", "-o", "g.graph")
    assert line in success("quantize", model, "--calibration", "c.npy", "-o", "g.graph", "--nodes-to-exclude", ".*")


def test_run_json(files: Path) -> None:
    facts = json.loads(success("run", "a.program", "--input", "x.npy", "-o", "y.npy", "--json"))
    assert facts["samples"] == 3
    assert sum(row["cycles"] for row in facts["layers"]) == facts["cycles"]
    assert [row["name"] for row in facts["layers"]] == ["n0", "n1"]
    assert [(row["name"], row["unit"]) for row in facts["operators"]] == [("n0", "array"), ("n1", "array")]


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


def test_one_array_comes_with_its_name_or_without(files: Path) -> None:
    np.savez("x.npz", t0=np.load("x.npy"))
    for name in ("npy", "npz"):
        success("run", "a.program", "--input", f"x.{name}", "-o", f"{name}.npy")
    assert Path("npz.npy").read_bytes() == Path("npy.npy").read_bytes()
    data = demo.load()
    np.savez("c.npz", image=data.calibration[:8])
    np.save("c.npy", data.calibration[:8])
    for name in ("npy", "npz"):
        success("quantize", str(data.model_path), "--calibration", f"c.{name}", "-o", f"{name}.graph")
    assert Path("npz.graph").read_bytes() == Path("npy.graph").read_bytes()


def test_real_outputs(files: Path) -> None:
    success("run", "a.program", "--input", "x.npy", "-o", "y.npy")
    success("run", "a.program", "--input", "x.npy", "-o", "r.npy", "--dequantize")
    tensor = accel.load_graph("a.graph").tensors["t2"]
    real = (np.load("y.npy").astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
    assert np.load("r.npy").dtype == np.float32
    np.testing.assert_array_equal(np.load("r.npy"), real)
    program = accel.Program.load("a.program")
    np.testing.assert_array_equal(accel.dequantize_output(program, np.load("y.npy")[:1]), real[:1])


def test_programs_quantize_real_inputs_as_their_graph_does(files: Path) -> None:
    """Ties of mode fp32 go to even, though the first POST, of an average, is of mode single."""
    graph = network((1, 4, 4, 3), pool(AveragePool2d, (2, 2), (2, 2)), mode="fp32")
    program = accel.compile(graph, "tiny")
    real = np.float32(graph.tensors["t0"].scale) * (np.arange(48, dtype=np.float32) - 20.5).reshape(1, 4, 4, 3)
    integers = accel.quantize_input(graph, real)
    np.testing.assert_array_equal(accel.quantize_input(program, real), integers)
    program.save("b.program")
    np.save("r.npy", real)
    np.save("i.npy", integers)
    for name in ("r", "i"):
        success("run", "b.program", "--input", f"{name}.npy", "-o", f"{name}.out.npy")
    assert Path("r.out.npy").read_bytes() == Path("i.out.npy").read_bytes()


def test_disassemble_and_check(files: Path) -> None:
    program = accel.Program.load("a.program")
    lines = success("disassemble", "a.program").splitlines()
    assert len(lines) == program.instruction_count
    assert lines[0].split()[:2] == ["0", "LOAD"]
    start = f"a.program: proven safe; {program.instruction_count} instructions, "
    assert success("check", "a.program").startswith(start)
    facts = json.loads(success("check", "a.program", "--json"))
    assert sum(facts["instructions"].values()) == program.instruction_count


def test_schedules(files: Path) -> None:
    """The same text from both commands, and the same program as without it."""
    success("compile", "a.graph", "--config", "tiny", "-o", "b.program", "--schedule", "b.txt")
    assert Path("b.program").read_bytes() == Path("a.program").read_bytes()
    text = Path("b.txt").read_text()
    assert success("disassemble", "a.graph", "--config", "tiny", "--steps") == text
    program = accel.Program.load("a.program")
    first, *_ = text.splitlines()
    assert first == f"layers 2, steps 5, instructions {program.instruction_count}, machine tiny"
    assert [line for line in text.splitlines() if line.startswith("step 0")] == [
        "step 0: n0, rows 0:1, columns 0:4, channels 0:4"
    ]


def test_effort(files: Path) -> None:
    """The text is that of the schedule that is taken."""
    success("compile", "a.graph", "--config", "tiny", "-o", "c.program", "--effort", "2", "--schedule", "c.txt")
    best = accel.compile(accel.load_graph("a.graph"), "tiny", effort=2)
    assert accel.Program.load("c.program").code == best.code
    assert f" instructions {best.instruction_count}, machine tiny" in Path("c.txt").read_text()


def test_inspect(files: Path) -> None:
    table = success("inspect", "a.graph", "--wide")
    assert table.splitlines()[0].strip() == "a.graph: 2 operators, mode tflite"
    assert [line.split()[:4] for line in table.splitlines() if " Conv2d " in line] == [
        ["n0", "Conv2d", "4x5x3", "3x4x6"]
    ]
    facts = json.loads(success("inspect", "a.graph", "--json"))
    assert [row["name"] for row in facts["operators"]] == ["n0", "n1"]
    assert [len(values) for values in facts["operators"][0]["multipliers"][0]] == [6, 6]
    program = accel.Program.load("a.program")
    lines = success("inspect", "a.program").splitlines()
    assert lines[0].strip() == "a.program: 2 layers for tiny"
    assert lines[-1] == "array, sums of products: n0, n1"
    assert lines[-4:-2] == ["machine tiny", f"fingerprint {program.config.fingerprint()}"]
    assert lines[-2].startswith(f"{program.instruction_count} instructions of {len(program.code):,} bytes, ")
    facts = json.loads(success("inspect", "a.program", "--json"))
    assert sum(sum(row["instructions"].values()) for row in facts["layers"]) == program.instruction_count


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
    assert re.search(r"\ncalibrate_method auto: expected, \d\d\.\d dB on 32 calibration samples", out)
    arguments = ["quantize", str(data.model_path), "--calibration", "c.npy", "-o", "d.graph", "--json"]
    facts = json.loads(success(*arguments, "--calibrate-method", "percentile", "--percentile", "99.9"))
    assert facts["nodes"] == len(graph.nodes)
    assert facts["choice"] is None
    choice = json.loads(success(*arguments))["choice"]
    assert choice["method"] == max(choice["decibels"], key=choice["decibels"].get)
    assert facts["tensors"]["image"]["shape"] == [1, 8, 8, 1]


def test_verilog(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtl.verilog.emit", lambda config, prefix: f"// {config.fingerprint()}")
    assert success("verilog", "--config", "tiny", "-o", "new/folder").splitlines() == [
        "new/folder/tiny.v", "new/folder/tiny.toml",
    ]  # fmt: skip
    assert Path("new/folder/tiny.v").read_text() == f"// {accel.preset('tiny').fingerprint()}"
    assert accel.load_config("new/folder/tiny.toml") == accel.preset("tiny")
    assert error("verilog", "--config", "huge", "-o", "other").startswith("Error: config must be one of ")
    assert not Path("other").exists()
    assert error("verilog", "--config", "tiny", "-o", "new/folder/tiny.v/x").endswith(": Not a directory")


def test_help_of_every_command() -> None:
    commands = sorted(main.commands)
    usage = (Path(accel.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert [name for name in commands if f"accel {name}" not in usage] == [], "commands that the README leaves out"
    assert success("--version") == f"accel, version {accel.__version__}\n"
    assert "..." not in success("--help").split("Commands:")[1]
    for name in commands:
        assert success(name, "--help").startswith(f"Usage: main {name} ")
        assert "Options:" in success(name, "-h")


def test_verify_reports_what_was_compared(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def same(program: accel.Program, inputs: Any, **options: Any) -> accel.Verification:
        seen.append((inputs, options))
        return verification(1234, 5, 4096, *counts)

    counts = (0, 0, 0)
    monkeypatch.setattr("accel.coverify.verify", same)
    assert success("verify", "a.program", "--seed", "7").replace("\n  ", " ") == (
        "0 differing bytes of 4,096, 0 differing cycles of 1,234, 0 differing stamps of 10 (1 sample in verilator)\n"
    )
    assert seen.pop() == (None, {"simulator": "verilator", "seed": 7})
    arguments = ["verify", "a.program", "--input", "x.npy", "--simulator", "icarus"]
    counts = (1001, 2, 4)
    assert json.loads(success(*arguments, "--json")) == {
        "samples": 3, "cycles": 1234, "instructions": 5, "memory_bytes": 3996, "on_chip_bytes": 100,
        "differing_bytes": 3003, "differing_cycles": 6, "differing_stamps": 12,
    }  # fmt: skip
    assert success(*arguments).replace("\n  ", " ").strip() == (
        "3,003 differing bytes of 12,288, 6 differing cycles of 3,702, 12 differing stamps of 30 (3 samples in icarus)"
    )
    del seen[:3]
    np.testing.assert_array_equal(np.concatenate([inputs["t0"] for inputs, _ in seen]), np.load("x.npy"))


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from accel.report.layers import LayerRow

    console.print_layers([LayerRow("a[/b] :smile:", "Add", 0, 1, 0, 0.0, "post", 0, 0, 0)], "[bold]", wide=False)
    out = capsys.readouterr().out
    assert "a[/b] :smile:" in out
    assert "[bold]" in out


def test_demo_writes_where_git_does_not_look() -> None:
    (folder,) = [option.default for option in main.commands["demo"].params if option.name == "output"]
    ignored = (Path(accel.__file__).parents[1] / ".gitignore").read_text().splitlines()
    assert f"{folder.parts[0]}/" in ignored


@pytest.mark.slow
@pytest.mark.rtl
def test_the_readme_shows_what_the_demo_prints(files: Path) -> None:
    out, shown = success("demo"), (Path(accel.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert f"```\n{out[out.index('co-verification') :]}```\n" in shown


@pytest.mark.slow
@pytest.mark.rtl
def test_demo(files: Path) -> None:
    facts = json.loads(success("demo", "--config", "tiny", "-o", "out", "--json"))
    assert facts["images"] == 360
    assert facts["float_accuracy"] - facts["int8_accuracy"] <= 0.01
    differing = ("differing_bytes", "differing_cycles", "differing_stamps")
    assert [facts["verification"][name] for name in differing] == [0, 0, 0]
    assert facts["verification"]["cycles"] == facts["cycles"]
    assert sum(row["cycles"] for row in facts["layers"]) == facts["cycles"]
    assert sorted(os.listdir("out")) == ["digits.graph", "digits.program", "tiny.toml", "tiny.v"]
    assert facts["verilog"] == "out/tiny.v"
    out = success("demo", "--config", "tiny", "-o", "out")
    assert "0 differing bytes of " in out
    assert "0 differing cycles of " in out
