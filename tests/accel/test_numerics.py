"""The requantization kernels against literal scalar models in Python's unbounded integers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from accel.errors import InputError
from accel.machine import numerics
from accel.machine.numerics import INT32_MAX, INT32_MIN, RequantMode

Kernel = Callable[[numerics.Int64, numerics.Int64, numerics.Int64], numerics.Int64]
Scalar = Callable[[int, int, int], int]
Operands = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def to_int32(x: int) -> int:
    return int.from_bytes((x & 0xFFFFFFFF).to_bytes(4, "little"), "little", signed=True)


def truncate(numerator: int, denominator: int) -> int:
    quotient = abs(numerator) // denominator
    return quotient if numerator >= 0 else -quotient


def scalar_tflite(x: int, q: int, e: int) -> int:
    """Gemmlowp's two functions, step by step."""
    product = to_int32(x << max(e, 0)) * q
    high = truncate(product + (2**30 if product >= 0 else 1 - 2**30), 2**31)
    n = max(-e, 0)
    mask = (1 << n) - 1
    remainder, threshold = high & mask, (mask >> 1) + (high < 0)
    return (high >> n) + (remainder > threshold)


def scalar_single(x: int, q: int, e: int) -> int:
    """The exact product, rounded once to nearest, ties towards plus infinity."""
    return to_int32(math.floor(Fraction(x * q) * Fraction(2) ** (e - 31) + Fraction(1, 2)))


def float32(x: Fraction) -> Fraction:
    """The float32 nearest to `x`, ties to even, ignoring the limits of the exponent."""
    if x == 0:
        return x
    exponent = math.floor(math.log2(abs(x))) - 23
    while abs(x) / Fraction(2) ** exponent >= 2**24:
        exponent += 1
    while abs(x) / Fraction(2) ** exponent < 2**23:
        exponent -= 1
    return round(x / Fraction(2) ** exponent) * Fraction(2) ** exponent


def scalar_fp32(x: int, q: int, e: int) -> int:
    """Float32 arithmetic in exact fractions."""
    product = float32(float32(Fraction(x)) * q * Fraction(2) ** (e - 31))
    return min(max(round(product), INT32_MIN), INT32_MAX)


SCALARS: dict[RequantMode, Scalar] = {
    RequantMode.TFLITE: scalar_tflite,
    RequantMode.SINGLE: scalar_single,
    RequantMode.FP32: scalar_fp32,
}
EDGES = [0, 1, 2, 3, 585, 2**24 - 1, 2**24, 2**24 + 1, 2**24 + 3, 2**25 + 2, 2**30, 2**31 - 1]
EDGES_X = [*EDGES, *(-x for x in EDGES), -(2**31)]
EDGES_Q = [2**30, 2**30 + 128, 3 * 2**29, 2**31 - 128, 1_342_177_280]


def edge_operands(mode: RequantMode) -> Operands:
    """Every combination of edge values, under every shift."""
    exact = [2**30 + 1, 2**31 - 1] if mode is not RequantMode.FP32 else []
    rows = list(itertools.product(EDGES_X, [*EDGES_Q, *exact], range(mode.shift_min, 31)))
    x, q, e = np.array([*rows, (12345, 0, 0)], dtype=np.int64).T
    return x, q, e


def random_operands(mode: RequantMode, count: int, seed: int) -> Operands:
    """Sums of every magnitude, a quarter of them just beside a tie."""
    rng = np.random.default_rng(seed)
    x = rng.integers(INT32_MIN, INT32_MAX, count, endpoint=True) >> rng.integers(0, 31, count)
    q = rng.integers(2**23, 2**24, count) << 7
    if mode is not RequantMode.FP32:
        q += rng.integers(0, 128, count)
    q = np.where(rng.random(count) < 0.25, 2**30, q)
    return x, q, rng.integers(mode.shift_min, 31, count)


def differences(kernel: Kernel, scalar: Scalar, operands: Operands) -> int:
    """How many results of a kernel differ from its scalar model."""
    results = kernel(*operands)
    expected = [scalar(int(x), int(q), int(e)) for x, q, e in zip(*operands, strict=True)]
    return int(np.count_nonzero(results != np.array(expected)))


@pytest.mark.parametrize("mode", RequantMode)
def test_kernel_equals_scalar_model_at_edges_under_every_shift(mode: RequantMode) -> None:
    assert differences(numerics._KERNELS[mode], SCALARS[mode], edge_operands(mode)) == 0


@pytest.mark.parametrize("mode", RequantMode)
def test_kernel_equals_scalar_model_on_random_operands(mode: RequantMode) -> None:
    assert differences(numerics._KERNELS[mode], SCALARS[mode], random_operands(mode, 10_000, seed=1)) == 0


def without_nudge(x: numerics.Int64, q: numerics.Int64, e: numerics.Int64) -> numerics.Int64:
    high = (numerics.wrap_int32(x << (e * (e > 0))) * q) >> 31
    n = -e * (e < 0)
    return (high + ((1 << n) >> 1)) >> n


def half_up_after_doubling(x: numerics.Int64, q: numerics.Int64, e: numerics.Int64) -> numerics.Int64:
    high = (numerics.wrap_int32(x << (e * (e > 0))) * q + (1 << 30)) >> 31
    n = -e * (e < 0)
    return (high + ((1 << n) >> 1)) >> n


def saturating_left_shift(x: numerics.Int64, q: numerics.Int64, e: numerics.Int64) -> numerics.Int64:
    shifted = numerics.saturate(x << (e * (e > 0)), INT32_MIN, INT32_MAX)
    return numerics.requantize_tflite(shifted, q, e * (e < 0))


def fp32_from_exact_sum(x: numerics.Int64, q: numerics.Int64, e: numerics.Int64) -> numerics.Int64:
    """Does not round the sum to float32 before the product."""
    product = (x * np.ldexp(q.astype(np.float64), e - 31)).astype(np.float32)
    return np.clip(np.rint(product.astype(np.float64)), INT32_MIN, INT32_MAX).astype(np.int64)


@pytest.mark.parametrize(
    ("mutant", "mode"),
    [
        (without_nudge, RequantMode.TFLITE),
        (half_up_after_doubling, RequantMode.TFLITE),
        (saturating_left_shift, RequantMode.TFLITE),
        (numerics.requantize_single, RequantMode.TFLITE),
        (numerics.requantize_tflite, RequantMode.SINGLE),
        (numerics.requantize_single, RequantMode.FP32),
        (fp32_from_exact_sum, RequantMode.FP32),
    ],
)
def test_comparison_catches_mutants(mutant: Kernel, mode: RequantMode) -> None:
    x, q, e = edge_operands(mode)
    inside = e >= -31
    assert differences(mutant, SCALARS[mode], (x[inside], q[inside], e[inside])) > 0


def integer_differences(kernel: Kernel, seed: int) -> int:
    """How often `kernel` differs from float32 arithmetic, over edges and two million random operands."""
    operands = [np.concatenate(pair) for pair in zip(edge_operands(RequantMode.FP32), *_two_million(seed), strict=True)]
    x, q, e = operands
    return int(np.count_nonzero(kernel(x, q, e) != numerics.requantize_fp32(x, q, e)))


def _two_million(seed: int) -> list[Operands]:
    x, q, e = random_operands(RequantMode.FP32, 2_000_000, seed)
    near = np.random.default_rng(seed).random(x.size) < 0.7
    return [(x, q, np.where(near, e % 40 - 30, e))]


def test_integer_datapath_equals_float32() -> None:
    assert integer_differences(numerics.requantize_fp32_integer, seed=2) == 0


def test_integer_comparison_catches_a_missing_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "_bit_length", lambda x: np.zeros_like(x))
    assert integer_differences(numerics.requantize_fp32_integer, seed=2) > 0


def test_kernels_give_the_same_under_numba() -> None:
    from sim import jit as compiler

    for mode, kernel in numerics._KERNELS.items():
        compiled = compiler.jit_group(numerics.scale_fp32, numerics.multiply_fp32, kernel)[-1]
        x, q, e = random_operands(mode, 2_000, seed=3)
        scalars = [compiled(*row) for row in zip(x, q, e, strict=True)]
        assert np.array_equal(scalars, kernel(x, q, e))


def test_modes_differ_at_a_tie() -> None:
    q, e = numerics.multiplier_fp32(8.5 / 585)
    results = [int(numerics.requantize(585, q, e, mode)) - 128 for mode in ("tflite", "single", "fp32")]
    assert results == [-119, -119, -120]


def test_requantize_broadcasts_channels_and_refuses_unknown_modes() -> None:
    result = numerics.requantize_clamp([[100, 100], [-300, 7]], [2**30, 2**30], [0, 1], 3, -100, 100, "single")
    assert result.tolist() == [[53, 100], [-100, 10]]
    assert result.dtype == np.int8
    with pytest.raises(
        InputError, match=r"^requantization mode must be one of 'tflite', 'single', 'fp32', got 'exact'$"
    ):
        numerics.requantize(1, 2**30, 0, "exact")


@given(st.floats(min_value=2**-31, max_value=2**30, exclude_max=True))
def test_quantize_multiplier_is_the_nearest(real: float) -> None:
    q, e = numerics.quantize_multiplier(real)
    assert 2**30 <= q < 2**31
    assert -31 <= e <= 31
    assert e == numerics.SHIFT_MAX or abs(Fraction(q) * Fraction(2) ** (e - 31) - Fraction(real)) <= Fraction(2) ** (
        e - 32
    )


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.0, (0, 0)),
        (1.0, (2**30, 1)),
        (0.5, (2**30, 0)),
        (1 - 2**-53, (2**30, 1)),
        (2.0**-32, (2**30, -31)),
        (2.0**-33, (0, 0)),
        (2.0**30, (2**31 - 1, 30)),
        (2.0**40, (2**31 - 1, 30)),
    ],
)
def test_quantize_multiplier_edges(real: float, expected: tuple[int, int]) -> None:
    assert numerics.quantize_multiplier(real) == expected


@pytest.mark.parametrize("real", [-1.0, math.nan, math.inf])
def test_quantize_multiplier_refuses(real: float) -> None:
    with pytest.raises(InputError, match=r"^multiplier must be finite and not negative, got "):
        numerics.quantize_multiplier(real)


@given(st.floats(min_value=2**-126, max_value=2**30, exclude_max=True, width=32))
def test_multiplier_fp32_is_exact(scale: float) -> None:
    q, e = numerics.multiplier_fp32(scale)
    assert 2**30 <= q < 2**31
    assert q % 128 == 0
    assert numerics.SHIFT_MIN_FP32 <= e <= numerics.SHIFT_MAX
    assert Fraction(q) * Fraction(2) ** (e - 31) == Fraction(scale)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 2.0**-127, 2.0**30])
def test_multiplier_fp32_refuses(scale: float) -> None:
    with pytest.raises(InputError, match=r"^float32 scale must be a normal number in \[2\*\*-126, 2\*\*30\), got "):
        numerics.multiplier_fp32(scale)


def test_output_multipliers_multiply_in_the_precision_of_the_mode() -> None:
    scale_in, scale_out = float(np.float32(0.1)), float(np.float32(0.7))
    weights = np.array([0.3, 1e-3], dtype=np.float32)
    q, e = numerics.output_multipliers(scale_in, weights, scale_out, "tflite")
    assert [*zip(q, e, strict=True)] == [numerics.quantize_multiplier(scale_in * float(w) / scale_out) for w in weights]
    q, e = numerics.output_multipliers(scale_in, weights, scale_out, "fp32")
    products = [np.float32(scale_in) * w / np.float32(scale_out) for w in weights]
    assert [*zip(q, e, strict=True)] == [numerics.multiplier_fp32(product) for product in products]


@given(st.floats(-(2**40), 2**40))
def test_round_half_away(x: float) -> None:
    exact = Fraction(x)
    expected = math.floor(abs(exact) + Fraction(1, 2)) * (1 if x >= 0 else -1)
    assert int(numerics.round_half_away(x)) == expected


def test_activation_range() -> None:
    assert numerics.activation_range(-np.inf, np.inf, 0.1, 5) == (-128, 127)
    assert numerics.activation_range(0.0, np.inf, 0.1, -5) == (-5, 127)
    assert numerics.activation_range(0.0, 6.0, 0.1, -28) == (-28, 32)
    assert numerics.activation_range(0.0, 6.0, 1e-9, -128) == (-128, 127)
    assert numerics.activation_range(-0.25, 0.25, 0.1, 0) == (-3, 3)


@given(st.integers(-(2**62), 2**62))
def test_wrap_int32(x: int) -> None:
    assert int(numerics.wrap_int32(np.int64(x))) == to_int32(x)
