"""Lowering of bilinear resizing: weighted sums of neighbouring pixels in the post unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.machine.isa import Reduce
from accel.machine.layout import hwc
from accel.machine.numerics import INT8_MAX, INT8_MIN, INTERPOLATION_ONE, RequantMode
from accel.network.nodes import ResizeBilinear
from compiler.lower.geometry import Tile, Window
from compiler.lower.layers import InterpolationLayer, Neighbours, Operand, Record, Region
from compiler.lower.scope import Scope
from compiler.lower.vector import integer_mode

OPERAND_SHIFT = 20
"""`left_shift` of every tap: weights of 2**20 then lose no bit in the operand requantizer."""


def lower_interpolation(scope: Scope, node: ResizeBilinear) -> InterpolationLayer:
    """One layer; which of its outputs share a POST is decided tile by tile."""
    mode = integer_mode(node, scope.config, scope.mode)
    shift, record = scaling(mode)
    height, width, _ = output_shape = hwc(scope.tensor(node.output).shape)
    return InterpolationLayer(
        name=node.name,
        op=node.op,
        inputs=(scope.value(node.inputs[0]),),
        output=node.output,
        input_shape=scope.shape(node.inputs[0]),
        output_shape=output_shape,
        window=Window(),
        mode=mode,
        zero_point=0,
        act_min=INT8_MIN,
        act_max=INT8_MAX,
        reduce=Reduce.INTERPOLATE,
        operands=(Operand(0, 0, shift),) * 2,
        left_shift=OPERAND_SHIFT,
        regions=(Region(Tile(0, height, 0, width), record),),
        rows=_neighbours(node.rows),
        columns=_neighbours(node.columns),
    )


def scaling(mode: RequantMode) -> tuple[int, Record]:
    """Shift of every tap, and the record that divides their sum by 2**20, rounding half away from zero.

    Notes
    -----
    A tap is x * w with an int8 x and a weight w in 2**-20, so that the sum S of all has abs(S) <= 2**27.

    tflite: shift 2 makes the taps 2 * x * w without rounding. Multiplier 2**30 halves their sum, exactly, and the
    division by 2**20 that follows rounds ties away from zero.

    single: shift 1 makes the taps x * w. Multiplier 2**30 + 1 and shift -19 make S / 2**20 + S / 2**50, rounded with
    ties towards plus infinity. The excess is not 0 and tips a negative tie down, away from zero; as it is at most
    2**-23, less than the 2**-20 between a tie and the next sum, it changes no other result.
    """
    return (2, Record(0, 1 << 30, -20)) if mode is RequantMode.TFLITE else (1, Record(0, (1 << 30) + 1, -19))


def _neighbours(mixes: NDArray[np.int32]) -> tuple[Neighbours, ...]:
    """Both inputs of every output in ascending order; one input only if it has all the weight."""
    result = []
    for first, second, weight in mixes.tolist():
        if first == second or weight == 0:
            result.append(Neighbours(first, 0, 0))
        elif weight == INTERPOLATION_ONE:
            result.append(Neighbours(second, 0, 0))
        elif first < second:
            result.append(Neighbours(first, second - first, weight))
        else:
            result.append(Neighbours(second, first - second, INTERPOLATION_ONE - weight))
    return tuple(result)
