"""Long signals, whose windows no single instruction holds: the machine equals TensorFlow Lite Micro."""

from __future__ import annotations

import numpy as np
import pytest

from accel.frontends.tflite.reader import read_tflite

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from support.oracles.on_machine import compiled, simulated
from support.oracles.tflite_models import linear
from support.oracles.tflite_random import Rng, code, random_parameters
from support.oracles.tflite_runtime import interpreter, outputs, random_samples
from support.oracles.tflite_writer import ModelWriter


def signal(rng: Rng) -> tuple[int, int, int, int]:
    """An image of one row or one column, longer than a field for its positions."""
    length, channels = int(rng.integers(129, 500)), int(rng.choice([1, 3, 17, 40]))
    return (1, length, 1, channels) if rng.random() < 0.5 else (1, 1, length, channels)


def fully_connected(rng: Rng) -> bytes:
    """FULLY_CONNECTED of a whole signal."""
    writer, shape, (scale, point) = ModelWriter(), signal(rng), random_parameters(rng)
    x, channels = writer.tensor(shape, scale, point), int(rng.integers(1, 20))
    weights, bias, scale_out = linear(rng, writer, (channels, int(np.prod(shape))), 0, scale, per_tensor=True)
    y = writer.tensor((1, channels), *random_parameters(rng, scale_out))
    options = {"fusedActivationFunction": code(rng)}
    writer.operator("FULLY_CONNECTED", [x, weights, bias], [y], "FullyConnectedOptions", **options)
    return writer.finish([x], [y])


def convolution(rng: Rng, *, depthwise: bool) -> bytes:
    """CONV_2D or DEPTHWISE_CONV_2D with three taps far from each other, padded as far or not at all."""
    writer, shape, (scale, point) = ModelWriter(), signal(rng), random_parameters(rng)
    rows, same, step = shape[1] > 1, bool(rng.integers(2)), int(rng.integers(40, (max(shape[1:3]) - 1) // 2))
    kernel, dilation = ((3, 1), (step, 1)) if rows else ((1, 3), (1, step))
    channels = shape[3] if depthwise else int(rng.integers(1, 20))
    sides = tuple(n if same else n - d * (k - 1) for n, d, k in zip(shape[1:3], dilation, kernel, strict=True))
    form = (1, *kernel, channels) if depthwise else (channels, *kernel, shape[3])
    x = writer.tensor(shape, scale, point)
    weights, bias, scale_out = linear(rng, writer, form, 3 if depthwise else 0, scale, biased=1)
    y = writer.tensor((1, *sides, channels), *random_parameters(rng, scale_out))
    options = {"padding": 0 if same else 1, "strideH": 1, "strideW": 1, "fusedActivationFunction": code(rng)}
    options |= {"dilationHFactor": dilation[0], "dilationWFactor": dilation[1]}
    builtin, kind = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
    options |= {"depthMultiplier": 1} if depthwise else {}
    writer.operator(builtin, [x, weights, bias], [y], kind, **options)
    return writer.finish([x], [y])


def strided(rng: Rng) -> bytes:
    """CONV_2D with a stride that no field holds, as of a short-time Fourier transform."""
    writer, (scale, point), stride = ModelWriter(), random_parameters(rng), int(rng.integers(64, 200))
    taps, inputs, channels = int(rng.integers(1, 300)), int(rng.choice([1, 2, 17])), int(rng.integers(1, 20))
    length, same = int(rng.integers(max(taps, stride), 900)), bool(rng.integers(2))
    count = -(-length // stride) if same else (length - taps) // stride + 1
    rows = bool(rng.integers(2))
    shape, kernel = ((1, length, 1, inputs), (taps, 1)) if rows else ((1, 1, length, inputs), (1, taps))
    x = writer.tensor(shape, scale, point)
    weights, bias, scale_out = linear(rng, writer, (channels, *kernel, inputs), 0, scale, biased=1)
    sides = (count, 1) if rows else (1, count)
    y = writer.tensor((1, *sides, channels), *random_parameters(rng, scale_out))
    options = {"padding": 0 if same else 1, "strideH": stride if rows else 1, "strideW": 1 if rows else stride}
    options |= {"dilationHFactor": 1, "dilationWFactor": 1, "fusedActivationFunction": code(rng)}
    writer.operator("CONV_2D", [x, weights, bias], [y], "Conv2DOptions", **options)
    return writer.finish([x], [y])


def pool(rng: Rng, builtin: str) -> bytes:
    """AVERAGE_POOL_2D or MAX_POOL_2D of a whole signal whose length has two factors."""
    length, channels = int(rng.integers(86, 170)) * 3, int(rng.integers(1, 30))
    shape = (1, length, 1, channels) if rng.random() < 0.5 else (1, 1, length, channels)
    writer, parameters = ModelWriter(), random_parameters(rng)
    x, y = writer.tensor(shape, *parameters), writer.tensor((1, 1, 1, channels), *parameters)
    options = {"padding": 1, "strideH": 1, "strideW": 1, "fusedActivationFunction": code(rng)}
    options |= {"filterHeight": shape[1], "filterWidth": shape[2]}
    writer.operator(builtin, [x], [y], "Pool2DOptions", **options)
    return writer.finish([x], [y])


MODELS = {
    "FULLY_CONNECTED": fully_connected,
    "CONV_2D": lambda rng: convolution(rng, depthwise=False),
    "CONV_2D, strided": strided,
    "DEPTHWISE_CONV_2D": lambda rng: convolution(rng, depthwise=True),
    "AVERAGE_POOL_2D": lambda rng: pool(rng, "AVERAGE_POOL_2D"),
    "MAX_POOL_2D": lambda rng: pool(rng, "MAX_POOL_2D"),
}


@pytest.mark.parametrize("builtin", MODELS)
@pytest.mark.parametrize("count", [3, pytest.param(100, marks=pytest.mark.marathon)])
def test_long_signals_on_the_machine_equal_tflite_micro(builtin: str, count: int) -> None:
    compared = differing = 0
    for index in range(count):
        rng = np.random.default_rng([29, index])
        model = MODELS[builtin](rng)
        graph, runtime = read_tflite(model), interpreter(model)
        program = compiled(graph, "edge")
        for sample in random_samples(graph, rng, 2):
            (expected,) = outputs(runtime, sample, 1)
            (result,) = simulated(program, sample)
            compared, differing = (
                compared + expected.size,
                differing + np.count_nonzero(result != expected.reshape(result.shape)),
            )
    print(f"tflite-micro, {count} long signals through {builtin}: {differing} of {compared} outputs differ")
    assert (compared > 0, differing) == (True, 0)
