"""The instruction set: encoder, decoder and disassembler; RTL layouts and docs derive from the same table.

Every instruction is `INSTRUCTION_BYTES` long, little-endian; fields are packed from bit 0 upwards in table order
(`accel.machine.isa_fields`), the rest is zero. `docs/architecture.md` explains what each instruction does.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from accel.errors import EncodingError
from accel.machine.isa_fields import (
    FIELDS,
    INSTRUCTION_BYTES,
    Field,
    Memory,
    Opcode,
    Reduce,
    Source,
    Unit,
)

__all__ = [
    "COLUMNS",
    "FIELDS",
    "INSTRUCTION_BYTES",
    "Field",
    "Instruction",
    "Memory",
    "Opcode",
    "Reduce",
    "Source",
    "Table",
    "Unit",
    "column",
    "columns",
    "decode",
    "decode_table",
    "disassemble",
    "encode",
    "encode_table",
    "instruction_of",
    "table_of",
]

Table: TypeAlias = npt.NDArray[np.int64]
"""Decoded instructions, shape (instructions, COLUMNS): see `decode_table`."""

_WORDS64 = INSTRUCTION_BYTES // 8
_INDEX = {opcode: {field.name: i for i, field in enumerate(fields)} for opcode, fields in FIELDS.items()}
_DEFAULTS = {
    opcode: {"opcode": int(opcode)} | {field.name: field.low or 0 for field in fields[1:]}
    for opcode, fields in FIELDS.items()
}
_RANGES = {
    opcode: {field.name: (field.minimum, field.maximum) for field in fields[1:]} for opcode, fields in FIELDS.items()
}
COLUMNS = max(len(fields) for fields in FIELDS.values())
"""Columns of a decoded table: the largest number of fields of any instruction."""


def column(opcode: Opcode, name: str) -> int:
    """Column of field `name` in the rows of `decode` that hold `opcode`."""
    return _INDEX[opcode][name]


def columns(opcode: Opcode) -> Any:
    """All columns of `opcode` as a named tuple of int: ``columns(opcode).name == column(opcode, name)``."""
    names = list(_INDEX[opcode])
    return namedtuple("Columns", names)(*range(len(names)))


@dataclass(frozen=True)
class Instruction:
    """One instruction: its opcode and the value of every field (fields not given are their minimum or 0).

    Parameters
    ----------
    opcode : Opcode
    fields : mapping of str to int
        Field values by name, without `opcode`.

    Raises
    ------
    EncodingError
        A field does not exist or its value is not an integer in its range.
    """

    opcode: Opcode
    fields: Mapping[str, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", {**_DEFAULTS[self.opcode], **_legal(self.opcode, self.fields)})

    def __getitem__(self, name: str) -> int:
        return self.fields[name]

    @property
    def unit(self) -> Unit:
        """The unit that executes it."""
        return self.opcode.unit

    def replace(self, **changes: int) -> Instruction:
        """The same instruction with some fields changed."""
        result = object.__new__(Instruction)
        object.__setattr__(result, "opcode", self.opcode)
        object.__setattr__(result, "fields", {**self.fields, **_legal(self.opcode, changes)})
        return result

    def encode(self) -> bytes:
        """The `INSTRUCTION_BYTES` bytes of the instruction."""
        return encode([self])

    def __str__(self) -> str:
        shown = []
        for field in FIELDS[self.opcode][1:]:
            value = self.fields[field.name]
            if value != (field.low or 0):
                shown.append(f"{field.name}={_units(value) if field.name in ('wait', 'signal') else value}")
        return f"{self.opcode.name:<5} {' '.join(shown)}".rstrip()


def _legal(opcode: Opcode, fields: Mapping[str, int]) -> Mapping[str, int]:
    """The same fields as plain integers; EncodingError if one does not exist or is out of range."""
    ranges = _RANGES[opcode]
    other = [
        name
        for name, value in fields.items()
        if type(value) is not int or name not in ranges or not ranges[name][0] <= value <= ranges[name][1]
    ]
    return {**fields, **{name: _legal_value(opcode, name, fields[name]) for name in other}} if other else fields


def _legal_value(opcode: Opcode, name: str, value: int) -> int:
    """`value` of field `name` as a plain integer, or the same error."""
    if name not in _RANGES[opcode]:
        raise EncodingError(f"{opcode.name} has no field {name!r}")
    minimum, maximum = _RANGES[opcode][name]
    if not isinstance(value, (int, np.integer)) or not minimum <= value <= maximum:
        raise EncodingError(f"{opcode.name} field {name} must be an integer in {minimum}..{maximum}, got {value!r}")
    return int(value)


def _units(mask: int) -> str:
    """Names of a mask's units, numbers of bits without one."""
    names = {int(unit): unit.name for unit in Unit}
    return "+".join(names.get(bit, str(bit)) for bit in range(mask.bit_length()) if mask >> bit & 1)


def encode(instructions: Iterable[Instruction]) -> bytes:
    """All instructions, one after the other."""
    return encode_table(table_of(instructions))


def encode_table(table: Table) -> bytes:
    """The code that `decode_table` decodes to `table`, whose fields are in their ranges."""
    words = np.zeros((len(table), _WORDS64), np.uint64)
    for opcode, rows in _rows_by_opcode(table):
        position = 0
        for values, field in zip(table[rows].T, FIELDS[opcode], strict=False):
            bits = (values & ((1 << field.width) - 1)).astype(np.uint64)
            word, bit = divmod(position, 64)
            words[rows, word] |= bits << np.uint64(bit)
            if bit + field.width > 64:
                words[rows, word + 1] |= bits >> np.uint64(64 - bit)
            position += field.width
    return words.astype("<u8").tobytes()


def _rows_by_opcode(table: Table) -> Iterator[tuple[Opcode, npt.NDArray[np.intp]]]:
    """For each opcode in use the rows of a table that hold it."""
    for opcode in Opcode:
        rows = np.flatnonzero(table[:, 0] == int(opcode))
        if len(rows):
            yield opcode, rows


def decode_table(code: bytes) -> Table:
    """Decode to one row per instruction and one column per field (`column` gives its place, column 0 is the opcode).

    Parameters
    ----------
    code : bytes
        A multiple of `INSTRUCTION_BYTES`.

    Returns
    -------
    ndarray of int64, shape (instructions, COLUMNS)

    Raises
    ------
    EncodingError
        Length, opcode, a field's range, or a bit outside of the fields is wrong; the message names the instruction.
    """
    if len(code) % INSTRUCTION_BYTES:
        raise EncodingError(f"code must be a multiple of {INSTRUCTION_BYTES} bytes, got {len(code)}")
    words = np.frombuffer(code, "<u8").reshape(-1, _WORDS64)
    table = np.zeros((len(words), COLUMNS), np.int64)
    opcodes = words[:, 0] & np.uint64(15)
    known = np.isin(opcodes, [int(opcode) for opcode in Opcode])
    if not known.all():
        bad = int(np.argmin(known))
        raise EncodingError(f"instruction {bad}: opcode must be one of 1..{max(Opcode)}, got {int(opcodes[bad])}")
    table[:, 0] = opcodes
    for opcode, rows in _rows_by_opcode(table):
        table[rows, : len(FIELDS[opcode])] = _decode_columns(opcode, words[rows], rows)
    return table


def table_of(instructions: Iterable[Instruction]) -> Table:
    """``decode_table(encode(instructions))``."""
    sequence = list(instructions)
    table = np.zeros((len(sequence), COLUMNS), np.int64)
    table[:, 0] = [instruction.opcode for instruction in sequence]
    for opcode, rows in _rows_by_opcode(table):
        values = chain.from_iterable(sequence[row].fields.values() for row in rows.tolist())
        table[rows, : len(FIELDS[opcode])] = np.fromiter(values, np.int64).reshape(len(rows), -1)
    return table


def _decode_columns(opcode: Opcode, words: npt.NDArray[np.uint64], rows: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """Fields of instructions that all have `opcode`; `rows` are their indices for error messages."""
    out = np.zeros((len(words), len(FIELDS[opcode])), np.int64)
    position = 0
    for i, field in enumerate(FIELDS[opcode]):
        values = _bits(words, position, field.width).astype(np.int64)
        if field.signed:
            values -= (values >> (field.width - 1)) << field.width
        legal = (values >= field.minimum) & (values <= field.maximum)
        if not legal.all():
            bad = int(np.argmin(legal))
            raise EncodingError(
                f"instruction {rows[bad]}: {opcode.name} field {field.name} must be in "
                f"{field.minimum}..{field.maximum}, got {values[bad]}"
            )
        out[:, i] = values
        position += field.width
    while position < 8 * INSTRUCTION_BYTES:
        width = min(32, 8 * INSTRUCTION_BYTES - position)
        rest = _bits(words, position, width)
        if rest.any():
            raise EncodingError(f"instruction {rows[int(np.argmax(rest != 0))]}: bits beyond the fields must be zero")
        position += width
    return out


def _bits(words: npt.NDArray[np.uint64], position: int, width: int) -> npt.NDArray[np.uint64]:
    """`width` <= 32 bits from bit `position` of each row."""
    word, bit = divmod(position, 64)
    value = words[:, word] >> np.uint64(bit)
    if bit + width > 64:
        value = value | (words[:, word + 1] << np.uint64(64 - bit))
    return value & np.uint64((1 << width) - 1)


def decode(code: bytes) -> list[Instruction]:
    """Decode to `Instruction`s; raises as `decode_table` does."""
    return [instruction_of(row) for row in decode_table(code)]


def instruction_of(row: npt.NDArray[np.int64]) -> Instruction:
    """The instruction that a row of a decoded table holds."""
    opcode, *values = row.tolist()
    names = [field.name for field in FIELDS[Opcode(opcode)][1:]]
    return Instruction(Opcode(opcode), dict(zip(names, values, strict=False)))


def disassemble(code: bytes) -> str:
    """One line per instruction: index, mnemonic, and every field that is not its default."""
    return "".join(f"{i:5d}  {instruction}\n" for i, instruction in enumerate(decode(code)))
