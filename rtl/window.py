"""Window positions: which taps of a convolution or pool lie inside their image."""

from __future__ import annotations

from amaranth.hdl import Value, signed

from rtl.loop_nest import LoopNest

POSITION = signed(20)
"""Holds start + (2**12 - 1) * step + (2**8 - 1) * dilation for every value of the fields."""

POSITIONS = {
    "y": (POSITION, ("oy", "ky")), "y_end": (POSITION, ("oy", "ky")),
    "x": (POSITION, ("ox", "kx")), "x_end": (POSITION, ("ox", "kx")),
}  # fmt: skip
"""Variables of a `LoopNest`: the window's position, and the same counted from the end of the image."""


def drive_positions(nest: LoopNest, instruction) -> list:
    """Statements that give `nest` the positions of an EXEC's or POST's window."""
    return [
        nest.starts.y.eq(instruction.y_start),
        nest.starts.x.eq(instruction.x_start),
        nest.starts.y_end.eq(instruction.y_start - instruction.height),
        nest.starts.x_end.eq(instruction.x_start - instruction.width),
        *(nest.strides[y].oy.eq(instruction.y_step) for y in ("y", "y_end")),
        *(nest.strides[x].ox.eq(instruction.x_step) for x in ("x", "x_end")),
        *(nest.strides[y].ky.eq(instruction.y_dilation) for y in ("y", "y_end")),
        *(nest.strides[x].kx.eq(instruction.x_dilation) for x in ("x", "x_end")),
    ]


def is_inside(nest: LoopNest):
    """The current tap exists: signs alone say so, as a bank's address waits for it."""
    values = nest.values
    return is_between(values.y, values.y_end) & is_between(values.x, values.x_end)


def is_between(position: Value, end: Value):
    """Whether a signed position is not negative, and negative when counted from the end."""
    return ~position[-1] & end[-1]
