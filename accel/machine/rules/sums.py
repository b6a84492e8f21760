"""Rules of EXEC and DEPTHWISE, which sum windows of the scratchpad."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import or_

from accel.machine.config import MAX_TAPS, ArchConfig
from accel.machine.depthwise import row_streams
from accel.machine.memories import Space, memories
from accel.machine.rules.ranges import Range, inside, loop, run, window
from accel.machine.rules.rows import Broken, Mask, Rows
from accel.machine.weight_words import tile_words


def exec_fields(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of EXEC on single fields."""
    yield from rows.most("k_rows", rows["k_rows"], config.rows)
    yield from rows.refuse(
        (rows["int4"] == 1) & (not config.int4_weights),
        "int4 is 0 on a machine without int4 weights",
        lambda i: "int4 must be 0 on a machine without int4 weights (int4_weights = false), got 1",
    )


def exec_uses(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of EXEC on the words that it uses."""
    tiles = rows.product("chunk_count", "ky_count", "kx_count")
    weights = run(rows["wbuf_address"], tiles * tile_words(rows["k_rows"], rows["int4"]))
    yield from inside(rows, "wbuf_address", Space.WBUF, memories(config)[Space.WBUF].words, weights)
    yield from _sum_uses(config, rows, window(rows) + loop(rows, "chunk_count", "chunk_stride"))


def _sum_uses(config: ArchConfig, rows: Rows, words: Range) -> Iterator[Broken]:
    """Accumulators, and the scratchpad words at the offsets `words`."""
    sums = run(rows["acc_address"], rows.product("oy_count", "ox_count"))
    yield from inside(rows, "acc_address", Space.ACC, memories(config)[Space.ACC].words, sums)
    read = run(rows["spad_address"], 1) + words
    yield from inside(rows, "spad_address", Space.SPAD, memories(config)[Space.SPAD].words, read)


def depthwise_uses(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of DEPTHWISE on the words that it uses."""
    weights = run(rows["tap_address"], rows.product("ky_count", "kx_count"))
    yield from inside(rows, "tap_address", Space.TAPS, memories(config)[Space.TAPS].words, weights)
    yield from _sum_uses(config, rows, window(rows))


def engine_rules(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of the depthwise engine that do not depend on addresses (docs/architecture.md, "DEPTHWISE")."""
    yield from depthwise_fields(config, rows)
    yield from depthwise_stream(config, rows)


def depthwise_fields(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of DEPTHWISE on single fields and small sums."""
    taps, step, dilation = rows["kx_count"], rows["x_step"], rows["x_dilation"]
    if not config.depthwise_taps:
        yield from rows.refuse(
            taps > 0,
            "the machine has a depthwise engine",
            lambda i: "must not appear on a machine without depthwise engine (depthwise_taps = 0)",
        )
        return
    yield from rows.most("kx_count (with depthwise_taps as the limit)", taps, config.depthwise_taps)
    last_byte = rows["spad_byte"] + config.depthwise_lanes
    yield from rows.most("spad_byte + min(rows, cols)", last_byte, memories(config)[Space.SPAD].word_bytes)
    yield from rows.refuse(
        ~_moves(rows),
        "x_step is x_dilation, or twice that with kx_count > 1, and not 0",
        lambda i: (
            "x_step must be x_dilation, or twice that with kx_count > 1, and not 0, "
            f"got {step[i]} and x_dilation = {dilation[i]}"
        ),
    )
    yield from _move_fields(rows.where(_moves(rows)))


def _moves(rows: Rows) -> Mask:
    """The window moves by one word per step, or by two."""
    step, dilation = rows["x_step"], rows["x_dilation"]
    moves: Mask = (dilation > 0) & ((step == dilation) | ((step == 2 * dilation) & (rows["kx_count"] > 1)))
    return moves


def _move_fields(rows: Rows) -> Iterator[Broken]:
    """Strides are those of the window's moves, and the next tap row's weights come in time."""
    taps, stride, ox_stride, double = rows["kx_count"], rows["kx_stride"], rows["ox_stride"], _double(rows)
    yield from rows.refuse(
        (double & (ox_stride != 2 * stride)) | (~double & (ox_stride != stride)),
        "ox_stride is kx_stride, or twice that if two words are read per step",
        lambda i: f"ox_stride must be {(1 + double[i]) * stride[i]}, as x_step and kx_stride say, got {ox_stride[i]}",
    )
    yield from rows.refuse(
        double & ((stride & 1) == 0),
        "kx_stride is odd if two words are read per step",
        lambda i: f"kx_stride must be odd if two words are read per step, got {stride[i]}",
    )
    oy, steps = rows["oy_count"], rows["row_steps"]
    # Without a product, for which a cycle of the machine is too short: taps exceed that of each pair of small values.
    pairs = ((a, b) for a in range(1, MAX_TAPS) for b in range(MAX_TAPS) if a * b < MAX_TAPS)
    few = reduce(or_, ((oy == a) & (steps == b) & (taps > a * b) for a, b in pairs))
    yield from rows.refuse(
        (rows["ky_count"] > 1) & few,
        "oy_count * row_steps is at least kx_count if ky_count > 1",
        lambda i: (
            f"oy_count * row_steps must be at least kx_count = {taps[i]}, so that the next tap row's weights "
            f"are there, got {oy[i] * steps[i]}"
        ),
    )


def _double(rows: Rows) -> Mask:
    """Two words enter the window in a step."""
    double: Mask = rows["x_step"] != rows["x_dilation"]
    return double


def depthwise_stream(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Each word that exists enters the window in time."""
    if not config.depthwise_taps:
        return
    rows = rows.where(_moves(rows))
    given, words = (rows["lead_steps"], rows["row_steps"]), 1 + _double(rows)
    lead, steps = row_streams(
        rows["x_start"], rows["x_dilation"], words, rows["width"], rows["kx_count"], rows["ox_count"]
    )
    yield from rows.refuse(
        (given[0] != lead) | (given[1] != steps),
        "lead_steps and row_steps are what the window needs",
        lambda i: f"lead_steps and row_steps must be {lead[i]} and {steps[i]}, got {given[0][i]} and {given[1][i]}",
    )
