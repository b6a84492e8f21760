"""Opening ONNX files: what the readers of float and of quantized models share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.frontends.model_file import ModelSource, read_model

if TYPE_CHECKING:
    import onnx

FOLDED_IF_CONSTANT = ("Cast", "Constant", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that are evaluated when the model is read, if all their inputs are constants."""


def load_onnx(source: ModelSource) -> onnx.ModelProto:
    """Parse and check a model.

    Raises
    ------
    ModelError
        The file cannot be read, is no valid ONNX model, or keeps data in other files.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(read_model(source))
        tensors = [*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute)]
        if external := [t.name for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL]:
            raise ModelError(f"model must be one file, got external data for {external[0]!r}; save it with its data")
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, UnicodeDecodeError) as error:
        raise ModelError(f"model must be a valid ONNX file: {error}") from error
    return model


def initializers(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """The constants that the file stores, by name."""
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def evaluate(
    model: onnx.ModelProto, proto: onnx.NodeProto, constants: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """The outputs of a node with constant inputs."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in proto.output]
    inputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in proto.input]
    graph = helper.make_graph([proto], "constant", inputs, outputs)
    single = helper.make_model(graph, opset_imports=model.opset_import)
    try:
        values = ReferenceEvaluator(single).run(None, {name: constants[name] for name in proto.input})
    except Exception as error:
        raise ModelError(f"{proto.op_type} {proto.name!r}: constant cannot be evaluated: {error}") from error
    return dict(zip(proto.output, (np.asarray(value) for value in values), strict=True))
