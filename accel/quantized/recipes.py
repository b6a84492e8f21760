"""How each kind of arithmetic is made of integers, per requantization mode: multipliers, clamps and tables.

Mode `fp32` follows ONNX Runtime: scales are combined in float32. The others follow TensorFlow Lite: in float64, with
the roundings of its `QuantizeMultiplier`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError, ModelError
from accel.machine.numerics import (
    INT8_MAX,
    INT8_MIN,
    INT32_MAX,
    SHIFT_MAX,
    RequantMode,
    activation_range,
    multiplier_fp32,
    output_multipliers,
    quantize_multiplier,
)
from accel.network.nodes import Multiplier
from accel.network.real import round_real
from accel.quantized.builder import Parameters

LEFT_SHIFT = 20
"""Extra bits of precision of the operands of a sum."""
BEYOND = 2.0**16
"""Steps of a scale that are far outside of int8."""
Fields = dict[str, Any]
Function = Callable[[NDArray[np.float32]], NDArray[Any]]
Limits = tuple[float, float]


class UndefinedError(ModelError):
    """Parameters that no runtime gives a meaning."""


def check_ratio(real: float) -> None:
    """Raise `UndefinedError` unless a ratio of scales is below 2**30: from there on no runtime defines the result."""
    if not real < 2**SHIFT_MAX:
        raise UndefinedError(f"ratio of the scales must be below 2**{SHIFT_MAX}, got {real!r}; check the scales")


def multiplier(real: float | np.floating, mode: RequantMode) -> Multiplier:
    """Multiplier and shift of a ratio of scales.

    Raises
    ------
    ModelError
        The ratio is 2**30 or more, or too small for float32 in mode `fp32`.
    """
    check_ratio(float(real))
    if mode is not RequantMode.FP32:
        return quantize_multiplier(float(real))
    try:
        return multiplier_fp32(np.float32(real))
    except InputError as error:
        raise ModelError(f"ratio of the scales: {error}") from error


def weighted(scale_in: float, scales: NDArray[np.float32], scale_out: float, mode: RequantMode) -> Fields:
    """Multipliers of sums of products, per output channel."""
    largest = float(np.float64(scale_in) * np.abs(scales.astype(np.float64)).max(initial=0) / scale_out)
    check_ratio(largest)
    try:
        multipliers, shifts = output_multipliers(scale_in, scales, scale_out, mode)
    except InputError as error:
        raise ModelError(f"ratio of the scales: {error}") from error
    return {"multiplier": multipliers, "shift": shifts}


def bias(real: NDArray[np.float64], scales: NDArray[np.float64], mode: RequantMode) -> NDArray[np.int32]:
    """A bias at the scales of the sums; `ModelError` if it does not fit int32."""
    steps = round_real(real / scales, mode)
    if not np.all(np.abs(steps) <= INT32_MAX):
        raise ModelError("bias must fit int32 at the scale of the products")
    return steps.astype(np.int32)


def scales_with_room(
    real: NDArray[np.floating], taps: int, scale_in: float, largest: int = INT8_MAX
) -> NDArray[np.float64]:
    """The least scales of weights at which a bias fits int32 beside the largest sum of products.

    Parameters
    ----------
    real : ndarray
        The bias.
    taps : int
        Products in a sum.
    scale_in : float
        Scale of the input.
    largest : int
        Largest magnitude of a weight.
    """
    room = (INT32_MAX - taps * largest * (INT8_MAX - INT8_MIN)) * (1 - 2.0**-20)
    return np.asarray(np.abs(real).astype(np.float64) / (scale_in * room))


def rescaled(scales: Sequence[float], scale_out: float, mode: RequantMode) -> Fields:
    """Multipliers of ADD and SUB: operands are brought to twice the larger scale with `LEFT_SHIFT` more bits."""
    twice = 2 * max(scales)
    first, second = (multiplier(scale / twice, mode) for scale in scales)
    q, e = multiplier(twice / (2**LEFT_SHIFT * scale_out), mode)
    return {"operand0": first, "operand1": second, "multiplier": q, "shift": e, "left_shift": LEFT_SHIFT}


def product(scales: Sequence[float], scale_out: float, mode: RequantMode) -> Fields:
    """Multiplier of MUL."""
    if mode is RequantMode.FP32:
        q, e = multiplier(np.float32(scales[0]) * np.float32(scales[1]) / np.float32(scale_out), mode)
    else:
        q, e = multiplier(scales[0] * scales[1] / scale_out, mode)
    return {"multiplier": q, "shift": e}


def mean(scale_in: float, scale_out: float, count: int, mode: RequantMode) -> Fields:
    """Multiplier of a mean of `count` values."""
    if mode is RequantMode.FP32:
        q, e = multiplier(np.float32(scale_in) / (np.float32(scale_out) * np.float32(count)), mode)
        return {"multiplier": q, "shift": e}
    q, e = multiplier(scale_in / scale_out, mode)
    extra = min(count.bit_length() - 1, 32, 31 + e)
    return {"multiplier": (q << extra) // count, "shift": e - extra if q else 0}


def clamp(limits: Limits, target: Parameters, mode: RequantMode) -> Fields:
    """Clamp fields for real bounds of an output."""
    if limits == (-np.inf, np.inf):
        return {}
    if mode is RequantMode.FP32:
        scale, zero_point = target
        bounds = [int(np.clip(np.rint(v / scale) + zero_point, INT8_MIN, INT8_MAX)) for v in limits]
    else:
        bounds = list(activation_range(*limits, *target))
    return {"act_min": bounds[0], "act_max": bounds[1]}


def quantize(x: NDArray[Any], target: Parameters, mode: RequantMode) -> NDArray[np.int8]:
    """``clamp(round(x / scale) + zero_point)`` in float32."""
    steps = round_real(np.clip(x.astype(np.float32) / np.float32(target[0]), -BEYOND, BEYOND), mode)
    return np.asarray(np.clip(steps + target[1], INT8_MIN, INT8_MAX), dtype=np.int8)


def reals(source: Parameters) -> NDArray[np.float32]:
    """The real numbers that the stored integers -128 .. 127 stand for."""
    return (np.arange(INT8_MIN, INT8_MAX + 1) - source[1]).astype(np.float32) * np.float32(source[0])


def evaluate(function: Function, source: Parameters, none: float = 0) -> NDArray[np.float32]:
    """A function of the 256 stored integers; `none` where it has no number, float32's largest if infinite."""
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.asarray(function(reals(source)), dtype=np.float32), nan=none)


def table(function: Function, source: Parameters, target: Parameters, mode: RequantMode) -> NDArray[np.int8]:
    """A function of one real variable as a table; ONNX Runtime makes the smallest integer of what is no number."""
    none = float(np.finfo(np.float32).min) if mode is RequantMode.FP32 else 0
    with np.errstate(over="ignore"):
        return quantize(evaluate(function, source, none), target, mode)


def keeps_steps(function: Function, source: Parameters) -> bool:
    """Whether all values of a function of the 256 stored integers are numbers that these stand for, as a Relu's are."""
    with np.errstate(all="ignore"):
        values = np.asarray(function(reals(source)), dtype=np.float32)
        return bool(np.array_equal(reals(source)[quantize(values, source, RequantMode.FP32).astype(int) + 128], values))


def affine_parameters(limits: Limits, mode: RequantMode) -> Parameters:
    """Scale and zero point of an int8 activation whose range, widened to hold zero, is `limits`.

    Returns
    -------
    (float, int)
        ``scale = (high - low) / 255`` as a float32, ``zero_point = clamp(round(-128 - low / scale))``. A tensor that is
        always zero gets scale 1.
    """
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    scale = float(np.float32((high - low) / 255))
    if scale < np.finfo(np.float32).tiny:
        return 1.0, INT8_MIN
    zero_point = int(round_real(np.array(-128 - low / scale), mode))
    return scale, min(max(zero_point, INT8_MIN), INT8_MAX)


def symmetric_parameters(limits: Limits, mode: RequantMode) -> Parameters:
    """Scale of an int8 activation with zero point 0: ``max(-low, high) / 127`` as a float32, 1 if that is zero."""
    scale = float(np.float32(max(-limits[0], limits[1], 0.0) / INT8_MAX))
    return (scale, 0) if scale >= np.finfo(np.float32).tiny else (1.0, 0)


def check_equal(parameters: Sequence[Parameters]) -> None:
    """Raise `ModelError` unless all inputs of an operator that moves integers have equal parameters."""
    if len(set(parameters)) != 1:
        raise ModelError(f"inputs must have equal scales and zero points, got {sorted(set(parameters))!r}")
