"""The exported C reference, compiled by gcc with all warnings as errors, gives the simulator's bytes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.networks.exported import REAL_NETWORKS, demo_graph, narrow
from support.networks.random_graphs import GraphBuilder, random_graph, random_inputs
from support.networks.random_movement import ALWAYS_GATHERED, MOVES, grouped_transposes, random_movement_graph
from support.networks.small_graphs import every_operation

import accel
from accel.exports import FORMATS
from accel.exports.c import nodes, write
from accel.frontends import read_quantized_onnx
from accel.network import reference
from accel.network.graph import Graph
from accel.network.nodes import Div, LogSoftmax

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
MODES = ("tflite", "single", "fp32")
Samples = list[dict[str, np.ndarray]]


def compiled(graph: Graph, folder: Path) -> Path:
    """The program of an exported network."""
    accel.export(graph, folder / "c", format="c")
    subprocess.run(["make", "-s", "-C", str(folder / "c"), "CC=gcc"], check=True)
    return folder / "c" / "network"


def run(graph: Graph, samples: Samples, folder: Path) -> np.ndarray:
    """The bytes that the program writes, a row per sample."""
    program, given, made = compiled(graph, folder), folder / "in", folder / "out"
    given.write_bytes(b"".join(sample[name].tobytes() for sample in samples for name in graph.inputs))
    subprocess.run([program, given, made], check=True)
    return np.frombuffer(made.read_bytes(), np.int8).reshape(len(samples), -1)


def expected(graph: Graph, samples: Samples) -> np.ndarray:
    """The same from the reference, which the simulator's suites hold equal to the simulator."""
    values = [reference.run(graph, sample) for sample in samples]
    return np.stack([np.concatenate([v[name].reshape(-1) for name in graph.outputs]) for v in values])


def inputs_of(graph: Graph, count: int = 3) -> Samples:
    rng = np.random.default_rng(4)
    return [random_inputs(rng, graph) for _ in range(count)]


def without(graph: Graph, *kinds: type) -> Graph:
    """A graph without some operations whose results are outputs only, and with every other unread result as output."""
    kept = tuple(node for node in graph.nodes if not isinstance(node, kinds))
    read = {name for node in kept for name in node.inputs}
    outputs = tuple(node.output for node in kept if node.output not in read)
    names = {*graph.inputs, *(node.output for node in kept)}
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in names}
    return Graph(graph.name, graph.mode, tensors, kept, graph.inputs, outputs)


@pytest.mark.parametrize("mode", MODES)
def test_every_operation(mode: str, tmp_path: Path) -> None:
    graph = without(every_operation(mode), Div, LogSoftmax)
    assert {type(node) for node in graph.nodes} == set(nodes.WRITERS)
    samples = inputs_of(graph)
    assert np.array_equal(run(graph, samples, tmp_path), expected(graph, samples))


def test_weights_of_4_bits_are_packed(tmp_path: Path) -> None:
    graph = narrow(without(every_operation("tflite"), Div, LogSoftmax))
    samples = inputs_of(graph)
    assert np.array_equal(run(graph, samples, tmp_path), expected(graph, samples))


@pytest.mark.parametrize("mode", ["fp32", *(pytest.param(mode, marks=pytest.mark.slow) for mode in MODES[:2])])
def test_demo_equals_the_simulator(mode: str, tmp_path: Path) -> None:
    graph, program = demo_graph(mode), accel.compile(demo_graph(mode))
    samples = inputs_of(graph, 5)
    simulated = [next(iter(accel.run(program, sample).outputs.values())).reshape(-1) for sample in samples]
    assert np.array_equal(run(graph, samples, tmp_path), np.stack(simulated))


def test_groups_of_transposed_convolutions(tmp_path: Path) -> None:
    builder = GraphBuilder(np.random.default_rng(6), "fp32")
    graph = builder.graph(grouped_transposes(builder, builder.given((1, 3, 2, 8))))
    samples = inputs_of(graph)
    assert np.array_equal(run(graph, samples, tmp_path), expected(graph, samples))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(12))
def test_random_networks(mode: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([1, seed])
    kind = [*MOVES, *ALWAYS_GATHERED][seed]
    graph = random_movement_graph(rng, mode, kind) if seed % 2 else random_graph(rng, mode, layers=6)
    samples = inputs_of(graph)
    assert np.array_equal(run(graph, samples, tmp_path), expected(graph, samples))


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL_NETWORKS)
@pytest.mark.parametrize("mode", ["tflite", "fp32"])
def test_real_networks_equal_the_simulator(name: str, mode: str, shared_models: Path, tmp_path: Path) -> None:
    graph = accel.load_model(shared_models / f"{name}.tflite")
    if mode == "fp32":
        graph = read_quantized_onnx(FORMATS["qdq"].write(graph, [])[""])
    program, samples = accel.compile(graph), inputs_of(graph)
    simulated = [next(iter(accel.run(program, sample).outputs.values())).reshape(-1) for sample in samples]
    found = run(graph, samples, tmp_path)
    print(f"{name} in mode {mode}: {np.count_nonzero(found != simulated)} of {found.size} bytes differ")
    assert np.array_equal(found, np.stack(simulated))


def test_text_of_names_cannot_end_a_comment(tmp_path: Path) -> None:
    text = write.text
    assert text.comment("a*/b/*\\\n\xe9") == "a* /b/ */??"
    assert text.identifier("a/b;c") == "a_b_c"


MUTANTS = {
    "shift off by one": ("divide_by_power(high, at_least(-e, 0))", "divide_by_power(high, at_least(1 - e, 0))"),
    "ties upwards": ("(v & mask) > (mask >> 1) + (v < 0)", "(v & mask) > (mask >> 1)"),
    "groups": ("oc / per_group * depth", "0 * per_group"),
    "zero point": ("(in[ic] - l->zero_point_in)", "in[ic]"),
}
_FIRST, *_OTHERS = MUTANTS


@pytest.mark.parametrize("mutant", [_FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in _OTHERS)])
def test_suite_catches(mutant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = MUTANTS[mutant]
    files = FORMATS["c"].write
    assert right.encode() in files(demo_graph("tflite"), [])["reference.c"]

    def mutated(graph: Graph, notes: list[str]) -> dict[str, bytes]:
        return {name: data.replace(right.encode(), wrong.encode()) for name, data in files(graph, notes).items()}

    table = {**FORMATS, "c": FORMATS["c"]._replace(write=mutated)}
    monkeypatch.setattr("accel.exports.FORMATS", table)
    graph = without(every_operation("tflite"), Div, LogSoftmax)
    samples = inputs_of(graph)
    assert not np.array_equal(run(graph, samples, tmp_path), expected(graph, samples))
