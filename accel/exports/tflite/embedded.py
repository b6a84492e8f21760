"""Operators of TensorFlow Lite that a graph carries whole, and conversions to real numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.exports.inexpressible import InexpressibleError
from accel.exports.tflite.write import Writing
from accel.network import litert
from accel.network.graph import Tensor
from accel.network.nodes import Dequantize, HostOperator, Quantize
from accel.network.nodes.host import TFLITE_DOMAIN, TFLITE_MODEL
from accel.network.windows import Shape


def dequantize(w: Writing, node: Dequantize) -> None:
    """DEQUANTIZE."""
    _real(w, node.output)
    w.file.operator("DEQUANTIZE", [w.input(node)], [w.values[node.output]])


def quantize(w: Writing, node: Quantize) -> None:
    """QUANTIZE."""
    w.file.operator("QUANTIZE", [w.input(node)], [w.output(node)])


def _real(w: Writing, name: str) -> None:
    """Add the file's tensor of real numbers, or of other integers than those of 8 bits."""
    tensor = w.graph.tensors[name]
    w.values[name] = w.file.tensor(name, tensor.shape, tensor.dtype.upper())


def host_operator(w: Writing, node: HostOperator) -> None:
    """The operator itself between changes of shape; of ONNX's own operators only Reshape."""
    if node.domain != TFLITE_DOMAIN:
        if (node.domain, node.op_type) != ("", "Reshape"):
            raise InexpressibleError(node, f"{node.op_type} of ONNX")
        _real(w, node.output)
        w.reshape(w.input(node), w.graph.tensors[node.output].shape, w.values[node.output])
        return
    if not litert.is_installed():
        raise InexpressibleError(node, f"{node.op_type}, which {litert.MISSING}")
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(np.asarray(node.attributes[TFLITE_MODEL]).tobytes(), 0)
    (operator,) = model.subgraphs[0].operators
    given = dict(zip(model.subgraphs[0].inputs, dict.fromkeys(node.arguments), strict=True))
    made = dict(zip(operator.outputs, node.outputs, strict=True))
    places = dict[int, int]()
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        if tensor.type == schema.TensorType.UINT8:
            raise InexpressibleError(node, f"{node.op_type} of uint8")
        if index in given:
            places[index] = _given(w, node, given[index], _shape(tensor))
            if w.graph.tensors[given[index]].dtype != "int8":
                w.file.describe(places[index], tensor)
        else:
            data = model.buffers[tensor.buffer].data
            name = _name(w.graph.tensors[made[index]], tensor) if index in made else f"{node.name}_{index}"
            places[index] = w.file.copied(tensor, name, b"" if data is None else bytes(data))
    operator.inputs = [places.get(index, -1) for index in operator.inputs]
    operator.outputs = [places[index] for index in operator.outputs]
    operator.intermediates = None if operator.intermediates is None else [places[i] for i in operator.intermediates]
    w.file.copied_operator(node.op_type, node.opset, operator)
    for index, name in made.items():
        _made(w, w.graph.tensors[name], places[index], _shape(model.subgraphs[0].tensors[index]))


def _shape(tensor: Any) -> Shape:
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)


def _name(result: Tensor, tensor: Any) -> str:
    return result.name if result.shape == _shape(tensor) else f"{result.name}_own"


def _given(w: Writing, node: HostOperator, name: str, shape: Shape) -> int:
    """The file's tensor of an input under the operator's shape."""
    tensor = w.graph.tensors[name]
    if tensor.shape == shape:
        return w.values[name]
    if tensor.dtype != "int8":
        raise InexpressibleError(node, f"a tensor of type {tensor.dtype} under two shapes")
    target = w.like(tensor, f"given_{len(w.file.tensors)}", shape)
    w.reshape(w.values[name], shape, target)
    return target


def _made(w: Writing, result: Tensor, place: int, shape: Shape) -> None:
    """The file's tensor of an output under the graph's shape."""
    w.values[result.name] = place
    if result.shape != shape:
        w.values[result.name] = w.tensor(result.name, result.shape, result.parameters)
        w.reshape(place, result.shape, w.values[result.name])
