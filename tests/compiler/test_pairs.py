"""An array layer and a depthwise layer side by side: values equal the reference however the pair is cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.networks.equality import assert_equal, is_equal
from support.networks.random_pairs import random_chain, random_machine
from support.networks.small_networks import Layer, conv, network, pool

from accel import api
from accel.coverify import random_inputs
from accel.errors import AccelError
from accel.machine.config import ArchConfig, preset
from accel.machine.isa import Opcode, decode
from accel.network.graph import Graph
from accel.network.nodes import MaxPool2d
from compiler import compile_graph
from compiler.emit import order, progress
from compiler.lower.geometry import Tile
from compiler.lower.network import lower
from compiler.plan import pairs, planner
from compiler.plan.allocate import Area
from compiler.plan.plan import LayerPlan

EDGE = preset("edge")
SMALL = replace(
    preset("tiny"), name="small", spad_banks=8, spad_bank_words=64, wbuf_words=64, acc_bank_words=16, param_channels=64,
    depthwise_words=32,
)  # fmt: skip


def features(graph: Graph, config: ArchConfig) -> Iterator[str]:
    """Features of the pairs of a network."""
    network_ = lower(graph, config)
    planned = planner.plan_network(network_, config)
    for index in planned.followers:
        first, second = planned.layers[index - 1 : index + 1]
        assert isinstance(first, LayerPlan)
        assert isinstance(second, LayerPlan)
        if second.layer.unit != "depthwise":
            continue
        bands = planned.pairs.get(index - 1, ())
        yield "bands" if bands else "tiles"
        if len(bands) > 1:
            yield "several bands"
        if bands and len(first.output_areas or ()) == 1:
            yield "one room"
        if bands:
            yield "streamed source" if first.input_areas[0] else "resident source"
            yield (
                "one room for the source" if len(first.input_areas[0] or ()) == 1 else "no or two rooms for the source"
            )
        if first.folded:
            yield "folded by positions" if first.chunks[0].by_position else "folded by columns"
        yield "streamed output" if second.output_areas else "resident output"
        if index in planned.trailing:
            yield "tail"
            yield "tail of a streamed output" if second.output_areas else "tail of a resident output"
            yield "tail beside a pair" if index + 2 in planned.followers else "tail beside a layer"
        if index + 1 in planned.followers:
            yield "a vector layer follows"


FEATURES = {
    "bands", "tiles", "several bands", "one room", "streamed source", "resident source", "one room for the source",
    "streamed output", "resident output", "tail", "tail beside a pair", "tail beside a layer",
    "tail of a streamed output", "tail of a resident output", "a vector layer follows",
}  # fmt: skip


def run_random(seeds: range, size: int, channels: int, stepped_every: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        rng = np.random.default_rng([seed, 0xB5])
        config = random_machine(rng)
        graph = random_chain(rng, str(rng.choice(config.requant_modes)), size, channels)
        if not is_equal(seed, graph, config, rng, ("fast", "stepped") if seed % stepped_every == 0 else ("fast",)):
            seen["refused"] += 1
            continue
        seen["graphs"] += 1
        seen.update(features(graph, config))
    return seen


def test_random_pairs_equal_the_reference() -> None:
    seen = run_random(range(60), 14, 24, stepped_every=4)
    print(dict(seen))
    assert seen["graphs"] >= 40
    assert seen["bands"] >= 10


@pytest.mark.parametrize(
    ("first", "count"),
    [pytest.param(1000, 60, marks=pytest.mark.slow), pytest.param(1060, 220, marks=pytest.mark.marathon)],
)
def test_many_random_pairs_equal_the_reference(first: int, count: int) -> None:
    seen = run_random(range(first, first + count), 20, 40, stepped_every=5)
    print(dict(seen))
    assert seen["graphs"] >= 0.7 * count
    assert set(seen) >= FEATURES


def depthwise_layer(channels: int, kernel: int = 3, **fields: Any) -> Layer:
    return conv(channels, (kernel, kernel), groups=channels, **fields)


def around(padding: int) -> dict[str, tuple[int, ...]]:
    return {"padding": (padding,) * 4}


CASES: dict[str, tuple[Callable[[], Graph], ArchConfig, set[str]]] = {
    "tiles, then a pair, then a layer": (
        lambda: network(
            (1, 12, 6, 8), conv(16, (1, 1)), depthwise_layer(16, **around(1)), conv(12, (1, 1)),
            depthwise_layer(12, **around(1)), conv(8, (1, 1)),
        ),
        replace(EDGE, acc_bank_words=16), {"tiles", "tail beside a pair", "tail beside a layer"},
    ),
    "a pair by bands, then a layer that does not need its last rows": (
        lambda: network(
            (1, 11, 11, 4), conv(24, (1, 1)), depthwise_layer(24, **around(1)), conv(5, (1, 1), stride=(3, 3)),
        ),
        replace(SMALL, spad_bank_words=512), {"bands", "tail beside a layer"},
    ),
    "a layer that has room only where the pair's tensor was": (
        lambda: network((1, 9, 9, 4), conv(20, (1, 1)), depthwise_layer(20, **around(1)), conv(5, (1, 1))),
        replace(SMALL, spad_banks=4, spad_bank_words=256), {"tail beside a layer"},
    ),
    "bands of a streamed image": (
        lambda: network((1, 40, 40, 8), conv(20, (1, 1)), depthwise_layer(20, **around(1)), conv(4, (1, 1))),
        replace(SMALL, spad_bank_words=128), {"several bands", "streamed source", "tail of a streamed output"},
    ),
    "bands of a folded image, by positions": (
        lambda: network((1, 40, 40, 2), conv(8, (3, 3), **around(1)), depthwise_layer(8, **around(1))),
        replace(SMALL, spad_bank_words=512), {"several bands", "folded by positions", "streamed source"},
    ),
    "bands of a folded image, by columns": (
        lambda: network((1, 64, 64, 1), conv(8, (3, 3), stride=(2, 2), **around(1)), depthwise_layer(8, **around(1))),
        replace(SMALL, spad_bank_words=128), {"several bands", "folded by columns", "streamed source"},
    ),
    "stride 2 and rows that nobody needs": (
        lambda: network((1, 30, 9, 4), conv(12, (1, 1)), depthwise_layer(12, 2, stride=(2, 2)), conv(4, (1, 1))),
        replace(SMALL, spad_bank_words=32), {"several bands"},
    ),
    "a pool follows the depthwise layer": (
        lambda: network(
            (1, 14, 14, 4), conv(16, (1, 1)), depthwise_layer(16, **around(1)), pool(MaxPool2d, (2, 2), (2, 2)),
        ),
        replace(SMALL, spad_bank_words=256), {"bands", "a vector layer follows"},
    ),
    "more columns than rows": (
        lambda: network((1, 9, 9, 4), conv(21, (1, 1)), depthwise_layer(21, **around(1)), conv(9, (3, 3))),
        replace(SMALL, cols=12, spad_bank_words=256), {"bands", "tail"},
    ),
    "more rows than columns": (
        lambda: network((1, 9, 9, 4), conv(21, (1, 1)), depthwise_layer(21, **around(1)), conv(9, (3, 3))),
        replace(SMALL, rows=12, post_lanes=2, spad_bank_words=256), {"bands", "tail"},
    ),
    "one accumulator bank": (
        lambda: network((1, 9, 9, 4), conv(21, (1, 1)), depthwise_layer(21, **around(1)), conv(9, (3, 3))),
        replace(SMALL, acc_banks=1, spad_bank_words=256), {"bands", "tail"},
    ),
    "wide dilation": (
        lambda: network((1, 13, 13, 4), conv(12, (1, 1)), depthwise_layer(12, dilation=(3, 3), **around(3))),
        replace(SMALL, spad_bank_words=256), {"bands"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_directed_pairs_equal_the_reference(case: str) -> None:
    make, config, wanted = CASES[case]
    graph = make()
    assert set(features(graph, config)) >= wanted
    for seed in range(3):
        assert_equal(graph, config, np.random.default_rng(seed), ("fast", "stepped") if seed == 0 else ("fast",))


def test_the_engine_works_beside_the_array() -> None:
    """Array and engine work at the same time in most of the engine's cycles."""
    make, config, _ = CASES["tiles, then a pair, then a layer"]
    program = compile_graph(make(), config)
    opcodes = [instruction.opcode for instruction in decode(program.code)]
    both = [opcode for opcode in opcodes if opcode in (Opcode.EXEC, Opcode.DEPTHWISE)]
    first, last = both.index(Opcode.DEPTHWISE), len(both) - both[::-1].index(Opcode.DEPTHWISE)
    assert Opcode.EXEC in both[first:last]
    result = api.run(program, random_inputs(program, 0))
    engine = [row for row in result.layers if row.bound == "depthwise" or row.hidden_cycles]
    assert sum(row.hidden_cycles for row in engine) > sum(row.cycles for row in engine)


def test_an_output_is_not_between_a_pair() -> None:
    chain = network((1, 9, 9, 4), conv(8, (1, 1)), depthwise_layer(8, **around(1)))
    assert set(features(chain, SMALL)) & {"bands", "tiles"}
    assert not set(features(replace(chain, outputs=("t1", "t2")), SMALL))


def _one_room(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Area, "divided", lambda area, count: (area,) * count)


def _nothing_awaited(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(order._Order, "_await_tail", lambda self, part: None)


def _short_bands(patch: pytest.MonkeyPatch) -> None:
    original = pairs.input_tile

    def shorter(layer: Any, tile: Tile) -> Tile:
        part = original(layer, tile)
        return Tile(part.y0, max(part.y1 - 1, part.y0 + 1), part.x0, part.x1)

    patch.setattr(pairs, "input_tile", shorter)


def _rooms_given_away_early(patch: pytest.MonkeyPatch) -> None:
    original = pairs.PairSite
    patch.setattr(planner, "PairSite", lambda *fields: replace(original(*fields), trails=False))


def _sources_overwritten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(progress.Progress, "band_end", lambda *args: -1)


def run_suite() -> None:
    for make, config, _ in CASES.values():
        assert_equal(make(), config, np.random.default_rng(5), ("fast",))
    run_random(range(1, 60), 14, 24, stepped_every=1000)


MUTANTS = {
    "both rooms the same": _one_room,
    "the tail is not awaited": _nothing_awaited,
    "bands one row short": _short_bands,
    "rooms given away while the tail runs": _rooms_given_away_early,
    "sources overwritten too early": _sources_overwritten,
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_of_pairs_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[mutant](monkeypatch)
    with pytest.raises((AssertionError, AccelError)):
        run_suite()
