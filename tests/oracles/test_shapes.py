"""Inputs and outputs have the model's own names, order and shapes, from the command line and from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from support.cli.invoke import success

import accel
from accel.machine.numerics import RequantMode
from accel.network import reference
from accel.network.array_layout import ArrayLayout
from accel.network.nodes import Table
from accel.quantized.builder import IDENTITY_TABLE, GraphBuilder, Port

CASES = Path(__file__).resolve().parents[1] / "cases"


def quantized(nodes: list[Any], shape: list[int], outputs: dict[str, list[int]]) -> bytes:
    """A model from input `x` whose nodes may use the scale `s` and the zero point `z`."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    returned = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in outputs.items()]
    constants = [numpy_helper.from_array(np.float32(0.05), "s"), numpy_helper.from_array(np.int8(-28), "z")]
    graph = helper.make_graph(nodes, "model", inputs, returned, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def two_outputs() -> bytes:
    """The second pool's output is the model's first; neither has the name of an integer tensor."""
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("MaxPool", ["d"], ["m"], kernel_shape=[2, 2]),
        node("QuantizeLinear", ["m", "s", "z"], ["m_q"]),
        node("DequantizeLinear", ["m_q", "s", "z"], ["early"]),
        node("MaxPool", ["early"], ["n"], kernel_shape=[1, 3]),
        node("QuantizeLinear", ["n", "s", "z"], ["early_q"]),
        node("DequantizeLinear", ["early_q", "s", "z"], ["late"]),
    ]
    return quantized(nodes, [1, 3, 4, 6], {"late": [1, 3, 3, 3], "early": [1, 3, 3, 5]})


def runtime(model: bytes, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """The outputs of ONNX Runtime, by name and in the model's order."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs = [[*session.run(None, {"x": sample[None]})] for sample in x]
    names = [output.name for output in session.get_outputs()]
    return {name: np.concatenate(arrays) for name, arrays in zip(names, zip(*outputs, strict=True), strict=True)}


def test_several_outputs_have_the_models_names_and_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(two_outputs())
    x = np.random.default_rng(1).normal(0, 3, (2, 3, 4, 6)).astype(np.float32)
    np.save("x.npy", x)
    expected = runtime(two_outputs(), x)
    success("run", "m.onnx", "--config", "tiny", "--input", "x.npy", "-o", "y.npz", "--dequantize")
    with np.load("y.npz") as arrays:
        assert list(arrays) == list(expected) == ["late", "early"]
        for name in expected:
            np.testing.assert_array_equal(arrays[name], expected[name])
    graph = accel.load_model("m.onnx")
    program = accel.compile(graph, "tiny")
    for network in (graph, program, accel.Program.from_bytes(program.to_bytes())):
        assert [tensor.name for tensor in network.output_tensors] == ["late", "early"]
        result = accel.run(program, accel.quantize_input(network, x[:1])).outputs
        assert list(result) == ["late", "early"]
        for name, array in result.items():
            np.testing.assert_array_equal(accel.dequantize_output(network, array, name), expected[name][:1])


def test_names_of_the_model_go_to_its_inputs_and_outputs_first() -> None:
    builder = GraphBuilder(RequantMode.TFLITE)
    x = builder.declare("inner", (1, 4), (1.0, 0))
    y = builder.emit(Table, [x], (1.0, 0), "out", table=IDENTITY_TABLE)
    z = builder.emit(Table, [y], (1.0, 0), "in", table=IDENTITY_TABLE)
    layout = ArrayLayout.row_major((1, 4))
    graph = builder.finish("g", [Port(x, "in", layout)], [Port(z, "out", layout), Port(x, "in", layout)])
    assert (graph.inputs, graph.outputs) == (("in",), ("out", "in"))
    assert [(node.inputs, node.output) for node in graph.nodes] == [(("in",), "out_1"), (("out_1",), "out")]
    assert [graph.tensors[name].source for name in ("in", "out", "out_1")] == [layout] * 2 + [None]


def test_rank_3_of_tflite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
    from support.oracles.tflite_runtime import interpreter, outputs

    monkeypatch.chdir(tmp_path)
    path = str(CASES / "rank3.tflite")
    x = np.random.default_rng(2).integers(-128, 128, (4, 12, 8)).astype(np.int8)
    machine = interpreter(Path(path).read_bytes())
    expected = np.concatenate([outputs(machine, [sample[None]], 1)[0] for sample in x])
    assert expected.shape == (4, 10, 6)
    graph = accel.load_model(path)
    source, result = graph.input_tensors[0], graph.output_tensors[0]
    real = (x.astype(np.float32) - source.zero_point) * np.float32(source.scale)
    np.save("x.npy", x)
    np.save("r.npy", real)
    for name in ("x", "r"):
        success("run", path, "--config", "tiny", "--input", f"{name}.npy", "-o", "y.npy")
        np.testing.assert_array_equal(np.load("y.npy"), expected)
    success("run", path, "--config", "tiny", "--input", "r.npy", "-o", "z.npy", "--dequantize")
    expected_real = (expected.astype(np.float32) - result.zero_point) * np.float32(result.scale)
    np.testing.assert_array_equal(np.load("z.npy"), expected_real)
    program = accel.compile(graph, "tiny")
    for network in (graph, program):
        q = accel.quantize_input(network, real[:1])
        np.testing.assert_array_equal(accel.dequantize_output(network, accel.run(program, q).outputs["t6"]),
                                      expected_real[:1])  # fmt: skip


@pytest.mark.parametrize("shape", [[1, 8, 16], [1, 12], [4, 5], [1, 3, 4, 5], [1, 3, 3, 3]])
def test_own_shapes_of_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: list[int]) -> None:
    monkeypatch.chdir(tmp_path)
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Relu", ["d"], ["r"]),
        node("QuantizeLinear", ["r", "s", "z"], ["p"]),
        node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    model = quantized(nodes, shape, {"y": shape})
    Path("m.onnx").write_bytes(model)
    x = np.random.default_rng(1).normal(0, 3, (3, *shape)).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    expected = np.stack([session.run(None, {"x": sample})[0] for sample in x])
    if shape[0] == 1:
        x, expected = x[:, 0], expected[:, 0]
    np.save("x.npy", x)
    success("run", "m.onnx", "--config", "tiny", "--input", "x.npy", "-o", "y.npy", "--dequantize")
    np.testing.assert_array_equal(np.load("y.npy"), expected)


def test_outputs_of_uint8_are_written_as_uint8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "u"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2]),
        helper.make_node("QuantizeLinear", ["m", "s", "u"], ["y"]),
    ]
    model = onnx.load_model_from_string(quantized(nodes, [1, 3, 4, 6], {"y": [1, 3, 3, 5]}))
    model.graph.initializer.append(numpy_helper.from_array(np.uint8(90), "u"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.UINT8
    onnx.save(model, "m.onnx")
    x = np.random.default_rng(1).integers(0, 256, (2, 3, 4, 6)).astype(np.uint8)
    np.save("x.npy", x)
    success("run", "m.onnx", "--config", "tiny", "--input", "x.npy", "-o", "y.npy")
    found = np.load("y.npy")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, runtime(model.SerializeToString(), x)["y"])


def test_an_output_of_one_number_has_no_axes() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,8,8] x) => (float y, float z) { %s }'
    nodes = "y = ReduceMean <keepdims = 0, axes = [0,1,2,3]> (x) z = ReduceL2 <keepdims = 0, axes = [0,1,2,3]> (x)"
    samples = np.random.default_rng(0).normal(0, 1, (16, 4, 8, 8)).astype(np.float32)
    graph = accel.quantize(onnx.parser.parse_model(text % nodes).SerializeToString(), samples)
    values = reference.run(graph, accel.quantize_input(graph, samples[:1]))
    assert [accel.dequantize_output(graph, values[name], name).shape for name in ("y", "z")] == [(), ()]


def test_shapes_that_inference_does_not_know_are_measured() -> None:
    """Inference knows no shape of a GroupNormalization of opset 21."""
    text = """<ir_version: 10, opset_import: ["" : 21]> g (float[1,4,8,8] x) => (float[n,c,h,w] y) {
        s = Constant <value = float[4] {1.0, 2.0, 1.0, 2.0}> () b = Constant <value = float[4] {0.0, 1.0, 0.0, 1.0}> ()
        y = GroupNormalization <num_groups = 2> (x, s, b) }"""
    samples = np.random.default_rng(0).normal(0, 1, (16, 4, 8, 8)).astype(np.float32)
    graph = accel.quantize(onnx.parser.parse_model(text).SerializeToString(), samples)
    assert graph.output_tensors[0].shape == (1, 4, 8, 8)
