"""Translating TensorFlow Lite operators on one tensor: functions of one variable, and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from accel.frontends.tflite.operation import ACTIVATIONS, Operation
from accel.machine.numerics import activation_range
from accel.network.nodes import LogSoftmax, Softmax, Table
from accel.quantized import tables
from accel.quantized.builder import Parameters

COMPLEMENT = np.arange(127, -129, -1).astype(np.int8)
"""Every integer q as ``-1 - q``: what was larger is smaller."""

NEGATED = (-np.arange(-128, 128)).astype(np.int8)
"""NEG as the runtime has it: the stored integers change their sign, whatever their zero points; -128 stays."""


def softmax(op: Operation) -> None:
    """SOFTMAX over the last axis."""
    op.emit(Softmax, op.value(0), beta=float(op.options.Beta()))


def log_softmax(op: Operation) -> None:
    """LOG_SOFTMAX over the last axis."""
    op.emit(LogSoftmax, op.value(0))


def _function(make: Callable[[Operation, Parameters, Parameters], NDArray[np.int8]]) -> Callable[[Operation], None]:
    """The translator of a function of one variable."""

    def translate(op: Operation) -> None:
        value = op.value(0)
        op.emit(Table, value, table=make(op, op.builder.parameters(value), op.result().parameters()))

    return translate


def _leaky_relu(op: Operation, source: Parameters, target: Parameters) -> NDArray[np.int8]:
    alpha = op.options.Alpha()
    if not 0 <= alpha < math.inf:
        raise op.error(f"alpha must be finite and not negative, got {alpha!r}")
    return tables.leaky_relu(source, target, alpha)


def _relu6(op: Operation, source: Parameters, target: Parameters) -> NDArray[np.int8]:
    """The runtime limits the integers without rescaling them."""
    return np.clip(np.arange(-128, 128), *activation_range(*ACTIVATIONS[3], *source)).astype(np.int8)


def quantize(op: Operation) -> None:
    """QUANTIZE between integers (`accel.frontends.tflite.reader` sees those of real numbers)."""
    value = op.value(0, types=("INT8", "UINT8"))
    source, target = op.builder.parameters(value), op.result().parameters()
    if source == target:
        op.define(value)
    else:
        op.emit(Table, value, table=tables.quantize(source, target))


def _logistic(op: Operation, source: Parameters, target: Parameters) -> NDArray[np.int8]:
    """In fixed point, for uint8 with real numbers."""
    if op.is_unsigned:
        return tables.real(source, target, lambda x: np.float32(1) / (np.float32(1) + np.exp(-x)))
    return tables.logistic(source)


def _tanh(op: Operation, source: Parameters, target: Parameters) -> NDArray[np.int8]:
    """In fixed point, for uint8 with real numbers."""
    return tables.real(source, target, np.tanh) if op.is_unsigned else tables.tanh(source)


def _gelu(op: Operation, source: Parameters, target: Parameters) -> NDArray[np.int8]:
    return tables.real(source, target, tables.gelu_by_tanh if op.options.Approximate() else tables.gelu)


def _limited(code: int) -> Callable[[Operation], None]:
    """A rescaled input within the bounds of an activation."""
    return _function(lambda op, source, target: tables.relu(source, target, *ACTIVATIONS[code]))


FUNCTIONS: dict[str, Callable[[Operation], None]] = {
    "ABS": _function(lambda op, source, target: tables.absolute(source, target)),
    "ELU": _function(lambda op, source, target: tables.real(source, target, tables.elu)),
    "EXP": _function(lambda op, source, target: tables.real(source, target, np.exp)),
    "GELU": _function(_gelu),
    "HARD_SWISH": _function(lambda op, source, target: tables.hard_swish(source, target)),
    "LEAKY_RELU": _function(_leaky_relu),
    "LOG": _function(lambda op, source, target: tables.real(source, target, tables.logarithm)),
    "LOGISTIC": _function(_logistic),
    "LOG_SOFTMAX": log_softmax,
    "NEG": _function(lambda op, source, target: NEGATED),
    "QUANTIZE": quantize,
    "RELU": _limited(1),
    "RELU6": _function(_relu6),
    "RELU_0_TO_1": _function(lambda op, source, target: tables.relu(source, target, 0.0, 1.0)),
    "RELU_N1_TO_1": _limited(2),
    "RSQRT": _function(lambda op, source, target: tables.reciprocal_root(source, target)),
    "SOFTMAX": softmax,
    "SQRT": _function(lambda op, source, target: tables.root(source, target)),
    "TANH": _function(_tanh),
    "ZEROS_LIKE": _function(lambda op, source, target: np.zeros(256, np.int8)),
}
"""How each operator on one tensor is translated."""
