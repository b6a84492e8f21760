"""A small graph that holds every operation, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.machine.numerics import RequantMode, output_multipliers
from accel.network.graph import Graph, Tensor
from accel.network.nodes import (
    Add,
    AveragePool2d,
    Broadcast,
    Clamp,
    Concat,
    Constant,
    Conv2d,
    Div,
    FullyConnected,
    Gather,
    LogSoftmax,
    Maximum,
    MaxPool2d,
    Mean,
    Mul,
    Node,
    Pad,
    Rearrange,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    Softmax,
    SquaredDifference,
    StridedSlice,
    Sub,
    Table,
    Transpose,
    TransposeConv2d,
    UnsignedAveragePool2d,
)


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
    pointwise["weight"] >>= 4
    dense = weights(rng, (5, 12), (0.5, 2**-9, 0.0625), mode)
    nodes = (
        Conv2d(name="stem", inputs=("image",), output="a", **conv, stride=(2, 2), padding=(1, 1, 1, 0), act_min=4),
        Conv2d(name="mix", inputs=("a",), output="b", weight_bits=4, **pointwise),
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
    more_tensors, more_nodes = further_operations(rng, mode)
    named = {tensor.name: tensor for tensor in (*tensors, *more_tensors)}
    return Graph("every", RequantMode(mode), named, (*nodes, *more_nodes), ("image",), ("h", "i", "v"))


def further_operations(rng: np.random.Generator, mode: str) -> tuple[tuple[Tensor, ...], tuple[Node, ...]]:
    """From "a" and "b" of `every_operation` to "v"."""
    rescale: Any = {"operand0": (2**30, 0), "operand1": (2**30, -1), "multiplier": 2**30, "shift": -19}
    shapes = {
        "j": (1, 5, 4, 6),
        "k": (1, 1, 1, 6),
        "l": (1, 1, 1, 6),
        "m": (1, 5, 4, 6),
        "n": (1, 5, 4, 6),
        "o": (1, 5, 4, 6),
        "p": (1, 6, 4, 9),
        "q": (1, 6, 4, 18),
        "r": (1, 3, 4, 9),
        "s": (1, 4, 3, 9),
        "t": (1, 8, 6, 9),
        "u": (1, 5, 5, 9),
        "v": (1, 9, 11, 2),
    }
    tensors = tuple(Tensor(name, shape, 0.5, 3) for name, shape in shapes.items())
    depthwise = weights(rng, (6, 3, 3, 1), (0.25, 2**-7, 0.5), mode)
    transposed = weights(rng, (2, 3, 2, 9), (0.5, 2**-9, 0.5), mode)
    mixes = np.array([[0, 1, 512], [1, 1, 0], [6, 7, 300], [1, 1, -100], [7, 7, 1024]], np.int32)
    nodes = (
        Sub(name="difference", inputs=("a", "b"), output="j", **rescale),
        Mean(name="global", inputs=("a",), output="k", kernel=(5, 4), multiplier=2**30, shift=-3),
        Constant(name="numbers", inputs=(), output="l", value=rng.integers(-128, 128, (1, 1, 1, 6)).astype(np.int8)),
        Broadcast(name="repeat", inputs=("k",), output="m", shape=(1, 5, 4, 6)),
        Mul(name="product", inputs=("j", "m"), output="n", multiplier=2**30, shift=-4),
        Conv2d(name="depthwise", inputs=("a",), output="o", **depthwise, padding=(1, 1, 1, 1), groups=6),
        Pad(name="pad", inputs=("n",), output="p", before=(0, 0, 0, 2), after=(0, 1, 0, 1), value=-7),
        Concat(name="join", inputs=("p", "p"), output="q", axis=3),
        StridedSlice(
            name="slice", inputs=("q",), output="r", begin=(0, 0, 0, 1), end=(1, 6, 4, 18), stride=(1, 2, 1, 2)
        ),
        Transpose(name="turn", inputs=("r",), output="s", permutation=(0, 2, 1, 3)),
        ResizeNearest(
            name="grow", inputs=("s",), output="t", rows=(0, 0, 1, 1, 2, 2, 3, 3), columns=(0, 0, 1, 1, 2, 2)
        ),
        ResizeBilinear(
            name="mix2",
            inputs=("t",),
            output="u",
            rows=mixes,
            columns=np.minimum(mixes, np.array([5, 5, 2000], np.int32)),
        ),
        TransposeConv2d(
            name="spread", inputs=("u",), output="v", **transposed, stride=(2, 2), padding=(1, 0), size=(9, 11)
        ),
        Table(name="function", inputs=("o",), output="w", table=rng.integers(-128, 128, 256).astype(np.int8)),
        Add(name="offset", inputs=("l", "k"), output="x", **rescale),
        Gather(name="pick", inputs=("o",), output="picked", axis=2, indices=np.array([3, 0, 0], np.int32)),
        Rearrange(
            name="blocks",
            inputs=("picked",),
            output="blocks",
            sizes=(5, 3, 2, 3),
            permutation=(0, 2, 1, 3),
            shape=(1, 10, 3, 3),
        ),
    )
    nodes += (
        Maximum(name="larger", inputs=("m", "n"), output="larger"),
        Div(name="ratio", inputs=("a", "b"), output="ratio", multiplier=2**30, shift=1),
        SquaredDifference(name="square", inputs=("a", "b"), output="square", **(rescale | {"left_shift": 7})),
        UnsignedAveragePool2d(name="up", inputs=("a",), output="up", kernel=(3, 2), stride=(2, 1)),
        LogSoftmax(name="log", inputs=("k",), output="log"),
    )
    tensors += (Tensor("up", (1, 2, 3, 6), 0.25, 4), Tensor("log", (1, 1, 1, 6), 1 / 16, 127))
    more = dict.fromkeys(("larger", "ratio", "square"), (1, 5, 4, 6))
    more |= {"w": (1, 5, 4, 6), "x": (1, 1, 1, 6), "picked": (1, 5, 3, 6), "blocks": (1, 10, 3, 3)}
    return (*tensors, *(Tensor(name, shape, 0.5, 3) for name, shape in more.items())), nodes
