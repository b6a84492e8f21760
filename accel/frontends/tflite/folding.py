"""What a TensorFlow Lite file computes from shapes and other known integers, and custom operators at its end.

Both passes take and give a `TfliteFile`, so that what follows sees constants and outputs only.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.frontends.tflite.file import MOST_OPERANDS, TfliteFile, TfliteOperator
from accel.frontends.tflite.movement import slice_picks, strided_slice_picks
from accel.frontends.tflite.operation import Operation
from accel.machine.numerics import RequantMode
from accel.quantized.builder import GraphBuilder

Integers = NDArray[Any]
LOGGER = logging.getLogger(__name__)


def fold_integers(file: TfliteFile) -> TfliteFile:
    """The file with the results of integer operators on known integers, SHAPE first of all, as constants."""
    tensors, operators = list(file.tensors), list[TfliteOperator]()
    for operator in file.operators:
        op = Operation(operator, tuple(tensors), GraphBuilder(RequantMode.TFLITE), {})
        if not _is_known(op):
            operators.append(operator)
            continue
        result = op.result()
        value = np.ascontiguousarray(FOLDERS[operator.builtin](op), _DTYPES[result.type])
        data = value.reshape(-1).view(np.uint8)
        tensors[operator.outputs[0]] = replace(result, shape=value.shape, data=data)
    return replace(file, tensors=tuple(tensors), operators=tuple(operators))


_DTYPES = {"INT32": np.int32, "INT64": np.int64}


def _is_known(op: Operation) -> bool:
    """Whether the operator gives a few integers that follow from constants, or from a shape."""
    outputs = op.operator.outputs
    if op.operator.builtin not in FOLDERS or len(outputs) != 1 or op.result().type not in _DTYPES:
        return False
    inputs = [op.tensors[index] for index in op.operator.inputs if index >= 0]
    known = op.operator.builtin in ("RANK", "SHAPE") or all(tensor.data is not None for tensor in inputs)
    return known and math.prod(op.result().shape) <= MOST_OPERANDS


def _all(op: Operation) -> list[Integers]:
    return [op.tensor(position).array() for position in range(len(op.operator.inputs))]


def _shape(op: Operation) -> Integers:
    shape = op.tensor(0).shape
    if min(shape, default=1) <= 0:
        raise op.error(f"sizes must be known and positive, got {shape!r}; export the model with fixed sizes")
    return np.array(shape)


def _pack(op: Operation) -> Integers:
    return np.stack(_all(op), op.axis(op.options.Axis(), len(op.tensor(0).shape) + 1))


def _concatenation(op: Operation) -> Integers:
    return np.concatenate(_all(op), op.axis(op.options.Axis(), len(op.tensor(0).shape)))


def _strided_slice(op: Operation) -> Integers:
    return op.tensor(0).array()[np.ix_(*strided_slice_picks(op))].reshape(op.result().shape)


def _slice(op: Operation) -> Integers:
    return op.tensor(0).array()[np.ix_(*slice_picks(op))]


def _gather(op: Operation) -> Integers:
    return np.take(op.tensor(0).array(), op.tensor(1).array(), op.axis(op.options.Axis(), len(op.tensor(0).shape)))


def _reshape(op: Operation) -> Integers:
    return op.tensor(0).array().reshape(op.result().shape)


def _reduce_prod(op: Operation) -> Integers:
    axes = tuple(op.axis(axis, len(op.tensor(0).shape)) for axis in op.tensor(1).integers())
    return np.asarray(op.tensor(0).array().prod(axis=axes)).reshape(op.result().shape)


def _range(op: Operation) -> Integers:
    values = range(op.number(0), op.number(1), op.number(2))
    if len(values) > MOST_OPERANDS:
        raise op.error(f"must give at most {MOST_OPERANDS} integers, got {len(values)}")
    return np.array(values)


def _fill(op: Operation) -> Integers:
    return np.full(op.result().shape, op.number(1))


def _elementwise(function: Callable[[Integers, Integers], Integers]) -> Callable[[Operation], Integers]:
    return lambda op: function(op.tensor(0).array(), op.tensor(1).array())


FOLDERS: dict[str, Callable[[Operation], Integers]] = {
    "ADD": _elementwise(np.add),
    "BROADCAST_ARGS": lambda op: np.array(np.broadcast_shapes(*(tuple(value) for value in _all(op)))),
    "CAST": lambda op: op.tensor(0).array(),
    "CONCATENATION": _concatenation,
    "EXPAND_DIMS": _reshape,
    "FILL": _fill,
    "FLOOR_DIV": _elementwise(np.floor_divide),
    "FLOOR_MOD": _elementwise(np.mod),
    "GATHER": _gather,
    "MAXIMUM": _elementwise(np.maximum),
    "MINIMUM": _elementwise(np.minimum),
    "MUL": _elementwise(np.multiply),
    "PACK": _pack,
    "RANGE": _range,
    "RANK": lambda op: np.array(len(op.tensor(0).shape)),
    "REDUCE_PROD": _reduce_prod,
    "RESHAPE": _reshape,
    "SHAPE": _shape,
    "SLICE": _slice,
    "SQUEEZE": _reshape,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _elementwise(np.subtract),
}
"""Operators that are computed when a file is read."""


VELA = "ethos-u"
"""The custom operator of a file that Arm's compiler has written."""


def cut_custom_tail(file: TfliteFile) -> TfliteFile:
    """The file without the custom operators at its end: what they read are outputs instead, which a line tells."""
    operators, outputs = list(file.operators), list(file.outputs)
    for operator in reversed(file.operators):
        read = {index for other in operators if other is not operator for index in other.inputs}
        if operator.custom == VELA:
            raise ModelError(
                f"CUSTOM {operator.index}: operator {VELA!r} holds commands of an Arm Ethos-U, which Vela has made of "
                "the model's operators; give the .tflite file that Vela was given"
            )
        if operator.builtin != "CUSTOM" or read & set(operator.outputs):
            continue
        operators.remove(operator)
        first = next((place for place, index in enumerate(outputs) if index in operator.outputs), len(outputs))
        given = [index for index in operator.inputs if index >= 0 and file.tensors[index].data is None]
        outputs = [index for index in outputs if index not in operator.outputs]
        outputs[first:first] = [index for index in dict.fromkeys(given) if index not in outputs]
        names = ", ".join(repr(file.tensors[index].name) for index in given)
        LOGGER.warning(
            "CUSTOM %d, %r, is left to you: the outputs are what it reads, %s", operator.index, operator.custom, names
        )
    return replace(file, operators=tuple(operators), outputs=tuple(outputs))
