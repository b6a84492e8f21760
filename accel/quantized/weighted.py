"""Lowering operators with weights: convolutions and matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import INT32_MAX
from accel.network.nodes import Conv2d, TransposeConv2d
from accel.network.windows import Shape
from accel.quantized import recipes
from accel.quantized.lowering import Lowering
from accel.quantized.network import Operator, Quantization
from accel.quantized.values import Integers, Sums, Target, Value
from accel.quantized.wide_weights import bits_of, int8_parts, repeat_channels
from accel.quantized.window import window_of

Weights = NDArray[np.int64] | NDArray[np.int8]
Emit = Callable[[Target, NDArray[np.int8], int, recipes.Fields], Integers]
LARGEST_WEIGHT = 127
NEGLIGIBLE = 2.0**-60
"""A ratio of scales at which no sum of int32 makes a step."""


@dataclass(frozen=True, eq=False)
class Linear:
    """Sums of products that wait for their parameters.

    Parameters
    ----------
    weight : ndarray of int64
        Output channel first, input channel last; without zero points.
    scale : ndarray of float32, shape (channels,)
    bias : ndarray of float64, shape (channels,)
        Real.
    exact : ndarray of int32, shape (channels,), optional
        The bias at the scale of the sums, where the source has it.
    factor : float
        Scale of the input.
    groups : int
    kind : str
        Type of the weights in the source.
    emit : callable
        Makes the node from the target, int8 weights, how often they read the input's channels (`int8_parts`), and the
        fields of the requantization.
    """

    weight: Weights
    scale: NDArray[np.float32]
    bias: NDArray[np.float64]
    exact: NDArray[np.int32] | None
    factor: float
    groups: int
    kind: str
    emit: Emit

    def affine(self, factor: NDArray[np.float64], offset: NDArray[np.float64]) -> Linear:
        """``factor * sums + offset`` per output channel; a sign goes into the weights, the rest into their scales."""
        sign = np.sign(factor).reshape(-1, *(1,) * (self.weight.ndim - 1)).astype(np.int64)
        scale = np.where(factor == 0, 1, np.abs(factor)).astype(np.float32) * self.scale
        kept = self.exact is not None and not np.any(offset) and np.all(factor > 0)
        bias = self.bias * factor + offset
        return replace(self, weight=self.weight * sign, scale=scale, bias=bias, exact=self.exact if kept else None)

    def roomy(self, step: float) -> Linear:
        """Coarser weights where the bias does not fit int32, or no sum comes near a step of the result.

        What the products are is little beside such a bias.
        """
        least = NEGLIGIBLE * step / self.factor
        beyond = np.abs(self.bias) > INT32_MAX * (self.factor * self.scale.astype(np.float64))
        beyond |= self.scale < least
        if self.exact is not None or not np.any(beyond):
            return self
        room = np.maximum(recipes.scales_with_room(self.bias, self.weight[0].size, self.factor), least)
        scale = np.where(beyond, np.maximum(room, self.scale), self.scale)
        share = np.where(beyond, self.scale / scale, 1).reshape(-1, *(1,) * (self.weight.ndim - 1))
        return replace(self, weight=np.rint(self.weight * share).astype(np.int64), scale=scale.astype(np.float32))

    def finish(self, target: Target, low: Lowering) -> Integers:
        """The node."""
        linear = self.roomy(target.parameters[0])
        values, count = int8_parts(linear.weight)
        scales = np.float64(linear.factor) * linear.scale.astype(np.float64)
        exact = recipes.bias(linear.bias, scales, low.mode) if linear.exact is None else linear.exact
        fields = recipes.weighted(linear.factor, linear.scale, target.parameters[0], low.mode)
        fields |= {"bias": exact, "weight_bits": bits_of(linear.kind, values)} | recipes.clamp(
            target.limits, target.parameters, low.mode
        )
        return linear.emit(target, values, count, fields)


def sums(low: Lowering, shape: Shape, axis: int, linear: Linear) -> Sums:
    """The value of a linear operator whose output channels are `axis` of `shape`."""
    return Sums(
        shape,
        lambda target: linear.finish(target, low),
        affine=lambda factor, offset: sums(low, shape, axis, linear.affine(factor, offset)),
        channels=len(linear.weight),
        axis=axis,
    )


def channel_scales(op: Operator, weight: Quantization, axis: int, channels: int) -> NDArray[np.float32]:
    """One scale per output channel."""
    rank = 0 if weight.integers is None else weight.integers.ndim
    if weight.scale.size > 1 and (weight.axis % max(rank, 1) != axis or weight.scale.size != channels):
        raise op.error(f"weights must have scales per output channel (axis {axis}), got axis {weight.axis}")
    return np.broadcast_to(weight.scale.reshape(-1), (channels,))


def real_bias(
    low: Lowering, op: Operator, position: int, scales: NDArray[np.float32], beta: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.int32] | None]:
    """The real bias per output channel, and its integers where the network has them at the scale of the sums."""
    channels = scales.size
    name = op.input(position)
    if not name:
        return np.zeros(channels), None
    found = low.network.parameters.get(name)
    if found is not None and found.integers is not None:
        points = found.along_axis(found.zero_point, found.integers.ndim)
        same = beta == 1 and np.allclose(found.scale, scales, rtol=1e-5, atol=0) and not np.any(points)
        real = (found.integers - points) * found.along_axis(found.scale, found.integers.ndim).astype(np.float64)
        exact = found.integers.astype(np.int32).reshape(-1) if same and _fits_int32(found.integers) else None
        exact = None if exact is None else np.ascontiguousarray(np.broadcast_to(exact, (channels,)))
        return np.broadcast_to(real.reshape(-1) * beta, (channels,)), exact
    constant = low.constant(op, position)
    real = np.zeros(1) if constant is None else constant.astype(np.float64).reshape(-1)
    if real.size not in (1, channels):
        raise op.error(f"bias must have {channels} numbers, got {real.size}")
    return np.broadcast_to(real * beta, (channels,)), None


def _fits_int32(integers: NDArray[np.signedinteger[Any]]) -> bool:
    return bool(np.all(np.abs(integers) < 2**31))


def scale_of_sums(low: Lowering, op: Operator, x: Integers) -> float:
    """Factor of the weights' scales: the input's, or 1 for ConvInteger and MatMulInteger, whose sums are integers."""
    return 1.0 if op.kind.endswith("Integer") else low.parameters(x)[0]


def conv(low: Lowering, op: Operator) -> Value:
    """Conv, ConvInteger."""
    weight = low.quantization(op, 1, "weights")
    integers = weight.centred
    x = low.integers(op, 0)
    if integers.ndim not in (3, 4) or len(x.shape) != integers.ndim:
        raise op.error(f"only 1-D and 2-D convolutions are supported, got weights of shape {integers.shape!r}")
    window = window_of(op, x.shape, integers.shape[2:])
    channels, groups = len(integers), int(op.attributes.get("group", 1))
    if groups < 1 or x.shape[1] != integers.shape[1] * groups or channels % groups:
        raise op.error(f"weights of shape {integers.shape!r} must fit {x.shape[1]} channels in {groups} groups")
    rank, source = len(x.shape), low.image(op, x)
    kernels = np.moveaxis(integers, 1, -1).reshape(channels, *window.kernel, integers.shape[1])
    factor = scale_of_sums(low, op, x)
    scales = channel_scales(op, weight, 0, channels)
    bias, exact = real_bias(low, op, 2, np.float32(factor) * scales)

    def emit(target: Target, values: NDArray[np.int8], count: int, fields: recipes.Fields) -> Integers:
        name = low.builder.emit(
            Conv2d,
            [repeat_channels(low.builder, source, count, groups)],
            target.parameters,
            target.name,
            weight=values,
            stride=window.stride,
            padding=window.padding,
            dilation=window.dilation,
            groups=groups,
            **fields,
        )
        return low.of_image(name, rank)

    shape = (1, channels, *window.output[2 - (rank - 2) :])
    return sums(low, shape, 1, Linear(kernels, scales, bias, exact, factor, groups, weight.kind, emit))


def conv_transpose(low: Lowering, op: Operator) -> Value:
    """ConvTranspose."""
    weight = low.quantization(op, 1, "weights")
    integers, x = weight.centred, low.integers(op, 0)
    if integers.ndim not in (3, 4) or len(x.shape) != integers.ndim:
        raise op.error(f"only 1-D and 2-D convolutions are supported, got weights of shape {integers.shape!r}")
    window = window_of(op, x.shape, integers.shape[2:])
    if window.dilation != (1, 1):
        raise op.error(f"dilations must be 1, got {window.dilation!r}; other values are not supported")
    groups = int(op.attributes.get("group", 1))
    per_group = integers.shape[1]
    channels, rank = per_group * groups, len(x.shape)
    parts = [np.moveaxis(part, 0, -1).reshape(per_group, *window.kernel, -1) for part in np.split(integers, groups)]
    kernels = np.concatenate(parts)
    size, padding = _transposed_size(op, window, x.shape)
    factor, source = scale_of_sums(low, op, x), low.image(op, x)
    scales = np.tile(channel_scales(op, weight, 1, per_group), groups)
    bias, exact = real_bias(low, op, 2, np.float32(factor) * scales)

    def emit(target: Target, values: NDArray[np.int8], count: int, fields: recipes.Fields) -> Integers:
        geometry = {"stride": window.stride, "padding": padding, "size": size, "groups": groups}
        name = low.builder.emit(
            TransposeConv2d,
            [repeat_channels(low.builder, source, count, groups)],
            target.parameters,
            target.name,
            weight=values,
            **geometry,
            **fields,
        )
        return low.of_image(name, rank)

    shape = (1, channels, *size[2 - (rank - 2) :])
    return sums(low, shape, 1, Linear(kernels, scales, bias, exact, factor, groups, weight.kind, emit))


def _transposed_size(op: Operator, window: Any, shape: Shape) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of the output, and the rows and columns cut off before the first."""
    sizes = (1,) * (4 - len(shape)) + shape[2:]
    extra = (0,) * (4 - len(shape)) + tuple(op.attributes.get("output_padding", (0,) * (len(shape) - 2)))
    full = [(n - 1) * s + k + e for n, s, k, e in zip(sizes, window.stride, window.kernel, extra, strict=True)]
    auto = str(op.attributes.get("auto_pad", "NOTSET"))
    wanted = tuple(op.attributes.get("output_shape", ()))[2 - len(shape) :]
    if wanted:
        padded = (1,) * (4 - len(shape)) + tuple(int(n) for n in wanted)
        totals = [max(f - n, 0) for f, n in zip(full, padded, strict=True)]
        before = [total - total // 2 if auto != "SAME_UPPER" else total // 2 for total in totals]
        return (padded[0], padded[1]), (before[0], before[1])
    top, left, bottom, right = window.padding
    return (full[0] - top - bottom, full[1] - left - right), (top, left)


def channel_affine(
    low: Lowering, op: Operator, x: Integers, axis: int, factor: NDArray[np.float64], offset: NDArray[np.float64]
) -> Value:
    """``factor * x + offset`` per index of an axis: a depthwise convolution of one pixel.

    Notes
    -----
    Any integer weight n at the scale ``factor / n`` is right; the one is taken whose bias is nearest to an integer.
    """
    channels, scale = x.shape[axis], low.parameters(x)[0]
    weights = np.arange(LARGEST_WEIGHT // 2 + 1, LARGEST_WEIGHT + 1)
    safe = np.where(factor == 0, 1, factor)
    steps = offset / (np.abs(safe) * scale) * weights[:, None]
    best = weights[np.abs(steps - np.rint(steps)).argmin(axis=0)]
    scales = (np.abs(safe) / best).astype(np.float32)
    integers = (np.sign(factor) * best).astype(np.int64)
    numbers = x.view.numbers(axis)
    x = low.arranged(x, [*(n for n in x.view.order if n not in numbers), *numbers])
    source = low.builder.reshape(x.name, (1, 1, math.prod(x.shape) // channels, channels))

    def emit(target: Target, values: NDArray[np.int8], count: int, fields: recipes.Fields) -> Integers:
        name = low.builder.emit(
            Conv2d, [source], target.parameters, target.name, weight=values, groups=channels, **fields
        )
        return Integers(name, x.view)

    pixel = integers.reshape(channels, 1, 1, 1)
    return sums(low, x.shape, axis, Linear(pixel, scales, offset, None, scale, channels, "int8", emit))
