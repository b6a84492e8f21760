"""The table of instructions: units, opcodes and the fields of each; `accel.machine.isa` encodes and decodes by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

INSTRUCTION_BYTES = 64


class Unit(IntEnum):
    """Execution units; the value is the unit's bit in `wait` and `signal` masks and its index everywhere."""

    LOAD = 0
    EXEC = 1
    POST = 2
    STORE = 3
    DEPTHWISE = 4


class Opcode(IntEnum):
    """Instructions; 0 is no instruction, so that zeroed memory never decodes."""

    LOAD = 1
    EXEC = 2
    POST = 3
    STORE = 4
    DEPTHWISE = 5

    @property
    def unit(self) -> Unit:
        """The unit that executes this instruction."""
        return Unit[self.name]


class Memory(IntEnum):
    """Destinations of LOAD."""

    SPAD = 0
    WBUF = 1
    PARAM = 2
    TABLE = 3
    TAPS = 4


class Source(IntEnum):
    """Source of POST's values."""

    ACC = 0
    SPAD = 1


class Reduce(IntEnum):
    """How POST combines the taps of a window, or two operands."""

    SUM = 0
    MAX = 1
    SUB = 2
    MUL = 3
    INTERPOLATE = 4


@dataclass(frozen=True)
class Field:
    """One field: `width` bits, two's complement if `signed`; `low` is the smallest legal value of a count."""

    name: str
    width: int
    doc: str
    signed: bool = False
    low: int | None = None

    @property
    def minimum(self) -> int:
        """Smallest legal value."""
        if self.low is not None:
            return self.low
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest legal value."""
        return (1 << (self.width - self.signed)) - 1


def _count(name: str, width: int, doc: str) -> Field:
    return Field(name, width, doc, low=1)


def _stride(name: str, doc: str) -> Field:
    return Field(name, 18, doc, signed=True)


_HEADER = (
    Field("opcode", 4, "instruction"),
    Field("wait", 6, "bit u: before issue, take one token from the semaphore that unit u posts for this unit"),
    Field("signal", 6, "bit u: at completion, post one token to the semaphore of unit u"),
)

_WINDOW = (
    Field("y_start", 8, "row position of output row 0, tap row 0", signed=True),
    Field("x_start", 8, "column position of output column 0, tap column 0", signed=True),
    Field("y_step", 6, "row positions per output row"),
    Field("x_step", 6, "column positions per output column"),
    Field("y_dilation", 6, "row positions per tap row"),
    Field("x_dilation", 6, "column positions per tap column"),
    Field("height", 12, "rows that exist: a tap is valid if 0 <= y < height and 0 <= x < width"),
    Field("width", 12, "columns that exist"),
)

_SUM_COUNTS = (
    _count("ky_count", 8, "tap rows"),
    _count("kx_count", 8, "tap columns"),
    _count("oy_count", 12, "output rows"),
    _count("ox_count", 12, "output columns (innermost loop)"),
)

_SUM_STRIDES = (
    _stride("ky_stride", "scratchpad words per tap row"),
    _stride("kx_stride", "scratchpad words per tap column"),
    _stride("oy_stride", "scratchpad words per output row"),
    _stride("ox_stride", "scratchpad words per output column"),
    *_WINDOW,
    Field("pad_value", 8, "every byte of an invalid tap", signed=True),
)

FIELDS: Mapping[Opcode, tuple[Field, ...]] = {
    Opcode.LOAD: (
        *_HEADER,
        Field("memory", 3, "destination: 0 SPAD, 1 WBUF, 2 PARAM, 3 TABLE, 4 TAPS"),
        Field("dram_address", 32, "byte address of the first row"),
        Field("address", 18, "destination word of the first row (PARAM: channel record)"),
        _count("outer_count", 12, "outer iterations"),
        _count("row_count", 12, "rows per outer iteration"),
        _count("row_bytes", 20, "bytes read from memory per row"),
        Field("dram_outer_stride", 32, "bytes between outer iterations", signed=True),
        Field("dram_row_stride", 32, "bytes between rows", signed=True),
        _stride("outer_stride", "destination words between outer iterations"),
        _stride("row_stride", "destination words between rows"),
        _count("row_words", 18, "words written per row"),
        _count("word_bytes", 8, "bytes written per word"),
        _count("step_bytes", 8, "bytes of the row's stream from one word's first byte to the next word's"),
        Field("byte_offset", 7, "first byte written within each word"),
        Field("pad_bytes", 10, "pad bytes before the row's memory bytes; after them the stream is padded as needed"),
        Field("pad_value", 8, "value of pad bytes", signed=True),
    ),
    Opcode.EXEC: (
        *_HEADER,
        Field("spad_address", 19, "scratchpad word of chunk 0, tap (0, 0), output (0, 0)", signed=True),
        _count("chunk_count", 10, "input channel chunks (outermost loop)"),
        *_SUM_COUNTS,
        _stride("chunk_stride", "scratchpad words per chunk"),
        *_SUM_STRIDES,
        _count("k_rows", 8, "rows of a weight tile; array rows beyond them hold zero weights"),
        Field("wbuf_address", 18, "first weight word; tiles follow each other"),
        Field("acc_address", 18, "accumulator word of output (0, 0); outputs follow each other"),
        Field("accumulate", 1, "1: add to the accumulators, 0: the first weight tile overwrites them"),
        Field("int4", 1, "1: weights are int4, two rows of a tile in each word; 0: int8, one row in each"),
    ),
    Opcode.POST: (
        *_HEADER,
        Field("source", 1, "0 ACC, 1 SPAD"),
        Field(
            "reduce",
            3,
            "over taps: 0 sum, 1 maximum, 2 first minus the others, 3 product (of 2), 4 interpolation",
        ),
        Field("mode", 2, "requantization: 0 tflite, 1 single, 2 fp32"),
        Field("per_channel", 1, "1: parameter row advances with word and group, 0: one row for all"),
        _count("word_count", 10, "scratchpad words per output (outermost loop)"),
        _count("oy_count", 12, "output rows"),
        _count("ox_count", 12, "output columns"),
        _count("group_count", 8, "groups of post_lanes channels per word"),
        _count("ky_count", 8, "tap rows (1 for ACC)"),
        _count("kx_count", 8, "tap columns (1 for ACC; innermost loop)"),
        Field("src_address", 19, "source word of word 0, output (0, 0), tap (0, 0)", signed=True),
        _stride("src_word_stride", "source words per word (unused for ACC)"),
        _stride("src_oy_stride", "source words per output row"),
        _stride("src_ox_stride", "source words per output column"),
        _stride("src_ky_stride", "source words per tap row"),
        _stride("src_kx_stride", "source words per tap column"),
        *_WINDOW,
        Field("dst_address", 18, "scratchpad word written for word 0, output (0, 0)"),
        _stride("dst_word_stride", "scratchpad words per word"),
        _stride("dst_oy_stride", "scratchpad words per output row"),
        _stride("dst_ox_stride", "scratchpad words per output column"),
        Field("dst_byte", 7, "first byte of group 0 in the destination word"),
        Field("param_address", 14, "first parameter row (post_lanes records each)"),
        Field("zero_point", 8, "added after requantization", signed=True),
        Field("act_min", 8, "lower clamp", signed=True),
        Field("act_max", 8, "upper clamp", signed=True),
        Field("table", 2, "0: none, i: the clamped result selects a byte of table i - 1"),
        Field("left_shift", 5, "operands are shifted left by this before they are rescaled (SPAD)"),
        Field("zero_point0", 8, "subtracted from the first tap (SPAD)", signed=True),
        Field("multiplier0", 32, "rescales the first tap (SPAD)", signed=True),
        Field("shift0", 8, "exponent of multiplier0", signed=True),
        Field("zero_point1", 8, "subtracted from every later tap (SPAD)", signed=True),
        Field("multiplier1", 32, "rescales every later tap (SPAD)", signed=True),
        Field("shift1", 8, "exponent of multiplier1", signed=True),
        Field("y_weight", 11, "weight of tap row 1 in 1024ths, tap row 0 having the rest (interpolation)"),
        Field("x_weight", 11, "weight of tap column 1 in 1024ths, tap column 0 having the rest (interpolation)"),
    ),
    Opcode.STORE: (
        *_HEADER,
        Field("dram_address", 32, "byte address of the first row"),
        Field("address", 18, "scratchpad word of the first row"),
        _count("outer_count", 12, "outer iterations"),
        _count("row_count", 12, "rows per outer iteration"),
        _count("row_words", 18, "consecutive words read per row; their bytes follow each other in memory"),
        _count("word_bytes", 8, "bytes taken from each word"),
        Field("byte_offset", 7, "first byte taken within each word"),
        Field("dram_outer_stride", 32, "bytes between outer iterations", signed=True),
        Field("dram_row_stride", 32, "bytes between rows", signed=True),
        _stride("outer_stride", "scratchpad words between outer iterations"),
        _stride("row_stride", "scratchpad words between rows"),
    ),
    Opcode.DEPTHWISE: (
        *_HEADER,
        Field("spad_address", 19, "scratchpad word of tap (0, 0), output (0, 0)", signed=True),
        Field("spad_byte", 7, "first channel within the scratchpad word"),
        *_SUM_COUNTS,
        *_SUM_STRIDES,
        Field("tap_address", 18, "first word of TAPS; tap rows follow each other"),
        Field("acc_address", 18, "accumulator word of output (0, 0); outputs follow each other"),
        Field("accumulate", 1, "1: add to the accumulators, 0: the first tap row overwrites them"),
        Field("lead_steps", 4, "steps from a row's first word to its first output"),
        Field("row_steps", 13, "steps from one output row to the next"),
    ),
}
