"""Functions of one variable as 256-entry tables, computed with the exact arithmetic of TensorFlow Lite's kernels.

Each function takes the input's and the output's (scale, zero point) and returns int8 values for the stored integers
-128 .. 127.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.machine.numerics import (
    INT8_MAX,
    INT8_MIN,
    RequantMode,
    activation_range,
    quantize_multiplier,
    requantize,
    round_half_away,
    saturate,
)
from accel.network import fixed_point
from accel.network.fixed_point import Fixed
from accel.quantized import recipes
from accel.quantized.builder import Parameters

INT16_MIN, INT16_MAX = -(2**15), 2**15 - 1
STORED: Fixed = np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.int64)


def _int8(values: Fixed, low: int = INT8_MIN, high: int = INT8_MAX) -> NDArray[np.int8]:
    return np.asarray(saturate(values, low, high), dtype=np.int8)


def _rescale(x: Fixed, real: float) -> Fixed:
    return requantize(x, *recipes.multiplier(real, RequantMode.TFLITE), RequantMode.TFLITE)


def quantize(source: Parameters, target: Parameters) -> NDArray[np.int8]:
    """QUANTIZE from int8 to int8: the same real numbers under other parameters."""
    return _int8(_rescale(STORED - source[1], source[0] / target[0]) + target[1])


def relu(source: Parameters, target: Parameters, low: float, high: float) -> NDArray[np.int8]:
    """RELU: rescaled, then limited to the real bounds; the ratio of the scales is formed in float32."""
    ratio = float(np.float32(source[0]) / np.float32(target[0]))
    return _int8(_rescale(STORED - source[1], ratio) + target[1], *activation_range(low, high, *target))


def concatenated(source: Parameters, target: Parameters) -> NDArray[np.int8]:
    """An input of a CONCATENATION of uint8 under the output's parameters, in float32, zero points from 0 to 255."""
    ratio = np.float32(source[0]) * (np.float32(1) / np.float32(target[0]))
    offset = np.float32(-(source[1] + 128)) * ratio
    scaled = (STORED + 128).astype(np.float32) * ratio + offset
    return _int8(round_half_away(scaled).astype(np.int64) + target[1])


def absolute(source: Parameters, target: Parameters) -> NDArray[np.int8]:
    """ABS: rescaled unless the scales are equal; their ratio is formed in float32."""
    x = np.abs(STORED - source[1])
    ratio = float(np.float32(source[0]) / np.float32(target[0]))
    return _int8((x if source[0] == target[0] else _rescale(x, ratio)) + target[1])


def real(
    source: Parameters, target: Parameters, function: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> NDArray[np.int8]:
    """A function of real numbers in float32, rounded to nearest, ties away from zero.

    Notes
    -----
    A result beyond int32 saturates; the runtime's conversion of it is undefined in C.
    """
    x = np.float32(source[0]) * (STORED - source[1]).astype(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        scaled = function(x) * (np.float32(1) / np.float32(target[0]))
    steps = round_half_away(np.clip(scaled, np.float32(-(2**24)), np.float32(2**24)))
    return _int8(steps.astype(np.int64) + target[1])


def root(source: Parameters, target: Parameters) -> NDArray[np.int8]:
    """SQRT, rounded down; what is below zero, where the runtime refuses to compute, counts as zero."""
    x = np.float32(source[0]) * np.maximum(STORED - source[1], 0).astype(np.float32)
    steps = np.floor(np.clip(np.sqrt(x) / np.float32(target[0]), 0, np.float32(2**24)))
    return _int8(steps.astype(np.int64) + target[1])


def logarithm(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Natural logarithm; the least number for what has none."""
    return np.where(x > 0, np.log(np.where(x > 0, x, 1)), np.finfo(np.float32).min).astype(np.float32)


def gelu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """``x * (1 + erf(x / sqrt(2))) / 2``."""
    halves = [np.float32(math.erfc(float(v))) for v in x * np.float32(-math.sqrt(0.5))]
    return np.asarray(np.float32(0.5) * x * np.array(halves, np.float32))


def gelu_by_tanh(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """An approximation of `gelu`."""
    inner: NDArray[np.float32] = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    return np.asarray(np.float32(0.5) * x * (np.float32(1) + np.tanh(inner)))


def elu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """``exp(x) - 1`` below zero, `x` above."""
    return np.where(x < 0, np.exp(np.minimum(x, 0)) - np.float32(1), x)


def reciprocal_root(source: Parameters, target: Parameters) -> NDArray[np.int8]:
    """RSQRT; zero and what is below (where the runtime refuses to compute) give the largest integer."""
    x = STORED - source[1]
    real = 1 / float(np.sqrt(np.float32(source[0])) * np.float32(target[0]))
    q, e = quantize_multiplier(real)
    roots = [fixed_point.reciprocal_root(int(value)) for value in np.maximum(x, 1)]
    fine = np.array([requantize(1, root, shift + 20, RequantMode.TFLITE) for root, shift in roots])
    return _int8(np.where(x <= 0, INT8_MAX, requantize(fine, q, e - 20, RequantMode.TFLITE) + target[1]))


def leaky_relu(source: Parameters, target: Parameters, alpha: float) -> NDArray[np.int8]:
    """LEAKY_RELU: one multiplier per sign, both formed in float32."""
    x = STORED - source[1]
    ratio = np.float32(source[0]) / np.float32(target[0])
    steep = np.float32(source[0]) * np.float32(alpha) / np.float32(target[0])
    return _int8(np.where(x >= 0, _rescale(x, float(ratio)), _rescale(x, float(steep))) + target[1])


def _on_q4(source: Parameters) -> tuple[Fixed, Fixed]:
    """The input in Q4, zero where it does not fit, and its sign there (zero where it fits)."""
    q, e = quantize_multiplier(source[0] * 2**27)
    radius = math.floor(15 * 2**27 / 2.0 ** math.frexp(source[0] * 2**27)[1])
    x = STORED - source[1]
    beyond = np.where(x <= -radius, -1, np.where(x >= radius, 1, 0))
    return requantize(np.where(beyond == 0, x, 0), q, e, RequantMode.TFLITE), beyond


def logistic(source: Parameters) -> NDArray[np.int8]:
    """LOGISTIC; the output has scale 1/256 and zero point -128."""
    x, beyond = _on_q4(source)
    y = fixed_point.divide_by_power(fixed_point.logistic(x), 31 - 8) - 128
    return _int8(np.where(beyond == 0, y, beyond * 128))


def tanh(source: Parameters) -> NDArray[np.int8]:
    """TANH; the output has scale 1/128 and zero point 0."""
    x, beyond = _on_q4(source)
    y = fixed_point.divide_by_power(fixed_point.tanh(x), 31 - 7)
    return _int8(np.where(beyond == 0, y, beyond * 128))


def hard_swish(source: Parameters, target: Parameters) -> NDArray[np.int8]:
    """HARD_SWISH: ``x * relu6(x + 3) / 6`` in 16 bits, all scales formed in float32.

    Raises
    ------
    ModelError
        The output's scale is so much finer than the input's that the runtime refuses it.
    """
    fine_scale = np.float32(source[0]) / np.float32(128)
    out, out_shift = _multiplier16(fine_scale / np.float32(target[0]))
    gate, gate_shift = _multiplier16(fine_scale / np.float32(3 / 32768))
    if out_shift > 0:
        raise ModelError(f"scale of a HARD_SWISH must be 1/128 of its input's scale or more, got {target[0]!r}")
    fine = (STORED - source[1]) << 7
    relu6 = saturate(fine << max(gate_shift - 1, 0), INT16_MIN, INT16_MAX)
    relu6 = saturate(_multiply16(relu6, gate) << (gate_shift > 0), INT16_MIN, INT16_MAX)
    relu6 = (fixed_point.divide_by_power(relu6, max(-gate_shift, 0)) + 2**15) >> 1
    product = relu6 * _multiply16(fine, out)
    truncated = np.sign(product) * (np.abs(product) >> 15)
    return _int8(fixed_point.divide_by_power(truncated, -out_shift) + target[1])


def _multiplier16(real: np.float32) -> tuple[int, int]:
    """Multiplier of 15 bits and shift."""
    q, e = quantize_multiplier(float(real))
    return min((q + 2**15) >> 16, INT16_MAX), e


def _multiply16(a: Fixed, b: int) -> Fixed:
    """Rounded product of 16-bit numbers with 15 fraction bits."""
    return (a * b + 2**14) >> 15
