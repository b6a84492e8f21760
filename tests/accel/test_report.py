"""Reports: rows that sum to the run, and worked examples of traffic and of SCALE-Sim's formula."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support.networks.random_graphs import random_graph, random_inputs
from support.networks.small_networks import conv, every_compiled_operation, fully_connected, network, pool

import accel
from accel.cli.tables import layer_table, to_json
from accel.machine import latencies
from accel.machine.isa import Instruction, Opcode, decode, encode
from accel.network.graph import MaxPool2d
from accel.program.program import LayerInfo
from accel.report.layers import LayerRow, layer_rows, scalesim_cycles, traffic


@pytest.mark.parametrize(
    ("size", "array", "cycles"),
    [
        # (m, k, n) on rows x cols: folds * (2 rows + cols + m - 2) - 1
        ((1, 1, 1), (1, 1), 2 + 1 + 1 - 2 - 1),
        ((100, 16, 16), (16, 16), 32 + 16 + 100 - 2 - 1),
        ((100, 17, 16), (16, 16), 2 * 146 - 1),
        ((100, 17, 33), (16, 16), 2 * 3 * 146 - 1),
        ((512, 512, 512), (16, 16), 32 * 32 * 558 - 1),
        ((49, 27, 10), (4, 8), 7 * 2 * (8 + 8 + 49 - 2) - 1),
    ],
)
def test_scalesim_formula(size: tuple[int, int, int], array: tuple[int, int], cycles: int) -> None:
    m, k, n = size
    assert scalesim_cycles(LayerInfo("x", "Conv2d", m * k * n, m, k, n), *array) == cycles


@pytest.mark.parametrize(
    ("channels", "groups", "cycles"),
    [
        # "Total Cycles" of SCALE-Sim 3.0.0 itself for a kernel of 3x3, 9x8 pixels, 16x16 weight-stationary
        (8, 1, 439),
        (8, 4, 4 * 175),
        (6, 6, 351),
        (8, 8, 439),
    ],
)
def test_scalesim_on_groups_equals_the_tool(channels: int, groups: int, cycles: int) -> None:
    program = accel.compile(network((1, 9, 8, channels), conv(channels, (3, 3), groups=groups)), "edge")
    (layer,) = program.layers
    assert scalesim_cycles(layer, 16, 16) == cycles


def test_scalesim_on_a_grouped_network() -> None:
    program = accel.compile(Path(__file__).resolve().parents[1] / "cases" / "grouped.tflite", "edge")
    (row,) = accel.run(program, np.zeros((1, 9, 8, 8), np.int8)).layers
    assert row.scalesim_cycles == 700


def test_layers_without_weights_have_no_formula() -> None:
    assert scalesim_cycles(LayerInfo("x", "Add", 0, 0, 0, 0), 4, 4) == 0


@pytest.mark.parametrize("seed", range(8))
def test_rows_sum_to_the_run(seed: int) -> None:
    rng = np.random.default_rng([seed, 0x9E])
    graph = random_graph(rng, "tflite", channels=20, size=8)
    program = accel.compile(graph, "tiny")
    result = accel.run(program, random_inputs(rng, graph))
    rows = result.layers
    assert [row.name for row in rows] == [layer.name for layer in program.layers]
    assert sum(row.cycles for row in rows) == result.cycles == result.simulation.total_cycles
    assert sum(row.read_bytes for row in rows) == result.simulation.load_bytes
    assert sum(row.written_bytes for row in rows) == result.simulation.store_bytes
    assert all(row.cycles >= 0 and 0 <= row.utilization <= 1 for row in rows)


def test_layers_are_computed_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr("accel.api.layer_rows", lambda *arguments: made.append(arguments) or [ROW])
    program = accel.compile(network((1, 3, 5, 2), fully_connected(6)), "tiny")
    result = accel.run(program, np.zeros((1, 3, 5, 2), np.int8))
    assert made == []
    assert (result.layers, result.layers) == ([ROW], [ROW])
    ((made_of, timeline),) = made
    assert made_of is program
    assert timeline.total_cycles == result.cycles
    np.testing.assert_array_equal(timeline.issue, result.simulation.issue)


def test_traffic_by_hand() -> None:
    program = accel.compile(network((1, 3, 5, 2), fully_connected(6)), "tiny")
    read, written = traffic(program)
    units = [i.opcode for i in decode(program.code)]
    assert all((r > 0) == (u is Opcode.LOAD) for r, u in zip(read, units, strict=True))
    assert all((w > 0) == (u is Opcode.STORE) for w, u in zip(written, units, strict=True))
    # input, weights (6 columns in two tiles), 8 records of 9 bytes; output
    assert read.sum() == 30 + 30 * 6 + 8 * 9
    assert written.sum() == 6


def naive_owners(program: accel.Program, run: Any) -> tuple[list[int], list[int]]:
    """The layer of every cycle, and each layer's hidden cycles, one cycle after the other."""
    drain = latencies.exec_latency(program.config) - 1
    rows = list(zip(decode(program.code), program.instruction_layers, run.issue, run.complete, strict=True))
    engine_drain = latencies.DEPTHWISE_LATENCY - 1
    holds = [
        [(layer, issue, end - late) for i, layer, issue, end in rows if i.opcode is opcode]
        for opcode, late in ((Opcode.EXEC, drain), (Opcode.DEPTHWISE, engine_drain))
    ]
    owners, hidden, last = [], [0] * len(program.layers), len(program.layers) - 1
    for cycle in range(run.total_cycles):
        array, engine = ([layer for layer, issue, end in unit if issue <= cycle < end] for unit in holds)
        unfinished = [layer for _, layer, _, end in rows if end >= cycle]
        owners.append(array[0] if array else engine[0] if engine else min(unfinished, default=last))
        for layer in {*engine[:1]} - {owners[-1]}:
            hidden[layer] += 1
    return owners, hidden


def pair_of_layers() -> accel.Graph:
    """Array and depthwise layers that run beside each other."""
    return network(
        (1, 8, 8, 4), conv(8, (1, 1)), conv(8, (3, 3), groups=8, padding=(1, 1, 1, 1)), conv(4, (1, 1)),
    )  # fmt: skip


@pytest.mark.parametrize("seed", [1, 3, 6, None])
def test_every_cycle_belongs_to_the_layer_that_holds_the_array(seed: int | None) -> None:
    rng = np.random.default_rng([seed or 0, 0x9E])
    graph = pair_of_layers() if seed is None else random_graph(rng, "tflite", channels=12, size=6)
    program = accel.compile(graph, "tiny")
    result = accel.run(program, random_inputs(rng, graph))
    owners, hidden = naive_owners(program, result.simulation)
    assert [row.hidden_cycles for row in result.layers] == hidden
    assert [row.cycles for row in result.layers] == [owners.count(i) for i in range(len(program.layers))]
    assert [row.bound for row in result.layers] == naive_bounds(program, result.simulation, owners)


def naive_bounds(program: accel.Program, run: Any, owners: list[int]) -> list[str]:
    """What occupies most of every layer's cycles, one cycle after the other."""
    names = ("array", "depthwise", "post", "load", "store", "latency")
    counts = [dict.fromkeys(names, 0) for _ in program.layers]
    rows = list(zip(decode(program.code), program.instruction_layers, run.issue, run.occupied, strict=True))
    for cycle, owner in enumerate(owners):
        busy = {
            "array" if i.opcode is Opcode.EXEC else i.opcode.name.lower()
            for i, layer, issue, end in rows
            if layer == owner and issue <= cycle <= end
        }
        for name in busy or {"latency"}:
            counts[owner][name] += 1
    return [max(names, key=count.__getitem__) for count in counts]


def test_what_holds_a_layer_back() -> None:
    deep, pooled = network((1, 12, 12, 8), conv(8, (3, 3))), network((1, 12, 12, 8), pool(MaxPool2d, (3, 3), (1, 1)))
    assert bounds(deep, accel.preset("tiny")) == ["array"]
    assert bounds(pooled, accel.preset("tiny")) == ["post"]
    assert bounds(network((1, 4000), fully_connected(4)), accel.preset("large")) == ["load"]
    slow = replace(accel.preset("tiny"), name="slow", write_latency_cycles=4000)
    assert bounds(pooled, slow) == ["store"]


def bounds(graph: accel.Graph, config: accel.ArchConfig) -> list[str]:
    program = accel.compile(graph, config)
    inputs = {slot.name: np.zeros(slot.shape, np.int8) for slot in program.inputs}
    return [row.bound for row in accel.run(program, inputs).layers]


@pytest.mark.parametrize(
    ("occupied", "bound"),
    [
        ((6, 5, 5, 5, 5), "array"),
        ((5, 6, 5, 5, 5), "depthwise"),
        ((0, 0, 6, 0, 0), "post"),
        ((1, 1, 1, 1, 1), "latency"),
    ],
)
def test_bound_by_hand(occupied: tuple[int, ...], bound: str) -> None:
    """Instructions of one layer, one per unit, that are issued together and complete in cycle 9."""
    opcodes = (Opcode.EXEC, Opcode.DEPTHWISE, Opcode.POST, Opcode.LOAD, Opcode.STORE)
    code = encode([Instruction(opcode, {}) for opcode in opcodes])
    whole = accel.compile(network((1, 12), fully_connected(4)), "tiny")
    segments = (replace(whole.segments[0], count=5),)
    program = replace(whole, code=code, instruction_layers=(0,) * 5, segments=segments)
    stamps = {"issue": np.zeros(5, np.int64), "occupied": np.array(occupied), "complete": np.full(5, 9)}
    (row,) = layer_rows(program, SimpleNamespace(total_cycles=10, **stamps))
    assert (row.cycles, row.bound) == (10, bound)


ROW = LayerRow("conv[1/2] :smile:", "Conv2d", 1600, 150, 50, 0.5, "array", 1000, 2000, 3000)


def rendered(rows: list[LayerRow]) -> str:
    console = Console(width=120, file=(out := io.StringIO()), markup=False, emoji=False)
    console.print(layer_table(rows, "a title", wide=True))
    return out.getvalue()


def test_table_has_totals_and_literal_names() -> None:
    rows = [ROW, LayerRow("pool", "MaxPool2d", 0, 250, 0, 0.0, "post", 0, 0, 0)]
    assert [line.split() for line in rendered(rows).splitlines() if "%" in line] == [
        ["conv[1/2]", ":smile:", "Conv2d", "1,600", "150", "50", "50.0%", "array", "1,000", "2,000", "3,000"],
        ["pool", "MaxPool2d", "0", "250", "0", "0.0%", "post", "0", "0", "0"],
        ["total", "1,600", "400", "50", "25.0%", "1,000", "2,000", "3,000"],
    ]


def test_json_of_results() -> None:
    program = accel.compile(every_compiled_operation(), "tiny")
    result = accel.run(program, np.zeros((1, 9, 8, 3), np.int8))
    values = json.loads(to_json({"rows": result.layers, "outputs": result.outputs, "cycles": np.int64(3)}))
    assert [row["name"] for row in values["rows"]] == ["n0", "n1", "n2", "n3", "n5"]
    assert values["cycles"] == 3
    assert values["outputs"]["t6"] == result.outputs["t6"].tolist()
