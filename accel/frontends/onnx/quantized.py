"""Reading quantized ONNX models: QDQ and QOperator form, int8 and uint8 activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from accel.errors import AccelError, ModelError
from accel.frontends.builder import GraphBuilder, Port
from accel.frontends.model_file import ModelSource, naming
from accel.frontends.onnx.file import FOLDED_IF_CONSTANT, evaluate, initializers, load_onnx
from accel.frontends.onnx.float_operators import OnnxNode
from accel.frontends.onnx.linear import LINEAR
from accel.frontends.onnx.movement import MOVEMENT
from accel.frontends.onnx.scaling import SCALING, quantized_constant
from accel.frontends.onnx.values import (
    Activation,
    Importer,
    Pending,
    RawInput,
    Real,
    Sums,
    onnx_layout,
    unknown_batch,
)
from accel.frontends.onnx.vector import VECTOR
from accel.machine.numerics import RequantMode
from accel.network.graph import Graph
from accel.network.windows import Shape

if TYPE_CHECKING:
    import onnx

TRANSLATORS = LINEAR | MOVEMENT | SCALING | VECTOR
PASSED_THROUGH = ("Identity", "Dropout")
OLDEST_OPSET = 10
_DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def read_quantized_onnx(source: ModelSource) -> Graph:
    """Read a quantized model; the graph computes what ONNX Runtime's integer kernels compute.

    Parameters
    ----------
    source : path or bytes
        Opset 10 or later, batch size 1 or free. Real inputs and outputs are described by the scale and zero point of
        the QuantizeLinear and DequantizeLinear beside them; uint8 tensors are shifted by 128.

    Returns
    -------
    Graph
        In mode `fp32`.

    Raises
    ------
    ModelError
        The file cannot be read, is damaged, is not quantized, or uses something that is not supported.

    Notes
    -----
    Between DequantizeLinear and QuantizeLinear, a layer with weights is one integer layer, as in ONNX Runtime's
    optimized graphs; a function of one variable is a table. QLinearAdd and QLinearMul may differ by one step where
    float32 meets a near tie.
    """
    with naming(source):
        return _read_checked(load_onnx(source))


def _read_checked(model: onnx.ModelProto) -> Graph:
    """`_read`, whatever a damaged model makes it raise."""
    try:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            return _read(model)
    except ModelError:
        raise
    except AccelError as error:
        raise ModelError(f"model must be consistent: {error}") from error
    except _DAMAGE as error:
        raise ModelError(f"model must be a valid ONNX file: {type(error).__name__}: {error}") from error


def _read(model: onnx.ModelProto) -> Graph:
    """Translate the nodes in order."""
    if not any(_is_quantized(node.op_type) for node in model.graph.node):
        raise ModelError("model must be quantized, got a float model: run `accel quantize` on it first")
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise ModelError(f"model must have opset {OLDEST_OPSET} or later, got {opset}; convert it")
    imp = Importer(GraphBuilder(RequantMode.FP32), initializers(model))
    inputs = [value for value in model.graph.input if value.name not in imp.constants]
    shapes: dict[str, Shape] = {}
    for value in inputs:
        imp.values[value.name] = raw = _input(value)
        shapes[raw.name] = raw.shape
    for index, proto in enumerate(model.graph.node):
        _translate(model, imp, proto, index, opset)
    outputs = [_output(imp, value.name) for value in model.graph.output]
    if unread := [value.name for value in inputs if value.name not in imp.inputs]:
        raise ModelError(f"model input {unread[0]!r} must be read by a quantized operator")
    given = [Port(imp.inputs[name], name, onnx_layout(shape)) for name, shape in shapes.items()]
    return imp.builder.finish(model.graph.name or "model", given, outputs)


def _is_quantized(operator: str) -> bool:
    return operator.startswith("Q") or "Linear" in operator or "Integer" in operator


def _input(value: onnx.ValueInfoProto) -> RawInput:
    """An input of the model."""
    import onnx

    tensor = value.type.tensor_type
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    if tensor.elem_type not in kinds:
        raise ModelError(f"model input {value.name!r} must be float32, int8 or uint8, got type {tensor.elem_type}")
    shape = unknown_batch(value.name, [dim.dim_value for dim in tensor.shape.dim])
    return RawInput(value.name, shape, *(tensor.elem_type == kind for kind in (kinds[0], kinds[2])))


def _output(imp: Importer, name: str) -> Port:
    """The graph's tensor for an output of the model; a flattened image is brought into ONNX's order."""
    value = imp.values.get(name)
    if isinstance(value, Pending) and value.default is not None:
        value = Activation(value.finish(value.default, {}), value.shape)
    if isinstance(value, Real):
        value = value.activation
    if not isinstance(value, Activation):
        raise ModelError(f"model output {name!r} must be quantized, or come from DequantizeLinear or Softmax")
    if value.pixels is not None:
        value = Activation(imp.builder.reshape(imp.row_major(value), value.shape), value.shape)
    return Port(value.name, name, onnx_layout(value.shape))


def _translate(model: onnx.ModelProto, imp: Importer, proto: onnx.NodeProto, index: int, opset: int) -> None:
    """Translate one node, or evaluate it if it is constant."""
    plain = proto.domain in ("", "ai.onnx")
    operator = proto.op_type if plain else f"{proto.domain}.{proto.op_type}"
    constant = all(name in imp.constants for name in proto.input)
    if plain and constant and operator in FOLDED_IF_CONSTANT:
        imp.constants.update(evaluate(model, proto, imp.constants))
        return
    node = _node(imp, proto, operator, index, opset)
    if plain and constant and operator == "QuantizeLinear" and proto.input:
        imp.constants[node.output] = quantized_constant(imp, node)
    elif (plain and operator in PASSED_THROUGH) or (operator == "Cast" and _is_sums(imp, node)):
        imp.values[node.output] = imp.value(node, node.inputs[0])
    elif operator in TRANSLATORS:
        imp.values[node.output] = TRANSLATORS[operator](imp, node)
    else:
        raise node.error(f"operator is not supported; supported are {', '.join(sorted(TRANSLATORS))}")


def _is_sums(imp: Importer, node: OnnxNode) -> bool:
    return isinstance(imp.values.get(node.inputs[0]), Sums)


def _node(imp: Importer, proto: onnx.NodeProto, operator: str, index: int, opset: int) -> OnnxNode:
    import onnx

    node = OnnxNode(
        name=proto.name or f"{operator}_{index}",
        operator=operator,
        opset=opset,
        inputs=tuple(proto.input),
        output=proto.output[0],
        attributes={entry.name: onnx.helper.get_attribute_value(entry) for entry in proto.attribute},
        constants={name: imp.constants[name] for name in proto.input if name in imp.constants},
        shapes={},
    )
    if extra := [name for name in proto.output[1:] if name]:
        raise node.error(f"only the first output is supported, got {extra!r} too")
    return node
