"""The planner goes from state to state: what fails leaves no trace, and a plan depends on its choices only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import FrozenInstanceError, replace
from itertools import product

import numpy as np
import pytest
from support.networks.equality import is_equal
from support.networks.random_graphs import random_graph
from support.networks.random_pairs import random_chain, random_machine
from support.networks.small_networks import conv, network
from test_plan import check_plan

from accel.errors import CompileError
from accel.machine.config import ArchConfig, preset
from compiler.lower.layers import ComputeLayer, Network
from compiler.lower.network import lower
from compiler.plan import planner
from compiler.plan.allocate import Area, Scratchpad
from compiler.plan.choices import Choices, NoRoom, NotBeside, first_choices
from compiler.plan.planner import Fit, TooLarge, finish, fit, place_next, plan_network, walk
from compiler.plan.state import State, Task
from compiler.plan.tilings import Candidate, candidates
from compiler.plan.weights import channel_chunks

SMALL = replace(preset("tiny"), name="small", spad_banks=4, spad_bank_words=128, wbuf_words=64, acc_bank_words=16)


def start(network_: Network, config: ArchConfig, choices: Choices) -> State:
    return State(Task(network_, config, choices), Scratchpad.empty(config))


def chains(seeds: range) -> Iterator[tuple[ArchConfig, Network]]:
    """Chains of convolutions and machines for which they are rather large."""
    for seed in seeds:
        rng = np.random.default_rng([seed, 0xC4])
        config = random_machine(rng)
        with suppress(CompileError):
            yield config, lower(random_chain(rng, config.requant_modes[0], 14, 24), config)


def contents(state: State) -> tuple[object, ...]:
    """Copies of all that a state holds."""
    return state.task, state.scratchpad.areas, dict(state.residents), state.plans, dict(state.pairs)


def test_a_step_leaves_the_state_before_it_as_it_was() -> None:
    results: set[type] = set()
    for (config, lowered), beside in product(chains(range(40)), (True, False)):
        choices = first_choices(lowered, config) if beside else Choices()
        for state in walk(start(lowered, config, choices)).states:
            if len(state.plans) == len(lowered.layers):
                continue
            before = contents(state)
            result = place_next(state)
            assert contents(state) == before
            assert place_next(state) == result
            results.add(type(result))
    assert results == {State, NotBeside, NoRoom}


def test_what_does_not_fit_says_how_much_it_needs() -> None:
    lowered = lower(network((1, 40, 40, 8), conv(20, (1, 1))), SMALL)
    state, layer = start(lowered, SMALL, Choices(spilled=frozenset(lowered.inputs))), lowered.layers[0]
    assert isinstance(layer, ComputeLayer)
    tiling, _ = next(candidates(layer, [channel_chunks(8, SMALL.rows)], SMALL, True, 1))
    before = contents(state)
    assert fit(state, 0, Candidate(tiling, 40)) == TooLarge(40 * (14 * 2 + 14))
    assert contents(state) == before
    assert isinstance(fit(state, 0, Candidate(tiling, 1)), Fit)


def test_going_on_after_a_refusal_equals_starting_again() -> None:
    refused = 0
    for config, lowered in chains(range(60)):
        with suppress(CompileError):
            plan = plan_network(lowered, config)
            again = walk(start(lowered, config, plan.choices))
            assert again.refusal is None
            assert finish(again.states[-1]) == plan
            refused += plan.choices != first_choices(lowered, config)
    assert refused >= 10


def fewer(choices: Choices, lowered: Network, rng: np.random.Generator) -> Choices:
    """Some values spilled, some layers no longer beside others, some pairs by bands for by tiles."""
    moved = frozenset(i for i in choices.by_tiles if rng.random() < 0.5)
    return Choices(
        spilled=choices.spilled | {layer.output for layer in lowered.layers if rng.random() < 0.3},
        followers=frozenset(i for i in choices.followers if rng.random() < 0.5),
        by_tiles=choices.by_tiles - moved,
        by_bands=frozenset(i for i in choices.by_bands | moved if rng.random() < 0.5),
    )


def test_other_choices_give_plans_that_keep_their_promises() -> None:
    planned = 0
    for seed, (config, lowered) in enumerate(chains(range(60))):
        choices = fewer(first_choices(lowered, config), lowered, np.random.default_rng(seed))
        states, refusal = walk(start(lowered, config, choices))
        if refusal is None:
            check_plan(config, lowered, finish(states[-1]))
            planned += 1
    assert planned >= 20


def test_other_choices_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, count = np.random.default_rng(3), 0
    monkeypatch.setattr(
        planner, "first_choices", lambda n, config, tiles: fewer(first_choices(n, config, tiles), n, rng)
    )
    for seed in range(12):
        config = random_machine(np.random.default_rng(seed))
        graph = random_graph(np.random.default_rng(seed), config.requant_modes[0], layers=4, channels=16, size=10)
        count += is_equal(seed, graph, config, rng, ("fast",))
        chain = random_chain(np.random.default_rng(seed), config.requant_modes[0], 12, 20)
        count += is_equal(seed, chain, config, rng, ("fast",))
    assert count >= 12


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (NotBeside(1), Choices(frozenset(), frozenset(), frozenset({3}), frozenset({5}))),
        (NotBeside(3), Choices(frozenset(), frozenset({1}), frozenset(), frozenset({3, 5}))),
        (NotBeside(5), Choices(frozenset(), frozenset({1}), frozenset({3}), frozenset())),
        (
            NoRoom(4, 99, {"a": Area(0, 5, 0, 9), "b": Area(5, 7, 2, 4), "c": Area(12, 7, 1, 5)}),
            Choices(frozenset({"c"}), frozenset({1}), frozenset({3}), frozenset({5})),
        ),
    ],
)
def test_a_refusal_gives_up_one_choice(refusal: NoRoom | NotBeside, expected: Choices) -> None:
    choices = Choices(frozenset(), frozenset({1}), frozenset({3}), frozenset({5}))
    assert choices.without(refusal) == expected
    assert choices == Choices(frozenset(), frozenset({1}), frozenset({3}), frozenset({5}))
    assert refusal.cause == (1 if isinstance(refusal, NoRoom) else refusal.layer - 1)


def test_plans_are_immutable() -> None:
    plan = plan_network(lower(network((1, 9, 9, 4), conv(8, (3, 3)), conv(8, (1, 1))), SMALL), SMALL)
    assert len({*plan.layers, plan.choices}) == 3
    for record, field in ((plan, "layers"), (plan.layers[0], "tiles"), (plan.choices, "spilled")):
        with pytest.raises(FrozenInstanceError):
            setattr(record, field, ())
    for mapping in (plan.residents, plan.pairs):
        with pytest.raises(TypeError, match="does not support item assignment"):
            mapping["t0"] = None
