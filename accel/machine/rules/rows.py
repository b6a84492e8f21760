"""Decoded instructions of one opcode as columns, and the comparisons that rules are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from accel.machine.isa import FIELDS, Opcode, Table, column

Column: TypeAlias = npt.NDArray[np.int64]
"""One value per instruction."""

Mask: TypeAlias = npt.NDArray[np.bool_]


class Broken(NamedTuple):
    """A rule that an instruction breaks, by its place in the program; as one sentence, and the rule in general."""

    instruction: int
    sentence: str
    rule: str


@dataclass(frozen=True)
class Rows:
    """Instructions of one opcode; ``rows["field"]`` is that field of all of them.

    Parameters
    ----------
    opcode : Opcode
    at : ndarray of int, shape (n,)
        Their places in the program.
    table : ndarray of int64, shape (n, COLUMNS)
        Their rows of `accel.machine.isa.decode_table`.
    """

    opcode: Opcode
    at: npt.NDArray[np.intp]
    table: Table

    @classmethod
    def of(cls, opcode: Opcode, table: Table) -> Rows:
        """The instructions of this opcode in a whole program."""
        at = np.flatnonzero(table[:, 0] == opcode)
        return cls(opcode, at, table[at])

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, field: str) -> Column:
        return self.table[:, column(self.opcode, field)]

    def product(self, *fields: str) -> Column:
        """Product of some fields."""
        columns = [column(self.opcode, field) for field in fields]
        return np.asarray(np.prod(self.table[:, columns], axis=1))

    def where(self, chosen: Mask) -> Rows:
        """The chosen ones of these instructions."""
        return Rows(self.opcode, self.at[chosen], self.table[chosen])

    def fields(self, i: int) -> dict[str, int]:
        """The i-th instruction's fields by name."""
        return {field.name: int(value) for field, value in zip(FIELDS[self.opcode], self.table[i], strict=False)}

    def broken(self, i: int, rule: str, sentence: str) -> Broken:
        """The i-th instruction breaks a rule; `sentence` follows the instruction's name in the message."""
        return Broken(int(self.at[i]), f"instruction {self.at[i]}: {self.opcode.name} {sentence}", rule)

    def refuse(self, bad: Mask, rule: str, sentence: Callable[[int], str]) -> Iterator[Broken]:
        """The first instruction where `bad` is true; `sentence` tells what is wrong with the i-th one."""
        if bad.any():
            i = int(np.argmax(bad))
            yield self.broken(i, rule, sentence(i))

    def most(self, what: str, values: Column, limit: Column | int) -> Iterator[Broken]:
        """Values must not exceed `limit`."""
        return self.refuse(
            values > limit,
            f"{what} has a limit",
            lambda i: f"{what} must be at most {np.broadcast_to(limit, values.shape)[i]}, got {values[i]}",
        )
