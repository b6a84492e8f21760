"""Writing TensorFlow Lite files of one random operator, every operator and option that the importer knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accel.frontends.tflite.reader import SIGNED_ONLY
from support.oracles import tflite_litert_models, tflite_movement_models, tflite_vector_models
from support.oracles.single_node import same_pads
from support.oracles.tflite_random import Rng, code, random_image, random_parameters, with_builtin
from support.oracles.tflite_unsigned import with_unsigned
from support.oracles.tflite_writer import ModelWriter


def linear(
    rng: Rng,
    writer: ModelWriter,
    shape: tuple[int, ...],
    axis: int,
    scale_in: float,
    *,
    per_tensor: bool = False,
    biased: float = 0.8,
) -> tuple[int, int, float]:
    """Weights and a bias (with probability `biased`), and a scale of the output that uses its range."""
    channels = shape[axis]
    weight = rng.choice([-127, 127], shape) if rng.random() < 0.15 else rng.integers(-128, 128, shape)
    scales = (10 ** rng.uniform(-4, 0) * rng.uniform(0.3, 3, 1 if per_tensor else channels)).astype(np.float32)
    spread = 73 * 73 * np.sqrt(weight.size / channels)
    weights = writer.tensor(shape, scales, 0, weight.astype(np.int8), axis=axis)
    bias = -1
    if rng.random() < biased:
        numbers = rng.normal(0, spread, channels).astype(np.int32)
        bias = writer.tensor((channels,), np.float32(scale_in) * scales, 0, numbers)
    return weights, bias, float(scale_in * np.median(scales) * spread / 60)


def conv(rng: Rng) -> bytes:
    """CONV_2D, sometimes in groups."""
    writer, shape, (scale, point) = ModelWriter(), random_image(rng), random_parameters(rng)
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    shape = (*shape[:3], shape[3] * groups)
    x = writer.tensor(shape, scale, point)
    kernel, channels = random_kernel(rng), groups * int(rng.integers(1, 9))
    options, size = window(rng, shape, kernel, dilate=True)
    weights, bias, scale_out = linear(rng, writer, (channels, *kernel, shape[3] // groups), 0, scale)
    y = writer.tensor((1, *size, channels), *random_parameters(rng, scale_out))
    writer.operator("CONV_2D", [x, weights, bias], [y], "Conv2DOptions", **options)
    return writer.finish([x], [y])


def depthwise(rng: Rng) -> bytes:
    """DEPTHWISE_CONV_2D with any multiplier."""
    writer, shape, (scale, point) = ModelWriter(), random_image(rng), random_parameters(rng)
    x = writer.tensor(shape, scale, point)
    kernel, multiplier = random_kernel(rng), int(rng.choice([1, 1, 2, 3]))
    options, size = window(rng, shape, kernel, dilate=True)
    # The runtime crashes without a bias here.
    weights, bias, scale_out = linear(rng, writer, (1, *kernel, shape[3] * multiplier), 3, scale, biased=1)
    y = writer.tensor((1, *size, shape[3] * multiplier), *random_parameters(rng, scale_out))
    options |= {"depthMultiplier": multiplier}
    writer.operator("DEPTHWISE_CONV_2D", [x, weights, bias], [y], "DepthwiseConv2DOptions", **options)
    return writer.finish([x], [y])


def random_edges(rng: Rng, grid: list[int], block: list[int]) -> list[list[int]]:
    """Elements before and after each axis of an image of blocks, which leave something of it."""
    most = [min(3, (g * b - 1) // 2) for g, b in zip(grid, block, strict=True)]
    return [[int(n) for n in rng.integers(0, limit + 1, 2)] for limit in most]


def blocked(rng: Rng, builtin: str) -> bytes:
    """CONV_2D or DEPTHWISE_CONV_2D between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND: a dilated convolution."""
    writer, (scale, point) = ModelWriter(), random_parameters(rng)
    kernel, block, channels = random_kernel(rng), rng.integers(1, 4, 2).tolist(), int(rng.integers(1, 9))
    same = bool(rng.integers(2))
    grid = [int(rng.integers(1 if same else k, k + 4)) for k in kernel]
    edges = random_edges(rng, grid, block)
    sizes = [g * b - sum(pair) for g, b, pair in zip(grid, block, edges, strict=True)]
    result = grid if same else [g - k + 1 for g, k in zip(grid, kernel, strict=True)]
    cuts = random_edges(rng, result, block)
    images = block[0] * block[1]
    x = writer.tensor((1, *sizes, channels), scale, point)
    inside = writer.tensor((images, *grid, channels), scale, point)
    shape = (channels, *kernel, channels) if builtin == "CONV_2D" else (1, *kernel, channels)
    weights, bias, scale_out = linear(rng, writer, shape, 0 if builtin == "CONV_2D" else 3, scale, biased=1)
    parameters = random_parameters(rng, scale_out)
    sums = writer.tensor((images, *result, channels), *parameters)
    y = writer.tensor(
        (1, *(g * b - sum(pair) for g, b, pair in zip(result, block, cuts, strict=True)), channels), *parameters
    )
    size = writer.integers(block)
    writer.operator("SPACE_TO_BATCH_ND", [x, size, writer.integers(edges)], [inside], "SpaceToBatchNDOptions")
    options = {"padding": 0 if same else 1, "strideH": 1, "strideW": 1, "fusedActivationFunction": code(rng)}
    options |= {"dilationHFactor": 1, "dilationWFactor": 1}
    kind = "Conv2DOptions" if builtin == "CONV_2D" else "DepthwiseConv2DOptions"
    options |= {} if builtin == "CONV_2D" else {"depthMultiplier": 1}
    writer.operator(builtin, [inside, weights, bias], [sums], kind, **options)
    writer.operator("BATCH_TO_SPACE_ND", [sums, size, writer.integers(cuts)], [y], "BatchToSpaceNDOptions")
    return writer.finish([x], [y])


def transpose_conv(rng: Rng) -> bytes:
    """TRANSPOSE_CONV."""
    writer, shape, (scale, point) = ModelWriter(), random_image(rng, 6), random_parameters(rng)
    x = writer.tensor(shape, scale, point)
    kernel, channels, stride = random_kernel(rng), int(rng.integers(1, 6)), [int(s) for s in rng.integers(1, 4, 2)]
    same = bool(rng.integers(2))
    size = [n * s if same else (n - 1) * s + max(k, s) for n, s, k in zip(shape[1:3], stride, kernel, strict=True)]
    target = writer.integers([1, *size, channels])
    weights, bias, scale_out = linear(rng, writer, (channels, *kernel, shape[3]), 0, scale)
    y = writer.tensor((1, *size, channels), *random_parameters(rng, scale_out))
    inputs = [target, weights, x] + ([bias] if bias >= 0 else [])
    options = {"padding": 0 if same else 1, "strideH": stride[0], "strideW": stride[1]}
    writer.operator("TRANSPOSE_CONV", inputs, [y], "TransposeConvOptions", **options)
    return writer.finish([x], [y])


def fully_connected(rng: Rng) -> bytes:
    """FULLY_CONNECTED, per tensor or per channel, sometimes of several rows or of an image."""
    writer, (scale, point) = ModelWriter(), random_parameters(rng)
    features, channels, rows = int(rng.integers(1, 100)), int(rng.integers(1, 40)), int(rng.choice([1, 1, 3]))
    shape = (rows, features) if rng.random() < 0.7 else (1, rows, 1, features)
    x = writer.tensor(shape, scale, point)
    per_tensor = rng.random() < 0.6
    weights, bias, scale_out = linear(rng, writer, (channels, features), 0, scale, per_tensor=per_tensor)
    y = writer.tensor((rows, channels), *random_parameters(rng, scale_out))
    activation = code(rng)
    options = {"fusedActivationFunction": activation}
    writer.operator("FULLY_CONNECTED", [x, weights, bias], [y], "FullyConnectedOptions", **options)
    return writer.finish([x], [y])


def random_kernel(rng: Rng) -> tuple[int, int]:
    """Height and width of a kernel."""
    return int(rng.integers(1, 5)), int(rng.integers(1, 5))


def window(
    rng: Rng, shape: tuple[int, ...], kernel: tuple[int, int], *, dilate: bool = False
) -> tuple[dict[str, int], list[int]]:
    """Options and the size of the output; SAME where VALID leaves nothing."""
    dilation = [2, 2] if dilate and rng.random() < 0.2 else [1, 1]
    stride = [1, 1] if dilation != [1, 1] else [int(s) for s in rng.integers(1, 4, 2)]
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    same = bool(rng.integers(2)) or any(e > n for e, n in zip(extent, shape[1:3], strict=True))
    size = []
    for n, e, s in zip(shape[1:3], extent, stride, strict=True):
        padded = n + sum(same_pads(n, e, s)) if same else n
        size.append((padded - e) // s + 1)
    options = {"padding": 0 if same else 1, "strideH": stride[0], "strideW": stride[1]}
    options["fusedActivationFunction"] = code(rng)
    if dilate:
        options |= {"dilationHFactor": dilation[0], "dilationWFactor": dilation[1]}
    return options, size


def pool(rng: Rng, builtin: str) -> bytes:
    """AVERAGE_POOL_2D or MAX_POOL_2D."""
    writer, shape, parameters = ModelWriter(), random_image(rng), random_parameters(rng)
    x, kernel = writer.tensor(shape, *parameters), random_kernel(rng)
    options, size = window(rng, shape, kernel)
    options |= {"filterHeight": kernel[0], "filterWidth": kernel[1]}
    y = writer.tensor((1, *size, shape[3]), *parameters)
    writer.operator(builtin, [x], [y], "Pool2DOptions", **options)
    return writer.finish([x], [y])


def mean(rng: Rng) -> bytes:
    """MEAN over height, width or both, with and without the axes that it reduces."""
    writer, shape, (scale, point) = ModelWriter(), random_image(rng), random_parameters(rng)
    x = writer.tensor(shape, scale, point)
    axes = [[1, 2], [2, 1], [1], [2], [-2, -3]][int(rng.choice(5, p=[0.5, 0.1, 0.15, 0.15, 0.1]))]
    keep = bool(rng.integers(2))
    gone = {axis % 4 for axis in axes}
    reduced = tuple(1 if axis in gone else n for axis, n in enumerate(shape) if keep or axis not in gone)
    parameters = (scale, point) if rng.random() < 0.2 else random_parameters(rng, scale * 2 ** rng.uniform(-3, 1))
    y = writer.tensor(reduced, *parameters)
    writer.operator("MEAN", [x, writer.integers(axes)], [y], "ReducerOptions", keepDims=keep)
    return writer.finish([x], [y])


def elementwise(rng: Rng, builtin: str) -> bytes:
    """ADD, SUB or MUL of two tensors, of which one may be constant or broadcast."""
    writer, shape, first = ModelWriter(), random_image(rng, 8), random_parameters(rng)
    second = random_parameters(rng, first[0] * 2 ** rng.uniform(-3, 3))
    other = [shape, (1, 1, 1, shape[3]), (1, 1, 1, 1)][int(rng.choice(3, p=[0.6, 0.25, 0.15]))]
    data = rng.integers(-128, 128, other).astype(np.int8) if rng.random() < 0.4 else None
    x0, x1 = writer.tensor(shape, *first), writer.tensor(other, *second, data)
    twice = 2 * max(first[0], second[0])
    scale_out = (first[0] * second[0] * 128 if builtin == "MUL" else twice) * 2 ** rng.uniform(-2, 1)
    y = writer.tensor(shape, *random_parameters(rng, scale_out))
    inputs = [x0, x1] if rng.random() < 0.7 else [x1, x0]
    kind = f"{builtin.capitalize()}Options"
    writer.operator(builtin, inputs, [y], kind, fusedActivationFunction=code(rng))
    return writer.finish([x0] if data is not None else [x0, x1], [y])


def squared(rng: Rng, builtin: str) -> bytes:
    """Addition, subtraction or multiplication of a tensor with itself."""
    writer, source = ModelWriter(), random_parameters(rng)
    shape = random_image(rng, 8)
    target = random_parameters(rng, source[0] * (128 * source[0] if builtin == "MUL" else 1) * 2 ** rng.uniform(-2, 2))
    x, y = writer.tensor(shape, *source), writer.tensor(shape, *target)
    writer.operator(builtin, [x, x], [y], f"{builtin.capitalize()}Options", fusedActivationFunction=code(rng))
    return writer.finish([x], [y])


def function(rng: Rng, builtin: str) -> bytes:
    """A function of one variable."""
    writer, shape = ModelWriter(), random_image(rng, 8)
    source = random_parameters(rng)
    fixed = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0), "SOFTMAX": (1 / 256, -128), "RELU6": source}
    target = fixed.get(builtin) or random_parameters(rng, source[0] * 2 ** rng.uniform(-2, 2))
    kind, options = "", {}
    if builtin == "LEAKY_RELU":
        kind, options = "LeakyReluOptions", {"alpha": float(rng.choice([0.01, 0.1, 0.3, rng.uniform(0, 2)]))}
    if builtin == "SOFTMAX":
        shape, source = (1, int(rng.integers(2, 100))), random_parameters(rng, 2 ** rng.uniform(-10, 2))
        kind, options = "SoftmaxOptions", {"beta": float(rng.choice([1, 1, 0.5, rng.uniform(0.1, 3)]))}
    if builtin == "HARD_SWISH":
        target = random_parameters(rng, source[0] * 2 ** rng.uniform(-4, 3))
    if builtin == "GELU":
        kind, options = "GeluOptions", {"approximate": bool(rng.integers(2))}
    if builtin == "LOG":
        target = random_parameters(rng, 2 ** rng.uniform(-7, 0))
    if builtin == "SQRT":
        source = (source[0], -128)
        target = random_parameters(rng, np.sqrt(source[0] * 255) / 2 ** rng.uniform(6, 9))
    x, y = writer.tensor(shape, *source), writer.tensor(shape, *target)
    writer.operator(builtin, [x], [y], kind, **options)
    return writer.finish([x], [y])


def resize(rng: Rng, builtin: str) -> bytes:
    """RESIZE_NEAREST_NEIGHBOR or RESIZE_BILINEAR with all conventions of coordinates."""
    writer, shape, parameters = ModelWriter(), random_image(rng, 10), random_parameters(rng)
    size = tuple(int(n) for n in rng.integers(1, 25, 2))
    if rng.random() < 0.3:
        size = (shape[1] * 2, shape[2] * 2)
    x, y = writer.tensor(shape, *parameters), writer.tensor((1, *size, shape[3]), *parameters)
    aligned = bool(rng.integers(2))
    kind = "ResizeBilinearOptions" if builtin == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions"
    options = {"alignCorners": aligned, "halfPixelCenters": not aligned and bool(rng.integers(2))}
    writer.operator(builtin, [x, writer.integers(size)], [y], kind, **options)
    return writer.finish([x], [y])


MODELS: dict[str, Callable[[Rng], bytes]] = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": fully_connected,
    "TRANSPOSE_CONV": transpose_conv,
    **{f"{name}, dilated by blocks": with_builtin(blocked, name) for name in ("CONV_2D", "DEPTHWISE_CONV_2D")},
    "MEAN": mean,
    **{name: with_builtin(elementwise, name) for name in ("ADD", "SUB", "MUL")},
    **{f"{name}, of one tensor": with_builtin(squared, name) for name in ("ADD", "SUB", "MUL")},
    **{name: with_builtin(pool, name) for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D")},
    **tflite_movement_models.MODELS,
    **tflite_vector_models.MODELS,
    **{name: with_builtin(resize, name) for name in ("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR")},
    **{
        name: with_builtin(function, name)
        for name in (
            *("SOFTMAX", "LOGISTIC", "TANH", "HARD_SWISH", "LEAKY_RELU", "RELU", "RELU6", "QUANTIZE"),
            *("GELU", "LOG", "NEG", "RELU_0_TO_1", "RELU_N1_TO_1", "SQRT"),
        )
    },
}
"""How to make a random model of each operator that a unit or ONNX Runtime computes."""

HOSTED = (
    *tflite_movement_models.COMPARISONS,
    *("BATCH_MATMUL, of two tensors", "GATHER, of computed places", "SELECT_V2", "TOPK_V2"),
    *("ADD_N", "CUMSUM"),
    *tflite_litert_models.MODELS,
)
"""Operators that the host computes."""

UNSIGNED: dict[str, Callable[[Rng], bytes]] = {
    f"uint8 {name}": with_unsigned(make) for name, make in MODELS.items() if name.split(",")[0] not in SIGNED_ONLY
}
"""The same in the old scheme, which LiteRT's reference kernels define."""

MODELS |= tflite_litert_models.MODELS | tflite_litert_models.models(tflite_litert_models.OTHERS)
