"""Prove that a program keeps every contract of the machine: a race detector for accelerator programs.

Each instruction alone must stay inside of all memories and keep the rules of its fields. Together, the instructions
must not deadlock, overflow a semaphore, or conflict: any two that `compiler.check.order` does not order may overlap in
time, so every such pair is tested for a word that one of them writes and for a common port of a bank. All proofs hold
for any timing of the external memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from accel.errors import ProgramError
from accel.machine.config import ArchConfig
from accel.machine.isa import Instruction, Table, Unit, decode_table, table_of
from accel.machine.memories import BANKED, DRAM_BYTES, Space
from accel.machine.rules.check import check_rules
from accel.machine.tokens import pair_tokens
from accel.program.parts import MACHINE
from accel.program.program import Program
from compiler.check.order import Indices, Order, bound_tokens, check_leftover, name
from compiler.schedule.footprint import Footprints, footprints
from compiler.schedule.intervals import overlap
from compiler.schedule.parts import Access

_BLOCK = 1 << 20
"""Pairs tested at a time, which bounds memory."""


@dataclass(frozen=True)
class Report:
    """Facts that were proven.

    Parameters
    ----------
    instructions : mapping of str to int
        Instructions per unit, by name.
    pairs : int
        Pairs of instructions that may overlap in time; all of them were tested.
    tokens : mapping of str to int
        For each semaphore in use, "signalling unit -> waiting unit", the most tokens that it can ever hold.
    """

    instructions: Mapping[str, int]
    pairs: int
    tokens: Mapping[str, int]

    def __add__(self, other: Report) -> Report:
        """What was proven of two programs that run one after the other."""
        names = self.tokens.keys() | other.tokens.keys()
        tokens = {name: max(self.tokens.get(name, 0), other.tokens.get(name, 0)) for name in sorted(names)}
        counts = {name: count + other.instructions[name] for name, count in self.instructions.items()}
        return Report(counts, self.pairs + other.pairs, tokens)

    def __str__(self) -> str:
        return (
            f"{sum(self.instructions.values())} instructions, {self.pairs} pairs that may overlap in time, "
            f"at most {max(self.tokens.values(), default=0)} tokens in a semaphore"
        )


def check(
    config: ArchConfig,
    code: bytes | Sequence[Instruction],
    *,
    dram_bytes: int = DRAM_BYTES,
    read_only: Sequence[tuple[int, int]] = (),
) -> Report:
    """Prove a program safe on the machine `config`.

    Parameters
    ----------
    config : ArchConfig
    code : bytes or sequence of Instruction
        The program in program order.
    dram_bytes : int
        Size of the external memory.
    read_only : sequence of (int, int)
        Half-open byte ranges of the external memory that must not be written, such as the program and its constants.

    Returns
    -------
    Report

    Raises
    ------
    EncodingError
        `code` does not decode.
    ProgramError
        A contract is broken; one sentence names the instructions and what they conflict in.

    Notes
    -----
    Each instruction alone keeps `accel.machine.rules`.
    """
    if not code:
        raise ProgramError("program must hold at least 1 instruction, got 0")
    table = decode_table(code) if isinstance(code, bytes) else table_of(code)
    check_rules(config, table, dram_bytes=dram_bytes)
    touched = footprints(config, table)
    _check_read_only(table, touched, read_only)
    producers = pair_tokens(table)
    check_leftover(table, producers)
    order = Order(table, producers)
    tokens = bound_tokens(config, table, order)
    conflicts = _Conflicts(table, touched)
    pairs = 0
    for earlier, later in order.concurrent(_BLOCK):
        pairs += len(earlier)
        conflicts.check(earlier, later)
    return Report({unit.name: len(order.places[unit]) for unit in Unit}, pairs, tokens)


def check_program(program: Program) -> Report:
    """`check` every machine segment of a program as the program of its own that it is.

    The program's memory is all there is. No segment may write code, constants, or a tensor that the user or an earlier
    segment left.
    """
    sections = ((program.code_address, program.code), (program.constants_address, program.constants))
    fixed = [(address, address + len(section)) for address, section in sections]
    report, left = Report({unit.name: 0 for unit in Unit}, 0, {}), list(program.input_names)
    for segment in program.segments:
        if segment.unit == MACHINE:
            slots = [program.slots[name] for name in left]
            kept = [(slot.address, slot.address + slot.size_bytes) for slot in slots if slot.address is not None]
            code = program.code_of(segment)
            report += check(program.config, code, dram_bytes=program.memory_bytes, read_only=[*fixed, *kept])
        left += segment.outputs
    return report


def _check_read_only(table: Table, touched: Footprints, read_only: Sequence[tuple[int, int]]) -> None:
    writes = np.flatnonzero((touched.space == Space.DRAM) & (touched.access == Access.WRITE))
    ranges = np.array(read_only, np.int64).reshape(-1, 2)
    for use in writes[_near(touched.low[writes, None], touched.high[writes, None], *ranges.T).any(axis=1)].tolist():
        for start, stop in read_only:
            hit = overlap(touched.intervals(use), np.array([[start, stop]], np.int64))
            if hit:
                who = name(table, int(touched.owner[use]))
                raise ProgramError(f"{who}: DRAM bytes {start}..{stop - 1} are read-only, got a write to byte {hit[0]}")


def _near(low: Indices, high: Indices, other_low: Indices, other_high: Indices) -> npt.NDArray[np.bool_]:
    """Whether two ranges [low, high) have something in common."""
    return np.asarray((low < other_high) & (other_low < high))


_CLASHES = [pair for pair in product(Access, Access) if Access.WRITE in pair]
_VERBS = {Access.READ: "reads", Access.WRITE: "writes"}
_NOUNS = {Space.DRAM: "bytes", Space.PARAM: "records"}


class _Conflicts:
    """Tests pairs of instructions for a common word or a common port."""

    def __init__(self, table: Table, touched: Footprints):
        self._table, self._touched = table, touched
        self._use: dict[tuple[Space, Access], Indices] = {}
        for space, access in product(Space, Access):
            uses = np.flatnonzero((touched.space == space) & (touched.access == access))
            self._use[space, access] = np.full(len(table), -1)
            self._use[space, access][touched.owner[uses]] = uses
        self._low = {kind: np.append(touched.low, DRAM_BYTES)[use] for kind, use in self._use.items()}
        self._high = {kind: np.append(touched.high, 0)[use] for kind, use in self._use.items()}
        self._banks = {kind: np.append(touched.ports, np.uint64(0))[use] for kind, use in self._use.items()}

    def check(self, first: Indices, second: Indices) -> None:
        """Raise ProgramError if an instruction of `first` conflicts with its partner in `second`."""
        if not len(first):
            return
        if self._table[first[0], 0] == self._table[second[0], 0]:
            self._check_words(Space.SPAD, Access.WRITE, Access.READ, first, second)
            return
        for space, (a, b) in product(Space, _CLASHES):
            self._check_words(space, a, b, first, second)
        for space, access in product(BANKED, Access):
            self._check_ports(space, access, first, second)

    def _check_words(self, space: Space, a: Access, b: Access, first: Indices, second: Indices) -> None:
        near = _near(
            self._low[space, a][first], self._high[space, a][first],
            self._low[space, b][second], self._high[space, b][second],
        )  # fmt: skip
        for x, y in zip(first[near].tolist(), second[near].tolist(), strict=True):
            uses = self._use[space, a][x], self._use[space, b][y]
            words = overlap(*(self._touched.intervals(use) for use in uses))
            if words:
                earlier, later = (verb for _, verb in sorted(((x, _VERBS[a]), (y, _VERBS[b]))))
                what = f"{space.name} {_NOUNS.get(space, 'words')} {words[0]}..{words[1] - 1}"
                self._fail(x, y, f"the first {earlier} and the second {later} {what}")

    def _check_ports(self, space: Space, access: Access, first: Indices, second: Indices) -> None:
        common = self._banks[space, access][first] & self._banks[space, access][second]
        if common.any():
            at = int(np.argmax(common != 0))
            bank = (int(common[at]) & -int(common[at])).bit_length() - 1
            what = f"both use the {access.name.lower()} port of {space.name} bank {bank}"
            self._fail(int(first[at]), int(second[at]), what)

    def _fail(self, x: int, y: int, what: str) -> None:
        x, y = sorted((x, y))
        raise ProgramError(
            f"{name(self._table, x)} and {name(self._table, y)} must not overlap in time: {what}; "
            f"order them with a semaphore"
        )
