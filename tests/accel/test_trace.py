"""Traces of runs: the format's fields, tracks without overlaps, stalls that sum to the counters."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from jschon import JSON, JSONSchema, create_catalog
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


SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["traceEvents"],
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "traceEvents": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["ph", "name", "pid", "tid"],
                "properties": {
                    "name": {"type": "string"}, "cat": {"type": "string"}, "pid": {"type": "integer"},
                    "tid": {"type": "integer"}, "ts": {"type": "number", "minimum": 0},
                    "dur": {"type": "number", "minimum": 0}, "args": {"type": "object"},
                    "id": {"type": ["string", "integer"]}, "bp": {"const": "e"},
                },
                "oneOf": [
                    {"properties": {"ph": {"const": "X"}}, "required": ["ts", "dur"]},
                    {"properties": {"ph": {"enum": ["s", "f"]}}, "required": ["ts", "id", "cat"]},
                    {"properties": {
                        "ph": {"const": "M"}, "name": {"enum": ["process_name", "thread_name"]},
                        "args": {"required": ["name"]},
                    }, "required": ["args"]},
                ],
            },
        },
    },
}  # fmt: skip
"""Complete events, flows and metadata of "Trace Event Format" (Google, 2016), as JSON Schema."""


@pytest.mark.filterwarnings("ignore:Please use rfc3986:DeprecationWarning")
def test_events_conform_to_the_schema(events: list[dict[str, Any]]) -> None:
    """By an outside validator; a damaged event of each kind is noticed."""
    schema = JSONSchema(SCHEMA, catalog=create_catalog("2020-12", name="traces"))

    def conforms(chosen: list[dict[str, Any]]) -> bool:
        return bool(schema.evaluate(JSON({"traceEvents": chosen, "displayTimeUnit": "ns"})).valid)

    chosen = [event for phase in "MXsf" for event in [one for one in events if one["ph"] == phase][:40]]
    assert conforms(chosen)
    first = {event["ph"]: event for event in chosen}
    damaged = [
        {**first["X"], "dur": -1}, {**first["X"], "ts": "0"}, {**first["s"], "id": None}, {**first["f"], "bp": "s"},
        {**first["M"], "args": {}}, {**first["X"], "ph": "Q"}, {"ph": "f", "name": "token", "pid": 0, "tid": 0},
    ]  # fmt: skip
    assert [conforms([event]) for event in damaged] == [False] * len(damaged)


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
