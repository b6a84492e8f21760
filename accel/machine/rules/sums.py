"""Rules of EXEC and DEPTHWISE, which sum windows of the scratchpad."""

from __future__ import annotations

from collections.abc import Iterator

from accel.machine.config import ArchConfig
from accel.machine.depthwise import row_streams
from accel.machine.memories import Space, memories
from accel.machine.rules.ranges import Range, inside, loop, run, window
from accel.machine.rules.rows import Broken, Rows
from accel.machine.weight_words import tile_words


def exec_rules(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of EXEC."""
    yield from rows.most("k_rows", rows["k_rows"], config.rows)
    yield from rows.refuse(
        (rows["int4"] == 1) & (not config.int4_weights),
        lambda i: "int4 must be 0 on a machine without int4 weights (int4_weights = false), got 1",
    )
    tiles = rows.product("chunk_count", "ky_count", "kx_count")
    weights = run(rows["wbuf_address"], tiles * tile_words(rows["k_rows"], rows["int4"]))
    yield from inside(rows, "wbuf_address", Space.WBUF, memories(config)[Space.WBUF].words, weights)
    yield from _sum_rules(config, rows, window(rows) + loop(rows, "chunk_count", "chunk_stride"))


def _sum_rules(config: ArchConfig, rows: Rows, words: Range) -> Iterator[Broken]:
    """Accumulators, and the scratchpad words at the offsets `words`."""
    sums = run(rows["acc_address"], rows.product("oy_count", "ox_count"))
    yield from inside(rows, "acc_address", Space.ACC, memories(config)[Space.ACC].words, sums)
    read = run(rows["spad_address"], 1) + words
    yield from inside(rows, "spad_address", Space.SPAD, memories(config)[Space.SPAD].words, read)


def depthwise_rules(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of DEPTHWISE."""
    yield from engine_rules(config, rows)
    weights = run(rows["tap_address"], rows.product("ky_count", "kx_count"))
    yield from inside(rows, "tap_address", Space.TAPS, memories(config)[Space.TAPS].words, weights)
    yield from _sum_rules(config, rows, window(rows))


def engine_rules(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of the depthwise engine that do not depend on addresses (docs/architecture.md, "DEPTHWISE")."""
    taps, step, dilation = rows["kx_count"], rows["x_step"], rows["x_dilation"]
    if not config.depthwise_taps:
        yield from rows.refuse(
            taps > 0, lambda i: "must not appear on a machine without depthwise engine (depthwise_taps = 0)"
        )
        return
    yield from rows.most("kx_count (with depthwise_taps as the limit)", taps, config.depthwise_taps)
    last_byte = rows["spad_byte"] + config.depthwise_lanes
    yield from rows.most("spad_byte + min(rows, cols)", last_byte, memories(config)[Space.SPAD].word_bytes)
    moves = (dilation > 0) & ((step == dilation) | ((step == 2 * dilation) & (taps > 1)))
    yield from rows.refuse(
        ~moves,
        lambda i: (
            "x_step must be x_dilation, or twice that with kx_count > 1, and not 0, "
            f"got {step[i]} and x_dilation = {dilation[i]}"
        ),
    )
    yield from _stream_rules(rows.where(moves))


def _stream_rules(rows: Rows) -> Iterator[Broken]:
    """Each word that exists enters the window in time."""
    taps, stride, moves = rows["kx_count"], rows["kx_stride"], rows["x_step"] // rows["x_dilation"]
    yield from rows.refuse(
        rows["ox_stride"] != moves * stride,
        lambda i: f"ox_stride must be {moves[i] * stride[i]}, as x_step and kx_stride say, got {rows['ox_stride'][i]}",
    )
    yield from rows.refuse(
        (moves == 2) & (stride % 2 == 0),
        lambda i: f"kx_stride must be odd if two words are read per step, got {stride[i]}",
    )
    given = rows["lead_steps"], rows["row_steps"]
    lead, steps = row_streams(rows["x_start"], rows["x_dilation"], moves, rows["width"], taps, rows["ox_count"])
    yield from rows.refuse(
        (given[0] != lead) | (given[1] != steps),
        lambda i: f"lead_steps and row_steps must be {lead[i]} and {steps[i]}, got {given[0][i]} and {given[1][i]}",
    )
    total = rows["oy_count"] * rows["row_steps"]
    yield from rows.refuse(
        (rows["ky_count"] > 1) & (total < taps),
        lambda i: (
            f"oy_count * row_steps must be at least kx_count = {taps[i]}, so that the next tap row's weights "
            f"are there, got {total[i]}"
        ),
    )
