"""Instructions that need values long after they were written, and where one that moved meanwhile would be noticed.

A register that changes with every cycle is right again after two. So what holds a value waits for odd numbers of
cycles here: the steps of a row behind leading ones, and the start of a loop behind odd numbers of iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from accel.errors import ProgramError
from accel.machine.depthwise import row_stream
from accel.machine.isa import FIELDS, Instruction, Opcode, Reduce, Source, column, encode
from support.machine.rules import check_alone
from support.rtl.hostile import MACHINE

TAPS = MACHINE.depthwise_taps
MOST_SIZE = FIELDS[Opcode.EXEC][column(Opcode.EXEC, "height")].maximum
ODD = (1, 3, 5, 7, 9)
MANY = (*ODD, 17, 33, 65)
"""Outputs of a row or column, so that images may be as large as their fields say."""

Fields = dict[str, int]


def held_programs(seed: int, count: int) -> Iterator[bytes]:
    """Single legal instructions, `count` of each kind."""
    rng = np.random.default_rng(seed)
    for opcode, draw in KINDS:
        yield from islice(_legal(opcode, draw, rng), count)


def _legal(opcode: Opcode, draw: Callable[[np.random.Generator], Fields], rng: np.random.Generator) -> Iterator[bytes]:
    while True:
        instruction = Instruction(opcode, draw(rng))
        try:
            check_alone(MACHINE, instruction)
        except ProgramError:
            continue
        yield encode([instruction])


def _long_row(rng: np.random.Generator) -> Fields:
    """A DEPTHWISE of two rows of any length, with any leading steps."""
    move, start, outputs = _integer(rng, 1, 2), _integer(rng, -1, 3), _integer(rng, 1, MACHINE.acc_words // 2)
    width = move * outputs + TAPS + 3
    fields = {"oy_count": 2, "ox_count": outputs, "kx_stride": 1, "ox_stride": move, "height": 1, "width": width}
    return fields | _stream(start, move, width, outputs)


def _absent_word(rng: np.random.Generator) -> Fields:
    """A DEPTHWISE that moves by two words, whose rows begin with the first word of SPAD; the one before it is in the
    image, but not in SPAD."""
    outputs, rows = _integer(rng, 1, 8), _integer(rng, 1, 4)
    width, start = 2 * outputs + TAPS + 3, _integer(rng, 1, 3)
    fields = {
        "ox_count": outputs, "oy_count": rows, "kx_stride": 1, "ox_stride": 2, "height": rows, "width": width,
        "y_step": 1, "acc_address": _integer(rng, 0, MACHINE.acc_words - outputs * rows),
    }  # fmt: skip
    return fields | _stream(start, 2, width, outputs)


def _returning_row(rng: np.random.Generator) -> Fields:
    """A DEPTHWISE of several tap rows that comes back to an accumulator after few steps."""
    taps, outputs, tap_rows = _integer(rng, 1, 2), _integer(rng, 1, 3), _integer(rng, 2, 3)
    fields = {
        "oy_count": _integer(rng, 1, 2), "ox_count": outputs, "ky_count": tap_rows, "kx_stride": 1, "ox_stride": 1,
        "ky_stride": _integer(rng, 0, 9), "oy_stride": _integer(rng, 0, 9), "y_step": 1, "y_dilation": 1,
        "height": 4, "width": outputs + taps, "acc_address": _integer(rng, 0, MACHINE.acc_words - 6), "accumulate": 1,
    }  # fmt: skip
    return fields | _stream(_integer(rng, -1, 1), 1, outputs + taps, outputs, taps)


def _exec_window(rng: np.random.Generator) -> Fields:
    """An EXEC of several chunks whose taps cross the end of an image of any size."""
    return _window(rng, 1, "", "chunk") | {
        "chunk_count": 3, "k_rows": _integer(rng, 1, 4), "pad_value": _integer(rng, -128, 127),
        "spad_address": MACHINE.spad_words // 2,
    }  # fmt: skip


def _post_window(rng: np.random.Generator) -> Fields:
    """A POST of several words of SPAD, the same."""
    window = _window(rng, 2, "src_", "word")
    return window | {
        "source": Source.SPAD, "reduce": int(rng.choice((Reduce.SUM, Reduce.MAX))), "word_count": 3, "group_count": 1,
        "src_address": MACHINE.spad_words // 2, "dst_word_stride": window["oy_count"] * window["ox_count"],
        "dst_oy_stride": window["ox_count"], "dst_ox_stride": 1, "act_min": -128, "act_max": 127,
    }  # fmt: skip


def _window(rng: np.random.Generator, across: int, prefix: str, outermost: str) -> Fields:
    """Odd numbers of taps and outputs, of taps in a row among the first `across` of `ODD`; the strides with `prefix` of
    these loops and of the outermost one; and positions."""
    counts = {"kx": int(rng.choice(ODD[:across])), "ky": int(rng.choice(ODD[:2]))}
    few, many = rng.permutation(("ox", "oy")).tolist()
    counts |= {few: int(rng.choice(ODD[:2])), many: int(rng.choice(MANY))}
    strides = {f"{prefix}{loop}_stride": _integer(rng, -2, 2) for loop in ("ky", "kx", "oy", "ox", outermost)}
    fields = {f"{loop}_count": number for loop, number in counts.items()} | strides
    for axis, size in (("y", "height"), ("x", "width")):
        fields |= _crossing(rng, axis, size, counts[f"o{axis}"], counts[f"k{axis}"])
    return fields


def _crossing(rng: np.random.Generator, axis: str, size: str, outputs: int, taps: int) -> Fields:
    """Positions of which the first ones exist, and the last ones often do not."""
    step, dilation = (_integer(rng, 0, 63) if rng.integers(2) else 63 - _integer(rng, 0, 3) for _ in range(2))
    start = _integer(rng, 0, 127)
    reach = (outputs - 1) * step + (taps - 1) * dilation
    end = start + 1 + (_integer(rng, 0, reach) if rng.integers(2) else max(reach - _integer(rng, 0, 63), 0))
    return {f"{axis}_start": start, f"{axis}_step": step, f"{axis}_dilation": dilation, size: min(end, MOST_SIZE)}


def _stream(start: int, move: int, width: int, outputs: int, taps: int = TAPS) -> Fields:
    lead, steps = row_stream(start, 1, move, width, taps, outputs)
    window = {"x_start": start, "x_dilation": 1, "x_step": move, "kx_count": taps}
    return window | {"lead_steps": lead, "row_steps": steps}


def _integer(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


KINDS = (
    (Opcode.DEPTHWISE, _long_row),
    (Opcode.DEPTHWISE, _absent_word),
    (Opcode.DEPTHWISE, _returning_row),
    (Opcode.EXEC, _exec_window),
    (Opcode.POST, _post_window),
)
