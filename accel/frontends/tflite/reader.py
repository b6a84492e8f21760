"""Reading TensorFlow Lite models that are quantized to int8."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from accel.errors import AccelError, ModelError
from accel.frontends.model_file import ModelSource, naming, read_model
from accel.frontends.tflite.axes import graph_shape
from accel.frontends.tflite.batches import split_batches
from accel.frontends.tflite.blocks import BLOCKS
from accel.frontends.tflite.choosing import INTEGER
from accel.frontends.tflite.dilation import join_dilations
from accel.frontends.tflite.elementwise import ELEMENTWISE
from accel.frontends.tflite.ends import settle_ends
from accel.frontends.tflite.file import INTEGER_TYPES, TfliteFile, TfliteTensor, UnsupportedError, parse
from accel.frontends.tflite.folding import cut_custom_tail, fold_integers
from accel.frontends.tflite.functions import FUNCTIONS
from accel.frontends.tflite.host import HOST_TYPES, numbers, quantize
from accel.frontends.tflite.host_products import integer_cumulative_sum, integer_product, integer_sum
from accel.frontends.tflite.litert import CARRIED_TYPES, REFUSED, UNKNOWN, leave_to_litert, tell_forgetful
from accel.frontends.tflite.movement import MOVEMENT
from accel.frontends.tflite.operation import Operation
from accel.frontends.tflite.real import REAL
from accel.frontends.tflite.resize import RESIZING
from accel.frontends.tflite.states import carry_states
from accel.frontends.tflite.svdf import FILTERS
from accel.frontends.tflite.weighted import WEIGHTED
from accel.frontends.tflite.windows import WINDOWS
from accel.machine.numerics import RequantMode
from accel.network.array_layout import ArrayLayout
from accel.network.graph import Graph, State, Tensor
from accel.quantized.builder import GraphBuilder, Port

TRANSLATORS = BLOCKS | ELEMENTWISE | FILTERS | FUNCTIONS | MOVEMENT | RESIZING | WEIGHTED | WINDOWS
RECURRENT = ("LSTM", "RNN")
"""Ends of the names of recurrent operators."""
HOST_INTEGER = INTEGER | {
    "ADD_N": integer_sum,
    "BATCH_MATMUL": integer_product,
    "CUMSUM": integer_cumulative_sum,
}
"""Operators with results of 8 bits that the host computes."""
KNOWN = {"BATCH_MATMUL": (0, 1), "GATHER": (1,)}
"""Operators that a unit computes if one of these inputs is a constant, and else the host."""
SIGNED_ONLY = {"ABS", "BATCH_MATMUL", "ELU", "EXP", "LOG", "NEG", "RSQRT", "SQRT", "SQUARED_DIFFERENCE", "ZEROS_LIKE"}
"""Operators that no runtime computes with integers if they are uint8."""
_DAMAGE = (struct.error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def read_tflite(source: ModelSource) -> Graph:
    """Read an int8 model; the graph computes what TensorFlow Lite Micro computes, bit for bit.

    Parameters
    ----------
    source : path or bytes
        The flatbuffer; batch size 1. Inputs and outputs may be real numbers that QUANTIZE and DEQUANTIZE convert, or
        uint8: the graph's tensors are int8 with the same scale, and a zero point less by 128 for uint8.

    Returns
    -------
    Graph
        In mode `tflite`.

    Raises
    ------
    ModelError
        The file cannot be read, is damaged, or uses something that is not supported; the message names the operator.
    """
    with naming(source):
        return _read(read_model(source))


def _read(data: bytes) -> Graph:
    try:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            file, states = carry_states(parse(data))
            graph = _translate(split_batches(join_dilations(fold_integers(cut_custom_tail(file)))))
            return settle_ends(_with_states(graph, len(states), [state.initial for state in states]))
    except ModelError:
        raise
    except AccelError as error:
        raise ModelError(f"model must be consistent: {error}") from error
    except _DAMAGE as error:
        raise ModelError(
            "model must be a whole flatbuffer, got a damaged or incomplete one; convert it again"
        ) from error


def _with_states(graph: Graph, count: int, initial: list[int]) -> Graph:
    """The graph whose last `count` inputs and outputs are states."""
    if not count:
        return graph
    pairs = zip(graph.inputs[-count:], graph.outputs[-count:], initial, strict=True)
    return replace(graph, states=tuple(State(*pair) for pair in pairs))


def _translate(file: TfliteFile) -> Graph:
    """The graph of a file."""
    builder = GraphBuilder(RequantMode.TFLITE)
    values: dict[int, str] = {index: _declare_input(builder, file, index) for index in file.inputs}
    reals: dict[int, str] = {}
    types = {file.tensors[index].type for operator in file.operators for index in operator.outputs}
    types |= {file.tensors[index].type for index in file.inputs}
    if not types & set(INTEGER_TYPES):
        _refuse_others(file, types)
    for operator in file.operators:
        _translate_operator(Operation(operator, file.tensors, builder, values, reals))
    tell_forgetful(file)
    for index in file.outputs:
        if index not in values:
            values[index] = _known_output(builder, file.tensors[index])
    return builder.finish(file.name, *(_ports(file, ends, values, builder) for ends in (file.inputs, file.outputs)))


def _refuse_others(file: TfliteFile, types: Collection[str]) -> None:
    """Raise `ModelError` for a network of numbers without a tensor that the machine knows."""
    if "INT16" in types:
        wide = next(tensor for tensor in file.tensors if tensor.type == "INT16")
        raise wide.error("type must be INT8 or UINT8, got INT16; convert the model with int8 activations")
    if "FLOAT32" in types:
        raise ModelError("model must be quantized to int8, got real numbers; convert it with full integer quantization")


def _known_output(builder: GraphBuilder, tensor: TfliteTensor) -> str:
    """A constant that is an output."""
    if tensor.data is None:
        raise tensor.error("must be an input, a constant or made by an operator, to be an output")
    if tensor.type in INTEGER_TYPES:
        shape = graph_shape(tensor.shape)
        return builder.reshape(
            builder.constant(tensor.stored().reshape(shape), tensor.parameters(), tensor.name), shape
        )
    return builder.known(tensor.array(), tensor.name)


def _ports(file: TfliteFile, indices: tuple[int, ...], values: dict[int, str], builder: GraphBuilder) -> list[Port]:
    """Inputs or outputs of the model: TensorFlow Lite's axes have the graph's order."""
    tensors = [(values[index], file.tensors[index]) for index in indices]
    return [
        Port(
            value,
            tensor.name,
            ArrayLayout.row_major(tensor.shape),
            tensor.type == "UINT8" and builder.tensors[value].dtype == "int8",
        )
        for value, tensor in tensors
    ]


def _declare_input(builder: GraphBuilder, file: TfliteFile, index: int) -> str:
    """A model's input: int8, or what the host alone has. Real numbers that the model quantizes in one way are int8."""
    tensor = file.tensors[index]
    readers = [operator for operator in file.operators if index in operator.inputs]
    if tensor.type == "FLOAT32" and readers and all(operator.builtin == "QUANTIZE" for operator in readers):
        results = [file.tensors[operator.outputs[0]] for operator in readers if operator.outputs]
        found = {result.parameters() for result in results}
        if len(found) == 1:
            return builder.declare(tensor.name, graph_shape(tensor.shape), found.pop())
    if tensor.type not in (*INTEGER_TYPES, *CARRIED_TYPES) and readers:
        raise tensor.error(
            f"type of an input must be one of INT8, UINT8, {', '.join(CARRIED_TYPES)}, got {tensor.type}"
        )
    if tensor.type in CARRIED_TYPES or (not readers and tensor.type not in INTEGER_TYPES):
        name = builder.free(tensor.name)
        builder.tensors[name] = Tensor(name, tensor.shape, 1.0, 0, dtype=tensor.type.lower())
        return name
    plain = not tensor.scale.size and all(operator.builtin == "CAST" for operator in readers)
    parameters = numbers(tensor) if plain else tensor.parameters()
    return builder.declare(tensor.name, graph_shape(tensor.shape), parameters, unsigned=tensor.type == "UINT8")


def _translator(op: Operation) -> Callable[[Operation], None]:
    """How an operator is translated, by its name and by who has its result."""
    builtin, kind = op.operator.builtin, op.result().type
    if builtin == "DEQUANTIZE":
        return _dequantize
    if builtin == "QUANTIZE" and op.tensor(0).type == "FLOAT32":
        return _quantize
    if kind in HOST_TYPES and builtin in REAL:
        return REAL[builtin]
    if kind in HOST_TYPES and builtin in TRANSLATORS:
        raise op.unsupported(f"operator is supported with an int8 result, got {kind}; quantize the whole model to int8")
    known = [op.optional(position) for position in KNOWN.get(builtin, ())]
    if builtin in HOST_INTEGER and not any(tensor is not None and tensor.data is not None for tensor in known):
        return HOST_INTEGER[builtin]
    if builtin.endswith(RECURRENT):
        raise op.unsupported("operator is not supported; export the float network to ONNX, where it is the host's")
    if builtin in REAL and builtin not in TRANSLATORS:
        raise op.unsupported(
            f"operator is supported on real numbers, got {kind}; put DEQUANTIZE before and QUANTIZE after it"
        )
    if builtin == "CUSTOM":
        raise op.unsupported(f"custom operator {op.operator.custom!r} is not supported before others; {UNKNOWN}")
    if builtin not in TRANSLATORS:
        why = f": {REFUSED[builtin]}" if builtin in REFUSED else ""
        raise op.unsupported(f"operator is not supported{why}; {UNKNOWN}")
    return TRANSLATORS[builtin]


def _translate_operator(op: Operation) -> None:
    """Translate one operator; problems that its node finds name the operator of the file."""
    if not op.operator.outputs:
        raise op.error("must have an output")
    if op.is_unsigned and op.operator.builtin in SIGNED_ONLY:
        raise op.error("must have an int8 output: the runtime has no integer arithmetic for uint8; quantize to int8")
    if any(index in op.values for index in op.operator.outputs):
        raise op.error("must write tensors that nothing else writes")
    try:
        _translator(op)(op)
    except UnsupportedError as error:
        leave_to_litert(op, error)
    except ModelError as error:
        prefix = f"{op.operator.builtin} {op.operator.index}: "
        raise error if str(error).startswith(prefix) else op.error(str(error)) from error


def _quantize(op: Operation) -> None:
    """Real numbers become integers: those of an input, or of integers alike, are so already."""
    value = op.values.get(op.operator.inputs[0])
    if (
        value is not None
        and op.builder.tensors[value].dtype == "int8"
        and (op.builder.parameters(value) == op.result().parameters())
    ):
        op.define(value)
    else:
        quantize(op)


def _dequantize(op: Operation) -> None:
    """Real numbers of integers: an output is given as the integers, the host asks for what it needs."""
    op.values[op.operator.outputs[0]] = op.value(0)
