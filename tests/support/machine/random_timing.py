"""Run a program with arbitrary durations: a witness that does not know vector clocks.

Durations are drawn, so that every run is one timing that some external memory could cause. What
`compiler.check.check` proves for all timings must hold in each.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accel.machine.config import ArchConfig
from accel.machine.isa import Instruction, Unit
from accel.machine.memories import Space
from compiler.schedule.footprint import Footprint
from compiler.schedule.parts import Access


@dataclass(frozen=True)
class Run:
    """Issue and completion cycle of each instruction, and the most tokens that each semaphore held."""

    issue: list[int]
    completion: list[int]
    tokens: dict[str, int]


def run(config: ArchConfig, program: Sequence[Instruction], rng: np.random.Generator) -> Run:
    """One pass in program order; a LookupError if a wait precedes its signal."""
    issue: list[int] = []
    completion: list[int] = []
    mine: dict[Unit, list[int]] = {unit: [] for unit in Unit}
    posted: dict[tuple[Unit, Unit], deque[int]] = {}
    events: dict[tuple[Unit, Unit], list[tuple[int, int]]] = {}
    dispatch = 0
    speed = {unit: int(rng.choice([2, 20, 200])) for unit in Unit}
    for i in program:
        queue = mine[i.unit]
        full = issue[queue[-config.queue_depth]] + 1 if len(queue) >= config.queue_depth else 0
        dispatch = max(dispatch + 1, full)
        start = max(dispatch, issue[queue[-1]] if queue else 0) + int(rng.integers(1, 3))
        for p in Unit:
            if i["wait"] >> p & 1:
                start = max(start, posted[p, i.unit].popleft() + 1)
        end = max(start + int(rng.integers(1, speed[i.unit])), completion[queue[-1]] + 1 if queue else 0)
        for p in Unit:
            if i["wait"] >> p & 1:
                events[p, i.unit].append((start, -1))
            if i["signal"] >> p & 1:
                posted.setdefault((i.unit, p), deque()).append(end)
                events.setdefault((i.unit, p), []).append((end, 1))
        queue.append(len(issue))
        issue.append(start)
        completion.append(end)
    tokens = {
        f"{p.name} -> {u.name}": int(np.cumsum([n for _, n in sorted(log)]).max()) for (p, u), log in events.items()
    }
    return Run(issue, completion, tokens)


def conflicts(program: Sequence[Instruction], footprints: Sequence[Footprint], times: Run) -> Counter[str]:
    """Conflicts between instructions that really overlapped in time, by kind."""
    found: Counter[str] = Counter()
    sets = [_sets(touched) for touched in footprints]
    for b in range(len(program)):
        for a in range(b):
            if times.completion[a] < times.issue[b] or times.completion[b] < times.issue[a]:
                continue
            if program[a].unit == program[b].unit:
                if program[a].unit is Unit.POST:
                    found["pipeline"] += bool(_spad(sets[a][Access.WRITE]) & _spad(sets[b][Access.READ]))
                continue
            written = sets[a][Access.WRITE] & (sets[b][0] | sets[b][1]) | sets[b][Access.WRITE] & sets[a][Access.READ]
            found["word"] += bool(written)
            shared = footprints[a].ports.keys() & footprints[b].ports.keys()
            found["port"] += any(footprints[a].ports[port] & footprints[b].ports[port] for port in shared)
    return +found


_Words = set[tuple[Space, int]]


def _spad(words: _Words) -> _Words:
    return {(space, word) for space, word in words if space is Space.SPAD}


def _sets(touched: Footprint) -> tuple[_Words, _Words]:
    reads, writes = (
        {(space, word) for space, spans in accesses.items() for start, stop in spans for word in range(start, stop)}
        for accesses in (touched.reads, touched.writes)
    )
    return reads, writes
