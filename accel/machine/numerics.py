"""Integer arithmetic of quantized inference: the one definition that reference, simulator and RTL agree on.

A layer's int32 sums return to int8 by `requantize`: multiplication by a positive real number ``M``, stored as an
integer `multiplier` ``q`` and a `shift` ``e`` with ``M = q * 2**(e - 31)`` and ``q`` in ``[2**30, 2**31)`` (or
``q == e == 0`` for ``M == 0``). Positive shifts go left. Three families of runtimes round differently:

========= ======================================================== ==================================
mode      rule                                                     equals
========= ======================================================== ==================================
tflite    rounding doubling high product, then rounding shift      TensorFlow Lite (Micro) reference
single    one rounding, ties towards plus infinity                 ``TFLITE_SINGLE_ROUNDING`` builds
fp32      float32 product, ties to even                            ONNX Runtime, XNNPACK
========= ======================================================== ==================================

Every `requantize_*` kernel is one branch-free expression over int64, so that it accepts int64 arrays (broadcasting)
and, compiled unchanged by numba, int64 scalars.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel.errors import InputError

INT8_MIN, INT8_MAX = -128, 127
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
SHIFT_MAX = 30
"""Largest shift in every mode; real multipliers of 2**30 and more saturate there."""
SHIFT_MIN_INTEGER = -31
"""Smallest shift of the other modes; smaller real multipliers become zero, as in the runtimes."""
SHIFT_MIN_FP32 = -125
"""Smallest shift of the mode `fp32`: that of the smallest normal float32. Any shift below -31 yields zero."""
MULTIPLIER_MIN, MULTIPLIER_MAX = 2**30, 2**31 - 1
"""Range of normalised multipliers."""
FP32_MULTIPLIER_STEP = 2**7
"""Multipliers of the mode `fp32` are multiples of this: significands of 24 bits."""
OPERAND_SHIFT_MAX = 23
"""Largest left shift of an operand: the difference of two int8 shifted by it is still an int32."""
INTERPOLATION_ONE = 2**10
"""Weights of an interpolation along one axis are in units of one 1024th."""

Int64: TypeAlias = Any
"""An int64 array, or an int64 scalar under numba; no static type covers both."""


class RequantMode(StrEnum):
    """How int32 sums are rounded to int8, in the order of `code`; programs and files rely on this order."""

    TFLITE = "tflite"
    SINGLE = "single"
    FP32 = "fp32"

    @classmethod
    def of_code(cls, code: int) -> RequantMode:
        """The mode of a POST instruction whose field `mode` is `code`."""
        return list(cls)[code]

    @property
    def code(self) -> int:
        """Value of field `mode` in a POST instruction."""
        return list(type(self)).index(self)

    @property
    def shift_min(self) -> int:
        """Smallest shift that this mode accepts."""
        return SHIFT_MIN_FP32 if self is RequantMode.FP32 else SHIFT_MIN_INTEGER


def wrap_int32(x: Int64) -> Int64:
    """Value of the low 32 bits of `x` (int64) read as two's complement."""
    return ((x + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def saturate(x: Int64, lo: Int64, hi: Int64) -> Int64:
    """`x` limited to ``[lo, hi]``, without branches; all int64."""
    return x + (lo - x) * (x < lo) + (hi - x) * (x > hi)


def round_half_away(x: ArrayLike) -> NDArray[np.float64]:
    """Round real numbers to integers (as float64), ties away from zero."""
    value = np.asarray(x, dtype=np.float64)
    magnitude = np.abs(value)
    whole = np.floor(magnitude)
    return np.asarray(np.copysign(whole + (magnitude - whole >= 0.5), value))


def requantize_tflite(x: Int64, q: Int64, e: Int64) -> Int64:
    """Multiply by ``q * 2**(e - 31)`` with the two roundings of TensorFlow Lite's reference kernels.

    Parameters
    ----------
    x : int64 array or scalar
        Sums in the int32 range.
    q, e : int64 array or scalar
        Multiplier in ``[0, 2**31)`` and shift in ``[-31, 30]``.

    Returns
    -------
    int64 array or scalar
        Value in the int32 range, before the zero point.

    Notes
    -----
    ``x << max(e, 0)`` wraps to int32, as it does in the runtimes. The saturating rounding doubling high
    multiplication of gemmlowp truncates ``(p + 2**30) / 2**31`` for a product ``p >= 0`` and
    ``(p + 1 - 2**30) / 2**31`` for ``p < 0``. The second numerator is negative, so that truncation is ``ceil``,
    and ``ceil(n / d) = floor((n + d - 1) / d)`` makes it ``floor((p + 2**30) / 2**31)``: one arithmetic shift serves
    both signs. Its only saturating case needs two factors of ``-2**31``, and ``q`` is not negative. The following
    division by ``2**-e`` rounds ties away from zero.
    """
    shifted = (((x << (e * (e > 0))) + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
    high = (shifted * q + (1 << 30)) >> 31
    n = -e * (e < 0)
    mask = (1 << n) - 1
    return (high >> n) + ((high & mask) > (mask >> 1) + (high < 0))


def requantize_single(x: Int64, q: Int64, e: Int64) -> Int64:
    """Multiply by ``q * 2**(e - 31)`` with one rounding, ties towards plus infinity.

    Parameters and result are those of `requantize_tflite`; a result beyond int32 wraps, as the runtimes' cast does.
    """
    y = (x * q + (1 << (30 - e))) >> (31 - e)
    return ((y + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def scale_fp32(q: Int64, e: Int64) -> Any:
    """The float32 scale that multiplier and shift encode; see `requantize_fp32`."""
    return np.float32(np.ldexp(np.float64(q), e - 31))


def multiply_fp32(x: Int64, scale: Any) -> Int64:
    """``rint(float32(x) * scale)``, saturated to int32; see `requantize_fp32`."""
    y = np.int64(np.rint(np.float32(x) * scale))
    return y + (-(1 << 31) - y) * (y < -(1 << 31)) + ((1 << 31) - 1 - y) * (y > (1 << 31) - 1)


def requantize_fp32(x: Int64, q: Int64, e: Int64) -> Int64:
    """Multiply by ``q * 2**(e - 31)`` in float32: ``rint(float32(x) * float32(scale))``, ties to even.

    Parameters
    ----------
    x : int64 array or scalar
        Sums in the int32 range; above 2**24 their conversion to float32 rounds to nearest even.
    q, e : int64 array or scalar
        A float32 scale as `multiplier_fp32` encodes it: multiple of 128 below ``2**31``, shift in ``[-125, 30]``.

    Returns
    -------
    int64 array or scalar
        Value saturated to int32, so that adding a zero point and clamping to int8 ends where clamping first would.
    """
    return multiply_fp32(x, scale_fp32(q, e))


def _shift_right_half_even(x: Int64, n: Int64) -> Int64:
    """``x / 2**n`` for ``x >= 0`` and ``0 <= n <= 62``, rounded to nearest, ties to even."""
    floor, rest, half = x >> n, x & ((1 << n) - 1), (1 << n) >> 1
    return floor + ((rest > half) | ((rest == half) & (n > 0) & (floor & 1 == 1)))


def _bit_length(x: Int64) -> Int64:
    """Number of significant bits of ``0 <= x < 2**62``."""
    return sum((x >> k > 0) * 1 for k in range(62))


def requantize_fp32_integer(x: Int64, q: Int64, e: Int64) -> Int64:
    """The same function as `requantize_fp32` without floating point: the datapath that hardware builds.

    Notes
    -----
    Sign and magnitude. The magnitude is rounded to 24 bits (``a * 2**d``), multiplied by the 24-bit significand
    ``q >> 7``, the product rounded to 24 bits (``p * 2**k``) and shifted by ``d + k + e - 24`` to an integer; each
    rounding is to nearest, ties to even. A carry out of a rounding needs no renormalisation: it leaves a power of two.
    Products that float32 would hold as subnormals are far below one half, hence zero either way.
    """
    magnitude = np.abs(x)
    d = np.maximum(_bit_length(magnitude) - 24, 0)
    product = _shift_right_half_even(magnitude, d) * (q >> 7)
    k = np.maximum(_bit_length(product) - 24, 0)
    significand = _shift_right_half_even(product, k)
    right = -(d + k + e - 24)
    whole = significand << np.clip(-right, 0, 32)
    y = np.where(right > 0, _shift_right_half_even(significand, np.clip(right, 0, 40)), whole)
    return saturate(np.sign(x) * y, INT32_MIN, INT32_MAX)


_KERNELS = {
    RequantMode.TFLITE: requantize_tflite,
    RequantMode.SINGLE: requantize_single,
    RequantMode.FP32: requantize_fp32,
}


def requantize(x: ArrayLike, q: ArrayLike, e: ArrayLike, mode: RequantMode | str) -> NDArray[np.int64]:
    """Multiply int32 sums by ``q * 2**(e - 31)`` with the rounding of `mode`, before the zero point.

    Parameters
    ----------
    x : array_like of integers
        Sums; they must lie in the int32 range.
    q, e : array_like of integers, broadcast against `x`
        Multipliers and shifts (see the module's description); the last axis is the channel.
    mode : RequantMode or str

    Returns
    -------
    ndarray of int64
    """
    kernel = _KERNELS[requant_mode(mode)]
    arguments = (np.asarray(value, dtype=np.int64) for value in (x, q, e))
    return np.asarray(kernel(*arguments), dtype=np.int64)


def requantize_clamp(
    acc: ArrayLike, q: ArrayLike, e: ArrayLike, zp: int, lo: int, hi: int, mode: RequantMode | str
) -> NDArray[np.int8]:
    """``clamp(requantize(acc) + zp, lo, hi)`` as int8; `lo` and `hi` lie in [-128, 127]."""
    value = requantize(acc, q, e, mode) + zp
    return np.asarray(saturate(value, lo, hi), dtype=np.int8)


def requant_mode(mode: RequantMode | str) -> RequantMode:
    """The mode named `mode`; `InputError` if there is none."""
    try:
        return RequantMode(mode)
    except ValueError:
        names = ", ".join(repr(str(known)) for known in RequantMode)
        raise InputError(f"requantization mode must be one of {names}, got {mode!r}") from None


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Multiplier and shift nearest to a real number, as TensorFlow Lite's `QuantizeMultiplier` computes them.

    Parameters
    ----------
    real : float
        Finite, not negative.

    Returns
    -------
    (int, int)
        ``q`` in ``[2**30, 2**31)`` and ``e`` in ``[-31, 30]``; ``(0, 0)`` below ``2**-32``,
        ``(2**31 - 1, 30)`` from ``2**30`` on.

    Raises
    ------
    InputError
        `real` is negative or not finite.
    """
    value = float(real)
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"multiplier must be finite and not negative, got {value!r}")
    significand, e = math.frexp(value)
    q = math.floor(significand * 2**31 + 0.5)
    if q == 2**31:
        q, e = q // 2, e + 1
    if e > SHIFT_MAX:
        return 2**31 - 1, SHIFT_MAX
    return (q, e) if q and e >= SHIFT_MIN_INTEGER else (0, 0)


def multiplier_fp32(scale: float | np.float32) -> tuple[int, int]:
    """A float32 scale as multiplier and shift, exactly: ``scale == q * 2**(e - 31)``.

    The multiplier is the 24-bit significand shifted left by 7, so that it has the range of the other modes.

    Raises
    ------
    InputError
        `scale` is not a positive normal float32 below ``2**30``.
    """
    value = np.float32(scale)
    if not np.finfo(np.float32).tiny <= value < np.float32(2**SHIFT_MAX):
        raise InputError(f"float32 scale must be a normal number in [2**-126, 2**30), got {scale!r}")
    significand, e = math.frexp(float(value))
    return int(significand * 2**31), e


def output_multipliers(
    scale_in: float, scale_weight: ArrayLike, scale_out: float, mode: RequantMode | str
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Per-channel multipliers and shifts for ``scale_in * scale_weight / scale_out``.

    Parameters
    ----------
    scale_in, scale_out : float
        float32 values.
    scale_weight : array_like, shape (channels,)
        float32 values.
    mode : RequantMode or str
        `fp32` multiplies and divides in float32, left to right; the others in float64.

    """
    fp32 = requant_mode(mode) is RequantMode.FP32
    dtype = np.dtype(np.float32 if fp32 else np.float64)
    s_in, s_weight, s_out = (
        np.atleast_1d(np.asarray(scale, dtype=np.float32)).astype(dtype)
        for scale in (scale_in, scale_weight, scale_out)
    )
    reals: NDArray[np.float64] = s_in * s_weight / s_out
    pairs = [multiplier_fp32(real) if fp32 else quantize_multiplier(float(real)) for real in reals]
    return np.array([q for q, _ in pairs], dtype=np.int32), np.array([e for _, e in pairs], dtype=np.int8)


def activation_range(low: float, high: float, scale: float, zero_point: int) -> tuple[int, int]:
    """Clamp limits of an activation: ``zero_point + round_half_away(v / scale)`` for its bounds ``v``, within int8.

    Parameters
    ----------
    low, high : float
        Real bounds, infinite if there is none: ReLU is ``(0, inf)``, ReLU6 ``(0, 6)``.
    scale, zero_point : float, int
        Parameters of the tensor that is clamped; the division is in float32.

    Returns
    -------
    (act_min, act_max) : (int, int)
    """
    steps = round_half_away(np.clip(np.array([low, high], dtype=np.float32) / np.float32(scale), -256, 256))
    act_min, act_max = np.clip(steps + zero_point, INT8_MIN, INT8_MAX)
    return int(act_min), int(act_max)
