"""Pairs of wait and signal: the n-th wait of a semaphore takes the token of its n-th signal."""

from __future__ import annotations

import numpy as np

from accel.errors import ProgramError
from accel.machine.isa import Opcode, Table, Unit, column

WAIT, SIGNAL = column(Opcode.LOAD, "wait"), column(Opcode.LOAD, "signal")
"""Columns of every instruction's masks."""


def pair_tokens(table: Table) -> Table:
    """For each instruction and unit p the instruction whose token it takes from p, or -1.

    Parameters
    ----------
    table : ndarray of int64, shape (instructions, COLUMNS)
        A program whose masks name units that exist (`accel.machine.rules`).

    Returns
    -------
    ndarray of int64, shape (instructions, units)

    Raises
    ------
    ProgramError
        A wait has no signal before it.
    """
    producers = np.full((len(table), len(Unit)), -1, np.int64)
    unit = table[:, 0] - 1
    missing: list[tuple[int, Unit]] = []
    for consumer in Unit:
        waiting = np.flatnonzero((unit == int(consumer)) & (table[:, WAIT] > 0))
        signalling = np.flatnonzero(table[:, SIGNAL] >> int(consumer) & 1)
        for producer in Unit:
            waits = waiting[table[waiting, WAIT] >> int(producer) & 1 == 1]
            signals = signalling[unit[signalling] == int(producer)]
            paired = np.full(len(waits), len(table))
            paired[: len(signals)] = signals[: len(waits)]
            missing += [(int(at), producer) for at in waits[paired >= waits][:1]]
            producers[waits, int(producer)] = paired
    if missing:
        at, producer = min(missing)
        name = Opcode(table[at, 0]).name
        raise ProgramError(
            f"instruction {at}: {name} waits for {producer.name}, but no earlier signal of {producer.name} is left for "
            f"it: the machine would stop for ever; let an earlier {producer.name} signal {name}"
        )
    return producers
