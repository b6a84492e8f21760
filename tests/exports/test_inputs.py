"""Exports of TensorFlow Lite models whose inputs are outputs, too, or that no operator reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from oracles.test_onnx_operators import plain_session
from support.networks.float_models import onnx_model
from support.oracles.tflite_writer import ModelWriter

import accel
from accel.frontends import load_model
from accel.frontends.tflite.reader import read_tflite
from accel.network.real import dequantize_output, quantize_input
from accel.network.reference import run
from accel.quantizer import quantize


@pytest.mark.parametrize("format", ["qdq", "qoperator"])
@pytest.mark.parametrize("shape", [(1, 6), (2, 6), (2, 3, 4), (1, 4, 5, 3)])
def test_an_input_that_is_an_output(shape: tuple[int, ...], format: str, tmp_path: Path) -> None:
    writer = ModelWriter()
    x, y = writer.tensor(shape, 0.05, 3), writer.tensor(shape, 1 / 128, 0)
    writer.operator("TANH", [x], [y])
    graph, path = read_tflite(writer.finish([x], [y, x])), tmp_path / "m.onnx"
    accel.export(graph, path, format=format)
    real = np.random.default_rng(1).normal(0, 2, shape).astype(np.float32)
    values = run(graph, {name: quantize_input(graph, real) for name in graph.inputs})
    expected = [dequantize_output(graph, values[name], name) for name in graph.outputs]
    session = plain_session(path.read_bytes())
    assert [one.name for one in session.get_outputs()] == [graph.outputs[0], f"{graph.outputs[1]}_dequantized"]
    found = session.run(None, {graph.inputs[0]: real})
    assert all(np.array_equal(value, other) for value, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("format", ["qdq", "qoperator", "tflite"])
@pytest.mark.parametrize("kind", ["FLOAT32", "INT32", "INT64", "BOOL"])
def test_an_input_that_no_operator_reads(kind: str, format: str, tmp_path: Path) -> None:
    writer = ModelWriter()
    x, unread, y = writer.tensor((1, 6), 0.05, 3), writer.tensor((2, 4), kind=kind), writer.tensor((1, 6), 1 / 128, 0)
    writer.operator("TANH", [x], [y])
    path = tmp_path / ("m.tflite" if format == "tflite" else "m.onnx")
    graph = read_tflite(writer.finish([x, unread], [y]))
    accel.export(graph, path, format=format)
    again = load_model(path)
    assert [(one.dtype, one.shape) for one in again.input_tensors] == [("int8", (1, 6)), (kind.lower(), (2, 4))]


@pytest.mark.parametrize(
    ("shape", "written"), [((1, 3, 8), (1, 1, 8, 3)), ((1, 3, 6, 8), (1, 6, 8, 3)), ((1, 8, 3), (1, 8, 3))]
)
def test_shapes_of_tflite_files(shape: tuple[int, ...], written: tuple[int, ...], tmp_path: Path) -> None:
    """Channels are last; what has the graph's order of axes keeps its rank."""
    rng = np.random.default_rng(2)
    kind, weight = ("MatMul", (3, 4)) if shape[-1] == 3 else ("Conv", (4, 3, *(1,) * (len(shape) - 2)))
    model = onnx_model([(kind, ["x", "w"], "y", {})], {"w": rng.normal(size=weight).astype(np.float32)}, shape)
    accel.export(
        quantize(model, rng.normal(size=(4, *shape[1:])).astype(np.float32)), tmp_path / "a.tflite", format="tflite"
    )
    file = load_model(tmp_path / "a.tflite")
    sources = [one.source.shape for one in (*file.input_tensors, *file.output_tensors) if one.source]
    assert sources == [written, (*written[:-1], 4)]
