"""From the 256 entries of a table back to the ONNX operator that makes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import RequantMode
from accel.quantized import recipes
from accel.quantized.builder import Parameters
from accel.quantized.functions import FUNCTIONS
from accel.quantized.network import Operator
from accel.quantized.recipes import Function

OPSETS = {"Gelu": 20, "Mish": 18}
"""First version of those functions that are newer than the others."""
_PLAIN = (
    "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu", "Selu", "Celu", "Gelu", "Mish", "Erf", "Exp", "Log", "Sqrt",
    "Abs", "Neg", "Reciprocal", "Softplus", "Softsign", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos",
)  # fmt: skip


class Found(NamedTuple):
    """Operators, one after the other, that compute a table, and how many of its entries they make one step off.

    "Silu" stands for the product of its operand and the operand's Sigmoid, "Square" for that with itself.
    """

    kind: str
    attributes: dict[str, Any]
    different: int


def find(table: NDArray[np.int8], source: Parameters, target: Parameters, mode: RequantMode) -> Found | None:
    """The function of one real variable whose table under these parameters is `table`, at most one step away.

    Notes
    -----
    Tables of TensorFlow Lite's fixed-point functions are a step away from real arithmetic here and there; the nearest
    function is taken, of equally near ones the first.
    """
    best: Found | None = None
    for kind, attributes, function in _candidates(table, source, target):
        made = recipes.table(function, source, target, mode).astype(np.int64)
        steps = np.abs(made - table)
        different = int(np.count_nonzero(steps))
        if steps.max() <= 1 and (best is None or different < best.different):
            best = Found(kind, attributes, different)
        if different == 0:
            break
    return best


def _candidates(
    table: NDArray[np.int8], source: Parameters, target: Parameters
) -> Iterator[tuple[str, dict[str, Any], Function]]:
    yield "Identity", {}, lambda x: x
    yield "Relu", {}, lambda x: np.maximum(x, 0)
    for kind in _PLAIN:
        yield kind, {}, FUNCTIONS[kind](Operator(kind, kind, (), ()))
    silu = FUNCTIONS["Swish"](Operator("", "Swish", (), ()))
    yield "Silu", {}, silu
    yield "Square", {}, lambda x: x * x
    if (factor := _factor(table, source, target)) is not None:
        yield "Mul", {"factor": factor}, lambda x: x * np.float32(factor)
    choices: list[tuple[str, dict[str, Any]]] = [("HardSigmoid", {"alpha": 1 / 6}), ("Gelu", {"approximate": "tanh"})]
    choices += [("LeakyRelu", {"alpha": alpha}) for alpha in _slopes(table, source, target)]
    for kind, attributes in choices:
        yield kind, attributes, FUNCTIONS[kind](Operator(kind, kind, (), (), attributes))
    low, high = recipes.reals(target)[[int(table.min()) + 128, int(table.max()) + 128]]
    yield "Clip", {"min": float(low), "max": float(high)}, lambda x: np.clip(x, low, high)


def _factor(
    table: NDArray[np.int8], source: Parameters, target: Parameters, *, below_zero: bool = False
) -> float | None:
    """A factor that may make every entry of a table that is not saturated, or those of numbers below zero."""
    x = np.arange(-128, 128, dtype=np.float64) - source[1]
    inner = (table > -128) & (table < 127) & ((x < 0) if below_zero else (x != 0))
    steps = np.array([[-0.5], [0.5]]) + table[inner] - target[1]
    bounds = np.sort(steps * target[0] / (x[inner] * source[0]), axis=0)
    if not inner.any():
        return None
    low, high = float(bounds[0].max()), float(bounds[1].min())
    return (low + high) / 2 if low <= high else None


def _slopes(table: NDArray[np.int8], source: Parameters, target: Parameters) -> list[float]:
    """Slopes that a function may have below zero: the usual ones, that of its first entry, and one that fits all."""
    first = float(recipes.reals(source)[0])
    own = [float(recipes.reals(target)[int(table[0]) + 128]) / first] if first else []
    fitting = _factor(table, source, target, below_zero=True)
    return [0.01, 0.1, 0.2, 0.3, 0.125, 0.25, *own, *([] if fitting is None else [fitting])]
