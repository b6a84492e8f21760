"""Where every tensor lives and how every layer is tiled.

A tensor stays in the scratchpad from its producer to its last consumer if there is room; otherwise it lives in external
memory and passes through the scratchpad in tiles, two buffers each so that transfers overlap with work. What passes
from an array layer to the depthwise layer that follows it lives in neither, but in bands (`compiler.plan.pairs`).

`walk` plans a network for given choices, layer by layer, from state to state. Nothing is undone: what fails leaves the
state before it as it was. `plan_network` gives up what is refused and goes on from the last state that does not depend
on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice, product
from types import MappingProxyType
from typing import NamedTuple

from accel.machine.config import ArchConfig
from compiler.lower.layers import ArrayLayer, ComputeLayer, DepthwiseLayer, MoveLayer, Network, VectorLayer
from compiler.lower.refusal import NoPlaceError
from compiler.plan.allocate import Request, Scratchpad
from compiler.plan.choices import NoRoom, NotBeside, Refusal, first_choices, may_trail
from compiler.plan.pairs import ROOMS, Pairing, PairSite, cuts_of, place_pair, share_banks
from compiler.plan.plan import LayerPlan, MovePlan, Plan, Tiling
from compiler.plan.state import State, Task
from compiler.plan.tiles import STREAMED_TILES
from compiler.plan.tilings import BUFFERS, Buffer, Candidate, Cost, buffer, candidates, chunkings, cost, folded
from compiler.plan.weights import channel_chunks, contraction_words

MOVE_WORDS = 1024
"""Words that a gather brings at a time."""

WORTHWHILE_TILE = 8
"""Pixels of a tile for each row of the array: rather than smaller ones, the output goes to external memory.

An EXEC of few pixels ends before the next weights are loaded.
"""


class TooLarge(NamedTuple):
    """A tiling does not fit: its buffers need so many scratchpad words."""

    words: int


REMEMBERED_LAYERS = 6
"""Where layers overlap, places that layers so far before have owned are taken last."""


def plan_network(network: Network, config: ArchConfig, overlaps: bool = False, tiles: int = STREAMED_TILES) -> Plan:
    """Place all values and tile all layers; gives up choices until everything has room.

    Parameters
    ----------
    network : Network
    config : ArchConfig
    overlaps : bool
        Whether layers will overlap: neighbours' areas are kept apart where there is room.
    tiles : int
        Tiles of a streamed image at least, if they are not too small.

    Raises
    ------
    NoPlaceError
        A layer does not fit even with nothing resident beside it; the message has the numbers.
    """
    scratchpad = Scratchpad.empty(config, REMEMBERED_LAYERS if overlaps else 0)
    path, refusal = walk(State(Task(network, config, first_choices(network, config, tiles)), scratchpad))
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
    ends = (i for i in choices.beside if may_trail(network, i))
    trails = (i for i in ends if i - 1 in state.pairs or network.layers[i].output in state.residents)
    return Plan(network, choices, state.residents, state.plans, state.pairs, frozenset(trails))


def place_next(state: State) -> State | Refusal:
    """The state after the next layer, or the next two if they are a pair by bands."""
    index = len(state.plans)
    layer, choices = state.task.network.layers[index], state.task.choices
    state = replace(state, scratchpad=state.scratchpad.since(choices.start(index)))
    if index + 1 in choices.by_bands:
        return _place_pair(state, index)
    if index + 1 in choices.joined:
        return _place_joined(state, index)
    return _place_move(state, index, layer) if isinstance(layer, MoveLayer) else _place_layer(state, index, layer)


def _place_layer(state: State, index: int, layer: ComputeLayer) -> State | Refusal:
    for value in layer.inputs:
        state = _preload(state, index, layer, value)
    _, config, choices = state.task
    beside = index in choices.beside
    if beside and any(state.streams(value) for value in layer.inputs):
        return NotBeside(index)
    fits = [_fits(option, index, layer, floor) for floor in _floors(config) for option in _options(state, index, layer)]
    result = best_fit(chain.from_iterable(fits))
    if isinstance(result, Fit):
        return result.state
    return NotBeside(index) if beside else state.no_room(index, result.words)


def _floors(config: ArchConfig) -> tuple[int, int]:
    """Pixels of the largest tile at least: rather all that is worth while, then any."""
    return WORTHWHILE_TILE * config.rows, 1


def _fits(state: State, index: int, layer: ComputeLayer, floor: int) -> Iterator[Fit | TooLarge]:
    """Tilings of a layer, the preferred first."""
    network, config, choices = state.task
    streams = any(state.streams(value) for value in (*layer.inputs, layer.output))
    for candidate in candidates(layer, chunkings(network, layer, config), config, streams, floor, choices.tiles):
        yield fit(state, index, candidate)


class Fit(NamedTuple):
    """The state after a layer, and what its tiling costs."""

    state: State
    cost: Cost


def best_fit(fits: Iterable[Fit | TooLarge]) -> Fit | TooLarge:
    """The first that memory does not bind; if there is none, the first of those that it binds least."""
    best: Fit | TooLarge = TooLarge(0)
    for found in fits:
        if not isinstance(best, Fit) or (isinstance(found, Fit) and found.cost.cycles < best.cost.cycles):
            best = found
        if isinstance(best, Fit) and best.cost.load <= best.cost.array:
            break
    return best


def fit(state: State, index: int, candidate: Candidate) -> Fit | TooLarge:
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
    group_outer = _is_group_outer(tiling, each, config)
    planned = state.planned(grants.scratchpad, LayerPlan.of(tiling, tuple(inputs), output, group_outer))
    return Fit(planned, cost(tiling, config, any(streamed), group_outer))


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


def _place_joined(state: State, index: int) -> State | Refusal:
    """An array layer and the vector layer that joins it: equal tiles, group by group of channels."""
    network, config, _ = state.task
    before, layer = network.layers[index : index + 2]
    assert isinstance(before, ArrayLayer)
    assert isinstance(layer, VectorLayer)
    state = _preload(state, index, before, before.inputs[0])
    options = [(apart, option) for apart in (True, False) for option in _options(state, index + 1, layer)]
    fits = [_joined_fits(option, index, floor, apart) for floor in _floors(config) for apart, option in options]
    result = best_fit(chain.from_iterable(fits))
    return result.state if isinstance(result, Fit) else NotBeside(index + 1)


def _joined_fits(state: State, index: int, floor: int, apart: bool) -> Iterator[Fit | TooLarge]:
    """Tilings of an array layer and of the vector layer that joins it, the preferred first."""
    network, config, choices = state.task
    before, layer = network.layers[index : index + 2]
    assert isinstance(before, ArrayLayer)
    assert isinstance(layer, VectorLayer)
    ends = [value for value in (*before.inputs, *layer.inputs, layer.output) if value != before.output]
    streams = any(state.streams(value) for value in ends)
    for candidate in candidates(before, chunkings(network, before, config), config, streams, floor, choices.tiles):
        yield _fit_joined(state, index, candidate, layer, apart)


def _fit_joined(state: State, index: int, candidate: Candidate, layer: VectorLayer, apart: bool) -> Fit | TooLarge:
    """The state after both layers if there is room: `ROOMS` for a group of what is between and of what is streamed.

    If `apart`, the array's input, what is between, the other operand and the output must not share a bank.
    """
    config, (tiling, buffers) = state.task.config, candidate
    before, first = tiling.layer, state.task.choices.start(index)
    each = buffer(tiling, config, [state.streams(value) for value in before.inputs], store=True)
    wanted = [(words, buffers) for words in each.inputs]
    for value in (*layer.inputs, layer.output):
        wanted.append((each.output, ROOMS) if value == before.output or state.streams(value) else (0, ROOMS))
    requests = [Request(words * copies, first, index + 1) for words, copies in wanted if words]
    grants = state.scratchpad.allocate_all(requests)
    residents = [state.area(value) for value in (*before.inputs, *layer.inputs, layer.output)]
    if grants is None or (apart and share_banks(state.scratchpad, [*grants.areas, *dict.fromkeys(residents)])):
        return TooLarge(sum(request.words for request in requests))
    areas = iter(grants.areas)
    rooms = [next(areas).divided(copies) if words else None for words, copies in wanted]
    count = len(before.inputs)
    plain = Tiling(layer, channel_chunks(layer.input_shape[2], config.rows), tiling.tiles)
    between = rooms[count + layer.inputs.index(before.output)]
    group_outer = _is_group_outer(tiling, each, config)
    array = LayerPlan.of(tiling, tuple(rooms[:count]), between, group_outer)
    planned = state.planned(grants.scratchpad, array, LayerPlan.of(plain, tuple(rooms[count:-1]), rooms[-1]))
    return Fit(planned, cost(tiling, config, any(each.inputs), group_outer))


def _is_group_outer(tiling: Tiling, each: Buffer, config: ArchConfig) -> bool:
    """Whether weights are loaded once, group after group: they do not fit at once, and the input is resident."""
    layer = tiling.layer
    if not isinstance(layer, ArrayLayer) or any(each.inputs):
        return False
    return contraction_words(layer, tiling.chunks, config) > config.wbuf_words


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
