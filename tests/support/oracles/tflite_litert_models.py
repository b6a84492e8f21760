"""Random TensorFlow Lite models between functions on the machine: most of their middles LiteRT computes on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from support.oracles.tflite_litert_windows import convolution, mirrored, pool, resized
from support.oracles.tflite_middles import Middle, Shape, between, numbers_of, reals, stored
from support.oracles.tflite_random import Parameters, Rng, any_shape, random_image, random_parameters
from support.oracles.tflite_writer import ModelWriter


def unary(
    builtin: str,
    kind: str = "",
    *,
    target: Parameters | None = None,
    shape_of: Callable[[Rng], Shape] = any_shape,
    **options: Any,
) -> Middle:
    """An operator of one tensor, of integers with the result's parameters, or of real numbers."""

    def middle(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
        shape = shape_of(rng)
        if target is None:
            x, y = reals(writer, shape, shape)
        else:
            x, y = writer.tensor(shape, *random_parameters(rng)), writer.tensor(shape, *target)
        writer.operator(builtin, [x], [y], kind, **options)
        return [x], [y]

    return middle


def binary(builtin: str, kind: str = "", **options: Any) -> Middle:
    """An operator of two real tensors, the second of which may broadcast."""

    def middle(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
        shape = any_shape(rng)
        x0, x1, y = reals(writer, shape, shape, shape)
        writer.operator(builtin, [x0, x1], [y], kind, **options)
        return [x0, x1], [y]

    return middle


def quotient(builtin: str) -> Middle:
    """FLOOR_DIV or FLOOR_MOD of stored integers by constants."""

    def middle(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
        shape, parameters = any_shape(rng), random_parameters(rng)
        x, y = writer.tensor(shape, *parameters), writer.tensor(shape, *parameters)
        divisor = rng.choice([-128, -7, -2, -1, 1, 2, 3, 127], shape[-1:]).astype(np.int8)
        writer.operator(builtin, [x, writer.tensor(divisor.shape, *parameters, divisor)], [y])
        return [x], [y]

    return middle


def cumulative(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """CUMSUM of real numbers."""
    shape = any_shape(rng)
    x, y = reals(writer, shape, shape)
    options = {"exclusive": bool(rng.integers(2)), "reverse": bool(rng.integers(2))}
    axis = writer.integers(int(rng.integers(len(shape))))
    writer.operator("CUMSUM", [x, axis], [y], "CumsumOptions", **options)
    return [x], [y]


def product_of_axis(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """REDUCE_PROD of integers."""
    shape, axis = any_shape(rng), 0
    kept = (1, *shape[1:])
    x, y = writer.tensor(shape, 2 ** rng.uniform(-6, -5), 0), writer.tensor(kept, *random_parameters(rng, 2**-6))
    writer.operator("REDUCE_PROD", [x, writer.integers([axis])], [y], "ReducerOptions", keepDims=True)
    return [x], [y]


def any_or_all(builtin: str) -> Middle:
    """REDUCE_ANY or REDUCE_ALL of what GREATER says."""

    def middle(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
        shape = (1, *rng.integers(1, 4, 3).tolist())
        (x,), mask = reals(writer, shape), writer.tensor(shape, kind="BOOL")
        y = writer.tensor(shape[:-1], kind="BOOL")
        writer.operator("GREATER", [x, numbers_of(writer, rng.uniform(-0.5, 0.5))], [mask])
        writer.operator(builtin, [mask, writer.integers([-1])], [y], "ReducerOptions")
        return [x], [y]

    return middle


def filled(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """FILL with the largest number of a tensor."""
    parameters, shape = random_parameters(rng), any_shape(rng)
    x, largest, y = (writer.tensor(s, *parameters) for s in ((1, 1, 6), (), shape))
    writer.operator("REDUCE_MAX", [x, writer.integers([0, 1, 2])], [largest], "ReducerOptions")
    writer.operator("FILL", [writer.integers(shape), largest], [y])
    return [x], [y]


def scattered(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """SCATTER_ND of integers to rows."""
    rows, width, parameters = int(rng.integers(2, 8)), int(rng.integers(1, 6)), random_parameters(rng)
    places = rng.permutation(rows)[: rng.integers(1, rows + 1)].reshape(-1, 1)
    x, y = writer.tensor((len(places), width), *parameters), writer.tensor((rows, width), *parameters)
    writer.operator("SCATTER_ND", [writer.integers(places), x, writer.integers([rows, width])], [y])
    return [x], [y]


def updated(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """DYNAMIC_UPDATE_SLICE of integers."""
    shape, parameters = any_shape(rng), random_parameters(rng)
    part = tuple(int(rng.integers(1, size + 1)) for size in shape)
    x, piece, y = (writer.tensor(s, *parameters) for s in (shape, part, shape))
    start = writer.integers([int(rng.integers(0, a - b + 1)) for a, b in zip(shape, part, strict=True)])
    writer.operator("DYNAMIC_UPDATE_SLICE", [x, piece, start], [y])
    return [x, piece], [y]


def reversed_sequence(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """REVERSE_SEQUENCE of real numbers."""
    shape = tuple(rng.integers(1, 6, 3).tolist())
    x, y = reals(writer, shape, shape)
    lengths = writer.integers(rng.integers(1, shape[1] + 1, shape[0]))
    writer.operator("REVERSE_SEQUENCE", [x, lengths], [y], "ReverseSequenceOptions", seqDim=1, batchDim=0)
    return [x], [y]


def gathered(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """GATHER with a batch at the places of the largest of another tensor."""
    batch, rows, width, parameters = *rng.integers(2, 6, 3).tolist(), random_parameters(rng)
    x, scores = writer.tensor((batch, rows, width), *parameters), writer.tensor((batch, 3, rows), *parameters)
    places, y = writer.tensor((batch, 3), kind="INT32"), writer.tensor((batch, 3, width), *parameters)
    writer.operator("ARG_MAX", [scores, writer.integers(2)], [places], "ArgMaxOptions", outputType=2)
    writer.operator("GATHER", [x, places], [y], "GatherOptions", axis=1, batchDims=1)
    return [x, scores], [y]


def sloped(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """PRELU with computed slopes."""
    shape = random_image(rng, 5)
    x, slopes = writer.tensor(shape, *random_parameters(rng, 0.05)), writer.tensor((1, 1, shape[3]), 0.01, 3)
    y = writer.tensor(shape, *random_parameters(rng, 0.05))
    writer.operator("PRELU", [x, slopes], [y])
    return [x, slopes], [y]


def rows_times_columns(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """FULLY_CONNECTED with computed weights."""
    rows, features, channels = rng.integers(1, 9, 3).tolist()
    x = writer.tensor((rows, features), *random_parameters(rng, 0.05))
    weights = writer.tensor((channels, features), 0.02, 0)
    y = writer.tensor((rows, channels), *random_parameters(rng, 0.05))
    bias = writer.integers(rng.integers(-500, 500, channels))
    writer.operator("FULLY_CONNECTED", [x, weights, bias], [y], "FullyConnectedOptions")
    return [x, weights], [y]


def matrices(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """BATCH_MATMUL with several constant matrices."""
    batch, rows, depth, columns = rng.integers(2, 6, 4).tolist()
    x = writer.tensor((batch, rows, depth), *random_parameters(rng, 0.05))
    y = writer.tensor((batch, rows, columns), *random_parameters(rng, 0.5))
    factor = stored(writer, rng, (batch, depth, columns), 0.05, 0)
    writer.operator("BATCH_MATMUL", [x, factor], [y], "BatchMatMulOptions")
    return [x], [y]


def state(writer: ModelWriter, shape: Shape, *parameters: Any, kind: str = "INT8") -> int:
    """Memory of the runtime."""
    index = writer.tensor(shape, *parameters, kind=kind)
    writer.tensors[index].isVariable = True
    return index


def filtered(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """SVDF of integers."""
    features, units, rank, memory = (int(rng.integers(low, high)) for low, high in ((1, 7), (1, 7), (1, 3), (2, 6)))
    filters = units * rank
    x, y = writer.tensor((1, features), 0.05, -3), writer.tensor((1, units), 0.1, 4)
    weights = stored(writer, rng, (filters, features), 0.01, 0, low=-127)
    times = writer.tensor((filters, memory), 2**-10, 0, rng.integers(-2000, 2000, (filters, memory)).astype(np.int16))
    bias = writer.tensor((units,), 2.0**-21, 0, rng.integers(-2000, 2000, units).astype(np.int32))
    kept = state(writer, (1, memory * filters), 2**-11, 0, kind="INT16")
    options = {"rank": rank, "fusedActivationFunction": 1}
    writer.operator("SVDF", [x, weights, times, bias, kept], [y], "SVDFOptions", **options)
    return [x], [y]


def recurrent(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """UNIDIRECTIONAL_SEQUENCE_LSTM of integers."""
    steps, features, cells = rng.integers(1, 6, 3).tolist()
    x, y = writer.tensor((1, steps, features), 0.04, -2), writer.tensor((1, steps, cells), 2**-7, 0)
    scales = rng.uniform(0.002, 0.01, 8)
    shapes = [(cells, features)] * 4 + [(cells, cells)] * 4
    weights = [stored(writer, rng, shape, s, 0, low=-127) for shape, s in zip(shapes, scales, strict=True)]
    biases = [writer.tensor((cells,), 0.04 * s, 0, rng.integers(-900, 900, cells).astype(np.int32)) for s in scales[:4]]
    kept = [state(writer, (1, cells), 2**-7, 0), state(writer, (1, cells), 2**-11, 0, kind="INT16")]
    inputs = [x, *weights, -1, -1, -1, *biases, -1, -1, *kept, -1, -1, -1, -1]
    options = {"fusedActivationFunction": 4, "cellClip": 10.0}
    writer.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [y], "UnidirectionalSequenceLSTMOptions", **options)
    writer.operators[-1].intermediates = [writer.tensor((0,), 2**-12, 0, kind="INT16") for _ in range(4)]
    writer.operators[-1].intermediates += [writer.tensor((0,), 2**-7, 0)]
    return [x], [y]


def suppressed(builtin: str) -> Middle:
    """NON_MAX_SUPPRESSION_V4 or V5 of a few boxes."""

    def middle(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
        boxes, scores, chosen = reals(writer, (6, 4), (6,), (4,))
        places, count = writer.tensor((4,), kind="INT32"), writer.tensor((), kind="INT32")
        limits = [writer.integers(4), *(numbers_of(writer, value) for value in (0.5, -10.0))]
        soft = builtin == "NON_MAX_SUPPRESSION_V5"
        limits += [numbers_of(writer, 0.5)] if soft else []
        outputs = [places, chosen, count] if soft else [places, count]
        writer.operator(builtin, [boxes, scores, *limits], outputs, f"NonMaxSuppressionV{builtin[-1]}Options")
        return [boxes, scores], outputs

    return middle


def of_rank_5(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """ADD of tensors with five axes that broadcast along two of them."""
    shape = (2, *rng.integers(2, 4, 4).tolist())
    other = (shape[0], 1, shape[2], 1, shape[4])
    x0, x1 = writer.tensor(shape, *random_parameters(rng, 0.05)), writer.tensor(other, *random_parameters(rng, 0.02))
    y = writer.tensor(shape, *random_parameters(rng, 0.05))
    writer.operator("ADD", [x0, x1], [y], "AddOptions")
    return [x0, x1], [y]


MIDDLES: dict[str, Middle] = {
    "ADD, of five axes": of_rank_5,
    "ADD_N, float32": binary("ADD_N", "AddNOptions"),
    "ATAN2, float32": binary("ATAN2"),
    "AVERAGE_POOL_2D, float32": pool("AVERAGE_POOL_2D"),
    "BATCH_MATMUL, of several constants": matrices,
    "CONV_2D, float32": convolution("CONV_2D"),
    "CUMSUM, float32": cumulative,
    "DEPTHWISE_CONV_2D, float32": convolution("DEPTHWISE_CONV_2D"),
    "DYNAMIC_UPDATE_SLICE": updated,
    "FILL": filled,
    "FLOOR_DIV": quotient("FLOOR_DIV"),
    "FLOOR_MOD": quotient("FLOOR_MOD"),
    "FULLY_CONNECTED, of computed weights": rows_times_columns,
    "GATHER, of a batch at computed places": gathered,
    "GELU, float32": unary("GELU", "GeluOptions", approximate=True),
    "L2_NORMALIZATION": unary("L2_NORMALIZATION", "L2NormOptions", target=(1 / 128, 0)),
    "L2_POOL_2D, float32": pool("L2_POOL_2D"),
    "LOCAL_RESPONSE_NORMALIZATION, float32": unary(
        "LOCAL_RESPONSE_NORMALIZATION",
        "LocalResponseNormalizationOptions",
        shape_of=random_image,
        radius=2,
        bias=1.0,
        alpha=0.5,
        beta=0.75,
    ),
    "MAX_POOL_2D, float32": pool("MAX_POOL_2D"),
    "MIRROR_PAD, float32": mirrored,
    "NON_MAX_SUPPRESSION_V4": suppressed("NON_MAX_SUPPRESSION_V4"),
    "NON_MAX_SUPPRESSION_V5": suppressed("NON_MAX_SUPPRESSION_V5"),
    "PRELU, of computed slopes": sloped,
    "REDUCE_ALL": any_or_all("REDUCE_ALL"),
    "REDUCE_ANY": any_or_all("REDUCE_ANY"),
    "REDUCE_PROD": product_of_axis,
    "RESIZE_BILINEAR, float32": resized("RESIZE_BILINEAR"),
    "RESIZE_NEAREST_NEIGHBOR, float32": resized("RESIZE_NEAREST_NEIGHBOR"),
    "REVERSE_SEQUENCE, float32": reversed_sequence,
    "SCATTER_ND": scattered,
    "SVDF": filtered,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": recurrent,
    "ZEROS_LIKE, float32": unary("ZEROS_LIKE"),
}
"""Operators that LiteRT computes on the host."""


def summed(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """ADD_N of integers."""
    shape, parameters = any_shape(rng), random_parameters(rng, 0.05)
    inputs = [writer.tensor(shape, *parameters) for _ in range(int(rng.integers(2, 5)))]
    y = writer.tensor(shape, *random_parameters(rng, 0.1 * 2 ** rng.uniform(-1, 2)))
    writer.operator("ADD_N", inputs, [y], "AddNOptions")
    return inputs, [y]


def cumulative_steps(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """CUMSUM of integers."""
    shape = any_shape(rng)
    x, y = writer.tensor(shape, *random_parameters(rng, 0.05)), writer.tensor(shape, *random_parameters(rng, 0.1))
    options = {"exclusive": bool(rng.integers(2)), "reverse": bool(rng.integers(2))}
    axis = writer.integers(int(rng.integers(len(shape))))
    writer.operator("CUMSUM", [x, axis], [y], "CumsumOptions", **options)
    return [x], [y]


OTHERS: dict[str, Middle] = {
    "ADD_N": summed,
    "CUMSUM": cumulative_steps,
    "ZEROS_LIKE": unary("ZEROS_LIKE", target=(0.1, 5)),
    **{f"{name}, of a batch": convolution(name, batch=2) for name in ("CONV_2D", "DEPTHWISE_CONV_2D")},
    **{f"{name}, of a batch": pool(name, batch=3) for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D")},
}
"""Operators that the machine computes image by image, and sums that ONNX Runtime computes."""


def models(middles: dict[str, Middle]) -> dict[str, Callable[[Rng], bytes]]:
    """How to make a random model of each, with the machine before and behind it."""
    return {name: lambda rng, middle=middle: between(rng, middle) for name, middle in middles.items()}


MODELS = models(MIDDLES)
