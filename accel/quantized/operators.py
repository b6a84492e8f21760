"""The one table of operators: the lowering of each, its effect on ranges, and the attributes that are supported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from accel.quantized import elementwise, movement, pools, products, resize, slices, weighted
from accel.quantized.functions import FUNCTIONS, clip, function
from accel.quantized.lowering import Lowering
from accel.quantized.network import TABLE, Network, Operator
from accel.quantized.values import Value

NOT_SUPPORTED = "operator is not supported; docs/operators.md lists those that are"
Lower = Callable[[Lowering, Operator], Value | Sequence[Value]]


class Layout(Enum):
    """The order of axes in memory that an operator reads without moving anything."""

    ANY = auto()
    CHANNELS_LAST = auto()
    ROW_MAJOR = auto()


class Row(NamedTuple):
    """An operator.

    Parameters
    ----------
    lower : callable
        From the operator to its result, or to one result per output.
    notes : str
        Supported attributes and operands, for the page of operators.
    layout : Layout
    keeps_range : bool
        The output holds values of the input only, and takes over its parameters.
    """

    lower: Lower
    notes: str = ""
    layout: Layout = Layout.ANY
    keeps_range: bool = False


_LAST = Layout.CHANNELS_LAST
_BINARY = "tensors and constants that broadcast"
OPERATORS: Mapping[str, Row] = MappingProxyType(
    {
        "BatchNormalization": Row(elementwise.batch_normalization, "anywhere; constant statistics"),
        "Clip": Row(clip, "constant bounds", keeps_range=True),
        "Relu": Row(clip, keeps_range=True),
        "PRelu": Row(elementwise.prelu, "constant slope, one or one per channel"),
        **{kind: Row(function) for kind in FUNCTIONS},
        **{kind: Row(elementwise.elementwise, _BINARY) for kind in ("Add", "Sub", "Mul", "Sum")},
        "Div": Row(elementwise.elementwise, "by constants, or functions of the same tensor"),
        "Max": Row(elementwise.elementwise, _BINARY),
        "Min": Row(elementwise.elementwise, _BINARY),
        "Pow": Row(elementwise.elementwise, "functions of one tensor and numbers"),
        "Conv": Row(weighted.conv, "1-D and 2-D; groups, strides, dilations, pads, auto_pad; constant weights", _LAST),
        "ConvInteger": Row(weighted.conv, "followed by Mul with constant scales", _LAST),
        "ConvTranspose": Row(
            weighted.conv_transpose, "1-D and 2-D; groups, strides, pads, output_padding, output_shape", _LAST
        ),
        "Gemm": Row(products.gemm, "alpha, beta, transB; constant weights", Layout.ROW_MAJOR),
        "MatMul": Row(products.matmul, "constant second operand", Layout.ROW_MAJOR),
        "MatMulInteger": Row(products.matmul, "followed by Mul with constant scales", Layout.ROW_MAJOR),
        "AveragePool": Row(pools.average, "1-D and 2-D; pads, ceil_mode, count_include_pad", _LAST),
        "GlobalAveragePool": Row(pools.average, layout=_LAST),
        "MaxPool": Row(pools.max_pool, "1-D and 2-D; pads, dilations, ceil_mode", _LAST, keeps_range=True),
        "GlobalMaxPool": Row(pools.max_pool, layout=_LAST, keeps_range=True),
        "ReduceMean": Row(pools.reduce, "any axes, keepdims"),
        "ReduceSum": Row(pools.reduce, "any axes, keepdims"),
        "ReduceMax": Row(pools.reduce, "any axes, keepdims", keeps_range=True),
        "ReduceMin": Row(pools.reduce, "any axes, keepdims", keeps_range=True),
        "Softmax": Row(pools.softmax, "any axis; on the host", Layout.ROW_MAJOR),
        "Concat": Row(movement.concat, "any axis"),
        "DepthToSpace": Row(movement.depth_to_space, "blocksize, mode", _LAST, keeps_range=True),
        "Expand": Row(movement.expand, keeps_range=True),
        "Flatten": Row(movement.reshaped, "axis", keeps_range=True),
        "Gather": Row(slices.gather, "constant indices, axis", keeps_range=True),
        "Pad": Row(slices.pad, "constant, edge, reflect, wrap; axes", keeps_range=True),
        "Reshape": Row(movement.reshaped, "any constant shape", keeps_range=True),
        "Resize": Row(resize.resize, "nearest and linear; scales or sizes; all common coordinates", _LAST, True),
        "Slice": Row(slices.sliced, "constant bounds, axes, steps of either sign", keeps_range=True),
        "SpaceToDepth": Row(movement.depth_to_space, "blocksize", _LAST, keeps_range=True),
        "Split": Row(slices.split, "axis, sizes", keeps_range=True),
        "Squeeze": Row(movement.reshaped, "axes", keeps_range=True),
        "Transpose": Row(movement.transposed, "perm", keeps_range=True),
        "Unsqueeze": Row(movement.reshaped, "axes", keeps_range=True),
        "Upsample": Row(resize.resize, "nearest and linear", _LAST, keeps_range=True),
        "Identity": Row(movement.identity, keeps_range=True),
        "Dropout": Row(movement.identity, "as in inference", keeps_range=True),
        "Cast": Row(
            movement.cast,
            "between real types, and of inputs of 8 bits to them; others on the host, int8 results not at all",
            keeps_range=True,
        ),
        "accel.Reinterpret": Row(movement.reinterpreted, keeps_range=True),
        TABLE: Row(movement.looked_up),
    }
)
"""Every operator that a graph can compute, by its ONNX name."""


def check_weights(network: Network) -> None:
    """Raise `ModelError` for the first operator whose weights are no numbers."""
    for op in network.operators:
        weighted_kind = op.kind in OPERATORS and OPERATORS[op.kind].lower in _WEIGHTED
        for name in op.inputs[1:] if weighted_kind else ():
            value = network.value(name)
            if value is not None and not np.all(np.isfinite(value)):
                raise op.error(f"constant {name!r} must be finite")


_WEIGHTED = (weighted.conv, weighted.conv_transpose, products.gemm, products.matmul, elementwise.batch_normalization)
