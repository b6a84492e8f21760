"""Reading ONNX models: float, QDQ and QOperator files become one kind of network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from accel.errors import AccelError, InputError, ModelError
from accel.frontends.model_file import ModelSource, naming
from accel.frontends.onnx.file import OnnxFile, Shapes, load_onnx
from accel.frontends.onnx.folding import Arrays, fold
from accel.frontends.onnx.fused import unfused
from accel.frontends.onnx.lookups import joined_lookups
from accel.frontends.onnx.strip import is_quantized, strip
from accel.frontends.onnx.stripper import MICROSOFT
from accel.frontends.onnx.tail import cut_tail
from accel.frontends.onnx.write import PRODUCER, with_shapes
from accel.machine.numerics import RequantMode
from accel.network.graph import Graph
from accel.network.nodes.host import FUNCTION_DOMAIN
from accel.quantized.lower import lower
from accel.quantized.network import REAL_TYPES, Network, Operator, TensorInfo

if TYPE_CHECKING:
    import onnx

Result = TypeVar("Result")
OLDEST_OPSET = 7
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
"""Types of integers that an input may have."""
OF_ONE_IMAGE = (
    *("AveragePool", "Conv", "ConvInteger", "ConvTranspose", "GlobalMaxPool", "MaxPool", "Resize", "Upsample"),
)
"""Operators that the machine computes for one image."""
_DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)


def read_onnx(source: ModelSource, shapes: Shapes | None = None) -> Network:
    """Read a model.

    Parameters
    ----------
    source : path or bytes
        Batch size 1 or free; other free sizes are told by `shapes`.
    shapes : mapping of str to tuple of int, optional
        Sizes of inputs by name.

    Returns
    -------
    Network
        Without parameters if the file is a float model; with those of QuantizeLinear, DequantizeLinear and the QLinear
        operators otherwise, which are then no operators of the network.

    Raises
    ------
    ModelError
        The file cannot be read, is damaged, or contradicts itself.
    InputError
        `shapes` does not fit the model.
    """
    return checked(lambda: _read(load_onnx(source, shapes)))


def read_quantized_onnx(source: ModelSource, shapes: Shapes | None = None) -> Graph:
    """Read a quantized model; the graph computes what ONNX Runtime's integer kernels compute.

    Parameters
    ----------
    source : path or bytes
        Opset 7 or later; ONNX's own quantized operators begin with 10. Real inputs and outputs are described by the
        scale and zero point of the QuantizeLinear and DequantizeLinear beside them; uint8 tensors are shifted by 128.
    shapes : mapping of str to tuple of int, optional
        As in `read_onnx`.

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
    optimized graphs; functions of one variable are a table.
    """
    with naming(source):
        return checked(lambda: _lowered(load_onnx(source, shapes)))


def checked(read: Callable[[], Result]) -> Result:
    """The result of `read`; any error that a damaged model causes becomes a `ModelError`."""
    try:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            return read()
    except (ModelError, InputError):
        raise
    except AccelError as error:
        raise ModelError(f"model must be consistent: {error}") from error
    except _DAMAGE as error:
        raise ModelError(f"model must be a valid ONNX file: {type(error).__name__}: {error}") from error


def _lowered(file: OnnxFile) -> Graph:
    quantized = any(is_quantized(node.op_type) for node in file.model.graph.node)
    if not quantized and file.model.producer_name != PRODUCER:
        raise ModelError("model must be quantized, got a float model: run `accel quantize` on it first")
    return lower(_read(file), RequantMode.FP32)


def _opset(model: onnx.ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _read(file: OnnxFile) -> Network:
    """The network of a model of known sizes."""
    model = file.model
    opset = _opset(model)
    if opset < OLDEST_OPSET:
        found = f"got {opset}; convert it" if opset else "got no operators of ONNX's own domain"
        raise ModelError(f"model must have opset {OLDEST_OPSET} or later, {found}")
    unfused(model, opset)
    constants, known = fold(model, file.weights)
    inputs = [value for value in model.graph.input if value.name not in constants]
    tensors = {name: TensorInfo(name, shape, dtype) for name, (shape, dtype) in known.items()}
    tensors |= {value.name: TensorInfo(value.name, known[value.name][0], _input_type(value)) for value in inputs}
    tensors |= {name: TensorInfo.constant(name, value) for name, value in _as_float32(constants).items()}
    versions = {entry.domain: entry.version for entry in model.opset_import}
    versions |= dict.fromkeys(("", "ai.onnx", MICROSOFT.rstrip(".")), opset)
    operators = tuple(as_operator(proto, index, versions) for index, proto in enumerate(model.graph.node))
    names = tuple(value.name for value in inputs)
    outputs = tuple(value.name for value in model.graph.output)
    network = Network(model.graph.name or "model", _distinct(operators), tensors, names, outputs)
    network = with_shapes(strip(joined_lookups(cut_tail(network))))
    _check_batches(network)
    return network


def _check_batches(network: Network) -> None:
    """Raise `ModelError` for images of which the model has several and an operator wants one."""
    shapes = {name: info.shape for name, info in network.tensors.items()}
    batches = [name for name in network.inputs if len(shapes[name]) > 3 and shapes[name][0] != 1]
    for op in network.operators if batches else ():
        if op.kind in OF_ONE_IMAGE and shapes.get(op.inputs[0], (1,))[0] != 1:
            raise ModelError(
                f"model input {batches[0]!r} must have batch size 1, which {op.kind} {op.name!r} wants, got shape "
                f"{shapes[batches[0]]!r}; export the model with 1 or with a free first size: samples run one after "
                "the other"
            )


def _as_float32(constants: Arrays) -> Arrays:
    """Real constants of other precisions as float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            name: value.astype(np.float32) if value.dtype.name in REAL_TYPES else value
            for name, value in constants.items()
        }


def _input_type(value: onnx.ValueInfoProto) -> str:
    """The type of an input."""
    import onnx

    kind = value.type.tensor_type.elem_type
    known = {getattr(onnx.TensorProto, name): "float32" for name in ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")}
    known |= {getattr(onnx.TensorProto, name.upper()): name for name in ("bool", *INTEGERS)}
    if kind not in known:
        name = onnx.TensorProto.DataType.Name(kind).lower() if kind in onnx.TensorProto.DataType.values() else kind
        raise ModelError(f"model input {value.name!r} must be of real numbers, integers or bool, got {name}")
    return known[kind]


def as_operator(proto: onnx.NodeProto, index: int, versions: Mapping[str, int]) -> Operator:
    """A node as an operator of the version that its domain has; `index` tells those apart that have no name."""
    kind = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
    attributes = {entry.name: _attribute(entry) for entry in proto.attribute}
    name = proto.name or f"{kind.removeprefix(f'{FUNCTION_DOMAIN}.')}_{index}"
    opset = versions.get(proto.domain, 1)
    return Operator(name, kind, tuple(proto.input), tuple(proto.output), attributes, opset)


def _attribute(entry: onnx.AttributeProto) -> Any:
    """An attribute as a Python value."""
    import onnx

    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, list | tuple) and value and isinstance(value[0], bytes):
        return [text.decode() for text in value]
    return list(value) if isinstance(value, list | tuple) else value


def _distinct(operators: tuple[Operator, ...]) -> tuple[Operator, ...]:
    """Operators whose names differ."""
    taken: set[str] = set()
    result = []
    for operator in operators:
        name, number = operator.name, 1
        while name in taken:
            name, number = f"{operator.name}_{number}", number + 1
        taken.add(name)
        result.append(operator if name == operator.name else replace(operator, name=name))
    return tuple(result)
