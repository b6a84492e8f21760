"""Depthwise convolutions in the row-FIR engine: parts of the kernel, classes of output columns, instructions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import gcd

import numpy as np

from accel.machine.config import ArchConfig
from accel.machine.depthwise import row_stream
from accel.machine.isa import Instruction, Opcode
from compiler.emit.compute import encodable, window_fields
from compiler.emit.keys import KernelPart
from compiler.emit.records import DepthwiseWork
from compiler.lower.geometry import Tile, Window
from compiler.lower.layers import DepthwiseLayer
from compiler.lower.weighted import unit_of_stream
from compiler.plan.weights import TAPS_MAX


def column_classes(window: Window, width: int) -> tuple[range, ...]:
    """Classes of the `width` output columns of a tile that are computed together.

    A dilated kernel meets every word of a row only if the outputs between two of its taps are left to other classes.
    """
    unit = unit_of_stream(window)
    every = unit // gcd(window.stride[1], unit)
    return tuple(range(first, width, every) for first in range(min(every, width)))


def kernel_parts(window: Window, tile: Tile, config: ArchConfig) -> tuple[KernelPart, ...]:
    """The kernel cut to as many columns as the engine has taps; row by row where a tile is too small to hide a load."""
    height, width = window.kernel
    smallest = min(map(len, column_classes(window, tile.width))) * tile.height
    rows = min(height, TAPS_MAX) if smallest >= config.depthwise_taps else 1
    columns = [(x, min(x + config.depthwise_taps, width)) for x in range(0, width, config.depthwise_taps)]
    return tuple(KernelPart(y, min(y + rows, height), x0, x1) for x0, x1 in columns for y in range(0, height, rows))


def pack_parts(layer: DepthwiseLayer, parts: Sequence[KernelPart], first: int, last: int) -> bytes:
    """Weight words of channels [first, last) in the order in which the instructions of `parts` read them."""
    taps = layer.weight[first:last, :, :, 0].transpose(1, 2, 0)
    cut = [taps[p.ky0 : p.ky1, p.kx0 : p.kx1].reshape(p.words, -1) for p in parts]
    return np.ascontiguousarray(np.concatenate(cut)).tobytes()


def depthwise_parts(
    config: ArchConfig, work: DepthwiseWork, columns: range, tap_address: int, acc_address: int
) -> Iterator[Instruction]:
    """DEPTHWISEs of one class of output columns of a tile, one for each part of the kernel."""
    layer, view, tile = work.layer, work.source, work.tile
    window, (row, column) = layer.window, view.strides
    fields, address = window_fields(layer, view, tile, folded=False)
    chunk, byte = divmod(work.channels.first, config.rows)
    step = window.stride[1] * columns.step
    for number, part in enumerate(work.kernel):
        y, x = part.ky0 * window.dilation[0], part.kx0 * window.dilation[1] + columns.start * window.stride[1]
        taps = part.kx1 - part.kx0
        unit = unit_of_stream(window) if taps > 1 else step
        seen = encodable(
            fields
            | {
                "y_start": fields["y_start"] + y,
                "x_start": fields["x_start"] + x,
                "x_dilation": unit,
                "ky_count": part.ky1 - part.ky0,
                "kx_count": taps,
            }
        )
        lead_steps, row_steps = row_stream(seen["x_start"], unit, step // unit, seen["width"], taps, len(columns))
        yield Instruction(
            Opcode.DEPTHWISE,
            {
                **seen,
                "x_step": step,
                "spad_address": address + chunk * view.chunk_stride + y * row + x * column,
                "oy_count": tile.height,
                "ox_count": len(columns),
                "ky_stride": window.dilation[0] * row if part.ky1 - part.ky0 > 1 else 0,
                "kx_stride": unit * column,
                "oy_stride": window.stride[0] * row if tile.height > 1 else 0,
                "ox_stride": step * column,
                "pad_value": layer.pad_value,
                "tap_address": tap_address,
                "acc_address": acc_address,
                "accumulate": int(number > 0),
                "spad_byte": byte,
                "lead_steps": lead_steps,
                "row_steps": row_steps,
            },
        )
        tap_address += part.words


def post_columns(post: Instruction, columns: range, offset: int) -> Instruction:
    """The POST of a whole tile cut down to a class of columns, whose sums begin `offset` words further on."""
    step = post["dst_ox_stride"]
    return post.replace(
        ox_count=len(columns),
        src_address=post["src_address"] + offset,
        src_oy_stride=len(columns) if post["oy_count"] > 1 else 0,
        dst_address=post["dst_address"] + columns.start * step,
        dst_ox_stride=columns.step * step,
    )
