"""Writing TensorFlow Lite files of one random operator on one or two tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from support.oracles.tflite_random import Rng, any_shape, code, random_image, random_parameters, with_builtin
from support.oracles.tflite_writer import ModelWriter


def reduction(rng: Rng, builtin: str) -> bytes:
    """MEAN, SUM, REDUCE_MAX or REDUCE_MIN over any axes, with and without those that it reduces."""
    writer, shape, (scale, point) = ModelWriter(), any_shape(rng), random_parameters(rng)
    axes = rng.choice(len(shape), int(rng.integers(1, len(shape) + 1)), replace=False).tolist()
    keep, count = bool(rng.integers(2)), int(np.prod([shape[axis] for axis in axes]))
    reduced = tuple(1 if axis in axes else n for axis, n in enumerate(shape) if keep or axis not in axes)
    parameters = (scale, point)
    if not builtin.startswith("REDUCE"):
        spread = np.sqrt(count) if builtin == "SUM" else 1
        parameters = random_parameters(rng, scale * spread * 2 ** rng.uniform(-2, 1))
    x, y = writer.tensor(shape, scale, point), writer.tensor(reduced, *parameters)
    named = [axis - len(shape) if rng.random() < 0.3 else axis for axis in axes]
    writer.operator(builtin, [x, writer.integers(named)], [y], "ReducerOptions", keepDims=keep)
    return writer.finish([x], [y])


def extreme(rng: Rng, builtin: str) -> bytes:
    """MAXIMUM or MINIMUM of tensors that broadcast, of which one may be constant; the runtime compares integers."""
    writer, shape, parameters = ModelWriter(), random_image(rng, 8), random_parameters(rng)
    other = [shape, (1, 1, 1, shape[3]), (1, 1, 1, 1)][int(rng.choice(3, p=[0.6, 0.25, 0.15]))]
    data = rng.integers(-128, 128, other).astype(np.int8) if rng.random() < 0.4 else None
    x0, x1 = writer.tensor(shape, *parameters), writer.tensor(other, *parameters, data)
    y = writer.tensor(shape, *parameters)
    inputs = [x0, x1] if rng.random() < 0.7 else [x1, x0]
    writer.operator(builtin, inputs, [y], "MaximumMinimumOptions")
    return writer.finish([x0] if data is not None else [x0, x1], [y])


def prelu(rng: Rng) -> bytes:
    """PRELU with one slope, one for each channel, or one for each element."""
    writer, shape, (scale, point) = ModelWriter(), random_image(rng, 8), random_parameters(rng)
    size = [(1, 1, shape[3]), shape[1:], (1, 1, 1)][int(rng.choice(3, p=[0.6, 0.25, 0.15]))]
    slope_scale, slope_point = random_parameters(rng, 10 ** rng.uniform(-3, -1))
    slope_point = 0 if rng.random() < 0.5 else slope_point
    slopes = writer.tensor(size, slope_scale, slope_point, rng.integers(-128, 128, size).astype(np.int8))
    x, y = (
        writer.tensor(shape, scale, point),
        writer.tensor(shape, *random_parameters(rng, scale * rng.uniform(0.5, 3))),
    )
    writer.operator("PRELU", [x, slopes], [y])
    return writer.finish([x], [y])


def squared_difference(rng: Rng) -> bytes:
    """SQUARED_DIFFERENCE of tensors that broadcast, of which one may be constant."""
    writer, shape, first = ModelWriter(), random_image(rng, 8), random_parameters(rng)
    second = random_parameters(rng, first[0] * 2 ** rng.uniform(-3, 3))
    other = [shape, (1, 1, 1, shape[3]), (1, 1, 1, 1)][int(rng.choice(3, p=[0.6, 0.25, 0.15]))]
    data = rng.integers(-128, 128, other).astype(np.int8) if rng.random() < 0.4 else None
    x0, x1 = writer.tensor(shape, *first), writer.tensor(other, *second, data)
    scale = 128 * max(first[0], second[0]) ** 2 * 2 ** rng.uniform(-1, 2)
    y = writer.tensor(shape, *random_parameters(rng, scale))
    writer.operator("SQUARED_DIFFERENCE", [x0, x1], [y], "SquaredDifferenceOptions")
    return writer.finish([x0] if data is not None else [x0, x1], [y])


def quotient(rng: Rng) -> bytes:
    """DIV by a tensor or a number, with divisors and scales for which the runtime's shifts are defined.

    The divisor is a constant without zero, and the output so fine that the smallest quotient is not below one step.
    """
    writer, shape, first = ModelWriter(), random_image(rng, 8), random_parameters(rng)
    scale, bits = random_parameters(rng)[0], int(rng.integers(0, 8))
    point = int(rng.integers(-128, 127))
    other = [shape, (1, 1, 1, shape[3]), (1, 1, 1, 1)][int(rng.integers(3))]
    distance = rng.integers(1, 2**bits + 1, other) * rng.choice([-1, 1], other)
    data = np.where(abs(point + distance) <= 127, point + distance, point + 1).astype(np.int8)
    x0, x1 = writer.tensor(shape, *first), writer.tensor(other, scale, point, data)
    y = writer.tensor(shape, *random_parameters(rng, first[0] / scale / 2 ** rng.uniform(bits + 0.1, bits + 2)))
    writer.operator("DIV", [x0, x1], [y], "DivOptions", fusedActivationFunction=code(rng))
    return writer.finish([x0], [y])


def function(rng: Rng, builtin: str) -> bytes:
    """A function of one variable."""
    writer, shape, (scale, point) = ModelWriter(), random_image(rng, 8), random_parameters(rng)
    target = random_parameters(rng, scale * 2 ** rng.uniform(-2, 2))
    if builtin == "ABS" and rng.random() < 0.3:
        target = (scale, target[1])
    if builtin == "RSQRT":
        point, target = -128, random_parameters(rng, 1 / np.sqrt(scale) / 2 ** rng.uniform(0, 10))
    if builtin == "EXP":
        scale = float(np.float32(10 ** rng.uniform(-3, -1)))
        target = random_parameters(rng, np.exp(scale * rng.uniform(1, 100)) / 100)
    if builtin == "LOG_SOFTMAX":
        shape, target = (1, int(rng.integers(2, 100))), (1 / 16, 127)
        scale = float(np.float32(2 ** rng.uniform(-8, 1)))
    x, y = writer.tensor(shape, scale, point), writer.tensor(shape, *target)
    writer.operator(builtin, [x], [y])
    return writer.finish([x], [y])


def batch_matmul(rng: Rng) -> bytes:
    """BATCH_MATMUL with a constant on either side, adjoint or not."""
    writer, (scale, point) = ModelWriter(), random_parameters(rng)
    rows, depth, columns, images = (int(n) for n in rng.integers(1, 20, 4))
    left, adjoint = rng.random() < 0.3, rng.random(2) < 0.4
    images = 1 if left or rng.random() < 0.7 else images
    shapes = [(images, rows, depth), (depth, columns)] if not left else [(rows, depth), (images, depth, columns)]
    factors = []
    weight_scale = float(np.float32(10 ** rng.uniform(-3, 0)))
    for position, shape in enumerate(shapes):
        written = (*shape[:-2], shape[-1], shape[-2]) if adjoint[position] else shape
        constant = position == (0 if left else 1)
        data = rng.integers(-127, 128, written).astype(np.int8) if constant else None
        factors.append(writer.tensor(written, *((weight_scale, 0) if constant else (scale, point)), data))
    spread = 73 * 73 * np.sqrt(depth) / 60
    y = writer.tensor((images, rows, columns), *random_parameters(rng, scale * weight_scale * spread))
    options = {"adjX": bool(adjoint[0]), "adjY": bool(adjoint[1])}
    writer.operator("BATCH_MATMUL", factors, [y], "BatchMatMulOptions", **options)
    return writer.finish([factors[1 if left else 0]], [y])


def batch_product(rng: Rng) -> bytes:
    """BATCH_MATMUL of two tensors, adjoint or not."""
    writer = ModelWriter()
    rows, depth, columns, images = (int(n) for n in rng.integers(1, 20, 4))
    adjoint, inputs, scales = rng.random(2) < 0.4, list[int](), list[float]()
    for position, shape in enumerate([(images, rows, depth), (images, depth, columns)]):
        written = (*shape[:-2], shape[-1], shape[-2]) if adjoint[position] else shape
        scale, point = random_parameters(rng)
        scales.append(scale)
        inputs.append(writer.tensor(written, scale, point))
    y = writer.tensor((images, rows, columns), *random_parameters(rng, scales[0] * scales[1] * 73 * np.sqrt(depth)))
    options = {"adjX": bool(adjoint[0]), "adjY": bool(adjoint[1])}
    writer.operator("BATCH_MATMUL", inputs, [y], "BatchMatMulOptions", **options)
    return writer.finish(inputs, [y])


MODELS: dict[str, Callable[[Rng], bytes]] = {
    "BATCH_MATMUL": batch_matmul,
    "BATCH_MATMUL, of two tensors": batch_product,
    "DIV": quotient,
    "PRELU": prelu,
    "SQUARED_DIFFERENCE": squared_difference,
    **{name: with_builtin(extreme, name) for name in ("MAXIMUM", "MINIMUM")},
    **{name: with_builtin(function, name) for name in ("ABS", "ELU", "EXP", "LOG_SOFTMAX", "RSQRT")},
    **{name: with_builtin(reduction, name) for name in ("SUM", "REDUCE_MAX", "REDUCE_MIN")},
    "MEAN, any axes": with_builtin(reduction, "MEAN"),
}
"""How to make a random model of each operator."""
