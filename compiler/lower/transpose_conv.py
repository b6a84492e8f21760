"""Transposed convolutions: one ordinary convolution for every residue of the stride, outputs interleaved."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from accel.machine.layout import hwc
from accel.network.nodes import TransposeConv2d
from compiler.lower.geometry import Place, Window
from compiler.lower.layers import ArrayLayer, DepthwiseLayer, Record
from compiler.lower.scope import Scope
from compiler.lower.weighted import suits_engine


def lower_transpose_conv(scope: Scope, node: TransposeConv2d) -> tuple[list[ArrayLayer], dict[str, Place]]:
    """Layers that each make the outputs of one residue, and their places in the node's output.

    Notes
    -----
    Output Y takes the kernel rows that are congruent to ``Y + top`` modulo the stride s. With ``Y + top = q * s + r``
    it sums ``w[r + s * j] * x[q - j]``: a convolution with the kernel's rows r, r + s, ... in reverse order. The same
    holds for columns.
    """
    layers, places = list[ArrayLayer](), dict[str, Place]()
    shape, target = scope.shape(node.inputs[0]), scope.tensor(node.output)
    kernel, channels = node.weight.shape[1:3], node.weight.shape[0]
    rows, columns = (list(_residues(*axis)) for axis in zip(kernel, node.stride, node.padding, node.size, strict=True))
    zero_point = scope.tensor(node.inputs[0]).zero_point
    for (y0, ry, top), (x0, rx, left) in product(rows, columns):
        weight = node.weight[:, ry :: node.stride[0], rx :: node.stride[1]][:, ::-1, ::-1]
        if weight.size == 0:
            weight, top, left = np.zeros((channels, 1, 1, shape[2] // node.groups), np.int8), 0, 0
        sums = weight.reshape(channels, -1).astype(np.int64).sum(axis=1)
        biases = (node.bias.astype(np.int64) - zero_point * sums).astype(np.int32)
        fields = (biases.tolist(), node.multiplier.tolist(), node.shift.tolist())
        size = (len(range(y0, node.size[0], node.stride[0])), len(range(x0, node.size[1], node.stride[1])), channels)
        whole = size == hwc(target.shape)
        output = node.output if whole else f"{node.output}[{y0},{x0}]"
        if not whole:
            places[output] = Place(node.output, origin=(y0, x0), step=node.stride)
        window = Window(weight.shape[1:3], padding=(top, left))
        alone = 1 < node.groups == channels == shape[2] and suits_engine(window, scope.config)
        kind = DepthwiseLayer if alone else ArrayLayer
        layers.append(
            kind(
                name=node.name,
                op=node.op,
                inputs=(scope.value(node.inputs[0]),),
                output=output,
                input_shape=shape,
                output_shape=size,
                window=window,
                mode=scope.mode_of(node),
                zero_point=target.zero_point,
                act_min=node.act_min,
                act_max=node.act_max,
                weight=np.ascontiguousarray(weight),
                records=tuple(Record(*columns) for columns in zip(*fields, strict=True)),
                pad_value=zero_point,
                groups=node.groups,
                int4=scope.is_int4(node) and not alone,
            )
        )
    return layers, places


class Residue(NamedTuple):
    """Every `stride`-th output along an axis from `first` on: these share the kernel positions of one residue."""

    first: int
    residue: int
    padding: int
    """Before the input of their convolution."""


def _residues(kernel: int, stride: int, padding: int, size: int) -> Iterator[Residue]:
    """One for each residue that an output has."""
    for first in range(min(stride, size)):
        quotient, residue = divmod(first + padding, stride)
        yield Residue(first, residue, len(range(residue, kernel, stride)) - 1 - quotient)
