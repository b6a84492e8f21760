"""Copies by the post unit: layers that compute nothing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from accel.machine.isa import FIELDS, Opcode, Reduce
from accel.machine.layout import Hwc, hwc
from accel.machine.numerics import INT8_MAX, INT8_MIN, RequantMode
from accel.network.nodes import Node, Pad, ResizeNearest
from compiler.lower.geometry import Place, Tile, Window
from compiler.lower.layers import IDENTITY, Operand, Record, Region, VectorLayer

COPIES_MAX = 16
"""Copies that make one output; what needs more is gathered."""

_STEP_MAX = next(field.maximum for field in FIELDS[Opcode.POST] if field.name == "y_step")
_PADDING_MAX = -next(field.minimum for field in FIELDS[Opcode.POST] if field.name == "y_start")

Copies = tuple[list[VectorLayer], dict[str, Place]]
"""Layers, and the places of their outputs if they are parts of the node's."""


def copy_value(
    node: Node,
    mode: RequantMode,
    source: str,
    shape: Hwc,
    output: str,
    output_shape: Hwc | None = None,
    window: Window | None = None,
    fill: int = 0,
) -> VectorLayer:
    """A layer that copies one tap of `window` per output, or `fill` where the tap is outside of the image.

    Notes
    -----
    The post unit subtracts `fill` from the tap and adds it to the sum, which is 0 without a tap.
    """
    height, width, _ = output_shape or shape
    return VectorLayer(
        name=node.name,
        op=node.op,
        inputs=(source,),
        output=output,
        input_shape=shape,
        output_shape=output_shape or shape,
        window=window or Window(),
        mode=mode,
        zero_point=0,
        act_min=INT8_MIN,
        act_max=INT8_MAX,
        reduce=Reduce.SUM,
        operands=(Operand(fill, IDENTITY.multiplier, IDENTITY.shift),) * 2,
        left_shift=0,
        regions=(Region(Tile(0, height, 0, width), Record(fill, IDENTITY.multiplier, IDENTITY.shift)),),
    )


def pad_copies(node: Pad, mode: RequantMode, source: str, shape: Hwc) -> Copies | None:
    """Padding around an image; None for padded channels."""
    before, after = hwc(node.before), hwc(node.after)
    if len(node.before) == 2 or before[2] or after[2] or max(before) > _PADDING_MAX:
        return None
    output_shape = (shape[0] + before[0] + after[0], shape[1] + before[1] + after[1], shape[2])
    window = Window(padding=before[:2])
    return [copy_value(node, mode, source, shape, node.output, output_shape, window, node.value)], {}


def resize_copies(node: ResizeNearest, mode: RequantMode, source: str, shape: Hwc) -> Copies | None:
    """One copy for every pair of arithmetic progressions of rows and columns; None if there are many."""
    rows, columns = _progressions(node.rows), _progressions(node.columns)
    if rows is None or columns is None or len(rows) * len(columns) > COPIES_MAX:
        return None
    layers, places = [], {}
    for y, (first_row, row_step) in enumerate(rows):
        for x, (first_column, column_step) in enumerate(columns):
            origin, step = (y, x), (len(rows), len(columns))
            part = node.output if step == (1, 1) else f"{node.output}[{y},{x}]"
            size = (len(node.rows[y :: step[0]]), len(node.columns[x :: step[1]]), shape[2])
            window = Window(stride=(row_step, column_step), padding=(-first_row, -first_column))
            layers.append(copy_value(node, mode, source, shape, part, size, window))
            if part != node.output:
                places[part] = Place(node.output, origin=origin, step=step)
    return layers, places


class Progression(NamedTuple):
    """Indices `first`, ``first + step``, .. of rows or columns."""

    first: int
    step: int


def _progressions(indices: tuple[int, ...]) -> list[Progression] | None:
    """The fewest interleaved progressions that make up `indices`; None if there are many."""
    for count in range(1, min(len(indices), COPIES_MAX) + 1):
        parts = [np.array(indices[i::count]) for i in range(count)]
        steps = [int(part[1] - part[0]) if len(part) > 1 else 0 for part in parts]
        if all(
            0 <= step <= _STEP_MAX and (np.diff(part) == step).all() for part, step in zip(parts, steps, strict=True)
        ):
            return [Progression(int(part[0]), step) for part, step in zip(parts, steps, strict=True)]
    return None
