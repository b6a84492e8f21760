"""Where every tensor lives and how every layer is tiled.

A tensor stays in the scratchpad from its producer to its last consumer if there is room; otherwise it lives in external
memory and passes through the scratchpad in tiles, two buffers each so that transfers overlap with work. What passes
from an array layer to the depthwise layer that follows it lives in neither, but in bands (`compiler.plan.pairs`).

`walk` plans a network for given choices, layer by layer, from state to state. Nothing is undone: what fails leaves the
state before it as it was. `plan_network` gives up what is refused and goes on from the last state that does not depend
on it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product
from types import MappingProxyType
from typing import NamedTuple

from accel.machine.config import ArchConfig
from compiler.lower.layers import ArrayLayer, ComputeLayer, DepthwiseLayer, MoveLayer, Network
from compiler.lower.refusal import NoPlaceError
from compiler.plan.allocate import Request, Scratchpad
from compiler.plan.choices import NoRoom, NotBeside, Refusal, first_choices, may_trail
from compiler.plan.pairs import Pairing, PairSite, cuts_of, place_pair
from compiler.plan.plan import LayerPlan, MovePlan, Plan
from compiler.plan.state import State, Task
from compiler.plan.tilings import BUFFERS, Candidate, buffer, candidates, chunkings, folded
from compiler.plan.weights import contraction_words

MOVE_WORDS = 1024
"""Words that a gather brings at a time."""

WORTHWHILE_TILE = 8
"""Pixels of a tile for each row of the array: rather than smaller ones, the output goes to external memory.

An EXEC of few pixels ends before the next weights are loaded.
"""


class TooLarge(NamedTuple):
    """A tiling does not fit: its buffers need so many scratchpad words."""

    words: int


def plan_network(network: Network, config: ArchConfig) -> Plan:
    """Place all values and tile all layers; gives up choices until everything has room.

    Raises
    ------
    NoPlaceError
        A layer does not fit even with nothing resident beside it; the message has the numbers.
    """
    path, refusal = walk(State(Task(network, config, first_choices(network, config)), Scratchpad.empty(config)))
    while refusal is not None:
        if isinstance(refusal, NoRoom) and not refusal.residents:
            raise NoPlaceError(
                network.layers[refusal.layer].name,
                f"no tiling fits config {config.name!r}: the smallest needs {refusal.words} scratchpad words of "
                f"{config.rows} bytes, the scratchpad has {config.spad_words}",
            )
        choices = path[-1].task.choices.without(refusal)
        settled = [state for state in path if len(state.plans) <= refusal.cause]
        again, refusal = walk(settled[-1].under(choices))
        path = settled[:-1] + again
    return finish(path[-1])


class Walk(NamedTuple):
    """States from one to the next; the last has a plan for every layer, or its next layer is refused."""

    states: list[State]
    refusal: Refusal | None


def walk(state: State) -> Walk:
    """Plan all layers that have no plan yet."""
    states = [state]
    while len(states[-1].plans) < len(state.task.network.layers):
        result = place_next(states[-1])
        if not isinstance(result, State):
            return Walk(states, result)
        states.append(result)
    return Walk(states, None)


def finish(state: State) -> Plan:
    """The plan of a network whose layers all have one."""
    network, _, choices = state.task
    trails = (i for i in choices.beside if may_trail(network, i) and network.layers[i].output in state.residents)
    return Plan(network, choices, state.residents, state.plans, state.pairs, frozenset(trails))


def place_next(state: State) -> State | Refusal:
    """The state after the next layer, or the next two if they are a pair by bands."""
    index = len(state.plans)
    layer, choices = state.task.network.layers[index], state.task.choices
    state = replace(state, scratchpad=state.scratchpad.since(choices.start(index)))
    if index + 1 in choices.by_bands:
        return _place_pair(state, index)
    return _place_move(state, index, layer) if isinstance(layer, MoveLayer) else _place_layer(state, index, layer)


def _place_layer(state: State, index: int, layer: ComputeLayer) -> State | Refusal:
    for value in layer.inputs:
        state = _preload(state, index, layer, value)
    network, config, choices = state.task
    beside = index in choices.beside
    if beside and any(state.streams(value) for value in layer.inputs):
        return NotBeside(index)
    options, chunks, words = _options(state, index, layer), chunkings(network, layer, config), 0
    for floor in (WORTHWHILE_TILE * config.rows, 1):
        for option in options:
            streams = any(option.streams(value) for value in (*layer.inputs, layer.output))
            for candidate in candidates(layer, chunks, config, streams, floor):
                result = fit(option, index, candidate)
                if isinstance(result, State):
                    return result
                words = result.words
    return NotBeside(index) if beside else state.no_room(index, words)


def fit(state: State, index: int, candidate: Candidate) -> State | TooLarge:
    """The state after layer `index`, which has this tiling, if there is room for its tile buffers."""
    config, (tiling, buffers) = state.task.config, candidate
    layer, first = tiling.layer, state.task.choices.start(index)
    streamed = [state.streams(value) for value in layer.inputs]
    each = buffer(tiling, config, streamed, state.streams(layer.output))
    sizes = [words for words in (*each.inputs, each.output) for _ in range(buffers) if words]
    grants = state.scratchpad.allocate_all(Request(words, first, index) for words in sizes)
    if grants is None:
        return TooLarge(sum(sizes))
    areas = iter(grants.areas)
    *inputs, output = (tuple(islice(areas, buffers)) if words else None for words in (*each.inputs, each.output))
    group_outer = (
        isinstance(layer, ArrayLayer)
        and not any(streamed)
        and contraction_words(layer, tiling.chunks, config) > config.wbuf_words
    )
    return state.planned(grants.scratchpad, LayerPlan.of(tiling, tuple(inputs), output, group_outer))


def _options(state: State, index: int, layer: ComputeLayer) -> tuple[State, ...]:
    """States in which a layer's output is resident, and in which external memory holds it, as far as either can be."""
    network, _, choices = state.task
    value = network.place(layer.output).whole
    writers, readers = network.users(value)
    if min(writers) < index or not readers or value in choices.spilled:
        return (state,)
    last = max(writers + readers)
    resident = state.resident(value, index, last + may_trail(network, last))
    if resident is None:
        return () if index in choices.followers else (state,)
    return resident, state


def _place_pair(state: State, index: int) -> State | Refusal:
    """An array layer and the depthwise layer after it, by bands."""
    network, config, choices = state.task
    before, layer = network.layers[index : index + 2]
    assert isinstance(before, ArrayLayer)
    assert isinstance(layer, DepthwiseLayer)
    state = _preload(state, index, before, before.inputs[0])
    pairings = [Pairing(config, before, layer, chunks) for chunks in chunkings(network, before, config)]
    cuts, trails = [list(cuts_of(pairing)) for pairing in pairings], may_trail(network, index + 1)
    for apart, option in product((True, False), _options(state, index + 1, layer)):
        source, output = option.area(before.inputs[0]), option.area(layer.output)
        site = PairSite(source, output, choices.start(index), index + 1, trails)
        for pairing, several in zip(pairings, cuts, strict=True):
            plan = place_pair(option.scratchpad, pairing, several, site, apart)
            if plan is not None:
                pairs = MappingProxyType({**option.pairs, index: plan.bands})
                return replace(option, pairs=pairs).planned(plan.scratchpad, plan.array, plan.depthwise)
    return NotBeside(index + 1)


def _place_move(state: State, index: int, layer: MoveLayer) -> State | Refusal:
    network, config, choices = state.task
    readers = network.users(layer.output).readers
    if readers and layer.output not in choices.spilled:
        resident = state.resident(layer.output, index, max(readers))
        if resident is not None:
            words = min(resident.residents[layer.output].words, MOVE_WORDS)
            return resident.planned(resident.scratchpad, MovePlan(layer, words))
    height, width, channels = layer.output_shape
    words = min(height * width * -(-channels // config.rows), MOVE_WORDS)
    while words:
        for buffers in BUFFERS:
            grants = state.scratchpad.allocate_all([Request(words, index, index)] * buffers)
            if grants is not None:
                return state.planned(grants.scratchpad, MovePlan(layer, words, grants.areas))
        words //= 2
    return state.no_room(index, 1)


def _preload(state: State, index: int, layer: ComputeLayer, value: str) -> State:
    """Make a network input resident, unless its kernel positions are folded or it has no room."""
    network, config, choices = state.task
    whole = network.place(value).whole
    readers = network.users(whole).readers
    first_use = whole in network.inputs and readers[0] == index
    if not first_use or whole in choices.spilled or folded(network, layer, config) is not None:
        return state
    return state.resident(whole, index, max(readers)) or state
