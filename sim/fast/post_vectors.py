"""The end of POST in LLVM's vector code: bias, requantization, zero point and clamp of `PANEL` channels at a time.

The integer modes are the functions of `accel.machine.numerics` themselves, applied to `Lanes` instead of numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from accel.machine import numerics
from sim.fast.vectors import PANEL, call, constant, load, phi, pointer, repeat, splat
from sim.jit import intrinsic

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES, _SUMS, _WIDE = (ir.VectorType(kind, PANEL) for kind in (_I8, _I32, _I64))
_REALS = ir.VectorType(ir.FloatType(), PANEL)
_FP32_LIMIT = 1024.0
"""Beyond it (and by zero point and rounding less) every result is clamped, whatever its size."""


class Lanes:
    """`PANEL` numbers of 64 bits in a vector, with the operators of an int64 array."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _operand(self, other: Lanes | int) -> Any:
        return other.value if isinstance(other, Lanes) else ir.Constant(_WIDE, [other] * PANEL)

    def _make(self, operation: str, left: Any, right: Any) -> Lanes:
        return Lanes(self.builder, getattr(self.builder, operation)(left, right))

    def _compare(self, relation: str, other: Lanes | int) -> Lanes:
        is_true = self.builder.icmp_signed(relation, self.value, self._operand(other))
        return Lanes(self.builder, self.builder.zext(is_true, _WIDE))

    def __add__(self, other: Lanes | int) -> Lanes:
        return self._make("add", self.value, self._operand(other))

    def __sub__(self, other: Lanes | int) -> Lanes:
        return self._make("sub", self.value, self._operand(other))

    def __rsub__(self, other: int) -> Lanes:
        return self._make("sub", self._operand(other), self.value)

    def __neg__(self) -> Lanes:
        return 0 - self

    def __mul__(self, other: Lanes | int) -> Lanes:
        return self._make("mul", self.value, self._operand(other))

    def __and__(self, other: Lanes | int) -> Lanes:
        return self._make("and_", self.value, self._operand(other))

    def __lshift__(self, other: Lanes | int) -> Lanes:
        return self._make("shl", self.value, self._operand(other))

    def __rlshift__(self, other: int) -> Lanes:
        return self._make("shl", self._operand(other), self.value)

    def __rshift__(self, other: Lanes | int) -> Lanes:
        return self._make("ashr", self.value, self._operand(other))

    def __gt__(self, other: Lanes | int) -> Lanes:
        return self._compare(">", other)

    def __lt__(self, other: Lanes | int) -> Lanes:
        return self._compare("<", other)


Rescale = Callable[[Any, Any, Any, Any, Any], Any]
"""Emits the requantization of a vector of int32: builder, sums, multipliers, shifts (int32), scales (float32)."""


def _rescale_integer(requantize: Callable[[Any, Any, Any], Any]) -> Rescale:
    def rescale(builder: Any, sums: Any, multipliers: Any, shifts: Any, scales: Any) -> Any:
        x, q, e = (Lanes(builder, builder.sext(value, _WIDE)) for value in (sums, multipliers, shifts))
        return builder.trunc(requantize(x, q, e).value, _SUMS)

    return rescale


def _rescale_fp32(builder: Any, sums: Any, multipliers: Any, shifts: Any, scales: Any) -> Any:
    """`numerics.multiply_fp32`, limited before it is rounded and not after."""
    real = builder.fmul(builder.sitofp(sums, _REALS), scales)
    for relation, limit in (("<", -_FP32_LIMIT), (">", _FP32_LIMIT)):
        bound = ir.Constant(_REALS, [limit] * PANEL)
        real = builder.select(builder.fcmp_ordered(relation, real, bound), bound, real)
    return builder.fptosi(call(builder, f"llvm.nearbyint.v{PANEL}f32", _REALS, [real]), _SUMS)


def _finisher(rescale: Rescale) -> Any:
    """A kernel that ends POST for `count` rows of `PANEL` int32, steps in bytes."""

    def finish(
        context: Any, sums: Any, step: Any, count: Any, biases: Any, multipliers: Any, shifts: Any, scales: Any,
        zero_point: Any, low: Any, high: Any, bytes_: Any, bytes_step: Any,
    ) -> Any:  # fmt: skip
        from numba import types

        return types.void(*[types.int64] * 12), _finish_code(rescale)

    return intrinsic(finish)


def _finish_code(rescale: Rescale) -> Any:
    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, step, count, biases, multipliers, shifts, scales, zero_point, low, high, bytes_, bytes_step = arguments
        # The limits leave the zero point out: beside a result at the border of int32 the sum would wrap.
        low, high = (builder.sub(limit, zero_point) for limit in (low, high))
        zero_point, low, high = (splat(builder, builder.trunc(value, _I32)) for value in (zero_point, low, high))
        biases, multipliers, shifts = (load(builder, _SUMS, address) for address in (biases, multipliers, shifts))
        scales = load(builder, _REALS, scales)
        entry = builder.block
        loop, done = map(builder.append_basic_block, ("pixel", "done"))
        builder.cbranch(builder.icmp_signed(">", count, constant(0)), loop, done)

        builder.position_at_end(loop)
        pixel, source, place = (phi(builder, _I64, entry, start) for start in (constant(0), sums, bytes_))
        total = builder.add(load(builder, _SUMS, source), biases)
        total = rescale(builder, total, multipliers, shifts, scales)
        total = builder.select(builder.icmp_signed("<", total, low), low, total)
        total = builder.select(builder.icmp_signed(">", total, high), high, total)
        value = builder.xor(builder.trunc(builder.add(total, zero_point), _BYTES), ir.Constant(_BYTES, [128] * PANEL))
        builder.store(value, pointer(builder, place, _BYTES), align=1)
        repeat(builder, (pixel, count), (loop, done), [source, place],
               [builder.add(source, step), builder.add(place, bytes_step)])  # fmt: skip
        builder.position_at_end(done)
        return target.get_dummy_value()

    return generate


finish_tflite = _finisher(_rescale_integer(numerics.requantize_tflite))
finish_single = _finisher(_rescale_integer(numerics.requantize_single))
finish_fp32 = _finisher(_rescale_fp32)
