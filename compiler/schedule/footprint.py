"""Footprints: exactly which words, bytes and bank ports instructions use, derived from their fields alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from accel.errors import ProgramError
from accel.machine.config import ArchConfig
from accel.machine.isa import Instruction, Opcode, Table, column, table_of
from accel.machine.memories import BANKED, Space, memories, space_words
from accel.machine.rules.ranges import outside
from compiler.schedule.intervals import Intervals, banks
from compiler.schedule.parts import ADDRESSES, SHAPE_FIELDS, Access, Part, parts_of

Column: TypeAlias = npt.NDArray[np.int64]
_SHAPE_COLUMNS = {opcode: [column(opcode, name) for name in names] for opcode, names in SHAPE_FIELDS.items()}


@dataclass(frozen=True)
class Footprint:
    """Words, bytes and ports of one instruction; spaces that it does not use are absent.

    Parameters
    ----------
    reads, writes : mapping of Space to Intervals
        Words of SPAD, WBUF, TAPS, TABLE and ACC, channel records of PARAM, bytes of DRAM.
    ports : mapping of (Space, Access) to int
        Bit b: this port of bank b is used. SPAD and ACC only; each port of the others has a single user.
    """

    reads: Mapping[Space, Intervals] = field(default_factory=dict)
    writes: Mapping[Space, Intervals] = field(default_factory=dict)
    ports: Mapping[tuple[Space, Access], int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Footprints:
    """What each instruction of a program uses: a row for each *use* of a space by an instruction, in program order.

    Parameters
    ----------
    owner : ndarray of int64, shape (uses,)
        The instruction.
    space, access : ndarray of int64, shape (uses,)
    low, high : ndarray of int64, shape (uses,)
        The first word, and the one after the last.
    ports : ndarray of uint64, shape (uses,)
        Bit b: bank b of a banked memory is used.
    part, base : ndarray of int64, shape (uses,)
        The words are those of `parts[part]` from word `base` on.
    parts : tuple of Part
    """

    owner: Column
    space: Column
    access: Column
    low: Column
    high: Column
    ports: npt.NDArray[np.uint64]
    part: Column
    base: Column
    parts: tuple[Part, ...]

    def intervals(self, use: int) -> Intervals:
        """The words of a use."""
        return np.asarray(self.parts[self.part[use]].intervals + self.base[use])

    def of(self, instruction: int) -> Footprint:
        """All uses of an instruction."""
        first, last = np.searchsorted(self.owner, [instruction, instruction + 1]).tolist()
        sides: tuple[dict[Space, Intervals], dict[Space, Intervals]] = ({}, {})
        ports: dict[tuple[Space, Access], int] = {}
        for use in range(first, last):
            space, access = Space(self.space[use]), Access(self.access[use])
            sides[access][space] = self.intervals(use)
            if space in BANKED:
                ports[space, access] = int(self.ports[use])
        return Footprint(*sides, ports)


def footprint(config: ArchConfig, instruction: Instruction) -> Footprint:
    """Words, bytes and ports that `instruction` uses on the machine `config`; raises as `footprints` does."""
    return footprints(config, table_of([instruction])).of(0)


def footprints(config: ArchConfig, table: Table) -> Footprints:
    """What each instruction of a program uses on the machine `config`.

    EXEC and POST touch the scratchpad for valid taps only; the row stream of a DEPTHWISE, whose steps
    `accel.machine.rules` checks, reads those words too and no other. EXEC and DEPTHWISE always read the accumulators
    that they write.

    Parameters
    ----------
    config : ArchConfig
    table : ndarray of int64, shape (instructions, COLUMNS)
        The program as `accel.machine.isa.decode_table` returns it.

    Raises
    ------
    ProgramError
        An address lies outside of its memory; the message names the field to change and the range that was computed.
    """
    parts, uses = list[Part](), list[_Uses]()
    for opcode in Opcode:
        for shape, members in _alike(table, np.flatnonzero(table[:, 0] == int(opcode)), _SHAPE_COLUMNS[opcode]):
            for part in parts_of(config, opcode, shape):
                number = np.full(len(members), len(parts))
                base = np.zeros(len(members), np.int64)
                if part.field in ADDRESSES:
                    base = table[members, column(opcode, part.field)] * part.address_words
                uses.append(_Uses(members, number, base))
                parts.append(part)
    joined = _Uses(*(np.concatenate(columns) for columns in zip(_NONE, *uses, strict=True)))
    order = np.argsort(joined.owner, kind="stable")
    return _placed(config, table, _Uses(*(values[order] for values in joined)), tuple(parts))


class _Uses(NamedTuple):
    """Columns of `Footprints`."""

    owner: Column
    part: Column
    base: Column


_NONE = _Uses(*[np.zeros(0, np.int64)] * 3)


def _alike(table: Table, rows: Column, columns: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Column]]:
    """Rows that are equal in some columns: the values there, and the rows."""
    chosen = np.ascontiguousarray(table[rows][:, columns])
    numbers = dict[bytes, int]()
    keys = chosen.view(f"V{8 * len(columns)}").ravel().tolist()
    number = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    order = np.argsort(number, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if len(rows) else ():
        yield tuple(chosen[members[0]].tolist()), rows[members]


def _placed(config: ArchConfig, table: Table, uses: _Uses, parts: tuple[Part, ...]) -> Footprints:
    """All columns; ProgramError if a part of an instruction lies outside of its memory."""
    owner, part, base = uses
    facts = np.array([(p.space, p.access, p.intervals[0, 0], p.intervals[-1, 1]) for p in parts], np.int64)
    space, access, low, high = facts.reshape(-1, 4)[part].T
    low, high = low + base, high + base
    sizes = np.array([space_words(config, each) for each in Space], np.int64)
    wrong = np.flatnonzero((low < 0) | (high > sizes[space]))
    if len(wrong):
        at, bad = wrong[0], parts[part[wrong[0]]]
        what = outside(bad.field, bad.space, int(sizes[bad.space]), int(low[at]), int(high[at]) - 1)
        raise ProgramError(f"{Opcode(int(table[owner[at], 0])).name} {what}")
    ports = np.zeros(len(owner), np.uint64)
    for banked in BANKED:
        of = np.flatnonzero(space == banked)
        chosen = _Uses(*(values[of] for values in uses))
        ports[of] = _ports(memories(config)[banked].bank_words, chosen, low[of], high[of], parts)
    return Footprints(owner, space, access, low, high, ports, part, base, parts)


def _ports(bank_words: int, uses: _Uses, low: Column, high: Column, parts: tuple[Part, ...]) -> npt.NDArray[np.uint64]:
    """Banks of the words of uses of one memory: those of both ends and, where there are more, all with a word."""
    first, last = low // bank_words, (high - 1) // bank_words
    bit = np.uint64(1)
    ports: npt.NDArray[np.uint64] = (bit << first.astype(np.uint64)) | (bit << last.astype(np.uint64))
    known = dict[tuple[int, int], int]()
    for use in np.flatnonzero(last > first + 1).tolist():
        key = (int(uses.part[use]), int(uses.base[use]))
        if key not in known:
            known[key] = banks(parts[key[0]].intervals + key[1], bank_words)
        ports[use] = known[key]
    return ports
