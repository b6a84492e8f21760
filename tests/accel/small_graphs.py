"""A small graph that holds every operation, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.graph import (
    Add,
    AveragePool2d,
    Clamp,
    Conv2d,
    FullyConnected,
    Graph,
    MaxPool2d,
    Reshape,
    Softmax,
    Tensor,
)
from accel.numerics import RequantMode, output_multipliers


def weights(rng: np.random.Generator, shape: tuple[int, ...], scales: tuple[float, float, float], mode: str) -> Any:
    """Random arrays of a weighted node."""
    multiplier, shift = output_multipliers(scales[0], np.full(shape[0], scales[1]), scales[2], mode)
    return {
        "weight": rng.integers(-127, 128, shape).astype(np.int8),
        "bias": rng.integers(-5000, 5000, shape[0]).astype(np.int32),
        "multiplier": multiplier,
        "shift": shift,
    }


def every_operation(mode: str = "tflite", seed: int = 1) -> Graph:
    """A network of nine nodes, with all eight operations."""
    rng = np.random.default_rng(seed)
    tensors = [
        Tensor("image", (1, 9, 8, 3), 0.5, -3),
        Tensor("a", (1, 5, 4, 6), 0.25, 4),
        Tensor("b", (1, 5, 4, 6), 0.125, -7),
        Tensor("c", (1, 5, 4, 6), 0.5, 9),
        Tensor("d", (1, 3, 2, 6), 0.5, 9),
        Tensor("e", (1, 2, 1, 6), 0.5, 9),
        Tensor("f", (1, 2, 1, 6), 0.5, 9),
        Tensor("g", (1, 12), 0.5, 9),
        Tensor("h", (1, 5), 0.0625, 0),
        Tensor("i", (1, 5), 1 / 256, -128),
    ]
    conv = weights(rng, (6, 3, 3, 3), (0.5, 2**-9, 0.25), mode)
    pointwise = weights(rng, (6, 1, 1, 6), (0.25, 2**-9, 0.125), mode)
    dense = weights(rng, (5, 12), (0.5, 2**-9, 0.0625), mode)
    nodes = (
        Conv2d(name="stem", inputs=("image",), output="a", **conv, stride=(2, 2), padding=(1, 1, 1, 0), act_min=4),
        Conv2d(name="mix", inputs=("a",), output="b", **pointwise),
        Add(
            name="sum",
            inputs=("a", "b"),
            output="c",
            operand0=(2**30, 0),
            operand1=(2**30, -1),
            multiplier=2**30,
            shift=-19,
        ),
        MaxPool2d(name="max", inputs=("c",), output="d", kernel=(3, 2), stride=(2, 2), padding=(1, 0, 1, 0)),
        AveragePool2d(name="mean", inputs=("d",), output="e", kernel=(2, 2), stride=(1, 2)),
        Clamp(name="clamp", inputs=("e",), output="f", act_min=-20, act_max=40),
        Reshape(name="flatten", inputs=("f",), output="g", shape=(1, 12)),
        FullyConnected(name="classify", inputs=("g",), output="h", **dense, act_max=100),
        Softmax(name="share", inputs=("h",), output="i"),
    )
    named = {tensor.name: tensor for tensor in tensors}
    return Graph("every", RequantMode(mode), named, nodes, ("image",), ("h", "i"))
