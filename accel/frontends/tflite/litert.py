"""Leaving an operator to LiteRT: what no unit computes and ONNX does not express, the runtime itself computes.

The node of the graph carries a model of the operator alone, with its options, constants and quantization, so that its
integers are the runtime's own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from accel.errors import reason
from accel.frontends.tflite.axes import graph_shape
from accel.frontends.tflite.dilation import Dilated
from accel.frontends.tflite.file import IDENTIFIER, INTEGER_TYPES, TfliteFile, TfliteTensor, UnsupportedError
from accel.frontends.tflite.host import HOST_TYPES, numbers, real
from accel.frontends.tflite.operation import Operation
from accel.network import litert
from accel.network.graph import Tensor
from accel.network.nodes import HostOperator
from accel.network.nodes.host import TFLITE_DOMAIN, TFLITE_MACS, TFLITE_MODEL, TFLITE_REASON
from accel.network.windows import Shape
from accel.quantized.builder import LARGEST_TENSOR

LOGGER = logging.getLogger(__name__)
CARRIED_TYPES = HOST_TYPES | {"INT16": "int16", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64"}
"""Types of tensors that only the host has, those included that LiteRT alone computes with."""
EXTRA = "LiteRT computes it on the host: pip install 'accel[litert]'"
UNKNOWN = "docs/importing.md lists those that are"
"""The advice on operators that nothing but LiteRT may know."""
ALIGNMENT = 16
"""Of the data of constants, as the schema asks for."""
_SUBGRAPHS, _RESOURCES = "it runs another subgraph", "it keeps tables of texts"
_COMPLEX, _SIZES = "its numbers are complex", "the sizes of its results depend on values"
_RANDOM, _NO_KERNEL = "its results are random", "LiteRT has no kernel for it"
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("CALL", "CALL_ONCE", "IF", "WHILE", "STABLEHLO_COMPOSITE", "STABLEHLO_REDUCE"), _SUBGRAPHS),
        **dict.fromkeys(("STABLEHLO_REDUCE_WINDOW", "STABLEHLO_SCATTER", "STABLEHLO_SORT"), _SUBGRAPHS),
        "STABLEHLO_WHILE": _SUBGRAPHS,
        **dict.fromkeys(("HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE"), _RESOURCES),
        **dict.fromkeys(("HASHTABLE_LOOKUP", "SKIP_GRAM"), _RESOURCES),
        **dict.fromkeys(("ASSIGN_VARIABLE", "READ_VARIABLE", "VAR_HANDLE"), "a variable is an input and an output"),
        **dict.fromkeys(("COMPLEX_ABS", "IMAG", "REAL", "RFFT2D"), _COMPLEX),
        **dict.fromkeys(("EMBEDDING_LOOKUP_SPARSE", "SEGMENT_SUM", "UNIQUE", "WHERE"), _SIZES),
        **dict.fromkeys(("MULTINOMIAL", "RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM"), _RANDOM),
        **dict.fromkeys(("CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"), "the file does not define it"),
        "DENSIFY": "its input is sparse",
        **dict.fromkeys(
            (
                "CONCAT_EMBEDDINGS", "STABLEHLO_ABS", "STABLEHLO_BROADCAST_IN_DIM", "STABLEHLO_CBRT",
                "STABLEHLO_CLAMP", "STABLEHLO_COMPARE", "STABLEHLO_CONCATENATE", "STABLEHLO_CONVERT",
                "STABLEHLO_CONVOLUTION", "STABLEHLO_COSINE", "STABLEHLO_CUSTOM_CALL", "STABLEHLO_DIVIDE",
                "STABLEHLO_DOT_GENERAL", "STABLEHLO_DYNAMIC_SLICE", "STABLEHLO_DYNAMIC_UPDATE_SLICE",
                "STABLEHLO_EXPONENTIAL", "STABLEHLO_FLOOR", "STABLEHLO_IOTA", "STABLEHLO_LOG", "STABLEHLO_LOGISTIC",
                "STABLEHLO_NEGATE", "STABLEHLO_OR", "STABLEHLO_POWER", "STABLEHLO_REMAINDER", "STABLEHLO_RESHAPE",
                "STABLEHLO_RSQRT", "STABLEHLO_SELECT", "STABLEHLO_SLICE", "STABLEHLO_SUBTRACT", "STABLEHLO_TANH",
                "STABLEHLO_TRANSPOSE",
            ),
            _NO_KERNEL,
        ),
    }
)  # fmt: skip
"""Operators that LiteRT does not compute for the host, and why."""
SIZED = ("CONV_3D_TRANSPOSE", "FILL", "SCATTER_ND", "SPARSE_TO_DENSE", "TRANSPOSE_CONV")
"""Operators of which a constant tells the size of the result, whatever the file says of it."""
RESIZED = ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")


def leave_to_litert(op: Operation, refusal: UnsupportedError) -> None:
    """Add the node that LiteRT computes.

    Raises
    ------
    ModelError
        LiteRT refuses the operator, too, or the graph cannot hold its tensors: `refusal` in general.
    """
    if op.operator.builtin in REFUSED or op.operator.table is None or isinstance(op.operator.options, Dilated):
        raise refusal
    if op.operator.builtin == "SVDF" and op.tensor(0).type == "INT8" and op.tensor(4).type != "INT16":
        raise op.error(
            f"state must be INT16, got {op.tensor(4).type}, which LiteRT reads as INT16; convert the model anew"
        )
    _check_size(op)
    places = [place for place, index in enumerate(op.operator.inputs) if index >= 0 and _is_given(op, place)]
    arguments = tuple(_argument(op, place) for place in places)
    results = [_result(op, position) for position in range(len(op.operator.outputs))]
    if not litert.is_installed():
        raise UnsupportedError(f"{refusal}; {EXTRA}")
    node = HostOperator(
        name=op.builder.node_name(HostOperator),
        inputs=tuple(dict.fromkeys(arguments)),
        output=results[0].name,
        more_outputs=tuple(result.name for result in results[1:]),
        domain=TFLITE_DOMAIN,
        op_type=op.operator.builtin,
        opset=max(op.operator.version, 1),
        arguments=arguments,
        attributes={
            TFLITE_MODEL: np.frombuffer(model_of(op), np.uint8),
            TFLITE_MACS: _macs(op),
            TFLITE_REASON: _reason(op, refusal),
        },
    )
    _check_session(op, node, refusal)
    op.builder.add(node, results)
    for index, result in zip(op.operator.outputs, results, strict=True):
        op.values[index] = result.name


def tell_forgetful(file: TfliteFile) -> None:
    """Say which operators begin anew in every inference, once for a file, and what would not."""
    names = [
        f"{operator.builtin} {operator.index}"
        for operator in file.operators
        if any(file.tensors[index].variable for index in operator.inputs if index >= 0)
    ]
    if names:
        LOGGER.warning(
            "%s: the state starts from zero in every inference, as after reset_all_variables; `accel run` and "
            "accel.run(..., state=...) carry resource variables and the INT8 state of SVDF along a stream",
            ", ".join(names),
        )


def _reason(op: Operation, refusal: UnsupportedError) -> str:
    """What of the operator no unit has, without advice; nothing if that is the operator."""
    text = str(refusal).removeprefix(f"{op.operator.builtin} {op.operator.index}: ").partition(";")[0]
    return "" if text.startswith("operator ") else text


def _is_given(op: Operation, place: int) -> bool:
    """Whether an input is a tensor of the graph: no constant, no memory of the runtime, no second use."""
    tensor, inputs = op.tensor(place), op.operator.inputs
    return tensor.data is None and not tensor.variable and inputs.index(inputs[place]) == place


def _argument(op: Operation, place: int) -> str:
    """The graph's tensor of an input: integers of 8 bits under the graph's shape, others in the model's."""
    tensor, index = op.tensor(place), op.operator.inputs[place]
    if tensor.type in INTEGER_TYPES:
        return op.value(place)
    if tensor.type not in CARRIED_TYPES:
        raise op.error(f"input {tensor.name!r} must be one of {', '.join(CARRIED_TYPES)}, got {tensor.type}")
    if tensor.type in HOST_TYPES:
        value = real(op, place)
        assert isinstance(value, str)
        return value
    if index not in op.values:
        raise op.error(f"input {tensor.name!r} of type {tensor.type} must be made by an operator that is supported")
    return op.values[index]


def _result(op: Operation, position: int) -> Tensor:
    """The graph's tensor of an output."""
    tensor = op.result(position)
    if math.prod(tensor.shape) > LARGEST_TENSOR:
        raise op.error(f"output {tensor.name!r} must have at most {LARGEST_TENSOR} elements, got {tensor.shape!r}")
    name = op.builder.free(tensor.name)
    if tensor.type in INTEGER_TYPES:
        parameters = tensor.parameters() if tensor.scale.size else numbers(tensor)
        return Tensor(name, graph_shape(tensor.shape), *parameters)
    if tensor.type not in CARRIED_TYPES:
        raise op.error(f"output {tensor.name!r} must be one of {', '.join(CARRIED_TYPES)}, got {tensor.type}")
    return Tensor(name, tensor.shape, 1.0, 0, dtype=CARRIED_TYPES[tensor.type])


def _check_size(op: Operation) -> None:
    """Raise `ModelError` if LiteRT would make a larger result than the file says, before it takes the memory."""
    builtin, shape = op.operator.builtin, op.result().shape
    place = next((place for place in range(len(op.operator.inputs)) if op.optional(place)), 0)
    place = {"SCATTER_ND": 2, "SPARSE_TO_DENSE": 1}.get(builtin, 1 if builtin in RESIZED else place)
    if builtin not in (*SIZED, *RESIZED) or (tensor := op.optional(place)) is None or tensor.data is None:
        return
    wanted = list(shape[1:3] if builtin in RESIZED else shape)
    if (sizes := tensor.integers()) != wanted:
        raise op.error(f"output must have the sizes {sizes} that input {tensor.name!r} tells, got {wanted}")


def _check_session(op: Operation, node: HostOperator, refusal: UnsupportedError) -> None:
    """Raise `ModelError` unless LiteRT takes the operator and gives results of the file's sizes."""
    try:
        values = litert.tried(node)
    except litert.DynamicSizeError as error:
        raise op.error(
            f"output {str(error)!r} must have the same size in every run, which depends on values"
        ) from error
    except litert.RefusedError as error:
        if not str(refusal).endswith(UNKNOWN):
            raise refusal from error
        raise op.error(f"must be what LiteRT computes, which says: {reason(error)}") from error
    for position, value in enumerate(values):
        tensor = op.result(position)
        if value.shape != tensor.shape:
            raise op.error(f"output {tensor.name!r} must have shape {value.shape!r}, got {tensor.shape!r}")


class AlignedBuffer(NamedTuple):
    """A buffer of a file, with the method of the schema's own classes."""

    data: bytes

    def Pack(self, builder: Any) -> Any:  # noqa: N802
        """Write the buffer; its offset."""
        import tflite

        data = None
        if self.data:
            builder.StartVector(1, len(self.data), ALIGNMENT)
            builder.head = builder.Head() - len(self.data)
            builder.Bytes[builder.Head() : builder.Head() + len(self.data)] = self.data
            data = builder.EndVector()
        tflite.BufferStart(builder)
        if data is not None:
            tflite.BufferAddData(builder, data)
        return tflite.BufferEnd(builder)


def model_of(op: Operation) -> bytes:
    """A file of the operator alone: its inputs are the tensors that the graph gives, in the operator's order.

    LiteRT must be installed: its classes copy the options.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    operator = schema.OperatorT.InitFromObj(_copied(schema.Operator, op.operator.table))
    between = [] if operator.intermediates is None else [int(index) for index in operator.intermediates]
    if not all(0 <= index < len(op.tensors) for index in between):
        raise op.error(f"intermediates must be tensors 0 to {len(op.tensors) - 1}, got {between}")
    used = list(dict.fromkeys(i for i in (*op.operator.inputs, *op.operator.outputs, *between) if i >= 0))
    places = {index: place for place, index in enumerate(used)}
    buffers, tensors = [AlignedBuffer(b"")], list[Any]()
    for index in used:
        data = op.tensors[index].data
        tensors.append(_declared(schema, op.tensors[index], 0 if data is None else len(buffers)))
        buffers += [] if data is None else [AlignedBuffer(data.tobytes())]
    operator.opcodeIndex, operator.intermediates = 0, [places[index] for index in between] or None
    operator.inputs = [places.get(index, -1) for index in op.operator.inputs]
    operator.outputs = [places[index] for index in op.operator.outputs]
    given = [places[index] for place, index in enumerate(op.operator.inputs) if index >= 0 and _is_given(op, place)]
    subgraph = schema.SubGraphT(tensors=tensors, inputs=given, outputs=operator.outputs, operators=[operator])
    number = getattr(schema.BuiltinOperator, op.operator.builtin)
    code = schema.OperatorCodeT(min(number, 127), None, op.operator.version, number)
    model = schema.ModelT(version=3, operatorCodes=[code], subgraphs=[subgraph], buffers=buffers)
    packer = flatbuffers.Builder(1024)
    packer.Finish(model.Pack(packer), IDENTIFIER)
    return bytes(packer.Output())


def _copied(kind: Any, table: Any) -> Any:
    """A table of the file as another package's class of the same schema."""
    copy = kind()
    copy.Init(table._tab.Bytes, table._tab.Pos)
    return copy


def _declared(schema: Any, tensor: TfliteTensor, buffer: int) -> Any:
    """A tensor of the new file, whose constant is the buffer of this number."""
    declared = schema.TensorT(
        name=tensor.name,
        shape=list(tensor.shape),
        hasRank=True,
        type=getattr(schema.TensorType, tensor.type),
        buffer=buffer,
        isVariable=tensor.variable,
    )
    if tensor.scale.size:
        declared.quantization = schema.QuantizationParametersT(
            scale=tensor.scale, zeroPoint=tensor.zero_point, quantizedDimension=tensor.axis
        )
    return declared


def _steps(given: Sequence[Shape], result: Shape) -> int:
    """Every row of the input meets all matrices."""
    return math.prod(given[0][:-1]) * sum(math.prod(shape) for shape in given[1:] if len(shape) == 2)


def _matrices(given: Sequence[Shape], result: Shape) -> int:
    """The axis that is summed is in both matrices, each of which may be transposed."""
    first, second, product = (math.prod(shape[-2:]) for shape in (*given[:2], result))
    return math.prod(result) * math.isqrt(first * second // product)


MACS: Mapping[str, Callable[[Sequence[Shape], Shape], int]] = MappingProxyType(
    {
        "BATCH_MATMUL": _matrices,
        "CONV_2D": lambda given, y: math.prod(y) * math.prod(given[1][1:]),
        "CONV_3D": lambda given, y: math.prod(y[:-1]) * math.prod(given[1]),
        "CONV_3D_TRANSPOSE": lambda given, y: math.prod(given[2][:-1]) * math.prod(given[1]),
        "DEPTHWISE_CONV_2D": lambda given, y: math.prod(y) * math.prod(given[1][1:3]),
        "FULLY_CONNECTED": lambda given, y: math.prod(y) * given[1][-1],
        "TRANSPOSE_CONV": lambda given, y: math.prod(given[2]) * math.prod(given[1][:-1]),
        **dict.fromkeys(("BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "LSTM", "RNN"), _steps),
        **dict.fromkeys(("SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN"), _steps),
    }
)
"""Products of operators, from the shapes of inputs and of the first output; the others count none."""


def _macs(op: Operation) -> int:
    given = [() if index < 0 else op.tensors[index].shape for index in op.operator.inputs]
    return int(MACS[op.operator.builtin](given, op.result().shape)) if op.operator.builtin in MACS else 0
