"""Outputs that share their tensor with an input, a constant or another output: the model's names, order and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from oracles.test_onnx_operators import plain_session

import accel
from accel.evaluation import evaluate
from accel.exports import FORMATS
from accel.frontends import read_quantized_onnx
from accel.network import reference
from accel.network.graph import Graph
from accel.network.real import dequantize_output, quantize_input

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,6,6] x) => ({outputs}) {{ {nodes} }}'
NODES = {
    "the input": ("", ("a", "x")),
    "the input's Identity": ("b = Identity (x)", ("a", "b")),
    "the input's Identity first": ("b = Identity (x)", ("b", "a")),
    "two of one tensor": ("b = Identity (a) c = Dropout (b)", ("c", "a", "b")),
    "the same integers": ("b = Relu (a) c = Relu (b)", ("c", "b")),
    "two of an inner tensor": ("t = Relu (a) b = Identity (t) c = Identity (t)", ("c", "b")),
    "a result of the host": (
        "i = Constant <value = int64 {1}> () b = CumSum (a, i) c = Identity (b)",
        ("c", "b"),
    ),
    "a constant": ("b = Identity (k)", ("k", "a", "b")),
    "nothing but a constant": ("b = Identity (k)", ("b",)),
    "a shape": ("b = Shape (a)", ("b", "a")),
}


def model(nodes: str, outputs: tuple[str, ...]) -> bytes:
    text = HEAD.format(nodes=f"a = Conv (x, w) {nodes}", outputs=", ".join(f"float[n] {name}" for name in outputs))
    parsed, rng = onnx.parser.parse_model(text), np.random.default_rng(3)
    for name, shape in {"w": (4, 3, 3, 3), "k": (2, 5)}.items():
        parsed.graph.initializer.append(numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), name))
    for value in parsed.graph.output:
        value.type.tensor_type.ClearField("shape")
    if "Shape" in nodes:
        parsed.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    return bytes(parsed.SerializeToString())


def samples(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).normal(0, 2, (count, 3, 6, 6)).astype(np.float32)


def plain(data: bytes, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    session = plain_session(data)
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, {"x": x}), strict=True))


def outputs(graph: Graph, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    values = reference.run(graph, {"x": quantize_input(graph, x)})
    return {name: dequantize_output(graph, values[name], name) for name in graph.outputs}


@pytest.mark.parametrize("format", ["qdq", "qoperator"])
@pytest.mark.parametrize("kind", NODES)
def test_names_order_and_values(kind: str, format: str) -> None:
    nodes, names = NODES[kind]
    data, x = model(nodes, names), samples(1)
    graph = accel.quantize(data, samples(20), mode="fp32")
    assert graph.outputs == names
    program, integers, own = accel.compile(graph, "tiny"), quantize_input(graph, x), outputs(graph, x)
    result = accel.run(program, integers).outputs
    assert list(result) == list(names)
    for (name, expected), value in zip(plain(data, x).items(), own.values(), strict=True):
        assert np.array_equal(dequantize_output(graph, result[name], name), value)
        assert np.abs(value - expected).max() <= (0.05 * np.abs(expected).max() if value.dtype == np.float32 else 0)
    written = FORMATS[format].write(graph, [])[""]
    # In a file an input has one name, and what its integers stand for another.
    in_file = [f"{name}_dequantized" if name == "x" else name for name in names]
    for found in (plain(written, x), outputs(read_quantized_onnx(written), x)):
        assert list(found) == in_file
        assert all(np.array_equal(value, other) for value, other in zip(own.values(), found.values(), strict=True))


def test_commands_that_measure(tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    source.write_bytes(model("b = Identity (x) c = Identity (a)", ("c", "a", "b", "k")))
    rows = evaluate(str(source), samples(4), calibration=samples(20)).rows
    assert rows[2].sqnr is not None
    assert rows[2].sqnr > 30
    assert [layer.name for layer in accel.analyze(str(source), samples(4)).layers] == ["x", "Conv_0"]
