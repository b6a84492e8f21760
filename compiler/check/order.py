"""Happens-before: the order in which a program's instructions issue and complete, for any timing of the memory.

The proofs use only what the machine guarantees:

* a unit issues its instructions in program order and completes them in that order;
* an instruction that waits issues after the completion of those that signalled its tokens, n-th wait with n-th signal.

Instruction a *happens before* b if a's completion precedes b's issue in that order, computed as a vector clock.

**No deadlock.** In program order the n-th wait of a semaphore follows its n-th signal. Suppose that some instructions
never issue, and take the first of them in program order. All earlier ones issue and complete, so its unit becomes free,
its queue's earlier entries leave, the fetch unit, which dispatches in program order, is not blocked by any earlier
instruction for ever (a queue of any depth >= 1 drains), and all its tokens are posted and taken by nobody else. So it
issues: a contradiction.

**No overflow.** When instruction s posts the n-th token of semaphore (p, u), at most n - w tokens are there, w being
the waits in those instructions of u that must have issued by then: the ones that happen before s, and all but the last
`queue_depth` of those dispatched before s. Both are facts of the program, not of timing.

**Nothing left over.** Every semaphore is empty after the last instruction, so that programs can follow each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from accel.errors import ProgramError
from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode, Table, Unit
from accel.machine.latencies import SEMAPHORE_BITS
from accel.machine.tokens import SIGNAL, WAIT

Semaphore: TypeAlias = tuple[Unit, Unit]
"""(unit that signals, unit that waits)."""

Indices: TypeAlias = npt.NDArray[np.int64]


def name(table: Table, index: int) -> str:
    """How error messages call an instruction."""
    return f"instruction {index} ({Opcode(int(table[index, 0])).name})"


def check_leftover(table: Table, producers: Table) -> None:
    """Every token must be taken by the program's end; `producers` is what `accel.machine.tokens.pair_tokens` returns.

    Raises
    ------
    ProgramError
        A signal without a later wait.
    """
    unit = table[:, 0] - 1
    for producer, consumer in product(Unit, Unit):
        signals = np.flatnonzero((unit == int(producer)) & (table[:, SIGNAL] >> int(consumer) & 1))
        taken = np.count_nonzero(producers[unit == int(consumer), int(producer)] >= 0)
        if taken < len(signals):
            at = signals[taken]
            raise ProgramError(
                f"instruction {at}: {producer.name} signals {consumer.name}, but no later {consumer.name} waits for "
                f"{producer.name}: every token must be taken, {len(signals) - taken} would be left"
            )


class Order:
    """Happens-before of a program.

    Attributes
    ----------
    places : per unit, ndarray (n,)
        Program indices of the unit's instructions.
    rank : ndarray (instructions,)
        Position of each instruction in its unit's list.
    clock : ndarray (instructions, units)
        Instructions of each unit that have completed when this one issues, for any timing.
    """

    def __init__(self, table: Table, producers: Table):
        unit = table[:, 0] - 1
        self.places = [np.flatnonzero(unit == u) for u in Unit]
        self.rank = np.zeros(len(unit), np.int64)
        for places in self.places:
            self.rank[places] = np.arange(len(places))
        self.clock = _clocks(unit.tolist(), self.rank.tolist(), producers)

    def concurrent(self, block: int) -> Iterator[tuple[Indices, Indices]]:
        """All pairs of instructions that may overlap, at most about `block` at a time.

        The first of a pair belongs to the lower-numbered unit, or precedes the other in the POST unit; pairs within
        other units are left out, because their order alone protects them.
        """
        for u, v in product(Unit, Unit):
            if u > v or (u == v and u is not Unit.POST):
                continue
            mine, others = self.places[v], self.places[u]
            # Of the other unit, a prefix completes before each instruction and a suffix issues after it.
            start = self.clock[mine, u]
            beyond = np.searchsorted(self.clock[others, v], self.rank[mine], side="right")
            stop = self.rank[mine] if u == v else beyond
            for chosen in _blocks(stop - start, block):
                lengths = (stop - start)[chosen]
                ends = np.cumsum(lengths)
                ranks = np.arange(lengths.sum()) + np.repeat(start[chosen] - (ends - lengths), lengths)
                yield others[ranks], np.repeat(mine[chosen], lengths)


def _clocks(unit: list[int], rank: list[int], producers: Table) -> Indices:
    """Instructions of each unit that have completed when each instruction issues."""
    clocks = list[list[int]]()
    before = [[0] * len(Unit) for _ in Unit]
    waits: list[bool] = np.any(producers >= 0, axis=1).tolist()
    for index, (own, taken) in enumerate(zip(unit, producers.tolist(), strict=True)):
        clock = before[own]
        for producer in taken if waits[index] else ():
            if producer >= 0:
                clock = list(map(max, clock, clocks[producer]))
                clock[unit[producer]] = max(clock[unit[producer]], rank[producer] + 1)
        clocks.append(clock)
        before[own] = clock
    return np.array(clocks, np.int64)


def _blocks(lengths: Indices, block: int) -> Iterator[slice]:
    """Slices of `lengths` that sum to about `block` each."""
    group = np.cumsum(lengths) // block
    edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(lengths)]
    for start, stop in pairwise(edges):
        yield slice(start, stop)


def bound_tokens(config: ArchConfig, table: Table, order: Order) -> dict[str, int]:
    """For each semaphore in use ("LOAD -> EXEC") the most tokens that it can ever hold.

    Raises
    ------
    ProgramError
        A token counter could overflow.
    """
    signals, waits = table[:, SIGNAL], table[:, WAIT]
    bounds: dict[str, int] = {}
    for producer, consumer in product(Unit, Unit):
        posts = order.places[producer]
        posts = posts[signals[posts] >> consumer & 1 == 1]
        if not len(posts):
            continue
        consumers = order.places[consumer]
        taken = np.append(0, np.cumsum(waits[consumers] >> producer & 1))
        issued = np.searchsorted(consumers, posts) - config.queue_depth
        issued = np.maximum(issued, order.rank[posts] + 1 if producer == consumer else order.clock[posts, consumer])
        bound = int((np.arange(1, len(posts) + 1) - taken[issued]).max())
        semaphore = f"{producer.name} -> {consumer.name}"
        if bound >= 1 << SEMAPHORE_BITS:
            raise ProgramError(
                f"semaphore {semaphore} must hold at most {(1 << SEMAPHORE_BITS) - 1} tokens, "
                f"got up to {bound}: let {producer.name} wait for {consumer.name} in between"
            )
        bounds[semaphore] = bound
    return bounds
