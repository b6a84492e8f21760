"""What a runtime refuses on the host is one sentence that names operator or tensor; what it defines is computed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from oracles.test_onnx_operators import plain_session

import accel
from accel.errors import AccelError, GraphError, InputError, ModelError
from accel.frontends.onnx.reader import read_quantized_onnx
from accel.frontends.tflite.reader import read_tflite
from accel.network import reference

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from support.oracles.tflite_writer import ModelWriter

INT8, FLOAT, WHOLE = (0.1, 0), "FLOAT32", "INT32"


def beside_a_relu(build: Callable[[ModelWriter], tuple[list[int], list[int]]]) -> bytes:
    """An operator beside one on integers of 8 bits, without which a network is refused."""
    writer = ModelWriter()
    inputs, outputs = build(writer)
    a, b = writer.tensor((1, 4), *INT8), writer.tensor((1, 4), *INT8)
    writer.operator("RELU", [a], [b])
    return writer.finish([*inputs, a], [*outputs, b])


def two(builtin: str, options: str) -> Callable[[ModelWriter], tuple[list[int], list[int]]]:
    def build(writer: ModelWriter) -> tuple[list[int], list[int]]:
        x, y, z = (writer.tensor((4,), kind=WHOLE) for _ in range(3))
        writer.operator(builtin, [x, y], [z], options)
        return [x, y], [z]

    return build


def gathered(writer: ModelWriter) -> tuple[list[int], list[int]]:
    x, places, y = writer.tensor((1, 4), *INT8), writer.tensor((2,), kind=WHOLE), writer.tensor((1, 2), *INT8)
    writer.operator("GATHER", [x, places], [y], "GatherOptions", axis=1)
    return [x, places], [y]


def exponential(writer: ModelWriter) -> tuple[list[int], list[int]]:
    x, y = writer.tensor((1, 4), 1.0, 0), writer.tensor((1, 4), 0.5, 0)
    real, power = writer.tensor((1, 4), kind=FLOAT), writer.tensor((1, 4), kind=FLOAT)
    writer.operator("DEQUANTIZE", [x], [real])
    writer.operator("EXP", [real], [power])
    writer.operator("QUANTIZE", [power], [y])
    return [x], [y]


RUNS: dict[str, tuple[Callable[[ModelWriter], Any], list[list[int]], type[AccelError]]] = {
    "HostOperator 'div': Div must have values that ONNX Runtime takes, got: Integer division by zero": (
        two("DIV", "DivOptions"), [[1, 2, 3, 4], [1, 0, 2, 2]], GraphError,
    ),
    "HostOperator 'floor_mod': FLOOR_MOD must have values that LiteRT takes, got: Division by 0": (
        two("FLOOR_MOD", "FloorModOptions"), [[1, 2, 3, 4], [1, 0, 2, 2]], GraphError,
    ),
    "HostOperator 'gather': Gather must have values that ONNX Runtime takes, got: indices element out of data bounds, "
    "idx=7 must be within the inclusive range [-4,3]": (gathered, [[1, 2, 3, 4], [0, 7]], GraphError),
    "tensor 't3_exp' must be finite to be quantized, got inf": (exponential, [[100, 1, 2, 3]], InputError),
}  # fmt: skip


@pytest.mark.parametrize("message", RUNS)
def test_values_that_a_runtime_refuses(message: str) -> None:
    build, given, kind = RUNS[message]
    graph = read_tflite(beside_a_relu(build))
    arrays = [np.array(value) for value in [*given, [1, 2, 3, 4]]]
    inputs = {t.name: a.astype(t.dtype).reshape(t.shape) for t, a in zip(graph.input_tensors, arrays, strict=True)}
    for run in (lambda: reference.run(graph, inputs), lambda: accel.run(accel.compile(graph, "tiny"), inputs)):
        with pytest.raises(kind, match=f"^{re.escape(message)}$"):
            run()


def test_one_number_has_no_axis_to_normalize() -> None:
    def build(writer: ModelWriter) -> tuple[list[int], list[int]]:
        x, y = writer.tensor((), kind=FLOAT), writer.tensor((), kind=FLOAT)
        writer.operator("L2_NORMALIZATION", [x], [y], "L2NormOptions")
        return [x], [y]

    with pytest.raises(ModelError, match=r"^L2_NORMALIZATION 0: input must have axes, got one number$"):
        read_tflite(beside_a_relu(build))


QDQ = "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)"
FILES = {
    f"{QDQ} y = MatMul (d, w)": "model must have consistent shapes: (op_type:MatMul, node name: MatMul_2): "
    "Incompatible dimensions for matrix multiplication",
    "d = DequantizeLinear (q, s, z) q = QuantizeLinear (x, s, z) y = Relu (d)": "model must be a valid ONNX file: "
    "input 'q' must come from the node that makes it, before it is read",
}


def qdq_model(nodes: str) -> bytes:
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,8] x) => (float[1,4,8] y)'
    parsed = onnx.parser.parse_model(f"{head} {{ {nodes} }}")
    values = {"s": np.float32(1), "z": np.int8(3), "w": np.ones((5, 3), np.float32), "last": np.array([-1])}
    used = {name for node in parsed.graph.node for name in node.input}
    values = {name: value for name, value in values.items() if name in used}
    parsed.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in values.items())
    return bytes(parsed.SerializeToString())


@pytest.mark.parametrize("nodes", FILES)
def test_invalid_files_are_refused_in_one_line(nodes: str) -> None:
    with pytest.raises(ModelError, match=f"^{re.escape(FILES[nodes])}$"):
        read_quantized_onnx(qdq_model(nodes))


@pytest.mark.parametrize(
    "functions", ["m = Mul (e, d) n = Div (m, d)", "m = ReduceSum <keepdims = 1> (e, last) n = Div (e, m)"]
)
def test_infinite_numbers_and_none_are_quantized_as_onnx_runtime_does(functions: str) -> None:
    """0 / 0 is no number, nor is an infinite one's share of itself: in a table, and on the host."""
    nodes = f"{QDQ} e = Exp (d) {functions} r = QuantizeLinear (n, s, z) y = DequantizeLinear (r, s, z)"
    data = qdq_model(nodes)
    x = np.arange(-128, 128, 8, dtype=np.float32).reshape(1, 4, 8)
    expected = plain_session(data).run(None, {"x": x})[0]
    graph = read_quantized_onnx(data)
    found = reference.run(graph, accel.quantize_input(graph, x))[graph.outputs[0]]
    np.testing.assert_array_equal(accel.dequantize_output(graph, found), expected)
    assert -131.0 in expected
