"""Operations of a quantized network: fields, shapes and ranges; what they compute is in `accel.network.reference`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from accel.network.nodes.base import Clamped, Multiplier, Node, Pair, Requantized
from accel.network.nodes.host import Dequantize, HostOperator, Quantize
from accel.network.nodes.movement import (
    Broadcast,
    Concat,
    Constant,
    Gather,
    Pad,
    Rearrange,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    StridedSlice,
    Transpose,
)
from accel.network.nodes.vector import (
    Add,
    AveragePool2d,
    Clamp,
    Div,
    LogSoftmax,
    Maximum,
    MaxPool2d,
    Mean,
    Mul,
    Pool2d,
    Rescaled,
    Softmax,
    SquaredDifference,
    Sub,
    Table,
    UnsignedAveragePool2d,
)
from accel.network.nodes.weighted import REDUCTION_LIMIT, Conv2d, FullyConnected, TransposeConv2d, Weighted

__all__ = [
    "NODE_TYPES",
    "REDUCTION_LIMIT",
    "Add",
    "AveragePool2d",
    "Broadcast",
    "Clamp",
    "Clamped",
    "Concat",
    "Constant",
    "Conv2d",
    "Dequantize",
    "Div",
    "FullyConnected",
    "Gather",
    "HostOperator",
    "LogSoftmax",
    "MaxPool2d",
    "Maximum",
    "Mean",
    "Mul",
    "Multiplier",
    "Node",
    "Pad",
    "Pair",
    "Pool2d",
    "Quantize",
    "Rearrange",
    "Requantized",
    "Rescaled",
    "Reshape",
    "ResizeBilinear",
    "ResizeNearest",
    "Softmax",
    "SquaredDifference",
    "StridedSlice",
    "Sub",
    "Table",
    "Transpose",
    "TransposeConv2d",
    "UnsignedAveragePool2d",
    "Weighted",
]

NODE_TYPES: Mapping[str, type[Node]] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (
            Add,
            AveragePool2d,
            Broadcast,
            Clamp,
            Concat,
            Constant,
            Conv2d,
            Dequantize,
            FullyConnected,
            Gather,
            HostOperator,
            Div,
            LogSoftmax,
            MaxPool2d,
            Maximum,
            Mean,
            Mul,
            Pad,
            Quantize,
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
    }
)
"""Every operation that a graph may hold, by the name that `Node.op` gives."""
