"""Functions of one real variable, as ONNX defines them: a table each, and together one table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.quantized.lowering import Lowering
from accel.quantized.network import Operator
from accel.quantized.recipes import Function
from accel.quantized.values import Integers, Known, OfOne, Real, Value

F32 = np.float32
Array = NDArray[Any]
_ERF = np.frompyfunc(math.erf, 1, 1)


def _alpha(op: Operator, default: float, name: str = "alpha") -> np.float32:
    return F32(op.attributes.get(name, default))


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x.astype(np.float64), -700, 700))))


def _softplus(x: Array) -> Array:
    return np.logaddexp(0, x.astype(np.float64))


def _erf(x: Array) -> Array:
    return np.asarray(_ERF(x.astype(np.float64)), dtype=np.float64)


def _gelu(op: Operator) -> Function:
    if str(op.attributes.get("approximate", "none")) == "tanh":
        return lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x.astype(np.float64) ** 3))) / 2
    return lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2


def _elu(op: Operator) -> Function:
    alpha = _alpha(op, 1.0)
    return lambda x: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _selu(op: Operator) -> Function:
    alpha, gamma = _alpha(op, 1.67326319217681884765625), _alpha(op, 1.05070102214813232421875, "gamma")
    return lambda x: gamma * np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _celu(op: Operator) -> Function:
    alpha = _alpha(op, 1.0)
    return lambda x: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha))


def _hard_sigmoid(op: Operator) -> Function:
    alpha, beta = _alpha(op, 0.2), _alpha(op, 0.5, "beta")
    return lambda x: np.clip(alpha * x + beta, 0, 1)


def _leaky_relu(op: Operator) -> Function:
    alpha = _alpha(op, 0.01)
    return lambda x: np.where(x >= 0, x, alpha * x)


def _swish(op: Operator) -> Function:
    alpha = _alpha(op, 1.0)
    return lambda x: x * _sigmoid(alpha * x)


def _quick_gelu(op: Operator) -> Function:
    alpha = _alpha(op, 1.702)
    return lambda x: x * _sigmoid(alpha * x)


def _thresholded_relu(op: Operator) -> Function:
    alpha = _alpha(op, 1.0)
    return lambda x: np.where(x > alpha, x, 0)


def _shrink(op: Operator) -> Function:
    limit, bias = _alpha(op, 0.5, "lambd"), _alpha(op, 0.0, "bias")
    return lambda x: np.where(x < -limit, x + bias, np.where(x > limit, x - bias, 0))


FUNCTIONS: dict[str, Callable[[Operator], Function]] = {
    "Abs": lambda op: np.abs,
    "Acos": lambda op: np.arccos,
    "Asin": lambda op: np.arcsin,
    "Atan": lambda op: np.arctan,
    "Ceil": lambda op: np.ceil,
    "Celu": _celu,
    "Cos": lambda op: np.cos,
    "Elu": _elu,
    "Erf": lambda op: _erf,
    "Exp": lambda op: np.exp,
    "Floor": lambda op: np.floor,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda op: lambda x: x * np.clip(x / F32(6) + F32(0.5), 0, 1),
    "LeakyRelu": _leaky_relu,
    "Log": lambda op: np.log,
    "Mish": lambda op: lambda x: x * np.tanh(_softplus(x)),
    "Neg": lambda op: np.negative,
    "Reciprocal": lambda op: np.reciprocal,
    "Round": lambda op: np.rint,
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": lambda op: _sigmoid,
    "Sign": lambda op: np.sign,
    "Sin": lambda op: np.sin,
    "Softplus": lambda op: _softplus,
    "Softsign": lambda op: lambda x: x / (1 + np.abs(x)),
    "Sqrt": lambda op: np.sqrt,
    "Swish": _swish,
    "Tan": lambda op: np.tan,
    "Tanh": lambda op: lambda x: np.tanh(x.astype(np.float64)),
    "ThresholdedRelu": _thresholded_relu,
    "com.microsoft.Gelu": _gelu,
    "com.microsoft.FastGelu": lambda op: _gelu(Operator("", "", (), (), {"approximate": "tanh"})),
    "com.microsoft.QuickGelu": _quick_gelu,
}
"""From an operator of one variable to its function."""


def of_one(low: Lowering, op: Operator, value: Value, position: int = 0) -> OfOne:
    """A value as a function of integers."""
    if isinstance(value, OfOne):
        return value
    return OfOne(value if isinstance(value, Integers) else low.integers(op, position), lambda x: x)


def function(low: Lowering, op: Operator) -> Value:
    """An operator of `FUNCTIONS`."""
    return of_one(low, op, low.value(op, 0)).then(FUNCTIONS[op.kind](op))


def clip(low: Lowering, op: Operator) -> Value:
    """Relu and Clip: of a result that has no integers yet, bounds for its integers."""
    value = low.value(op, 0)
    bottom, top = bounds(low, op)
    if isinstance(value, Real):
        return value.clipped(bottom, top)
    return of_one(low, op, value).then(lambda x: np.clip(x, F32(bottom), F32(top)))


def bounds(low: Lowering, op: Operator) -> tuple[float, float]:
    """The real bounds of Relu or Clip."""
    if op.kind == "Relu":
        return 0.0, math.inf
    found = []
    for position, attribute, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        constant = low.constant(op, position)
        if constant is not None and constant.size != 1:
            raise op.error(f"{attribute} must be one number, got shape {constant.shape!r}")
        found.append(float(constant.reshape(()) if constant is not None else op.attributes.get(attribute, default)))
    if not found[0] <= found[1]:
        raise op.error(f"min must not exceed max, got {found[0]} and {found[1]}")
    return found[0], found[1]


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "Pow": np.power,
    "Sub": np.subtract,
    "Sum": np.add,
}


def of_same(low: Lowering, op: Operator, values: list[Value]) -> OfOne | None:
    """The operands of an operator of `BINARY` as one function, if all are numbers or functions of the same integers."""
    sources = {_source(value) for value in values if not isinstance(value, Known)}
    numbers = all(value.real.size == 1 for value in values if isinstance(value, Known))
    if len(sources) != 1 or None in sources or not numbers:
        return None
    source = next(iter(sources))
    assert source is not None
    apply, functions = BINARY[op.kind], [_as_function(value) for value in values]

    def combined(x: Array) -> Array:
        result = np.asarray(functions[0](x), dtype=F32)
        for other in functions[1:]:
            result = np.asarray(apply(result, np.asarray(other(x), dtype=F32)), dtype=F32)
        return result

    return OfOne(source, combined)


def _source(value: Value) -> Integers | None:
    if isinstance(value, Integers):
        return value
    return value.source if isinstance(value, OfOne) else None


def _as_function(value: Value) -> Function:
    if isinstance(value, OfOne):
        return value.function
    if isinstance(value, Known):
        number = F32(value.real.reshape(()))
        return lambda x: np.full_like(x, number)
    return lambda x: x
