"""Lowering of operations with weights: they run on the array or in the depthwise engine."""

from __future__ import annotations

from math import gcd

import numpy as np

from accel.machine.config import ArchConfig
from accel.machine.isa import FIELDS, Opcode
from accel.machine.layout import hwc
from accel.network.nodes import Conv2d, FullyConnected
from compiler.lower.geometry import Window
from compiler.lower.layers import ArrayLayer, DepthwiseLayer, Record
from compiler.lower.scope import Scope

DILATION_MAX = next(field.maximum for field in FIELDS[Opcode.EXEC] if field.name == "y_dilation")
"""Positions from one tap to the next in an instruction."""


def lower_weighted(scope: Scope, node: Conv2d | FullyConnected) -> ArrayLayer:
    """A convolution, its input's zero point in the biases; a matrix product has a kernel as large as its input."""
    shape, zero_point = scope.shape(node.inputs[0]), scope.tensor(node.inputs[0]).zero_point
    output = scope.tensor(node.output)
    if isinstance(node, Conv2d):
        weight, groups = node.weight, node.groups
        window = Window(node.kernel, node.stride, node.padding[:2], node.dilation)
    else:
        weight, groups = node.weight.reshape(-1, *shape), 1
        window = Window(kernel=shape[:2])
    sums = weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int64)
    biases = (node.bias.astype(np.int64) - zero_point * sums).astype(np.int32)
    columns = (biases.tolist(), node.multiplier.tolist(), node.shift.tolist())
    depthwise = groups == len(weight) == shape[2] and suits_engine(window, scope.config)
    kind = DepthwiseLayer if depthwise else ArrayLayer
    return kind(
        name=node.name,
        op=node.op,
        inputs=(scope.value(node.inputs[0]),),
        output=node.output,
        input_shape=shape,
        output_shape=hwc(output.shape),
        window=window,
        mode=scope.mode_of(node),
        zero_point=output.zero_point,
        act_min=node.act_min,
        act_max=node.act_max,
        weight=weight,
        records=tuple(Record(*fields) for fields in zip(*columns, strict=True)),
        pad_value=zero_point,
        groups=groups,
        int4=scope.is_int4(node) and not depthwise,
    )


def unit_of_stream(window: Window) -> int:
    """Distance of the words that pass the engine one after the other: the dilation, or the stride of a single tap."""
    return window.stride[1] if window.kernel[1] == 1 else window.dilation[1]


def suits_engine(window: Window, config: ArchConfig) -> bool:
    """Whether the engine can compute the window: one new word per output, or two an odd number of words apart.

    The weights of a column tile must fit half of the tap memory, and dilations their fields.
    """
    dilated = any(taps > 1 and step > DILATION_MAX for taps, step in zip(window.kernel, window.dilation, strict=True))
    if dilated or window.kernel[0] * window.kernel[1] > config.depthwise_words // 2:
        return False
    unit = unit_of_stream(window)
    words = window.stride[1] // gcd(window.stride[1], unit)
    return config.depthwise_taps > 0 and (words == 1 or (words == 2 and unit % 2 == 1))
