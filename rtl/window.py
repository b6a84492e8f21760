"""Window positions: which taps of a convolution or pool lie inside their image."""

from __future__ import annotations

from amaranth.hdl import signed

from rtl.loop_nest import LoopNest

POSITION = signed(20)
"""Holds start + (2**12 - 1) * step + (2**8 - 1) * dilation for every value of the fields."""

POSITIONS = {"y": (POSITION, ("oy", "ky")), "x": (POSITION, ("ox", "kx"))}
"""Variables of a `LoopNest`."""


def drive_positions(nest: LoopNest, instruction) -> list:
    """Statements that give `nest` the positions of an EXEC's or POST's window."""
    return [
        nest.starts.y.eq(instruction.y_start),
        nest.starts.x.eq(instruction.x_start),
        nest.strides.y.oy.eq(instruction.y_step),
        nest.strides.x.ox.eq(instruction.x_step),
        nest.strides.y.ky.eq(instruction.y_dilation),
        nest.strides.x.kx.eq(instruction.x_dilation),
    ]


def is_inside(nest: LoopNest, height, width):
    """The current tap exists."""
    y, x = nest.values.y, nest.values.x
    return (y >= 0) & (y < height) & (x >= 0) & (x < width)
