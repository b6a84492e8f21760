"""Random windows over images for LiteRT: convolutions, pools, sizes and borders of real numbers, or of batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from support.oracles.single_node import same_pads
from support.oracles.tflite_middles import Middle, Shape, numbers_of, reals
from support.oracles.tflite_random import Rng, code, random_image, random_parameters
from support.oracles.tflite_writer import ModelWriter


def _size(shape: Shape, kernel: Shape, stride: Shape, same: bool) -> list[int]:
    padded = [n + (sum(same_pads(n, k, s)) if same else 0) for n, k, s in zip(shape, kernel, stride, strict=True)]
    return [(n - k) // s + 1 for n, k, s in zip(padded, kernel, stride, strict=True)]


def _window(rng: Rng, image: Shape, kernel: Shape) -> tuple[dict[str, Any], list[int]]:
    """Options and the size of the output."""
    stride, same = tuple(rng.integers(1, 3, 2).tolist()), bool(rng.integers(2))
    same |= any(k > n for k, n in zip(kernel, image, strict=True))
    options = {"padding": 0 if same else 1, "strideH": stride[0], "strideW": stride[1]}
    return options | {"fusedActivationFunction": code(rng)}, _size(image, kernel, stride, same)


def convolution(builtin: str, *, batch: int = 1) -> Middle:
    """CONV_2D or DEPTHWISE_CONV_2D of real numbers, or of integers with a batch."""

    def middle(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
        _, height, width, channels = random_image(rng, 7, 4)
        kernel = tuple(rng.integers(1, 4, 2).tolist())
        options, size = _window(rng, (height, width), kernel)
        options |= {"dilationHFactor": 1, "dilationWFactor": 1}
        outputs = channels if builtin == "DEPTHWISE_CONV_2D" else int(rng.integers(1, 6))
        shape = (1, *kernel, channels) if builtin == "DEPTHWISE_CONV_2D" else (outputs, *kernel, channels)
        options |= {"depthMultiplier": 1} if builtin == "DEPTHWISE_CONV_2D" else {}
        given, made = (batch, height, width, channels), (batch, *size, outputs)
        if batch == 1:
            x, y = reals(writer, given, made)
            weights, bias = numbers_of(writer, rng.normal(0, 0.3, shape)), numbers_of(writer, rng.normal(0, 1, outputs))
        else:
            x = writer.tensor(given, *random_parameters(rng, 0.05))
            y = writer.tensor(made, *random_parameters(rng, 0.2))
            scales = rng.uniform(0.002, 0.02, outputs).astype(np.float32)
            axis = 3 if builtin == "DEPTHWISE_CONV_2D" else 0
            data = rng.integers(-127, 128, shape).astype(np.int8)
            weights = writer.tensor(shape, scales, 0, data, axis=axis)
            numbers = rng.integers(-900, 900, outputs).astype(np.int32)
            bias = writer.tensor((outputs,), np.float32(0.05) * scales, 0, numbers)
        kind = "Conv2DOptions" if builtin == "CONV_2D" else "DepthwiseConv2DOptions"
        writer.operator(builtin, [x, weights, bias], [y], kind, **options)
        return [x], [y]

    return middle


def pool(builtin: str, *, batch: int = 1) -> Middle:
    """A pool of real numbers, or of integers with a batch."""

    def middle(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
        _, height, width, channels = random_image(rng, 7, 4)
        kernel, parameters = tuple(rng.integers(1, 4, 2).tolist()), random_parameters(rng)
        options, size = _window(rng, (height, width), kernel)
        given, made = (batch, height, width, channels), (batch, *size, channels)
        x, y = reals(writer, given, made) if batch == 1 else (writer.tensor(s, *parameters) for s in (given, made))
        options |= {"filterHeight": kernel[0], "filterWidth": kernel[1]}
        writer.operator(builtin, [x], [y], "Pool2DOptions", **options)
        return [x], [y]

    return middle


def resized(builtin: str) -> Middle:
    """RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR of real numbers."""

    def middle(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
        shape, size = random_image(rng, 6), rng.integers(1, 12, 2).tolist()
        x, y = reals(writer, shape, (1, *size, shape[3]))
        kind = "ResizeBilinearOptions" if builtin == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions"
        writer.operator(builtin, [x, writer.integers(size)], [y], kind, halfPixelCenters=bool(rng.integers(2)))
        return [x], [y]

    return middle


def mirrored(writer: ModelWriter, rng: Rng) -> tuple[list[int], list[int]]:
    """MIRROR_PAD of real numbers."""
    shape = (1, *rng.integers(2, 6, 3).tolist())
    spans = np.array([[0, 0], *rng.integers(0, 2, (3, 2)).tolist()])
    x, y = reals(writer, shape, tuple(int(n) for n in np.array(shape) + spans.sum(axis=1)))
    writer.operator("MIRROR_PAD", [x, writer.integers(spans)], [y], "MirrorPadOptions", mode=int(rng.integers(2)))
    return [x], [y]
