"""Float models of one or a few operators for the tests of the quantizer."""

from __future__ import annotations

from typing import Any

import numpy as np

from support.networks.float_models import FloatArray, Node

RNG_SEED = 1


def normal(*shape: int, seed: int = RNG_SEED) -> FloatArray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def conv(inputs: list[str], output: str, **attributes: Any) -> Node:
    return ("Conv", inputs, output, attributes)


W = {"w": normal(6, 4, 3, 3), "b": normal(6)}
NORM = {"g": normal(6), "beta": normal(6, seed=2), "mean": normal(6, seed=3), "var": np.abs(normal(6, seed=4)) + 0.1}
DENSE = {"m": normal(6 * 4 * 7, 5), "c": normal(5)}
IMAGE = ("N", 4, 6, 9)

MODELS: dict[str, tuple[list[Node], dict[str, Any]]] = {
    "conv with bias, stride and padding": ([conv(["x", "w", "b"], "y", strides=[2, 1], pads=[1, 0, 0, 2])], W),
    "dilated conv without bias": ([conv(["x", "w"], "y", dilations=[2, 3])], W),
    "SAME_UPPER": ([conv(["x", "w"], "y", auto_pad="SAME_UPPER", strides=[2, 2])], W),
    "SAME_LOWER": ([conv(["x", "w"], "y", auto_pad="SAME_LOWER", strides=[2, 2])], W),
    "VALID and Relu": ([conv(["x", "w"], "a", auto_pad="VALID"), ("Relu", ["a"], "y", {})], W),
    "batch normalization": (
        [
            conv(["x", "w", "b"], "a"),
            ("BatchNormalization", ["a", "g", "beta", "mean", "var"], "n", {"epsilon": 1e-3}),
            ("Clip", ["n", "zero", "six"], "y", {}),
        ],
        W | NORM | {"zero": np.float32(0), "six": np.float32(6)},
    ),
    "added constants": (
        [conv(["x", "w"], "a"), ("Add", ["a", "p"], "s", {}), ("Add", ["q", "s"], "y", {})],
        W | {"p": normal(6, 1, 1), "q": normal(1, 6, 1, 1)},
    ),
    "two readers and a free Relu": (
        [conv(["x", "w"], "a"), ("Relu", ["a"], "r", {}), ("Add", ["a", "r"], "s", {}), ("Relu", ["s"], "y", {})],
        W,
    ),
    "max pool": ([("MaxPool", ["x"], "y", {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]})], {}),
    "average pool": (
        [("AveragePool", ["x"], "y", {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 1, 1, 0]})],
        {},
    ),
    "average pool with counted padding of zero": (
        [("AveragePool", ["x"], "y", {"kernel_shape": [2, 3], "count_include_pad": 1})],
        {},
    ),
    "global average pool": ([("GlobalAveragePool", ["x"], "y", {})], {}),
    "flatten and Gemm": (
        [
            conv(["x", "w"], "a"),
            ("Flatten", ["a"], "f", {}),
            ("Relu", ["f"], "r", {}),
            ("Gemm", ["r", "m", "c"], "y", {"alpha": 0.5, "beta": 2.0}),
        ],
        W | DENSE,
    ),
    "reshape, MatMul and Add": (
        [
            conv(["x", "w"], "a"),
            ("Constant", [], "shape", {"value_ints": [1, -1]}),
            ("Reshape", ["a", "shape"], "f", {}),
            ("Dropout", ["f"], "d", {}),
            ("MatMul", ["d", "k"], "p", {}),
            ("Add", ["p", "c"], "y", {}),
            ("Reshape", ["m", "same"], "k", {}),
        ][:-1],
        W | {"k": DENSE["m"], "c": DENSE["c"]},
    ),
    "transposed Gemm, Softmax and Identity": (
        [
            ("GlobalAveragePool", ["x"], "a", {}),
            ("Flatten", ["a"], "f", {}),
            ("Identity", ["f"], "i", {}),
            ("Gemm", ["i", "t"], "g", {"transB": 1}),
            ("Softmax", ["g"], "s", {}),
            ("Identity", ["s"], "y", {}),
        ],
        {"t": normal(8, 4) * 3},
    ),
}
