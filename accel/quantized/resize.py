"""Lowering Resize and Upsample: nearest pixels, and linear interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import INTERPOLATION_ONE, RequantMode
from accel.network.nodes import Concat, Conv2d, ResizeBilinear, ResizeNearest
from accel.quantized import recipes
from accel.quantized.builder import LARGEST_AXIS
from accel.quantized.lowering import Lowering
from accel.quantized.movement import moved
from accel.quantized.network import Operator
from accel.quantized.values import Integers, Real, Target, Value

ROUNDINGS: dict[str, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
    "round_prefer_floor": lambda p: np.ceil(p - np.float32(0.5)),
    "round_prefer_ceil": lambda p: np.floor(p + np.float32(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}
MOST_PHASES = 64
"""Interpolation by more phases is done with weights of 1/1024."""


def resize(low: Lowering, op: Operator) -> Value:
    """Resize and Upsample of height and width."""
    shape = low.value(op, 0).shape
    sizes, factors = _sizes(low, op, shape)
    mode = str(op.attributes.get("mode", "nearest"))
    if mode not in ("nearest", "linear") or len(shape) not in (3, 4) or sizes[:2] != shape[:2]:
        raise op.error(f"mode must be nearest or linear and keep the channels, got {mode!r} to {sizes!r}")
    axes = range(2, len(shape))
    if mode == "nearest":
        indices = [nearest(op, shape[a], sizes[a], factors[a]) for a in axes]
        rows, columns = ((0,), *indices)[-2:]
        return moved(low, op, lambda x: _of_pixels(low, op, x, rows, columns))
    if low.mode is RequantMode.FP32:
        raise op.error("linear interpolation in mode fp32 rounds sums of real numbers; integers may be one step off")
    positions = [coordinates(op, shape[a], sizes[a], factors[a]) for a in axes]
    if len(axes) == 1:
        positions = [np.zeros(1, np.float32), *positions]
    pixels = ((1,) * (4 - len(shape)) + shape[2:])[-2:]
    return _linear(low, op, positions, (pixels[0], pixels[1]))


def _sizes(low: Lowering, op: Operator, shape: tuple[int, ...]) -> tuple[tuple[int, ...], list[np.float32]]:
    """Sizes of the output, and the factors that the coordinates are divided by."""
    old = op.kind == "Upsample" or len(op.inputs) == 2
    scales = op.attributes.get("scales")
    constant = None if scales is not None else low.constant(op, 1 if old else 2)
    sizes = low.constant(op, 3)
    given = np.asarray(scales if scales is not None else constant if constant is not None else [], dtype=np.float32)
    axes = [int(a) % len(shape) for a in op.attributes.get("axes", range(len(shape)))]
    if str(op.attributes.get("keep_aspect_ratio_policy", "stretch")) != "stretch":
        raise op.error("keep_aspect_ratio_policy must be stretch; other values are not supported")
    wanted, factors = list(shape), [np.float32(1)] * len(shape)
    if sizes is not None and sizes.size == len(axes):
        for axis, size in zip(axes, sizes.reshape(-1), strict=True):
            wanted[axis], factors[axis] = int(size), np.float32(size) / np.float32(shape[axis])
    elif given.size == len(axes):
        for axis, factor in zip(axes, given.reshape(-1), strict=True):
            wanted[axis], factors[axis] = math.floor(shape[axis] * factor), factor
    else:
        raise op.error("scales or sizes must be constant")
    if not all(1 <= size <= LARGEST_AXIS for size in wanted):
        raise op.error(f"sizes must lie in [1, {LARGEST_AXIS}], got {wanted!r}")
    return tuple(wanted), factors


def coordinates(op: Operator, source: int, target: int, factor: np.float32) -> NDArray[np.float32]:
    """The place in the input of every output index, in float32."""
    x, half = np.arange(target, dtype=np.float32), np.float32(0.5)
    default = "asymmetric" if op.kind == "Upsample" or op.opset < 11 else "half_pixel"
    mode = str(op.attributes.get("coordinate_transformation_mode", default))
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and target > 1):
        return (x + half) / factor - half
    if mode == "half_pixel_symmetric":
        adjusted = np.float32(target) / (factor * np.float32(source))
        return np.float32(source) / 2 * (1 - adjusted) + (x + half) / factor - half
    if mode == "asymmetric":
        return x / factor
    if mode == "align_corners":
        return x * np.float32(source - 1) / np.float32(max(target - 1, 1))
    if mode == "pytorch_half_pixel":
        return np.zeros_like(x)
    if mode == "tf_half_pixel_for_nn":
        return (x + half) / factor
    raise op.error(f"coordinate_transformation_mode {mode!r} is not supported; export with half_pixel or asymmetric")


def nearest(op: Operator, source: int, target: int, factor: np.float32) -> tuple[int, ...]:
    """The input index of every output index."""
    default = "floor" if op.kind == "Upsample" or op.opset < 11 else "round_prefer_floor"
    rounding = str(op.attributes.get("nearest_mode", default))
    if rounding not in ROUNDINGS:
        raise op.error(f"nearest_mode must be one of {', '.join(ROUNDINGS)}, got {rounding!r}")
    position = ROUNDINGS[rounding](coordinates(op, source, target, factor))
    return tuple(int(i) for i in np.clip(position, 0, source - 1))


def _of_pixels(low: Lowering, op: Operator, x: Integers, rows: tuple[int, ...], columns: tuple[int, ...]) -> Integers:
    source = low.image(op, x)
    fields = {"rows": rows, "columns": columns}
    name = low.builder.emit(ResizeNearest, [source], low.parameters(x), op.outputs[0], **fields)
    return low.of_image(name, len(x.shape))


def _linear(low: Lowering, op: Operator, positions: list[NDArray[np.float32]], pixels: tuple[int, int]) -> Value:
    """Interpolation: exactly, by a convolution per phase, where the image grows by whole factors; else in 1/1024."""
    x = low.integers(op, 0)
    phases = [_phases(p, n) for p, n in zip(positions, pixels, strict=True)]
    shape = low.network.shape(op, op.outputs[0])
    if phases[0] is None or phases[1] is None or len(phases[0]) * len(phases[1]) > MOST_PHASES:
        return moved(low, op, lambda x: _weighted(low, op, x, positions, pixels))
    vertical, horizontal = phases[0], phases[1]
    source, own, channels = low.image(op, x), low.parameters(x), x.shape[1]
    height, width = pixels
    taps = max(len(row) for row in vertical), max(len(row) for row in horizontal)
    border = [tuple(int(i) for i in np.clip(np.arange(-1, n + 1), 0, n - 1)) for n in pixels]
    rows, columns = (border[a] if taps[a] > 1 else tuple(range(pixels[a])) for a in (0, 1))
    padded = low.builder.emit(ResizeNearest, [source], own, f"{x.name}_edged", rows=rows, columns=columns)
    ones = [np.gcd.reduce([round(w * INTERPOLATION_ONE) for row in phase for w in row]) for phase in phases if phase]
    steps = [INTERPOLATION_ONE // int(one) for one in ones]

    def finish(target: Target) -> Integers:
        scales = np.full(channels, 1 / math.prod(steps), np.float32)
        fields = recipes.weighted(own[0], scales, target.parameters[0], low.mode)
        fields |= recipes.clamp(target.limits, target.parameters, low.mode)
        fields |= {"bias": np.zeros(channels, np.int32), "groups": channels}
        kernels = [[np.outer(np.multiply(v, steps[0]), np.multiply(h, steps[1])) for h in horizontal] for v in vertical]
        rows = []
        for row in kernels:
            parts = [_phase(low, padded, kernel, channels, target, fields) for kernel in row]
            wide = (1, 1, height, width * len(horizontal) * channels)
            rows.append(low.builder.reshape(_joined(low, parts, target, 3), wide))
        size = (1, height * len(vertical), width * len(horizontal), channels)
        return low.of_image(low.builder.reshape(_joined(low, rows, target, 3), size), len(x.shape))

    return Real(shape, finish)


def _phase(
    low: Lowering, source: str, kernel: NDArray[Any], channels: int, target: Target, fields: recipes.Fields
) -> str:
    """The pixels that lie at one place between those of the input."""
    weight = np.broadcast_to(np.rint(kernel).astype(np.int8)[None, :, :, None], (channels, *kernel.shape, 1))
    return low.builder.emit(Conv2d, [source], target.parameters, f"{target.name}_phase", weight=weight, **fields)


def _joined(low: Lowering, names: list[str], target: Target, axis: int) -> str:
    """Phases of one row beside one another."""
    return names[0] if len(names) == 1 else low.builder.emit(Concat, names, target.parameters, target.name, axis=axis)


def _phases(positions: NDArray[np.float32], size: int) -> list[list[float]] | None:
    """Weights of the pixels before, at and after one, for each of the outputs that lie at it; None if they differ.

    One phase of one weight stands for an axis that stays as it is.
    """
    target = len(positions)
    if target == size and np.array_equal(positions, np.arange(size)):
        return [[1.0]]
    if target % size:
        return None
    offsets = (positions.reshape(size, -1) - np.arange(size)[:, None]).astype(np.float64)
    if not np.allclose(offsets, offsets[0], atol=1e-4) or np.abs(offsets).max() > 1:
        return None
    phases = []
    for offset in offsets[0]:
        weights = [max(-offset, 0.0), 1 - abs(offset), max(offset, 0.0)]
        if any(abs(w * INTERPOLATION_ONE - round(w * INTERPOLATION_ONE)) > 0.05 for w in weights):
            return None
        phases.append([round(w * INTERPOLATION_ONE) / INTERPOLATION_ONE for w in weights])
    divisor = INTERPOLATION_ONE // np.gcd.reduce([round(w * INTERPOLATION_ONE) for row in phases for w in row])
    return phases if divisor <= 11 else None


def _weighted(
    low: Lowering, op: Operator, x: Integers, positions: list[NDArray[np.float32]], pixels: tuple[int, int]
) -> Integers:
    """Interpolation with weights of 1/1024, on the stored integers."""
    tables = []
    for position, size in zip(positions, pixels, strict=True):
        place = np.clip(position.astype(np.float64), 0, size - 1)
        lower = np.floor(place).astype(np.int64)
        share = np.rint((place - lower) * INTERPOLATION_ONE).astype(np.int64)
        tables.append(np.stack([lower, np.minimum(lower + 1, size - 1), share], axis=1).astype(np.int32))
    source = low.image(op, x)
    fields = {"rows": tables[0], "columns": tables[1]}
    name = low.builder.emit(ResizeBilinear, [source], low.parameters(x), op.outputs[0], **fields)
    return low.of_image(name, len(x.shape))
