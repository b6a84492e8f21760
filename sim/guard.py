"""Refusal of instructions that would leave a memory or mean nothing, before any kernel runs.

`compiler.check.check` proves these properties and many more; here they keep kernels from reading out of bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import ProgramError
from accel.machine.config import PARAM_RECORD_BYTES, TABLE_WORDS, TABLES, ArchConfig
from accel.machine.depthwise import check_depthwise
from accel.machine.isa import Memory, Opcode, Reduce, Source, Unit
from accel.machine.numerics import INTERPOLATION_ONE, SHIFT_MAX, SHIFT_MIN_INTEGER, RequantMode
from sim.fields import DEPTHWISE, EXEC, LOAD, POST, STORE
from sim.jit import jit
from sim.work import check_steps

Table = npt.NDArray[np.int64]
"""Rows of `accel.machine.isa.decode_table`."""


def check_table(config: ArchConfig, table: Table, memory_bytes: int) -> None:
    """Refuse a program with an instruction that the machine or the memory image does not have room for.

    Raises
    ------
    ProgramError
        Naming the first such instruction of its kind and what it exceeds, or one that would never end.
    """
    check_steps(table)
    for opcode, check in (
        (Opcode.LOAD, _check_load),
        (Opcode.EXEC, _check_exec),
        (Opcode.POST, _check_post),
        (Opcode.STORE, _check_store),
        (Opcode.DEPTHWISE, _check_depthwise),
    ):
        at = np.flatnonzero(table[:, 0] == opcode)
        if len(at):
            check(_Checker(config, opcode, at, memory_bytes), np.ascontiguousarray(table[at]))


def pair_tokens(table: Table) -> Table:
    """For each instruction and unit p the instruction whose token it takes from p, or -1; shape (instructions, 5).

    Raises
    ------
    ProgramError
        A wait has no signal before it, or names a unit that does not exist.
    """
    producers = np.full((len(table), len(Unit)), -1, np.int64)
    for mask, name in ((LOAD.wait, "wait"), (LOAD.signal, "signal")):
        bad = np.flatnonzero(table[:, mask] >> len(Unit))
        if len(bad):
            raise ProgramError(
                f"instruction {bad[0]}: {name} must name units 0..{len(Unit) - 1}, got {table[bad[0], mask]:#b}"
            )
    unit = table[:, 0] - 1
    for target in Unit:
        waiting = np.flatnonzero((unit == int(target)) & (table[:, LOAD.wait] > 0))
        signalling = np.flatnonzero(table[:, LOAD.signal] >> int(target) & 1)
        for source in Unit:
            waits = waiting[table[waiting, LOAD.wait] >> int(source) & 1 == 1]
            signals = signalling[unit[signalling] == int(source)]
            paired = np.full(len(waits), len(table))
            paired[: len(signals)] = signals[: len(waits)]
            late = np.flatnonzero(paired >= waits)
            if len(late):
                raise ProgramError(
                    f"instruction {waits[late[0]]}: its wait for {source.name} must follow the instruction that "
                    f"signals it; add a signal bit for {target.name} to an earlier {source.name}"
                )
            producers[waits, int(source)] = paired
    return producers


class _Checker:
    """Comparisons over all instructions of one opcode."""

    def __init__(self, config: ArchConfig, opcode: Opcode, at: npt.NDArray[np.intp], memory_bytes: int):
        self.config, self.opcode, self.at, self.memory_bytes = config, opcode, at, memory_bytes

    def most(self, what: str, values: Table, limit: Table | int) -> None:
        """Values must not exceed `limit`."""
        limits = np.broadcast_to(limit, values.shape)
        bad = np.flatnonzero(values > limits)
        if len(bad):
            raise ProgramError(
                f"instruction {self.at[bad[0]]}: {self.opcode.name} {what} must be at most {limits[bad[0]]}, "
                f"got {values[bad[0]]}"
            )

    def inside(self, what: str, base: Table, run: Table | int, size: Table | int, *loops: tuple[Table, Table]) -> None:
        """`base` plus any multiple (0 .. count - 1) of each loop's stride, and `run` units from there, must exist."""
        low, high = base.copy(), base + run - 1
        for count, stride in loops:
            reach = (count - 1) * stride
            low, high = low + np.minimum(reach, 0), high + np.maximum(reach, 0)
        self.between(what, low, high, size)

    def between(self, what: str, low: Table, high: Table, size: Table | int) -> None:
        """The range low .. high must lie in 0 .. size - 1 (an empty one always does)."""
        sizes = np.broadcast_to(size, low.shape)
        bad = np.flatnonzero((low <= high) & ((low < 0) | (high >= sizes)))
        if len(bad):
            i = bad[0]
            raise ProgramError(
                f"instruction {self.at[i]}: {self.opcode.name} {what} must stay within 0..{sizes[i] - 1}, "
                f"got {low[i]}..{high[i]}"
            )


def _check_load(checker: _Checker, t: Table) -> None:
    config, memory = checker.config, t[:, LOAD.memory]
    checker.most("memory", memory, max(Memory))
    to_taps = checker.at[memory == Memory.TAPS]
    if len(to_taps) and not config.depthwise_taps:
        raise ProgramError(
            f"instruction {to_taps[0]}: LOAD to TAPS must not appear on a machine without depthwise engine "
            "(depthwise_taps = 0)"
        )
    word = np.array([config.rows, config.cols, PARAM_RECORD_BYTES, 1, config.depthwise_lanes])[memory]
    checker.most("byte_offset + word_bytes", t[:, LOAD.byte_offset] + t[:, LOAD.word_bytes], word)
    short = np.where(memory == Memory.PARAM, PARAM_RECORD_BYTES - t[:, LOAD.word_bytes], 0)
    checker.most("missing bytes of a PARAM record", short, 0)
    checker.most("step_bytes", t[:, LOAD.step_bytes], config.load_word_bytes)
    stream = (t[:, LOAD.row_words] - 1) * t[:, LOAD.step_bytes] + t[:, LOAD.word_bytes]
    checker.most("pad_bytes + row_bytes", t[:, LOAD.pad_bytes] + t[:, LOAD.row_bytes], stream)
    sizes = (config.spad_words, config.wbuf_words, config.param_channels, TABLE_WORDS, config.depthwise_words)
    words = np.array(sizes)[memory]
    outer, row = t[:, LOAD.outer_count], t[:, LOAD.row_count]
    checker.inside(
        "destination", t[:, LOAD.address], t[:, LOAD.row_words], words,
        (outer, t[:, LOAD.outer_stride]), (row, t[:, LOAD.row_stride]),
    )  # fmt: skip
    checker.inside(
        "memory bytes", t[:, LOAD.dram_address], t[:, LOAD.row_bytes], checker.memory_bytes,
        (outer, t[:, LOAD.dram_outer_stride]), (row, t[:, LOAD.dram_row_stride]),
    )  # fmt: skip


def _check_store(checker: _Checker, t: Table) -> None:
    config = checker.config
    checker.most("byte_offset + word_bytes", t[:, STORE.byte_offset] + t[:, STORE.word_bytes], config.rows)
    outer, row = t[:, STORE.outer_count], t[:, STORE.row_count]
    checker.inside(
        "source", t[:, STORE.address], t[:, STORE.row_words], config.spad_words,
        (outer, t[:, STORE.outer_stride]), (row, t[:, STORE.row_stride]),
    )  # fmt: skip
    checker.inside(
        "memory bytes", t[:, STORE.dram_address], t[:, STORE.row_words] * t[:, STORE.word_bytes],
        checker.memory_bytes, (outer, t[:, STORE.dram_outer_stride]), (row, t[:, STORE.dram_row_stride]),
    )  # fmt: skip


def _check_exec(checker: _Checker, t: Table) -> None:
    config = checker.config
    checker.most("k_rows", t[:, EXEC.k_rows], config.rows)
    tiles = t[:, EXEC.chunk_count] * t[:, EXEC.ky_count] * t[:, EXEC.kx_count]
    checker.inside("weights", t[:, EXEC.wbuf_address], tiles * t[:, EXEC.k_rows], config.wbuf_words)
    _check_outputs(checker, t, EXEC, (t[:, EXEC.chunk_count] - 1) * t[:, EXEC.chunk_stride])


def _check_depthwise(checker: _Checker, t: Table) -> None:
    config = checker.config
    for at, row in zip(checker.at, t, strict=True):
        try:
            check_depthwise(config, {name: int(row[place]) for name, place in DEPTHWISE._asdict().items()})
        except ProgramError as error:
            raise ProgramError(f"instruction {at}: {error}") from None
    taps = t[:, DEPTHWISE.ky_count] * t[:, DEPTHWISE.kx_count]
    checker.inside("taps", t[:, DEPTHWISE.tap_address], taps, config.depthwise_words)
    _check_outputs(checker, t, DEPTHWISE, np.zeros_like(taps))


def _check_outputs(checker: _Checker, t: Table, c: Any, reach: Table) -> None:
    """Accumulators, and the words of the window at all chunks; `reach` is how far the last chunk is from the first."""
    checker.inside("accumulators", t[:, c.acc_address], t[:, c.oy_count] * t[:, c.ox_count], checker.config.acc_words)
    strides = np.stack([t[:, column] for column in (c.ky_stride, c.kx_stride, c.oy_stride, c.ox_stride)], axis=1)
    low, high = _window_range(t, strides, c)
    base = t[:, c.spad_address]
    low, high = base + low + np.minimum(reach, 0), base + high + np.maximum(reach, 0)
    checker.between("source", low, high, checker.config.spad_words)


def _check_post(checker: _Checker, t: Table) -> None:
    config, lanes, acc = checker.config, checker.config.post_lanes, t[:, POST.source] == Source.ACC
    checker.most("table", t[:, POST.table], TABLES)
    built = np.array([mode in config.requant_modes for mode in RequantMode] + [False])
    checker.most("mode (number of modes that are not built in)", 1 - built[t[:, POST.mode]].astype(np.int64), 0)
    bytes_used = t[:, POST.group_count] * lanes
    checker.most("dst_byte + group_count * post_lanes", t[:, POST.dst_byte] + bytes_used, config.rows)
    checker.most("act_min (at most act_max)", t[:, POST.act_min], t[:, POST.act_max])
    checker.most("taps of source ACC", np.where(acc, t[:, POST.ky_count] * t[:, POST.kx_count], 1), 1)
    columns = (t[:, POST.word_count] - 1) * config.rows + bytes_used
    checker.most("accumulator columns", np.where(acc, columns, 0), config.cols)
    checker.most("reduce", t[:, POST.reduce], max(Reduce))
    _check_operands(checker, t, ~acc)
    rows = np.where(t[:, POST.per_channel] == 1, (t[:, POST.word_count] - 1) * (config.rows // lanes), 0)
    rows += np.where(t[:, POST.per_channel] == 1, t[:, POST.group_count], 1)
    checker.inside("parameter rows", t[:, POST.param_address], rows, config.param_rows)
    word, oy, ox = t[:, POST.word_count], t[:, POST.oy_count], t[:, POST.ox_count]
    checker.inside(
        "destination", t[:, POST.dst_address], 1, config.spad_words, (word, t[:, POST.dst_word_stride]),
        (oy, t[:, POST.dst_oy_stride]), (ox, t[:, POST.dst_ox_stride]),
    )  # fmt: skip
    names = (POST.src_ky_stride, POST.src_kx_stride, POST.src_oy_stride, POST.src_ox_stride)
    low, high = _window_range(t, np.stack([t[:, c] for c in names], axis=1), POST)
    oy_reach, ox_reach = (oy - 1) * t[:, POST.src_oy_stride], (ox - 1) * t[:, POST.src_ox_stride]
    word_reach = (word - 1) * t[:, POST.src_word_stride]
    low = np.where(acc, np.minimum(oy_reach, 0) + np.minimum(ox_reach, 0), low + np.minimum(word_reach, 0))
    high = np.where(acc, np.maximum(oy_reach, 0) + np.maximum(ox_reach, 0), high + np.maximum(word_reach, 0))
    base = t[:, POST.src_address]
    checker.between("source", base + low, base + high, np.where(acc, config.acc_words, config.spad_words))


def _check_operands(checker: _Checker, t: Table, spad: npt.NDArray[np.bool_]) -> None:
    """How taps from the scratchpad (rows `spad`) are rescaled or weighted."""
    mixes = spad & (t[:, POST.reduce] == Reduce.INTERPOLATE)
    for column, name, limit in (
        (POST.mode, "mode", RequantMode.SINGLE.code), (POST.ky_count, "tap rows", 2), (POST.kx_count, "tap columns", 2),
        (POST.y_weight, "y_weight", INTERPOLATION_ONE), (POST.x_weight, "x_weight", INTERPOLATION_ONE),
    ):  # fmt: skip
        checker.most(f"{name} of an interpolation", np.where(mixes, t[:, column], 0), limit)
    for q, e in ((POST.multiplier0, POST.shift0), (POST.multiplier1, POST.shift1)):
        unused = (t[:, q] == 0) & (t[:, e] >= SHIFT_MIN_INTEGER) & (t[:, e] <= SHIFT_MAX)
        bad = np.where(mixes, ~unused, bad_multipliers(t[:, q], t[:, e], t[:, POST.mode])) & spad
        checker.most("operand multipliers out of their range", bad.astype(np.int64), 0)


def bad_multipliers(q: Table, e: Table, mode: Table) -> npt.NDArray[np.bool_]:
    """Where a multiplier and shift are not what `accel.machine.numerics` accepts in `mode` ."""
    shift_min = np.array([m.shift_min for m in RequantMode])[mode]
    valid = (q >= 1 << 30) & (e >= shift_min) & (e <= SHIFT_MAX) & ((mode != RequantMode.FP32.code) | (q % 128 == 0))
    return np.asarray(~(valid | ((q == 0) & (e == 0))))


_NOTHING = 1 << 40
"""Low end of an empty range: above every address."""


def _window_range(t: Table, strides: Table, c: Any) -> tuple[Table, Table]:
    """Least and largest address offset among the valid taps of each instruction; an empty range if none is valid."""
    axes = []
    for names, stride, size in (
        ((c.y_start, c.y_step, c.y_dilation, c.oy_count, c.ky_count), strides[:, [2, 0]], c.height),
        ((c.x_start, c.x_step, c.x_dilation, c.ox_count, c.kx_count), strides[:, [3, 1]], c.width),
    ):
        columns = np.column_stack([*(t[:, name] for name in names), stride, t[:, size]])
        axes.append(_axis_range(columns))
    (y_low, y_high), (x_low, x_high) = axes
    empty = (y_low > y_high) | (x_low > x_high)
    return np.where(empty, _NOTHING, y_low + x_low), np.where(empty, -_NOTHING, y_high + x_high)


@jit
def _axis_range(axes: Table) -> tuple[Table, Table]:
    """Least and largest offset of axes: start, step, dilation, outputs, taps, output stride, tap stride, size."""
    low, high = np.full(len(axes), _NOTHING), np.full(len(axes), -_NOTHING)
    for i in range(len(axes)):
        start, step, dilation, outputs, taps, output_stride, tap_stride, size = axes[i]
        for tap in range(taps):
            for output in range(outputs):
                if 0 <= start + output * step + tap * dilation < size:
                    offset = output * output_stride + tap * tap_stride
                    low[i], high[i] = min(low[i], offset), max(high[i], offset)
    return low, high
