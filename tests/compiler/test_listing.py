"""Schedules of small networks as text, held equal to files; ``pytest --update-golden`` writes them anew."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.networks.small_networks import Layer, add, conv, fully_connected, network, table, transpose

from accel.machine.config import ArchConfig, preset
from accel.machine.isa import Unit, instruction_of
from accel.network.graph import Graph
from compiler import compile_phases
from compiler.compile import SegmentPhases
from compiler.emit.emit import emit_network
from compiler.emit.keys import Key
from compiler.emit.memory import Constants, ExternalMemory, place_values
from compiler.emit.records import Step
from compiler.plan.plan import LayerPlan, MovePlan, Plan

GOLDEN = Path(__file__).parent / "golden"
TINY = preset("tiny")
ENGINE = replace(TINY, name="engine", depthwise_taps=3, spad_banks=8)
SMALL = replace(
    TINY, name="small", spad_banks=3, spad_bank_words=64, wbuf_words=64, acc_bank_words=32, param_channels=32
)


def around(padding: int) -> dict[str, tuple[int, ...]]:
    return {"padding": (padding,) * 4}


def depthwise(channels: int) -> Layer:
    return conv(channels, (3, 3), groups=channels, **around(1))


CASES: dict[str, tuple[Callable[[], Graph], ArchConfig]] = {
    "chain": (lambda: network((1, 6, 6, 4), conv(6, (3, 3)), table(), conv(4, (1, 1)), fully_connected(3)), TINY),
    "folded": (lambda: network((1, 10, 9, 1), conv(5, (3, 3), stride=(2, 2), **around(1))), TINY),
    "pair_by_tiles": (
        lambda: network((1, 12, 6, 4), conv(6, (1, 1)), depthwise(6), conv(4, (1, 1))),
        replace(ENGINE, acc_bank_words=16),
    ),
    "pair_by_bands": (
        lambda: network((1, 8, 4, 4), conv(8, (1, 1)), depthwise(8), conv(4, (1, 1))),
        replace(ENGINE, spad_bank_words=16, wbuf_words=64, acc_bank_words=16, depthwise_words=32),
    ),
    "streamed": (lambda: network((1, 14, 14, 3), conv(6, (3, 3)), conv(4, (3, 3), stride=(3, 3))), SMALL),
    "follower_and_gather": (lambda: network((1, 5, 6, 3), conv(6, (2, 2)), add(), transpose((0, 2, 1, 3))), TINY),
}


def phases_of(graph: Graph, config: ArchConfig) -> SegmentPhases:
    (phases,) = compile_phases(graph, config).segments
    return phases


@pytest.mark.parametrize("case", CASES)
def test_schedules_are_as_before(case: str, request: pytest.FixtureRequest) -> None:
    make, config = CASES[case]
    text, path = compile_phases(make(), config).schedule_text(), GOLDEN / f"{case}.txt"
    if request.config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("case", CASES)
def test_networks_show_what_they_are_named_after(case: str) -> None:
    make, config = CASES[case]
    plan = phases_of(make(), config).plan
    shown = {
        "chain": not any(layer.folded or layer.input_areas[0] for layer in _computing(plan)),
        "folded": _computing(plan)[0].folded,
        "pair_by_tiles": plan.followers == {1} and not plan.pairs,
        "pair_by_bands": plan.followers == {1} and len(plan.pairs.get(0, ())) > 1,
        "streamed": not plan.residents and len(_computing(plan)[0].input_areas[0] or ()) == 2,
        "follower_and_gather": plan.followers == {1} and isinstance(plan.layers[2], MovePlan),
    }
    assert shown[case]


def _computing(plan: Plan) -> list[LayerPlan]:
    return [layer for layer in plan.layers if isinstance(layer, LayerPlan)]


@pytest.mark.parametrize("case", CASES)
def test_schedules_hold_every_instruction_once_and_loads_before_their_steps(case: str) -> None:
    make, config = CASES[case]
    phases = phases_of(make(), config)
    placed, loaded = phases.schedule.placed, set[Key]()
    assert [number for item in placed for number in item.instructions] == list(range(len(phases.schedule.table)))
    assert [item.record for item in placed if isinstance(item.record, Step)] == list(phases.emission.steps)
    for item in placed:
        if isinstance(item.record, Step):
            assert loaded >= set(item.record.needs)
        else:
            loaded.add(item.record.key)


def test_the_text_names_every_token() -> None:
    """Every wait and signal of the program stands in the text, under its unit's name."""
    for make, config in CASES.values():
        phases = phases_of(make(), config)
        text = compile_phases(make(), config).schedule_text()
        instructions = [instruction_of(row) for row in phases.schedule.table]
        for name in ("wait", "signal"):
            wanted = Counter(u.name for i in instructions for u in Unit if i[name] >> u & 1)
            named = re.findall(rf" {name} ([A-Z+]+)", text)
            assert Counter(unit for units in named for unit in units.split("+")) == wanted


def test_emission_is_a_pure_function() -> None:
    make, config = CASES["pair_by_bands"]
    phases = phases_of(make(), config)
    addresses, end = place_values([(phases.network, phases.plan)])
    memory = ExternalMemory(phases.network, addresses[0], Constants(end), config.rows)
    again = emit_network(phases.network, phases.plan, config, memory)
    assert again == phases.emission
