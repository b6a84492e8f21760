"""Products of a weight and an input, or of two inputs, in ONNX operators that the host computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any

from accel.network.windows import Shape

Count = Callable[[Mapping[str, Any], Sequence[Shape], Shape], int]
"""From attributes, shapes of all arguments and the shape of the first output to a number of products."""


def _matmul(attributes: Mapping[str, Any], given: Sequence[Shape], result: Shape) -> int:
    return prod(result) * given[0][-1]


def _gemm(attributes: Mapping[str, Any], given: Sequence[Shape], result: Shape) -> int:
    return prod(result) * given[0][0 if attributes.get("transA") else 1]


def _conv(attributes: Mapping[str, Any], given: Sequence[Shape], result: Shape) -> int:
    return prod(result) * prod(given[1][1:])


def _qlinear_conv(attributes: Mapping[str, Any], given: Sequence[Shape], result: Shape) -> int:
    """Weights come behind the input's parameters."""
    return prod(result) * prod(given[3][1:])


def _conv_transpose(attributes: Mapping[str, Any], given: Sequence[Shape], result: Shape) -> int:
    return prod(given[0]) * prod(given[1][1:])


def _recurrent(attributes: Mapping[str, Any], given: Sequence[Shape], result: Shape) -> int:
    """Every step multiplies the input and the state by the weights of all gates."""
    return prod(given[0][:2]) * (prod(given[1]) + prod(given[2]))


def _attention(attributes: Mapping[str, Any], given: Sequence[Shape], result: Shape) -> int:
    """Every query meets every key, every result every value."""
    return (prod(given[0]) + prod(result)) * given[1][-2]


def _attention_of_one(attributes: Mapping[str, Any], given: Sequence[Shape], result: Shape) -> int:
    """Self-attention with the matrix that makes queries, keys and values of the input."""
    return prod(given[0][:-1]) * prod(given[1]) + 2 * prod(result) * given[0][-2]


def _einsum(attributes: Mapping[str, Any], given: Sequence[Shape], result: Shape) -> int:
    """A product for every combination of indices."""
    sides = str(attributes.get("equation", "")).split("->")[0].replace(" ", "").split(",")
    sizes = dict(pair for labels, shape in zip(sides, given, strict=False) for pair in zip(labels, shape, strict=False))
    return prod(sizes.values()) if len(given) > 1 and "." not in sizes else 0


COUNTS: Mapping[str, Count] = MappingProxyType(
    {
        "Attention": _attention,
        "Conv": _conv,
        "ConvInteger": _conv,
        "ConvTranspose": _conv_transpose,
        "Einsum": _einsum,
        "GRU": _recurrent,
        "Gemm": _gemm,
        "LSTM": _recurrent,
        "MatMul": _matmul,
        "MatMulInteger": _matmul,
        "QLinearConv": _qlinear_conv,
        "QLinearMatMul": _matmul,
        "RNN": _recurrent,
        "com.microsoft.Attention": _attention_of_one,
        "com.microsoft.MultiHeadAttention": _attention,
    }
)
"""Of the operators that have products, by name; all others count as none."""
