"""Evaluating one operator of the host: a model of its own, in ONNX Runtime or LiteRT."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import reason
from accel.network import litert
from accel.network.graph import Tensor
from accel.network.nodes import HostOperator
from accel.network.nodes.host import FUNCTION_BODY, FUNCTION_DOMAIN, TFLITE_DOMAIN

IR_VERSION = 8


def evaluate(
    node: HostOperator, sources: Sequence[Tensor], results: Sequence[Tensor], arrays: Sequence[NDArray[Any]]
) -> list[NDArray[Any]]:
    """The outputs of an operator.

    Parameters
    ----------
    node : HostOperator
    sources, results : sequence of Tensor
        Its inputs and outputs.
    arrays : sequence of ndarray
        The inputs' values.

    Raises
    ------
    GraphError
        The runtime does not know the operator, or an output has another type or shape than its tensor.
    """
    if node.domain == TFLITE_DOMAIN:
        return litert.evaluate(node, results, arrays)
    try:
        session = _session(node, tuple(sources), tuple(results))
    except Exception as error:
        # ONNX Runtime raises a dozen types of its own, without a common base.
        raise node.error(
            f"{node.op_type} must be an operator that ONNX Runtime evaluates, got: {reason(error)}"
        ) from None
    try:
        values: list[NDArray[Any]] = session.run(None, dict(zip((t.name for t in sources), arrays, strict=True)))
    except Exception as error:
        raise node.error(f"{node.op_type} must have values that ONNX Runtime takes, got: {reason(error)}") from None
    for tensor, value in zip(results, values, strict=True):
        if not isinstance(value, np.ndarray) or (value.dtype.name, value.shape) != (tensor.dtype, tensor.shape):
            got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            raise node.error(f"output {tensor.name!r} must be {tensor.dtype} {tensor.shape}, got {got}")
    return values


@lru_cache(maxsize=256)
def _session(node: HostOperator, sources: tuple[Tensor, ...], results: tuple[Tensor, ...]) -> Any:
    """A session for the operator, without optimizations and in one thread, so that equal inputs give equal bits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    model = _model(node, sources, results)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _model(node: HostOperator, sources: tuple[Tensor, ...], results: tuple[Tensor, ...]) -> bytes:
    """A serialized model of the one operator."""
    from onnx import FunctionProto, helper, numpy_helper

    def declare(tensor: Tensor) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
        return helper.make_tensor_value_info(tensor.name, kind, tensor.shape)

    attributes = {
        name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in node.attributes.items()
        if node.domain != FUNCTION_DOMAIN
    }
    names = [tensor.name for tensor in results]
    operator = helper.make_node(node.op_type, node.arguments, names, domain=node.domain, **attributes)
    constants = [numpy_helper.from_array(value, name) for name, value in node.constants.items()]
    given = [declare(tensor) for tensor in dict.fromkeys(sources)]
    graph = helper.make_graph([operator], node.op_type, given, [declare(tensor) for tensor in results], constants)
    opsets, functions = [helper.make_opsetid(node.domain, node.opset)], []
    if node.domain == FUNCTION_DOMAIN:
        functions.append(FunctionProto.FromString(np.asarray(node.attributes[FUNCTION_BODY]).tobytes()))
        opsets += functions[0].opset_import
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=IR_VERSION)
    data: bytes = model.SerializeToString()
    return data
