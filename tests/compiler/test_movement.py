"""Operations that move bytes: random networks equal the reference, and no bytes move without need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.machine.random_programs import random_config
from support.networks.equality import assert_equal, is_equal
from support.networks.random_graphs import GraphBuilder
from support.networks.random_movement import (
    ALWAYS_GATHERED,
    MOVES,
    append_node,
    grouped_transposes,
    random_movement_graph,
)
from support.networks.small_networks import conv, network

from accel.errors import AccelError
from accel.machine.config import ArchConfig, preset
from accel.machine.isa import Opcode, decode
from accel.network.graph import Graph, Tensor
from accel.network.nodes import (
    Add,
    Concat,
    Constant,
    Pad,
    Reshape,
    ResizeNearest,
    StridedSlice,
    Transpose,
    TransposeConv2d,
)
from compiler import compile_graph
from compiler.emit import gather, progress
from compiler.lower import copies, registry
from compiler.lower import movement as lower_movement
from compiler.lower import transpose_conv as lower_transpose_conv
from compiler.lower.geometry import Place, Tile
from compiler.lower.layers import IDENTITY, ArrayLayer, InterpolationLayer, MoveLayer, Network, VectorLayer
from compiler.lower.network import lower, lower_graph
from compiler.plan.plan import Plan
from compiler.plan.planner import plan_network
from compiler.plan.tiles import placed

TINY, EDGE = preset("tiny"), preset("edge")
SLOW = pytest.mark.slow


# Random networks ------------------------------------------------------------------------------------------------------


def routes(graph: Graph, config: ArchConfig) -> Iterator[str]:
    """How a network's operations were mapped."""
    for lowered in lower_graph(graph, config).networks:
        yield from network_routes(lowered, plan_network(lowered, config))


def network_routes(lowered: Network, plan: Plan) -> Iterator[str]:
    for layer in lowered.layers:
        place = lowered.place(layer.output)
        resident = place.whole in plan.residents
        if isinstance(layer, MoveLayer):
            yield "gather, resident" if resident else "gather, stored"
            if (layer.locations < 0).any():
                yield "fill"
        elif isinstance(layer, InterpolationLayer):
            yield "interpolation, resident" if resident else "interpolation, stored"
            streamed = lowered.place(layer.inputs[0]).whole not in plan.residents
            yield "interpolation, streamed" if streamed else "interpolation from the scratchpad"
        elif layer.op in MOVES and isinstance(layer, VectorLayer):
            yield "copy"
        if layer.output in lowered.places:
            yield "part, resident" if resident else "part, stored"
            if place.step != (1, 1):
                yield "interleaved, resident" if resident else "interleaved, stored"
        for value in layer.inputs:
            if value in lowered.places and layer.op not in MOVES:
                yield "slice, resident" if lowered.place(value).whole in plan.residents else "slice, streamed"
    if lowered.constants:
        yield "constant"


GATHERS = {"gather, resident", "gather, stored"}
EXPECTED: dict[str, set[str]] = {
    "Pad": {"fill", "copy"},
    "Concat": {"part, resident", "part, stored", "copy"},
    "Constant": {"constant"},
    "ResizeNearest": {"interleaved, resident", "interleaved, stored"},
    "ResizeBilinear": {
        f"interpolation{how}" for how in (", resident", ", stored", ", streamed", " from the scratchpad")
    },
    "StridedSlice": {"slice, resident"},
    "TransposeConv2d": {"interleaved, resident", "interleaved, stored"},
}
"""Routes that each operation must take, besides gathers."""


def run_random(kind: str, seeds: range) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        rng = np.random.default_rng([seed, 0x30])
        small = replace(random_config(rng), spad_bank_words=256, acc_bank_words=32)
        config = (TINY, EDGE, random_config(rng), small)[seed % 4]
        graph = random_movement_graph(rng, str(rng.choice(config.requant_modes)), kind)
        if not is_equal(seed, graph, config, rng, ("fast", "stepped") if seed % 10 == 0 else ("fast",)):
            seen["refused"] += 1
            continue
        seen["graphs"] += 1
        seen.update(set(routes(graph, config)))
    return seen


@pytest.mark.parametrize("kind", MOVES | ALWAYS_GATHERED)
def test_random_networks_equal_the_reference(kind: str) -> None:
    assert run_random(kind, range(8))["graphs"] >= 6


@SLOW
@pytest.mark.parametrize("kind", MOVES | ALWAYS_GATHERED)
def test_more_random_networks_equal_the_reference(kind: str) -> None:
    assert run_random(kind, range(100, 140))["graphs"] >= 30


@pytest.mark.marathon
@pytest.mark.parametrize("kind", MOVES | ALWAYS_GATHERED)
def test_many_random_networks_equal_the_reference(kind: str) -> None:
    seen = run_random(kind, range(1000, 1240))
    print(dict(seen))
    assert seen["graphs"] >= 200
    assert set(seen) >= GATHERS | EXPECTED.get(kind, set())


# Directed cases -------------------------------------------------------------------------------------------------------


def built(make: Callable[[GraphBuilder, Tensor], Tensor], shape: tuple[int, ...], *outputs: str) -> Graph:
    """A network of what `make` appends to an input of `shape`; `outputs` besides its result."""
    builder = GraphBuilder(np.random.default_rng(5), "tflite")
    last = make(builder, builder.given(shape))
    graph: Graph = replace(builder.graph(last), outputs=(*outputs, last.name))
    return graph


def skip(b: GraphBuilder, x: Tensor) -> Tensor:
    """Upsampling beside a skip connection, as in a U-Net."""
    first = b.pointwise(x, 16)
    rows, columns = (tuple(i // 2 for i in range(2 * n)) for n in x.shape[1:3])
    wide = append_node(b, ResizeNearest, [first], rows=rows, columns=columns)
    other = b.pointwise(wide, 5)
    return b.pointwise(append_node(b, Concat, [wide, other], axis=3), 3)


def split(b: GraphBuilder, x: Tensor) -> Tensor:
    parts = [
        append_node(b, StridedSlice, [x], begin=(0, 0, 0, 16 * i), end=(1, *x.shape[1:3], 16 * i + 16), stride=(1,) * 4)
        for i in range(2)
    ]
    return b.rescaled(Add, *parts)


def concat_with_itself(b: GraphBuilder, x: Tensor) -> Tensor:
    made = b.pointwise(x, 4)
    return append_node(b, Concat, [made, x, made, x], axis=3)


def dense(b: GraphBuilder, x: Tensor) -> Tensor:
    for _ in range(3):
        x = append_node(b, Concat, [b.pointwise(x, 4), b.pointwise(x, 8)], axis=3)
    return x


def constant_output(b: GraphBuilder, x: Tensor) -> Tensor:
    node = Constant(name="c", inputs=(), output="", value=np.arange(24, dtype=np.int8).reshape(1, 2, 3, 4))
    made = b.append(node, b.tensor((1, 2, 3, 4), like=x))
    flat = append_node(b, Reshape, [made], shape=(1, 24))
    return b.fully_connected(flat, 3)


def features(b: GraphBuilder, x: Tensor) -> Tensor:
    padded = append_node(b, Pad, [x], before=(0, 5), after=(0, 7), value=1)
    return append_node(b, StridedSlice, [padded], begin=(0, 2), end=(1, 39000), stride=(1, 1))


def unpooled(b: GraphBuilder, x: Tensor) -> Tensor:
    """A transposed convolution with more stride than kernel, more output than sums, cut at the top."""
    weights: dict[str, Any] = b.weights((5, 2, 1, x.shape[3]))
    sizes: dict[str, Any] = {"stride": (3, 2), "padding": (4, 1), "size": (150, 9)}
    node = TransposeConv2d(name="up", inputs=(x.name,), output="", **sizes, **weights)
    return b.append(node, b.tensor(node.output_shape(x.shape)))


def transposed_sum(b: GraphBuilder, x: Tensor) -> Tensor:
    first = b.pointwise(x, 6)
    return b.rescaled(Add, b.rescaled(Add, append_node(b, Transpose, [first], permutation=(0, 2, 1, 3)), first), x)


CASES: dict[str, tuple[Callable[[], Graph], ArchConfig]] = {
    "upsampling and concatenation": (lambda: built(skip, (1, 5, 6, 7)), EDGE),
    "upsampling and concatenation, streamed": (
        lambda: built(skip, (1, 20, 21, 7)),
        replace(TINY, spad_bank_words=128, acc_bank_words=64),
    ),
    "a split whose parts are added": (lambda: built(split, (1, 4, 5, 32)), EDGE),
    "a split whose parts are streamed": (
        lambda: built(split, (1, 21, 20, 40)),
        replace(EDGE, spad_banks=4, spad_bank_words=128, acc_bank_words=64),
    ),
    "an input in a concatenation and at the output": (lambda: built(concat_with_itself, (1, 3, 4, 4), "t0"), TINY),
    "a concatenated value at the output": (lambda: built(concat_with_itself, (1, 3, 4, 4), "t1"), TINY),
    "concatenations within each other": (lambda: built(dense, (1, 3, 4, 4)), TINY),
    "a constant at the output": (lambda: built(constant_output, (1, 2, 3, 4), "t1", "t2"), TINY),
    "more features than the scratchpad holds": (lambda: built(features, (1, 40000)), TINY),
    "a transposed convolution beyond its sums": (lambda: built(unpooled, (1, 3, 5, 6)), TINY),
    "transposed convolutions of groups": (lambda: built(grouped_transposes, (1, 3, 2, 8)), EDGE),
    "transposed convolutions of groups, streamed": (lambda: built(grouped_transposes, (1, 3, 2, 8)), TINY),
    "padding beyond the fields": (
        lambda: built(
            lambda b, x: append_node(b, Pad, [x], before=(0, 200, 0, 0), after=(0, 300, 1, 0), value=-7), (1, 3, 5, 6)
        ),
        TINY,
    ),
    "tiles in the padding alone": (
        lambda: network((1, 5, 6, 3), conv(2, (1, 1), padding=(0, 0, 40, 40))),
        replace(TINY, acc_bank_words=8),
    ),
    "a gather after many tiles": (
        lambda: built(transposed_sum, (1, 9, 9, 6)),
        replace(TINY, acc_bank_words=16, queue_depth=32),
    ),
    "rows and columns exchanged": (
        lambda: built(lambda b, x: b.conv(append_node(b, Transpose, [x], permutation=(0, 2, 1, 3)), 5), (1, 9, 13, 6)),
        TINY,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_directed_cases_equal_the_reference(case: str) -> None:
    make, config = CASES[case]
    assert_equal(make(), config, np.random.default_rng(3), ("fast", "stepped"))


def test_slices_are_read_in_place_wherever_their_tensor_lies() -> None:
    for case, route in (("are added", "slice, resident"), ("are streamed", "slice, streamed")):
        make, config = CASES[f"a split whose parts {case}"]
        assert route in set(routes(make(), config))


def test_what_need_not_move_does_not() -> None:
    layers = lower(built(skip, (1, 5, 6, 7)), EDGE).layers
    assert [(layer.op, type(layer)) for layer in layers] == [
        ("Conv2d", ArrayLayer),
        *[("ResizeNearest", VectorLayer)] * 4,
        *[("Conv2d", ArrayLayer)] * 2,
    ]
    assert [layer.op for layer in lower(built(split, (1, 4, 5, 32)), EDGE).layers] == ["Add"]
    assert {layer.op for layer in lower(built(dense, (1, 3, 4, 4)), TINY).layers} == {"Conv2d"}


def padded_convolution(value: int) -> Graph:
    def make(b: GraphBuilder, x: Tensor) -> Tensor:
        point = x.zero_point if value == 0 else (x.zero_point + 129) % 256 - 128
        return b.conv(append_node(b, Pad, [x], before=(0, 2, 1, 0), after=(0, 0, 3, 0), value=point), 4)

    return built(make, (1, 6, 5, 3))


def test_padding_with_the_zero_point_becomes_the_convolution_s() -> None:
    (layer,) = lower(padded_convolution(0), TINY).layers
    assert layer.op == "Conv2d"
    assert [other.op for other in lower(padded_convolution(1), TINY).layers] == ["Pad", "Conv2d"]


def test_chains_of_moves_are_one_gather() -> None:
    def chain(b: GraphBuilder, x: Tensor) -> Tensor:
        x = append_node(b, Transpose, [x], permutation=(0, 3, 1, 2))
        x = append_node(b, Reshape, [x], shape=(1, 10, 3, 4))
        return b.conv(append_node(b, Transpose, [x], permutation=(0, 1, 3, 2)), 4)

    assert [layer.op for layer in lower(built(chain, (1, 4, 5, 6)), TINY).layers] == ["Transpose", "Conv2d"]


def test_places_compose() -> None:
    inner, outer = Place("b", 2, (1, 2), (2, 1)), Place("c", 3, (4, 5), (1, 3))
    assert inner.within(outer) == Place("c", 5, (5, 11), (2, 3))
    assert placed(Tile(1, 3, 0, 2), inner) == Tile(3, 6, 2, 4)


def test_programs_without_stores_of_parts_are_short() -> None:
    program = compile_graph(built(dense, (1, 3, 4, 4)), TINY)
    stores = [i for i in decode(program.code) if i.opcode is Opcode.STORE]
    assert len(stores) <= 6


# Mutants --------------------------------------------------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]


def _one_word_late(patch: pytest.MonkeyPatch) -> None:
    original = gather.Gather.loads
    patch.setattr(
        gather.Gather,
        "loads",
        lambda *args: [i.replace(row_words=max(1, i["row_words"] - 1)) for i in original(*args)],
    )


def _wrong_fill(patch: pytest.MonkeyPatch) -> None:
    original = gather._load
    patch.setattr(gather, "_load", lambda row, base, fills: original(row, base, fills).replace(pad_value=0))


def _place_without_origin(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Place, "pixel", lambda self, y, x: (y * self.step[0], x * self.step[1]))


def _place_without_chunk(patch: pytest.MonkeyPatch) -> None:
    original = Place.within
    patch.setattr(Place, "within", lambda self, outer: replace(original(self, outer), chunk=0))


def _kernel_not_reversed(patch: pytest.MonkeyPatch) -> None:
    def turned(*args: Any) -> Any:
        layers, places = lower_transpose_conv.lower_transpose_conv(*args)
        return [replace(x, weight=np.ascontiguousarray(x.weight[:, ::-1, ::-1])) for x in layers], places

    patch.setattr(registry, "lower_transpose_conv", turned)


def _fill_not_added(patch: pytest.MonkeyPatch) -> None:
    original = copies.copy_value

    def forgetful(*args: Any) -> Any:
        layer = original(*args)
        return replace(layer, regions=tuple(r._replace(record=IDENTITY) for r in layer.regions))

    patch.setattr(copies, "copy_value", forgetful)


def _gathers_before_their_sources(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(progress.Progress, "note_written", lambda *args: None)


def _slices_from_the_start(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lower_movement, "_indices", lambda values, missing: (missing, missing, missing))


MUTANTS: dict[str, tuple[Patch, str]] = {
    "rows of a gather too short": (_one_word_late, "Transpose"),
    "fills of zero": (_wrong_fill, "Pad"),
    "parts at the origin": (_place_without_origin, "TransposeConv2d"),
    "parts in the first chunk": (_place_without_chunk, "concatenations within each other"),
    "kernel not reversed": (_kernel_not_reversed, "TransposeConv2d"),
    "fill value not added": (_fill_not_added, "Pad"),
    "gathers before their sources are stored": (_gathers_before_their_sources, "a gather after many tiles"),
    "slices from the start": (_slices_from_the_start, "StridedSlice"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, name = MUTANTS[mutant]
    patch(monkeypatch)
    with pytest.raises((AssertionError, AccelError, IndexError)):
        test_directed_cases_equal_the_reference(name) if name in CASES else run_random(name, range(40))
