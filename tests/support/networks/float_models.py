"""Float ONNX models for tests, and how well a quantized graph follows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from accel.network.graph import Graph
from accel.network.real import dequantize_output, quantize_input
from accel.network.reference import run

FloatArray = NDArray[np.float32]
Node = tuple[str, Sequence[str], str, Mapping[str, Any]]


def onnx_model(
    nodes: Sequence[Node],
    constants: Mapping[str, NDArray[Any]],
    shape: Sequence[int | str],
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    inputs: Sequence[str] = ("x",),
) -> bytes:
    """A model of the nodes (operator, inputs, output, attributes), each named after its output in capitals."""
    graph = helper.make_graph(
        [helper.make_node(op, names, [out], name=out.upper(), **attributes) for op, names, out, attributes in nodes],
        "float",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    for output, inferred in zip(graph.output, onnx.shape_inference.infer_shapes(model).graph.output, strict=True):
        shape = inferred.type.tensor_type.shape
        output.type.tensor_type.shape.CopyFrom(shape)
    model.graph.CopyFrom(graph)
    return bytes(model.SerializeToString())


def run_float(model: bytes, x: FloatArray) -> FloatArray:
    """The first output of a model with one input."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def run_graph(graph: Graph, x: FloatArray) -> FloatArray:
    """The first output of a quantized graph as real numbers."""
    values = run(graph, quantize_input(graph, x))
    return dequantize_output(graph, values[graph.outputs[0]], graph.outputs[0])


def sqnr(model: bytes, graph: Graph, samples: FloatArray) -> float:
    """Signal to quantization noise of the first output over all samples, in dB."""
    expected = np.concatenate([run_float(model, x[None]).ravel() for x in samples])
    result = np.concatenate([run_graph(graph, x[None]).ravel() for x in samples])
    assert expected.shape == result.shape
    return float(20 * np.log10(np.linalg.norm(expected) / np.linalg.norm(expected - result)))


def load(model: bytes) -> onnx.ModelProto:
    """The parsed model."""
    return onnx.load_model_from_string(model)
