"""A run as a trace for Chrome's and Perfetto's viewers: units as tracks, instructions and stalls as slices.

One cycle is one microsecond of the viewer. A slice is the time in which an instruction holds its unit beyond the one
before; semaphores are flows from the instruction that posts a token to the one that takes it.

References
----------
"Trace Event Format", Google, 2016: complete events (X), flows (s, f) and metadata (M).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from accel.machine import isa
from accel.machine.isa import Unit
from accel.machine.tokens import pair_tokens
from accel.program.program import Program
from accel.report.layers import Timed

Event = dict[str, Any]


def trace(program: Program, runs: Sequence[Timed]) -> bytes:
    """JSON of the machine segments' `runs`, one after the other.

    Parameters
    ----------
    program : Program
    runs : sequence of sim.Timing or sim.SimulationResult
        With `dispatch`, `issue`, `occupied` and `complete` of every instruction.
    """
    events = [_name("process_name", 0, program.config.name), *(_name("thread_name", u, u.name) for u in Unit)]
    start = 0
    for segment, run in zip(program.machine_segments, runs, strict=True):
        names = [
            program.layers[layer].name
            for layer in program.instruction_layers[segment.first : segment.first + segment.count]
        ]
        events += _segment_events(program.code_of(segment), names, segment.first, run, start)
        start += run.total_cycles
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}, separators=(",", ":")).encode()


def _name(kind: str, thread: int, name: str) -> Event:
    return {"ph": "M", "name": kind, "pid": 0, "tid": int(thread), "args": {"name": name}}


def _segment_events(code: bytes, names: Sequence[str], first: int, run: Any, start: int) -> Iterator[Event]:
    table = isa.decode_table(code)
    producers, units = pair_tokens(table), table[:, 0] - 1
    free, begins = [0] * len(Unit), np.zeros(len(table), np.int64)
    for i, unit in enumerate(units):
        begin = begins[i] = max(run.issue[i], free[unit])
        end = max(run.occupied[i] + 1, begin + 1)
        yield from _stalls(run, producers[i], int(unit), max(run.dispatch[i] + 1, free[unit]), start)
        stamps = {kind: int(getattr(run, kind)[i]) + start for kind in ("dispatch", "issue", "complete")}
        arguments = {"instruction": first + i, "operation": Unit(unit).name, **stamps}
        yield _slice(names[i], "instruction", int(unit), begin + start, end - begin, arguments)
        for producer in producers[i][producers[i] >= 0]:
            flow = {"cat": "semaphore", "name": "token", "pid": 0, "id": f"{first + i}.{first + producer}"}
            yield {**flow, "ph": "s", "tid": int(units[producer]), "ts": int(begins[producer] + start)}
            yield {**flow, "ph": "f", "bp": "e", "tid": int(unit), "ts": int(begin + start)}
        free[unit] = end


def _stalls(run: Any, producers: Any, unit: int, cycle: int, start: int) -> Iterator[Event]:
    """Waits for tokens while an instruction is at its queue's head, as docs/timing.md attributes them."""
    for other, producer in enumerate(producers):
        if producer >= 0 and run.complete[producer] >= cycle:
            until = run.complete[producer] + 1
            yield _slice(f"wait.{Unit(other).name}", "stall", unit, cycle + start, until - cycle, {})
            cycle = until


def _slice(name: str, category: str, unit: int, start: int, cycles: int, arguments: Event) -> Event:
    event = {"ph": "X", "name": name, "cat": category, "pid": 0, "tid": unit, "ts": int(start), "dur": int(cycles)}
    return {**event, "args": arguments}
