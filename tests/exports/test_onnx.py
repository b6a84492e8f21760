"""Exported QDQ and QOperator models in ONNX Runtime, layer by layer on identical inputs, and read back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support.networks.exported import REAL_NETWORKS, demo_graph, differing_field, narrow
from support.networks.float_models import Node, onnx_model
from support.networks.float_networks import NETWORKS, model_of, samples_of
from support.oracles import qdq_models
from support.oracles.onnx_layers import layers, session
from support.oracles.ort_session import session as ort_session

import accel
from accel import demo
from accel.exports import FORMATS
from accel.exports.inexpressible import InexpressibleError
from accel.exports.onnx import nodes
from accel.frontends import read_quantized_onnx
from accel.frontends.onnx import lookups
from accel.machine.numerics import RequantMode
from accel.network import reference
from accel.network.graph import Graph
from accel.network.nodes import Table, Weighted
from accel.network.real import dequantize, layouts, quantize_input, quantize_real

ONNX = ("qdq", "qoperator")
NEAR = ("Add", "Sub", "Mul", "AveragePool2d", "UnsignedAveragePool2d", "Softmax")
"""Nodes whose runtime rounds sums of real numbers: one step near ties."""


def compare(graph: Graph, format: str, *, optimized: bool, samples: int = 3) -> dict[str, Counter[int]]:
    """How many outputs of each kind of node are off by how many steps, on random integers."""
    rng = np.random.default_rng(2)
    found: dict[str, Counter[int]] = {}
    for layer in layers(graph, FORMATS[format].write(graph, [])[""], optimized=optimized):
        for _ in range(samples):
            given = {n: rng.integers(-128, 128, graph.tensors[n].shape).astype(np.int8) for n in layer.node.inputs}
            wanted = reference.run_node(graph, layer.node, given)[layer.node.output].astype(np.int64)
            steps = np.abs(layer.run(given) - wanted)
            found.setdefault(layer.node.op, Counter()).update(steps.reshape(-1).tolist())
    return found


def check(graph: Graph, format: str, label: str, *, optimized: bool) -> int:
    """Compare every layer, print the counts, and return how many bytes differ."""
    found = compare(graph, format, optimized=optimized)
    for op, counts in found.items():
        print(f"{label}, {format}, {'optimized' if optimized else 'plain'}, {op}: steps {dict(counts)}")
        exact = op not in NEAR and (optimized or format == "qoperator")
        assert max(counts) <= (0 if exact else 1), op
        assert counts[1] <= sum(counts.values()) * 1e-3
    return sum(counts.total() - counts[0] for counts in found.values())


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("format", ONNX)
def test_layers_of_the_demo(format: str, optimized: bool) -> None:
    assert check(demo_graph("fp32"), format, "demo", optimized=optimized) == 0


@pytest.mark.slow
@pytest.mark.parametrize("format", ONNX)
@pytest.mark.parametrize("name", REAL_NETWORKS)
def test_layers_of_real_networks(name: str, format: str, shared_models: Path) -> None:
    tflite = accel.load_model(shared_models / f"{name}.tflite")
    graph = read_quantized_onnx(FORMATS["qdq"].write(tflite, [])[""])
    assert graph.mode is RequantMode.FP32
    for optimized in (False, True):
        check(graph, format, name, optimized=optimized)


def end_to_end(graph: Graph, format: str, samples: list[np.ndarray], *, optimized: bool) -> tuple[int, int]:
    """Differing bytes and bytes of all outputs of a network with one input, int8 samples of the graph's shape."""
    runtime = session(FORMATS[format].write(graph, [])[""], optimized=optimized)
    (name,), differing, compared = graph.inputs, 0, 0
    tensor = graph.tensors[name]
    for sample in samples:
        real = layouts(tensor, None)[0].from_graph(dequantize(sample, tensor))
        wanted = reference.run(graph, sample)
        for output, value in zip(graph.output_tensors, runtime.run(list(graph.outputs), {name: real}), strict=True):
            found = layouts(output, None)[0].to_graph(value, output.shape)
            found = quantize_real(found, output, RequantMode.FP32) if output.dtype == "int8" else found
            differing += np.count_nonzero(found != wanted[output.name])
            compared += found.size
    return differing, compared


@pytest.mark.parametrize("format", ONNX)
def test_demo_end_to_end(format: str) -> None:
    graph, images = demo_graph("fp32"), demo.load().test_images[:60]
    samples = [quantize_input(graph, image[None]) for image in images]
    for optimized in (False, True):
        differing, compared = end_to_end(graph, format, samples, optimized=optimized)
        print(f"demo, {format}, {'optimized' if optimized else 'plain'}: {differing} of {compared} bytes differ")
        assert differing <= compared * (0.02 if format == "qdq" and not optimized else 0)


@pytest.mark.parametrize("format", ONNX)
def test_demo_comes_back_as_the_same_graph(format: str) -> None:
    graph = demo_graph("fp32")
    data = FORMATS[format].write(graph, [])[""]
    again = read_quantized_onnx(data)
    assert differing_field(graph, again) == ""
    assert (again.inputs, again.outputs) == (graph.inputs, graph.outputs)
    assert again.input_tensors == graph.input_tensors
    assert FORMATS[format].write(graph, [])[""] == data


def come_back(graph: Graph, format: str, inputs: dict[str, np.ndarray]) -> tuple[int, int]:
    """Bytes compared and differing between a graph and what is read of its export, on int8 inputs of the graph."""
    again = read_quantized_onnx(FORMATS[format].write(graph, [])[""])
    wanted = reference.run(graph, inputs)
    found = reference.run(again, {name: _as_user(graph, again, name, inputs[name]) for name in again.inputs})
    compared = differing = 0
    for name, copy in zip(graph.outputs, again.outputs, strict=True):
        first = layouts(graph.tensors[name], None)[0].from_graph(wanted[name])
        second = layouts(again.tensors[copy], None)[0].from_graph(found[copy])
        compared, differing = compared + first.size, differing + np.count_nonzero(first != second)
    return compared, differing


def _as_user(graph: Graph, again: Graph, name: str, value: np.ndarray) -> np.ndarray:
    """An input of one graph as that of the other, by the user's array that both take."""
    array = layouts(graph.tensors[name], None)[0].from_graph(value)
    return layouts(again.tensors[name], None)[0].to_graph(array, again.tensors[name].shape)


@pytest.mark.parametrize("count", [1, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(qdq_models.EXACT))
def test_operators_come_back(name: str, count: int) -> None:
    written = 0
    for index in range(count):
        rng = np.random.default_rng([3, index])
        graph = read_quantized_onnx(qdq_models.EXACT[name](rng))
        inputs = {t.name: rng.integers(-128, 128, t.shape).astype(np.int8) for t in graph.input_tensors}
        for format in ONNX:
            try:
                compared, differing = come_back(graph, format, inputs)
            except InexpressibleError as error:
                if "table" not in error.what and "scales" not in error.what:
                    raise
                continue
            written += 1
            assert (differing, compared > 0) == (0, True)
    assert written or count == 1


@pytest.mark.parametrize("format", ONNX)
def test_weights_of_4_bits(format: str) -> None:
    """int4 in QDQ models; the operators on integers have none, so that QOperator models hold them as int8."""
    graph = narrow(demo_graph("fp32"))
    again = read_quantized_onnx(FORMATS[format].write(graph, [])[""])
    bits = {node.weight_bits for node in again.nodes if isinstance(node, Weighted)}
    assert bits == {4 if format == "qdq" else 8}
    assert format == "qoperator" or differing_field(graph, again) == ""
    assert check(graph, format, "4 bits", optimized=False) <= 2


TABLES: dict[str, list[Node]] = {
    "a power": [("Conv", ["x", "w"], "a", {}), ("Pow", ["a", "three"], "b", {}), ("Conv", ["b", "v"], "y", {})],
    "a quotient": [("Conv", ["x", "w"], "a", {}), ("Exp", ["a"], "b", {}), ("Div", ["three", "b"], "y", {})],
    "a line": [("Mul", ["x", "third"], "a", {}), ("Add", ["a", "three"], "b", {}), ("Conv", ["b", "w"], "y", {})],
    "nothing else": [("Pow", ["x", "three"], "y", {})],
}
"""Functions of one variable that are no operator of ONNX."""


@pytest.mark.parametrize("format", ONNX)
@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_no_known_function(kind: str, format: str) -> None:
    rng = np.random.default_rng(4)
    weights = {"w": rng.normal(0, 0.3, (4, 3, 3, 3)), "v": rng.normal(0, 0.3, (5, 4, 1, 1))}
    constants = {name: value.astype(np.float32) for name, value in weights.items()}
    constants |= {"three": np.float32(3), "third": np.float32(1 / 3)}
    x = rng.normal(0, 1, (20, 3, 6, 6)).astype(np.float32)
    graph = accel.quantize(onnx_model(TABLES[kind], constants, (1, 3, 6, 6)), x, mode="fp32")
    assert any(isinstance(node, Table) for node in graph.nodes)
    data = FORMATS[format].write(graph, [])[""]
    assert differing_field(graph, read_quantized_onnx(data)) == ""
    samples = [quantize_input(graph, one[None]) for one in x[:3]]
    assert [end_to_end(graph, format, samples, optimized=optimized)[0] for optimized in (False, True)] == [0, 0]


@pytest.mark.parametrize("axes", [(2,), (3,), (2, 3)])
@pytest.mark.parametrize("format", ONNX)
def test_sums_over_rows_or_columns(axes: tuple[int, ...], format: str) -> None:
    nodes: list[Node] = [("Relu", ["x"], "a", {}), ("ReduceSum", ["a", "axes"], "y", {"keepdims": 0})]
    x = np.random.default_rng(4).normal(0, 1, (8, 3, 5, 6)).astype(np.float32)
    graph = accel.quantize(onnx_model(nodes, {"axes": np.array(axes)}, (1, 3, 5, 6)), x, mode="fp32")
    samples = [quantize_input(graph, one[None]) for one in x[:3]]
    assert all(come_back(graph, format, {"x": one})[1] == 0 for one in samples)
    differing, compared = end_to_end(graph, format, samples, optimized=False)
    assert differing <= compared * 0.05  # sums of real numbers near ties


def test_tables_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "FIRST", 127)
    with pytest.raises(AssertionError):
        test_tables_of_no_known_function("a power", "qdq")


KINDS = {make.__name__: make for make in NETWORKS}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_float_networks_come_back_and_run(kind: str) -> None:
    shape, rank, _ = NETWORKS[KINDS[kind]]
    graph = accel.quantize(model_of(KINDS[kind], shape, rank), samples_of(shape, 8), mode="fp32")
    samples = [quantize_input(graph, x[None]) for x in samples_of(shape, 3)]
    for format in ONNX:
        assert all(come_back(graph, format, {"x": x})[1] == 0 for x in samples)
        differing, compared = end_to_end(graph, format, samples, optimized=True)
        print(f"{kind}, {format}: {differing} of {compared} bytes differ end to end")
        # the runtime truncates the linear interpolation of integers, which it makes of a QDQ model's Resize
        assert differing == 0 or (kind, format) == ("unet", "qdq")


def doubled(graph: Graph, node: Weighted) -> object:
    """Scales twice as large: a shift off by one."""
    scales = RIGHT_SCALES(graph, node)
    return None if scales is None else scales * np.float32(2)


RIGHT_SCALES = nodes.weight_scales


@pytest.mark.parametrize("format", ONNX)
def test_suite_catches_a_shift_off_by_one(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "weight_scales", doubled)
    found = compare(demo_graph("fp32"), format, optimized=True, samples=1)
    assert max(found["Conv2d"]) > 1
    image = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 1)).astype(np.int8)
    assert come_back(demo_graph("fp32"), format, {"image": image})[1] > 0


def test_a_table_of_one_value_has_a_form(tmp_path: Path) -> None:
    """The difference of a tensor and itself: no entry of the table bounds a factor."""
    nodes = [("MatMul", ["x", "w"], "c", {}), ("Sub", ["c", "c"], "y", {})]
    x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    model = onnx_model(nodes, {"w": np.eye(4, 3, dtype=np.float32)}, (1, 4))
    graph = accel.quantize(model, x, mode="fp32")
    accel.export(graph, tmp_path / "a.onnx", format="qdq")
    assert not ort_session((tmp_path / "a.onnx").read_bytes()).run(None, {"x": x[:1]})[0].any()


@pytest.mark.parametrize("chain", [("LeakyRelu", "Abs"), ("Relu", "Exp"), ("Exp", "Relu"), ("Neg", "Sigmoid")])
def test_tables_that_come_back_a_step_off_are_noted(chain: tuple[str, str]) -> None:
    """A table is written as one function that makes it, exactly or at most a step away, which a note says."""
    nodes = [(chain[0], ["x"], "t", {}), (chain[1], ["t"], "y", {})]
    written = 0
    for size in (0.001, 0.03, 1.0, 10.0):
        x = (size * np.random.default_rng(0).normal(size=(16, 40))).astype(np.float32)
        graph, notes = accel.quantize(onnx_model(nodes, {}, (1, 40)), x, mode="fp32"), list[str]()
        inputs = {"x": np.resize(np.arange(-128, 128), (7, 40)).astype(np.int8)}
        try:
            FORMATS["qdq"].write(graph, notes)
        except InexpressibleError:
            continue
        written += 1
        differing = sum(come_back(graph, "qdq", {"x": row[None]})[1] for row in inputs["x"])
        assert bool(notes) == bool(differing), notes
    assert written


def test_notes_say_whose_rounding_the_file_gets(tmp_path: Path) -> None:
    result = accel.export(demo_graph("tflite"), tmp_path / "a.onnx", format="qdq")
    assert result.files == (tmp_path / "a.onnx",)
    assert result.notes == ("ONNX Runtime rounds as mode fp32, the network has mode tflite: steps may differ",)
