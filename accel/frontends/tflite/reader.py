"""Reading TensorFlow Lite models that are quantized to int8."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np

from accel.errors import AccelError, ModelError
from accel.frontends.model_file import ModelSource, naming, read_model
from accel.frontends.tflite.axes import graph_shape
from accel.frontends.tflite.blocks import BLOCKS
from accel.frontends.tflite.dilation import join_dilations
from accel.frontends.tflite.elementwise import ELEMENTWISE
from accel.frontends.tflite.file import TfliteFile, parse
from accel.frontends.tflite.folding import cut_custom_tail, fold_integers
from accel.frontends.tflite.functions import FUNCTIONS
from accel.frontends.tflite.movement import MOVEMENT
from accel.frontends.tflite.operation import Operation
from accel.frontends.tflite.resize import RESIZING
from accel.frontends.tflite.states import carry_states
from accel.frontends.tflite.weighted import WEIGHTED
from accel.frontends.tflite.windows import WINDOWS
from accel.machine.numerics import RequantMode
from accel.network.array_layout import ArrayLayout
from accel.network.graph import Graph, State
from accel.quantized.builder import GraphBuilder, Port

TRANSLATORS = BLOCKS | ELEMENTWISE | FUNCTIONS | MOVEMENT | RESIZING | WEIGHTED | WINDOWS
SIGNED_ONLY = {"ABS", "BATCH_MATMUL", "ELU", "EXP", "RESIZE_BILINEAR", "RSQRT", "SQUARED_DIFFERENCE"}
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
            graph = _translate(join_dilations(fold_integers(cut_custom_tail(file))))
            return _with_states(graph, len(states), [state.initial for state in states])
    except ModelError:
        raise
    except AccelError as error:
        raise ModelError(f"model must be consistent: {error}") from error
    except _DAMAGE as error:
        raise ModelError(f"model must be an undamaged flatbuffer: {type(error).__name__}: {error}") from error


def _with_states(graph: Graph, count: int, initial: list[int]) -> Graph:
    """The graph whose last `count` inputs and outputs are states."""
    if not count:
        return graph
    pairs = zip(graph.inputs[-count:], graph.outputs[-count:], initial, strict=True)
    return replace(graph, states=tuple(State(*pair) for pair in pairs))


def _translate(file: TfliteFile) -> Graph:
    """The graph of a file."""
    builder = GraphBuilder(RequantMode.TFLITE)
    values: dict[int, str] = {}
    for index in file.inputs:
        if file.tensors[index].type in ("INT8", "UINT8"):
            tensor = file.tensors[index]
            values[index] = builder.declare(
                tensor.name, graph_shape(tensor.shape), tensor.parameters(), unsigned=tensor.type == "UINT8"
            )
    for operator in file.operators:
        op = Operation(operator, file.tensors, builder, values)
        if operator.builtin == "QUANTIZE" and op.tensor(0).type == "FLOAT32":
            _quantize_input(op, file.inputs)
        elif operator.builtin == "DEQUANTIZE":
            _dequantize_output(op, file.outputs)
        elif operator.builtin in TRANSLATORS:
            _translate_operator(op)
        else:
            raise op.error("operator is not supported; docs/importing.md lists those that are")
    for index in (*file.inputs, *file.outputs):
        if index not in values:
            raise file.tensors[index].error(
                "must be int8, or real and quantized by the model, to be an input or output"
            )
    return builder.finish(file.name, _ports(file, file.inputs, values), _ports(file, file.outputs, values))


def _ports(file: TfliteFile, indices: tuple[int, ...], values: dict[int, str]) -> list[Port]:
    """Inputs or outputs of the model: TensorFlow Lite's axes have the graph's order."""
    tensors = [(values[index], file.tensors[index]) for index in indices]
    return [Port(value, tensor.name, ArrayLayout.row_major(tensor.shape)) for value, tensor in tensors]


def _translate_operator(op: Operation) -> None:
    """Translate one operator; problems that its node finds name the operator of the file."""
    if not op.operator.outputs:
        raise op.error("must have an output")
    if op.is_unsigned and op.operator.builtin in SIGNED_ONLY:
        raise op.error("must have an int8 output: the runtime has no integer arithmetic for uint8; quantize to int8")
    if any(index in op.values for index in op.operator.outputs):
        raise op.error("must write tensors that nothing else writes")
    try:
        TRANSLATORS[op.operator.builtin](op)
    except ModelError as error:
        prefix = f"{op.operator.builtin} {op.operator.index}: "
        raise error if str(error).startswith(prefix) else op.error(str(error)) from error


def _quantize_input(op: Operation, inputs: tuple[int, ...]) -> None:
    """A real input of the model: its int8 form is the graph's input, under the model's name."""
    index, result = op.operator.inputs[0], op.result()
    if index not in inputs:
        raise op.error(f"real input {op.tensor(0).name!r} must be an input of the model")
    if index not in op.values:
        op.values[index] = op.builder.declare(op.tensor(0).name, graph_shape(result.shape), result.parameters())
    if op.builder.parameters(op.values[index]) != result.parameters():
        raise op.error(f"model input {op.tensor(0).name!r} must be quantized in one way only")
    op.define(op.values[index])


def _dequantize_output(op: Operation, outputs: tuple[int, ...]) -> None:
    """A real output of the model: the graph's output is what DEQUANTIZE reads."""
    if op.operator.outputs[0] not in outputs:
        raise op.error(f"real tensor {op.result().name!r} must be an output of the model; quantize the whole model")
    op.values[op.operator.outputs[0]] = op.value(0, types=("INT8", "UINT8"))
