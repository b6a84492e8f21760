"""From the 256 entries of a table back to the TensorFlow Lite operator that makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.errors import AccelError
from accel.frontends.tflite.elementwise import tabulate_itself
from accel.frontends.tflite.functions import COMPLEMENT, NEGATED
from accel.frontends.tflite.operation import ACTIVATIONS
from accel.machine.numerics import activation_range
from accel.quantized import tables
from accel.quantized.builder import IDENTITY_TABLE, Parameters

COMPLEMENT_PRODUCT = "MUL by -1"
"""What stands for ``-1 - q``, which no operator gives."""
ONLY_LITERT = ("EXP", "GELU", "LOG", "NEG", "RELU_0_TO_1", "RELU_N1_TO_1", "SQRT")
"""Operators without an integer kernel in TensorFlow Lite Micro."""
LOGISTIC, TANH = (1 / 256, -128), (1 / 128, 0)
"""The only parameters that the results of these functions may have."""


def sums_are_computed(sources: Sequence[float], target: float) -> bool:
    """Whether ADD and SUB take these scales: the process ends where the factor of their 20 bits more is not below 1."""
    return 2 * max(sources) < 2**20 * target


class Found(NamedTuple):
    """An operator, its options, and how many entries of the table it computes one step away.

    RESHAPE stands for the same integers under other parameters, `COMPLEMENT_PRODUCT` for ``-1 - q``. ADD, SUB and MUL
    have the tensor as both operands.
    """

    builtin: str
    options: dict[str, Any]
    different: int


def find(table: NDArray[np.int8], source: Parameters, target: Parameters) -> Found | None:
    """The operator whose table under these parameters is `table`, at most one step away; of several the nearest."""
    best: Found | None = None
    candidates = _candidates(table, source, target)
    while best is None or best.different:
        try:
            builtin, options, made = next(candidates)
        except StopIteration:
            break
        steps = np.abs(made.astype(np.int64) - table)
        different = int(np.count_nonzero(steps))
        if steps.max() <= 1 and (best is None or different < best.different):
            best = Found(builtin, options, different)
    return best


def _candidates(
    table: NDArray[np.int8], source: Parameters, target: Parameters
) -> Iterator[tuple[str, dict[str, Any], NDArray[np.int8]]]:
    yield "RESHAPE", {}, IDENTITY_TABLE
    yield COMPLEMENT_PRODUCT, {}, COMPLEMENT
    simple: dict[str, Callable[[], NDArray[np.int8]]] = {
        "QUANTIZE": lambda: tables.quantize(source, target),
        "RELU": lambda: tables.relu(source, target, *ACTIVATIONS[1]),
        "HARD_SWISH": lambda: tables.hard_swish(source, target),
        "ELU": lambda: tables.real(source, target, tables.elu),
        "EXP": lambda: tables.real(source, target, np.exp),
        "ABS": lambda: tables.absolute(source, target),
        "RSQRT": lambda: tables.reciprocal_root(source, target),
    }
    simple |= {"LOGISTIC": lambda: tables.logistic(source)} if target == LOGISTIC else {}
    simple |= {"TANH": lambda: tables.tanh(source)} if target == TANH else {}
    for builtin, make in simple.items():
        try:
            yield builtin, {}, make()
        except AccelError:
            continue  # the runtime refuses these parameters
    for builtin in ("ADD", "SUB", "MUL"):
        if builtin != "MUL" and not sums_are_computed((source[0],), target[0]):
            continue
        try:
            made = tabulate_itself(builtin, source, target)
        except AccelError:
            continue
        for code, bounds in ACTIVATIONS.items():
            yield builtin, {"FusedActivationFunction": code}, np.clip(made, *activation_range(*bounds, *target))
    for alpha in _slopes(table, source, target):
        try:
            yield "LEAKY_RELU", {"Alpha": alpha}, tables.leaky_relu(source, target, alpha)
        except AccelError:
            continue
    yield from _of_litert(table, source, target)


def _of_litert(
    table: NDArray[np.int8], source: Parameters, target: Parameters
) -> Iterator[tuple[str, dict[str, Any], NDArray[np.int8]]]:
    """The function that only LiteRT has and that makes a table exactly."""
    makers: list[tuple[str, dict[str, Any], Callable[[], NDArray[np.int8]]]] = [
        ("NEG", {}, lambda: NEGATED),
        ("RELU_N1_TO_1", {}, lambda: tables.relu(source, target, *ACTIVATIONS[2])),
        ("RELU_0_TO_1", {}, lambda: tables.relu(source, target, 0.0, 1.0)),
        ("GELU", {"Approximate": False}, lambda: tables.real(source, target, tables.gelu)),
        ("GELU", {"Approximate": True}, lambda: tables.real(source, target, tables.gelu_by_tanh)),
        ("LOG", {}, lambda: tables.real(source, target, tables.logarithm)),
        ("SQRT", {}, lambda: tables.root(source, target)),
    ]
    for builtin, options, make in makers:
        try:
            made = make()
        except AccelError:
            continue
        if np.array_equal(made, table):
            yield builtin, options, made


def _slopes(table: NDArray[np.int8], source: Parameters, target: Parameters) -> list[float]:
    """Slopes that LEAKY_RELU may have: the usual ones, and the one of the first entry."""
    first = (int(table[0]) - target[1]) * target[0], (-128 - source[1]) * source[0]
    own = [first[0] / first[1]] if first[1] and first[0] * first[1] > 0 else []
    return [float(np.float32(alpha)) for alpha in (0.01, 0.1, 0.2, 0.3, 0.125, 0.25, *own)]
