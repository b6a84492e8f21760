"""What each unit does when: the time in which an instruction holds its unit, and what it waited for before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.machine import isa
from accel.machine.isa import Unit
from accel.machine.tokens import pair_tokens


class Wait(NamedTuple):
    """Cycles start .. stop - 1 in which an instruction at its queue's head has no token from the unit `cause`."""

    cause: Unit
    start: int
    stop: int


class Slot(NamedTuple):
    """An instruction on its unit, in cycles begin .. end - 1, those of the instruction before left out.

    `waits` are as docs/timing.md attributes them; `producers` are the instructions whose tokens it takes.
    """

    unit: Unit
    begin: int
    end: int
    waits: tuple[Wait, ...]
    producers: NDArray[np.int64]


def slots(code: bytes, run: Any) -> Iterator[Slot]:
    """The instructions of a machine segment in program order; `run` has their stamps (`sim.Timing`)."""
    table = isa.decode_table(code)
    producers, free = pair_tokens(table), [0] * len(Unit)
    for i, unit in enumerate(table[:, 0] - 1):
        waits = tuple(_waits(run, producers[i], max(int(run.dispatch[i]) + 1, free[unit])))
        begin = max(int(run.issue[i]), free[unit])
        free[unit] = max(int(run.occupied[i]) + 1, begin + 1)
        yield Slot(Unit(unit), begin, free[unit], waits, producers[i][producers[i] >= 0])


def _waits(run: Any, producers: NDArray[np.int64], cycle: int) -> Iterator[Wait]:
    """Waits from `cycle` on, in which the instruction is at its queue's head and its unit is free."""
    for other, producer in enumerate(producers):
        if producer >= 0 and run.complete[producer] >= cycle:
            until = int(run.complete[producer]) + 1
            yield Wait(Unit(other), cycle, until)
            cycle = until
