"""Reading a float ONNX model into a `Network`: checks, constants, shapes; `onnx_operators` translates the nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.frontends.model_file import ModelSource
from accel.frontends.onnx.file import FOLDED_IF_CONSTANT, evaluate, initializers, load_onnx
from accel.frontends.onnx.float_layers import Layer, Network
from accel.frontends.onnx.float_operators import TRANSLATORS, OnnxNode
from accel.network.windows import Shape

if TYPE_CHECKING:
    import onnx

PASSED_THROUGH = ("Identity", "Dropout")


def read_onnx(source: ModelSource) -> Network:
    """Read a float ONNX model.

    Parameters
    ----------
    source : path or bytes
        The model; its batch dimension is free or 1, its other dimensions are known.

    Returns
    -------
    Network

    Raises
    ------
    ModelError
        The model cannot be read, keeps data in other files, has unknown shapes or uses something that is not supported;
        the message names the node and the operator.
    """
    model = load_onnx(source)
    try:
        return _read(model)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelError(f"model must be a valid ONNX file: {type(error).__name__}: {error}") from error


def _read(model: onnx.ModelProto) -> Network:
    """Translate the nodes in order."""
    constants = initializers(model)
    inputs = tuple(value.name for value in model.graph.input if value.name not in constants)
    shapes = _infer_shapes(model, inputs)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    aliases: dict[str, str] = {}
    layers: list[Layer] = []
    for index, proto in enumerate(model.graph.node):
        if proto.op_type in FOLDED_IF_CONSTANT and all(name in constants for name in proto.input):
            constants.update(evaluate(model, proto, constants))
        elif proto.op_type in PASSED_THROUGH and proto.domain in ("", "ai.onnx"):
            aliases[proto.output[0]] = aliases.get(proto.input[0], proto.input[0])
        else:
            layers.append(_translate(proto, index, opset, aliases, constants, shapes))
    outputs = tuple(aliases.get(value.name, value.name) for value in model.graph.output)
    return Network(model.graph.name or "model", model.SerializeToString(), layers, inputs, outputs, shapes)


def _infer_shapes(model: onnx.ModelProto, inputs: tuple[str, ...]) -> dict[str, Shape]:
    """Set the batch size of `model` to 1 and infer every shape that can be known; unknown ones are left out."""
    import onnx

    for value in model.graph.input:
        if value.name in inputs:
            _fix_batch(value)
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"model must have consistent shapes: {error}") from error
    shapes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.dim_value > 0 for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _fix_batch(value: onnx.ValueInfoProto) -> None:
    """Make the first dimension of an input 1; the others must be known, the type float32."""
    import onnx

    tensor = value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise ModelError(f"model input {value.name!r} must be float32, got {kind}")
    dims = [dim.dim_value for dim in tensor.shape.dim]
    if len(dims) not in (2, 4) or dims[0] > 1 or any(size <= 0 for size in dims[1:]):
        raise ModelError(
            f"model input {value.name!r} must have shape (1, channels, height, width) or (1, features), where only the "
            f"first size may be free, got {tuple(dims)!r} with 0 for free; export the model with fixed sizes"
        )
    tensor.shape.dim[0].dim_value = 1


def _translate(
    proto: onnx.NodeProto,
    index: int,
    opset: int,
    aliases: dict[str, str],
    constants: dict[str, NDArray[Any]],
    shapes: dict[str, Shape],
) -> Layer:
    """The layer of one node."""
    import onnx

    operator = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
    name = proto.name or f"{operator}_{index}"
    if operator not in TRANSLATORS:
        supported = ", ".join(sorted([*TRANSLATORS, *PASSED_THROUGH, "Constant"]))
        raise ModelError(f"{operator} {name!r}: operator is not supported; supported are {supported}")
    node = OnnxNode(
        name=name,
        operator=operator,
        opset=opset,
        inputs=tuple(aliases.get(value, value) for value in proto.input),
        output=proto.output[0],
        attributes={entry.name: onnx.helper.get_attribute_value(entry) for entry in proto.attribute},
        constants={value: np.asarray(constants[value]) for value in proto.input if value in constants},
        shapes=shapes,
    )
    if extra := [value for value in proto.output[1:] if value]:
        raise node.error(f"only the first output is supported, got {extra!r} too")
    return TRANSLATORS[operator](node)
