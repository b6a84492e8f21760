"""Products of control flow, which is a function of ONNX that the host runs: its inner shapes are inferred."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accel.network.nodes.host_macs import COUNTS
from accel.network.windows import Shape

if TYPE_CHECKING:
    import onnx

_TYPES = {"If": ("BOOL",), "Loop": ("INT64", "BOOL")}
"""Types of the first inputs of control flow; the others are taken as real numbers."""


def function_macs(body: bytes, shapes: Mapping[str, Shape], constants: Mapping[str, NDArray[Any]]) -> int:
    """Products of a function, of which those are counted whose shapes can be inferred.

    Parameters
    ----------
    body : bytes
        A serialized `onnx.FunctionProto`.
    shapes : mapping of str to tuple of int
        Of its inputs, by the function's own names.
    constants : mapping of str to ndarray
        Inputs whose values are known.

    Returns
    -------
    int
        Of an If, those of the branch that has more; of a Loop, those of all turns if their number is a constant, of one
        turn otherwise; of a Scan, those of all turns.
    """
    from onnx import FunctionProto, TensorProto, helper, numpy_helper, shape_inference

    function = FunctionProto.FromString(body)
    kinds = dict(pair for node in function.node for pair in zip(node.input, _TYPES.get(node.op_type, ()), strict=False))
    given = [
        helper.make_tensor_value_info(name, getattr(TensorProto, kinds.get(name, "FLOAT")), shapes[name])
        for name in function.input
        if name in shapes and name not in constants
    ]
    results = [helper.make_empty_tensor_value_info(name) for name in function.output]
    known = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(function.node, "function", given, results, known)
    model = helper.make_model(graph, opset_imports=function.opset_import)
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except shape_inference.InferenceError:
        return 0
    return _of_graph(graph, dict(shapes) | {name: value.shape for name, value in constants.items()}, constants)


def _of_graph(graph: onnx.GraphProto, outer: Mapping[str, Shape], constants: Mapping[str, NDArray[Any]]) -> int:
    """Products of all nodes of a graph; `outer` are shapes that it may read from around it."""
    shapes = dict(outer) | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return sum(_of_node(node, shapes, constants) for node in graph.node)


def _of_node(node: onnx.NodeProto, shapes: Mapping[str, Shape], constants: Mapping[str, NDArray[Any]]) -> int:
    from onnx import helper

    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    inner = [_of_graph(one.g, shapes, constants) for one in node.attribute if one.HasField("g")]
    if node.op_type == "If":
        return max(inner, default=0)
    if node.op_type == "Loop":
        turns = constants.get(node.input[0])
        return sum(inner) * (1 if turns is None else max(int(turns.reshape(-1)[0]), 0))
    if node.op_type == "Scan":
        scanned, axes = int(attributes["num_scan_inputs"]), attributes.get("scan_input_axes", [0])
        sizes = shapes.get(node.input[-scanned], ())
        return sum(inner) * (sizes[axes[0]] if sizes else 1)
    label = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    if label not in COUNTS or any(name not in shapes for name in (node.input[0], node.output[0])):
        return 0
    return COUNTS[label](attributes, [shapes.get(name, ()) for name in node.input], shapes[node.output[0]])
