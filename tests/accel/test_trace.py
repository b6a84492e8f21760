"""Traces of runs: the format's fields, tracks without overlaps, stalls that sum to the counters."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from support.networks.small_networks import every_compiled_operation

import accel
from accel.machine.isa import Unit
from accel.report.trace import trace

REQUIRED = {
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
    "X": {"name": str, "cat": str, "pid": int, "tid": int, "ts": int, "dur": int, "args": dict},
    "s": {"name": str, "cat": str, "pid": int, "tid": int, "ts": int, "id": str},
    "f": {"name": str, "cat": str, "pid": int, "tid": int, "ts": int, "id": str, "bp": str},
}
"""Fields of the events of the "Trace Event Format", by phase."""


@pytest.fixture(scope="module")
def estimate() -> accel.Estimate:
    return accel.estimate(accel.compile(every_compiled_operation(), "edge"))


@pytest.fixture(scope="module")
def events(estimate: accel.Estimate) -> list[dict[str, Any]]:
    content = json.loads(trace(estimate.program, estimate.timings))
    assert set(content) == {"traceEvents", "displayTimeUnit"}
    return list(content["traceEvents"])


def test_events_have_the_fields_of_the_format(events: list[dict[str, Any]]) -> None:
    for event in events:
        kinds = REQUIRED[event["ph"]]
        assert {name: type(event[name]) for name in kinds} == kinds
        assert set(event) == {*kinds, "ph"}
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert names == {unit.value: unit.name for unit in Unit}


def test_slices_of_a_track_do_not_overlap_and_lie_in_the_run(
    events: list[dict[str, Any]], estimate: accel.Estimate
) -> None:
    tracks = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            tracks[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for slices in tracks.values():
        ordered = sorted(slices)
        assert all(start < end for start, end in ordered)
        assert all(before[1] <= after[0] for before, after in pairwise(ordered))
        assert ordered[-1][1] <= estimate.cycles
    instructions = [event["args"]["instruction"] for event in events if event.get("cat") == "instruction"]
    assert sorted(instructions) == list(range(estimate.program.instruction_count))


def test_stalls_are_those_of_the_counters(events: list[dict[str, Any]], estimate: accel.Estimate) -> None:
    counted: dict[tuple[str, str], int] = defaultdict(int)
    for event in events:
        if event.get("cat") == "stall":
            counted[Unit(event["tid"]).name, event["name"]] += event["dur"]
    for unit in Unit:
        for cause, cycles in estimate.stalls[unit.name].items():
            if cause.startswith("wait."):
                assert counted[unit.name, cause] == cycles


def test_flows_join_slices(events: list[dict[str, Any]]) -> None:
    starts = {(event["tid"], event["ts"]) for event in events if event.get("cat") == "instruction"}
    ends = {phase: [event for event in events if event["ph"] == phase] for phase in "sf"}
    assert ends["s"]
    assert [event["id"] for event in ends["s"]] == [event["id"] for event in ends["f"]]
    assert len({event["id"] for event in ends["s"]}) == len(ends["s"])
    for event in (*ends["s"], *ends["f"]):
        assert (event["tid"], event["ts"]) in starts
