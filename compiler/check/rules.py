"""Rules that a single instruction must keep; what two instructions must keep is in `compiler.check.check`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from accel.errors import ProgramError
from accel.machine.config import PARAM_RECORD_BYTES, ArchConfig
from accel.machine.depthwise import check_depthwise
from accel.machine.isa import Instruction, Memory, Opcode, Reduce, Source, Unit
from accel.machine.numerics import INTERPOLATION_ONE, SHIFT_MAX, RequantMode
from compiler.schedule.footprint import Footprint, Space, overlap

OPERAND_SHIFT_MAX = 23
"""Largest `left_shift`: the difference of two int8 shifted by it is still an int32."""


def check_rules(config: ArchConfig, instruction: Instruction, touched: Footprint) -> None:
    """Prove that `instruction`, whose footprint is `touched`, means something on the machine `config`.

    Raises
    ------
    ProgramError
        A field, or fields together, break a rule; the message names them.
    """
    for mask in ("wait", "signal"):
        _most(instruction, f"{mask} bits", instruction[mask], (1 << len(Unit)) - 1)
    _RULES[instruction.opcode](config, instruction)
    reads, writes = touched.reads.get(Space.SPAD), touched.writes.get(Space.SPAD)
    if reads is not None and writes is not None and overlap(reads, writes):
        _check_in_place(config, instruction)


def _most(i: Instruction, what: str, value: int, limit: int) -> None:
    if value > limit:
        raise ProgramError(f"{i.opcode.name} {what} must be at most {limit}, got {value}")


def _check_load(config: ArchConfig, i: Instruction) -> None:
    _most(i, "memory", i["memory"], max(Memory))
    if i["memory"] == Memory.TAPS and not config.depthwise_taps:
        raise ProgramError("LOAD memory must not be TAPS on a machine without depthwise engine (depthwise_taps = 0)")
    word = (config.rows, config.cols, PARAM_RECORD_BYTES, 1, config.depthwise_lanes)[i["memory"]]
    _most(i, "byte_offset + word_bytes", i["byte_offset"] + i["word_bytes"], word)
    if i["memory"] == Memory.PARAM and i["word_bytes"] != word:
        raise ProgramError(f"LOAD word_bytes must be {word} for PARAM, got {i['word_bytes']}")
    _most(i, "step_bytes", i["step_bytes"], config.load_word_bytes)
    stream = (i["row_words"] - 1) * i["step_bytes"] + i["word_bytes"]
    _most(i, "pad_bytes + row_bytes", i["pad_bytes"] + i["row_bytes"], stream)


def _check_exec(config: ArchConfig, i: Instruction) -> None:
    _most(i, "k_rows", i["k_rows"], config.rows)


def _check_depthwise(config: ArchConfig, i: Instruction) -> None:
    check_depthwise(config, i.fields)


def _check_post(config: ArchConfig, i: Instruction) -> None:
    lanes = config.post_lanes
    _most(i, "mode", i["mode"], len(RequantMode) - 1)
    mode = RequantMode.of_code(i["mode"])
    if mode not in config.requant_modes:
        raise ProgramError(f"POST mode must be one of {', '.join(config.requant_modes)}, got {mode}")
    _most(i, "reduce", i["reduce"], max(Reduce))
    _most(i, "dst_byte + group_count * post_lanes", i["dst_byte"] + i["group_count"] * lanes, config.rows)
    _most(i, "act_min (with act_max as the limit)", i["act_min"], i["act_max"])
    if i["source"] == Source.ACC:
        _most(i, "ky_count * kx_count of source ACC", i["ky_count"] * i["kx_count"], 1)
        columns = (i["word_count"] - 1) * config.rows + i["group_count"] * lanes
        _most(i, "accumulator columns (word_count, group_count)", columns, config.cols)
        return
    _most(i, "left_shift", i["left_shift"], OPERAND_SHIFT_MAX)
    if i["reduce"] == Reduce.INTERPOLATE:
        _check_interpolation(i, mode)
        return
    for tap in "01":
        _check_multiplier(i, f"multiplier{tap}", f"shift{tap}", mode)


def _check_interpolation(i: Instruction, mode: RequantMode) -> None:
    if mode is RequantMode.FP32:
        raise ProgramError(f"POST mode must be tflite or single for an interpolation, got {mode}")
    for name, limit in (
        ("ky_count", 2),
        ("kx_count", 2),
        ("y_weight", INTERPOLATION_ONE),
        ("x_weight", INTERPOLATION_ONE),
    ):
        _most(i, f"{name} of an interpolation", i[name], limit)
    for tap in "01":
        q, e = i[f"multiplier{tap}"], i[f"shift{tap}"]
        if q or not mode.shift_min <= e <= SHIFT_MAX:
            raise ProgramError(
                f"POST multiplier{tap} and shift{tap} must be 0 and in {mode.shift_min}..{SHIFT_MAX} for an "
                f"interpolation, got {q} and {e}"
            )


def _check_multiplier(i: Instruction, multiplier: str, shift: str, mode: RequantMode) -> None:
    q, e = i[multiplier], i[shift]
    if q == 0 and e == 0:
        return
    if q < 1 << 30 or not mode.shift_min <= e <= SHIFT_MAX:
        raise ProgramError(
            f"POST {multiplier} and {shift} must be 0 and 0, or in {1 << 30}..{(1 << 31) - 1} and "
            f"{mode.shift_min}..{SHIFT_MAX} for mode {mode}, got {q} and {e}"
        )
    if mode is RequantMode.FP32 and q % 128:
        raise ProgramError(f"POST {multiplier} must be a multiple of 128 for mode {mode}, got {q}")


def _check_store(config: ArchConfig, i: Instruction) -> None:
    _most(i, "byte_offset + word_bytes", i["byte_offset"] + i["word_bytes"], config.rows)


_RULES = {
    Opcode.LOAD: _check_load,
    Opcode.EXEC: _check_exec,
    Opcode.POST: _check_post,
    Opcode.STORE: _check_store,
    Opcode.DEPTHWISE: _check_depthwise,
}


def _check_in_place(config: ArchConfig, i: Instruction) -> None:
    """A POST may overwrite what it reads if no word is read for a later output than the first that writes it.

    The write follows the read by the pipeline's latency, so that a later read would see the old word or the new one
    depending on that latency. With several groups per word, group g must write the bytes that it alone reads.
    """
    outputs = i["word_count"] * i["oy_count"] * i["ox_count"]
    _most(i, "outputs (word_count * oy_count * ox_count) in place", outputs, config.spad_words)
    output = np.arange(outputs)
    word, oy, ox = np.unravel_index(output, (i["word_count"], i["oy_count"], i["ox_count"]))
    written = i["dst_address"] + word * i["dst_word_stride"] + oy * i["dst_oy_stride"] + ox * i["dst_ox_stride"]
    first_write = np.full(config.spad_words, output.size)
    np.minimum.at(first_write, written, output)
    base = i["src_address"] + word * i["src_word_stride"] + oy * i["src_oy_stride"] + ox * i["src_ox_stride"]
    aligned = i["dst_byte"] == 0 or i["group_count"] == 1
    for ky, kx in np.ndindex(i["ky_count"], i["kx_count"]):
        valid = _exists(i, "y", oy, ky, i["height"]) & _exists(i, "x", ox, kx, i["width"])
        read = (base + ky * i["src_ky_stride"] + kx * i["src_kx_stride"])[valid]
        late = output[valid] > first_write[read] - (not aligned)
        if late.any():
            raise ProgramError(
                f"POST must not read SPAD word {int(read[np.argmax(late)])} for the output that writes it or later; "
                f"use another dst_address or split the instruction"
            )


def _exists(i: Instruction, axis: str, output: npt.NDArray[np.intp], tap: int, size: int) -> npt.NDArray[np.bool_]:
    position = i[f"{axis}_start"] + output * i[f"{axis}_step"] + tap * i[f"{axis}_dilation"]
    return np.asarray((position >= 0) & (position < size))
