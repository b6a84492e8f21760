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

from accel.machine.isa import Unit
from accel.program.program import Program
from accel.report.layers import Timed
from accel.report.slots import Slot, slots

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
    done: list[Slot] = []
    for i, slot in enumerate(slots(code, run)):
        done.append(slot)
        for wait in slot.waits:
            yield _slice(f"wait.{wait.cause.name}", "stall", slot.unit, wait.start + start, wait.stop - wait.start, {})
        stamps = {kind: int(getattr(run, kind)[i]) + start for kind in ("dispatch", "issue", "complete")}
        arguments = {"instruction": first + i, "operation": slot.unit.name, **stamps}
        yield _slice(names[i], "instruction", slot.unit, slot.begin + start, slot.end - slot.begin, arguments)
        for producer in slot.producers:
            before = done[producer]
            flow = {"cat": "semaphore", "name": "token", "pid": 0, "id": f"{first + i}.{first + producer}"}
            yield {**flow, "ph": "s", "tid": int(before.unit), "ts": before.begin + start}
            yield {**flow, "ph": "f", "bp": "e", "tid": int(slot.unit), "ts": slot.begin + start}


def _slice(name: str, category: str, unit: int, start: int, cycles: int, arguments: Event) -> Event:
    event = {"ph": "X", "name": name, "cat": category, "pid": 0, "tid": int(unit), "ts": start, "dur": cycles}
    return {**event, "args": arguments}
