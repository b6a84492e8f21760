"""Compiled programs against the definition: outputs equal `accel.network.reference`, every program is proven safe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.machine.random_programs import random_config
from support.networks.equality import assert_equal, is_equal
from support.networks.int4 import with_int4
from support.networks.random_graphs import random_graph
from support.networks.small_networks import Layer, add, conv, fully_connected, network, pool, reshape, softmax, table

from accel.errors import CompileError
from accel.machine.config import ArchConfig, preset
from accel.machine.isa import decode
from accel.network.graph import Graph
from accel.network.nodes import AveragePool2d, MaxPool2d
from accel.program.parts import HOST
from compiler import compile_graph
from compiler.lower import network as lower
from compiler.lower.geometry import Span
from compiler.lower.layers import ArrayLayer, DepthwiseLayer
from compiler.plan import planner, weights

TINY = preset("tiny")
SLOW = pytest.mark.slow


ENGINE = replace(TINY, name="engine", depthwise_taps=3)


def depthwise(channels: int, kernel: tuple[int, int], **fields: Any) -> Any:
    return conv(channels, kernel, groups=channels, **fields)


def features(graph: Graph, config: ArchConfig) -> Iterator[str]:
    """What is special about the way in which a graph runs."""
    lowered = lower.lower_graph(graph, config)
    for layer in (layer for network_ in lowered.networks for layer in planner.plan_network(network_, config).layers):
        if len(layer.tiles) > 1:
            yield "tiles"
        if any(areas is not None for areas in layer.input_areas):
            yield "streamed input"
        if layer.folded:
            yield f"folded {_folding(layer.chunks[0])}"
        if layer.group_outer:
            yield "groups outside of tiles"
        if isinstance(layer.layer, ArrayLayer):
            channels = Span(0, min(config.cols, layer.layer.output_shape[2]))
            if isinstance(layer.layer, DepthwiseLayer):
                yield "depthwise engine"
            elif layer.layer.groups > 1:
                yield "groups"
            if layer.layer.int4:
                yield "int4 weights"
            if len(weights.weight_blocks(layer.layer, layer.chunks, config, channels)) > 1:
                yield "contraction in several blocks"
            if layer.layer.output_shape[2] > max(config.rows, config.cols):
                yield "several groups of channels"
    yield "rows < cols" if config.rows < config.cols else "rows > cols" if config.rows > config.cols else "square"
    if config.rows * config.cols == 1:
        yield "one PE"
    if any(part.unit == HOST for part, _ in lowered.parts):
        yield "host part"
    if len(graph.inputs) > 1:
        yield "several inputs"
    yield graph.mode


def _folding(chunk: weights.Chunk) -> str:
    if not chunk.by_position:
        return "columns"
    return "positions" if chunk.lines == 1 else "lines"


ALL_FEATURES = {
    "tiles", "streamed input", "folded columns", "folded positions", "groups outside of tiles",
    "contraction in several blocks", "several groups of channels", "rows < cols", "rows > cols", "square", "one PE",
    "host part", "several inputs",
    "groups", "depthwise engine", "int4 weights", "tflite", "single", "fp32",
}  # fmt: skip


def run_random(seeds: range, limits: dict[str, int], stepped_every: int) -> Counter[str]:
    """Random graphs on random machines; counts what was seen and how many layers were compared."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        rng = np.random.default_rng([seed, 0xC0])
        config = random_config(rng)
        if seed % 30 == 0:
            config = replace(config, rows=1, cols=1, post_lanes=1, depthwise_taps=0)
        graph = with_int4(random_graph(rng, str(rng.choice(config.requant_modes)), **limits), rng)
        engines = ("fast", "stepped") if seed % stepped_every == 0 else ("fast",)
        if not is_equal(seed, graph, config, rng, engines):
            seen["refused"] += 1
            continue
        seen["graphs"] += 1
        seen["layers"] += len(graph.nodes)
        seen.update(set(features(graph, config)))
    return seen


def test_random_graphs_on_random_machines_equal_the_reference() -> None:
    seen = run_random(range(45), {"layers": 3, "channels": 18, "size": 8}, stepped_every=3)
    print(dict(seen))
    assert seen["graphs"] >= 35


@SLOW
@pytest.mark.parametrize("part", range(2))
def test_many_random_graphs_on_random_machines_equal_the_reference(part: int) -> None:
    seen = run_random(range(1000 + 240 * part, 1240 + 240 * part), {}, stepped_every=2)
    print(dict(seen))
    assert seen["graphs"] >= 160
    assert seen["layers"] >= 400
    assert set(seen) >= ALL_FEATURES


@SLOW
def test_random_first_layers_on_wide_arrays_equal_the_reference() -> None:
    """Random machines are too narrow for words of several kernel rows."""
    seen: Counter[str] = Counter()
    for seed in range(40):
        rng = np.random.default_rng([seed, 0xF])
        fields = {
            "stride": (int(rng.integers(1, 4)), int(rng.integers(1, 3))),
            "dilation": (int(rng.integers(1, 3)), 1),
        }
        kernel = (int(rng.integers(2, 11)), int(rng.integers(1, 6)))
        layer = conv(int(rng.integers(8, 34)), kernel, padding=tuple(rng.integers(0, 4, 4).tolist()), **fields)
        graph = network((1, *rng.integers(20, 50, 2).tolist(), int(rng.integers(1, 4))), layer)
        config = preset("large" if seed % 2 else "datacenter")
        assert is_equal(seed, graph, config, rng, ("fast",))
        seen.update(set(features(graph, config)))
    print(dict(seen))
    assert seen["folded lines"] >= 8


@pytest.mark.parametrize("name", ["tiny", "edge", "large", "datacenter"])
def test_random_graphs_on_presets_equal_the_reference(name: str) -> None:
    for seed in range(2 if name == "datacenter" else 6):
        rng = np.random.default_rng([seed, 0xE])
        limits = {"layers": 3, "channels": 150, "size": 20} if name == "datacenter" else {}
        graph = random_graph(rng, ("tflite", "single", "fp32")[seed % 3], **limits)
        assert_equal(graph, preset(name), rng, ("fast", "stepped") if seed == 0 else ("fast",))


# Directed cases -------------------------------------------------------------------------------------------------------

SMALL = replace(
    TINY, name="small", spad_banks=3, spad_bank_words=64, wbuf_words=64, acc_bank_words=16, param_channels=32
)

CASES: dict[str, tuple[Callable[[], Graph], ArchConfig, set[str]]] = {
    "more tables than the machine holds": (
        lambda: network((1, 5, 6, 3), table(), conv(6, (2, 2)), table(), conv(9, (1, 1)), table(), table()),
        TINY,
        set(),
    ),
    "depthwise, more channels than lanes": (
        lambda: network(
            (1, 7, 9, 11), depthwise(11, (3, 5), padding=(1, 2, 1, 2)), depthwise(11, (2, 1), stride=(1, 3))
        ),
        replace(ENGINE, rows=8, cols=4, spad_bank_words=128),
        {"depthwise engine"},
    ),
    "depthwise, dilated and strided": (
        lambda: network(
            (1, 9, 13, 5),
            depthwise(5, (3, 3), padding=(2, 2, 2, 2), dilation=(2, 2)),
            depthwise(5, (2, 4), stride=(2, 2), padding=(1, 3, 0, 3), dilation=(1, 3)),
            depthwise(5, (3, 3), padding=(1, 1, 1, 1), stride=(2, 2)),
            depthwise(5, (3, 2)),
            depthwise(5, (1, 2), stride=(1, 4), dilation=(1, 2), padding=(0, 2, 0, 2)),
        ),
        ENGINE,
        {"depthwise engine"},
    ),
    "a tensor larger than the scratchpad": (
        lambda: network((1, 20, 20, 8), conv(8, (3, 3), padding=(1, 1, 1, 1)), conv(4, (3, 3), stride=(2, 2))),
        SMALL,
        {"streamed input", "tiles"},
    ),
    "more weights than the weight buffer": (
        lambda: network((1, 6, 6, 3), conv(40, (3, 3)), conv(40, (2, 2))),
        replace(SMALL, spad_bank_words=512),
        {"groups outside of tiles", "contraction in several blocks", "several groups of channels"},
    ),
    "one kernel row per weight block": (
        lambda: network((1, 7, 7, 4), conv(5, (5, 6))),
        replace(SMALL, wbuf_words=64),
        {"contraction in several blocks"},
    ),
    "one kernel column per weight block": (
        lambda: network((1, 5, 9, 4), conv(5, (2, 7))),
        replace(SMALL, wbuf_words=8),
        {"contraction in several blocks"},
    ),
    "first layer folded": (
        lambda: network((1, 9, 11, 1), conv(6, (3, 5), stride=(2, 2), padding=(1, 2, 1, 2))),
        preset("edge"),
        {"folded columns"},
    ),
    "first layer folded, three channels, unequal padding": (
        lambda: network((1, 8, 13, 3), conv(6, (2, 4), stride=(1, 3), padding=(0, 3, 1, 0))),
        preset("edge"),
        {"folded columns"},
    ),
    "first layer folded by positions, rows of padding": (
        lambda: network((1, 9, 11, 1), conv(40, (6, 3), stride=(2, 1), padding=(3, 1, 4, 1), dilation=(2, 1))),
        preset("edge"),
        {"folded positions"},
    ),
    "first layer folded by lines, the last not full, rows of padding": (
        lambda: network((1, 30, 23, 1), conv(30, (7, 4), stride=(2, 2), padding=(3, 1, 4, 2))),
        preset("large"),
        {"folded lines", "tiles"},
    ),
    "first layer folded by lines, rows apart": (
        lambda: network((1, 60, 20, 1), conv(30, (10, 3), stride=(2, 2), padding=(2, 1, 1, 2), dilation=(2, 1))),
        preset("large"),
        {"folded lines"},
    ),
    "first layer folded by positions and streamed": (
        lambda: network((1, 60, 40, 3), conv(40, (3, 3), stride=(2, 2), padding=(1, 0, 0, 1))),
        preset("edge"),
        {"folded positions", "streamed input", "tiles"},
    ),
    "first layer folded and streamed": (
        lambda: network((1, 40, 40, 1), conv(8, (5, 5), padding=(2, 2, 2, 2))),
        replace(SMALL, rows=4, cols=8, param_channels=64),
        {"folded columns", "streamed input", "tiles"},
    ),
    "one PE": (lambda: network((1, 4, 5, 2), conv(3, (2, 2), padding=(1, 0, 0, 1))), replace(
        SMALL, rows=1, cols=1, post_lanes=1, depthwise_taps=0), {"one PE"}),
    "wide array": (lambda: network((1, 4, 5, 5), conv(11, (2, 2))), replace(
        SMALL, rows=2, cols=6, post_lanes=2), {"rows < cols"}),
    "tall array": (lambda: network((1, 4, 5, 5), conv(11, (2, 2))), replace(
        SMALL, rows=6, cols=2, post_lanes=1), {"rows > cols"}),
    "tall array, least parameter memory": (lambda: network((1, 4, 5, 5), conv(30, (2, 2))), replace(
        SMALL, rows=12, cols=2, post_lanes=2, param_channels=8), {"rows > cols"}),
    "wide array, least parameter memory": (lambda: network((1, 4, 5, 5), conv(30, (2, 2))), replace(
        SMALL, rows=2, cols=8, post_lanes=2, param_channels=32), {"rows < cols"}),
    "more counts of taps than parameter rows": (
        lambda: network((1, 9, 9, 5), pool(AveragePool2d, (5, 5), (1, 1), (2, 2, 2, 2))),
        replace(SMALL, param_channels=16),
        set(),
    ),
    "fully-connected from an image": (
        lambda: network((1, 3, 5, 6), conv(7, (1, 2)), fully_connected(9), fully_connected(3)), TINY, set()),
    "reshape to features and softmax on the host": (
        lambda: network((1, 3, 5, 6), conv(7, (1, 2)), reshape((1, 84)), fully_connected(9), softmax()),
        TINY,
        {"host part"},
    ),
    "reshape at the end": (lambda: network((1, 3, 5, 6), conv(7, (1, 2)), reshape((1, 12, 7, 1))), TINY,
                           {"host part"}),
    "a row of 5,000 pixels": (lambda: network((1, 1, 5000, 3), conv(2, (1, 1)), add()), TINY, {"streamed input"}),
    "a column of 5,000 pixels": (lambda: network((1, 5000, 1, 3), conv(2, (1, 1)), add()), TINY, {"streamed input"}),
    "pools beside each other": (
        lambda: network(
            (1, 30, 23, 5),
            pool(MaxPool2d, (3, 2), (2, 1), (1, 1, 0, 0)),
            pool(AveragePool2d, (3, 3), (2, 2), (1, 1, 1, 1)),
        ),
        SMALL,
        {"streamed input"},
    ),
    "global average of 2,895 taps": (lambda: network((1, 193, 15, 3), pool(AveragePool2d, (193, 15), (1, 1))), TINY,
                                     set()),
    "depthwise on the array": (lambda: network((1, 9, 7, 10), depthwise(10, (3, 3), padding=(1, 1, 1, 1))), replace(
        TINY, depthwise_taps=0), {"groups"}),
    "groups that share words": (lambda: network((1, 5, 5, 9), conv(12, (2, 2), groups=3)), SMALL, {"groups"}),
    "an input that is added to itself": (lambda: network((1, 4, 4, 9), add()), TINY, set()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_directed_cases_equal_the_reference(case: str) -> None:
    make, config, expected = CASES[case]
    graph = make()
    rng = np.random.default_rng(3)
    assert_equal(graph, config, rng, ("fast", "stepped"))
    assert set(features(graph, config)) >= expected


def test_inputs_that_no_layer_reads() -> None:
    graph = network((1, 5, 6, 3), conv(4, (1, 1)))
    unused = replace(graph.tensors["t0"], name="unused", shape=(1, 7))
    changes: dict[str, Any] = {"tensors": {**graph.tensors, "unused": unused}, "inputs": ("t0", "unused")}
    for outputs in (graph.outputs, (*graph.outputs, "unused"), (*graph.outputs, "t0")):
        assert_equal(replace(graph, **changes, outputs=outputs), TINY, np.random.default_rng(0), ("fast",))


def test_layers_and_instructions_are_reported() -> None:
    graph = network((1, 5, 6, 3), conv(10, (2, 3)), pool(MaxPool2d, (2, 2), (2, 2)), fully_connected(5))
    program = compile_graph(graph, TINY)
    assert [(x.name, x.op, x.macs, x.m, x.k, x.n) for x in program.layers] == [
        ("n0", "Conv2d", 4 * 4 * 6 * 3 * 10, 16, 18, 10),
        ("n1", "MaxPool2d", 0, 0, 0, 0),
        ("n2", "FullyConnected", 40 * 5, 1, 40, 5),
    ]
    units = [{i.unit.name for i, owner in zip(decode(program.code), program.instruction_layers, strict=True)
              if owner == layer} for layer in range(3)]  # fmt: skip
    assert units == [{"LOAD", "EXEC", "POST"}, {"LOAD", "POST"}, {"LOAD", "EXEC", "POST", "STORE"}]


def test_equal_graphs_give_equal_bytes() -> None:
    graph = random_graph(np.random.default_rng(4), "single")
    again = random_graph(np.random.default_rng(4), "single")
    assert compile_graph(graph, TINY).to_bytes() == compile_graph(again, TINY).to_bytes()


# Errors ---------------------------------------------------------------------------------------------------------------


def test_machines_without_the_mode_are_refused() -> None:
    with pytest.raises(CompileError) as caught:
        compile_graph(network((1, 3, 3, 2), conv(2, (1, 1))), replace(TINY, requant_modes=("single", "fp32")))
    message = "config 'tiny' must have 'tflite' in requant_modes to run this graph, got single, fp32"
    assert str(caught.value) == message


WITHOUT_A_PLACE: dict[str, tuple[Layer, tuple[int, ...], str, ArchConfig]] = {
    "no tiling fits config 'tiny': the smallest needs 15001 scratchpad words of 4 bytes, the scratchpad has 8192": (
        fully_connected(2), (1, 60000), "tflite", TINY,
    ),
    "it needs 'single' or 'tflite' in requant_modes of the config": (
        pool(AveragePool2d, (2, 2), (1, 1)), (1, 3, 3, 2), "fp32", replace(TINY, requant_modes=("fp32",)),
    ),
    "it needs 'single' in requant_modes of the config": (
        conv(2, (1, 1), single_rounding=True), (1, 3, 3, 2), "tflite", replace(TINY, requant_modes=("tflite",)),
    ),
    "an average over 2896 taps needs 'single' in requant_modes of the config": (
        pool(AveragePool2d, (181, 16), (1, 1)), (1, 181, 16, 2), "tflite", replace(TINY, requant_modes=("tflite",)),
    ),
    "it is beyond the instruction set: POST field ky_count must be an integer in 1..255, got 257": (
        pool(AveragePool2d, (257, 1), (1, 1)), (1, 257, 1, 2), "tflite", TINY,
    ),
    "it is beyond the instruction set: EXEC field x_step must be an integer in 0..63, got 64": (
        conv(2, (1, 1), stride=(1, 64)), (1, 2, 129, 5), "tflite", TINY,
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", WITHOUT_A_PLACE)
def test_what_has_no_place_is_the_hosts_in_the_middle(reason: str) -> None:
    layer, shape, mode, config = WITHOUT_A_PLACE[reason]
    around = table() if len(shape) == 2 else conv(shape[-1], (1, 1))
    graph = network(shape, around, layer, table(), mode=mode)
    program = assert_equal(graph, config, np.random.default_rng(2), ("fast",))
    assert {o.name: (o.unit, o.why) for o in program.operators}["n1"] == ("host", reason)
    assert [segment.unit for segment in program.segments][-2:] == ["host", "machine"]


def test_several_layers_may_have_no_place() -> None:
    tall = pool(AveragePool2d, (300, 1), (1, 1), padding=(150, 0, 150, 0))
    graph = network((1, 300, 1, 2), tall, conv(3, (1, 1)), tall, conv(2, (1, 1)))
    program = assert_equal(graph, TINY, np.random.default_rng(2), ("fast", "stepped"))
    assert [operator.unit for operator in program.operators] == ["host", "array", "host", "array"]
    assert compile_graph(graph, TINY).to_bytes() == program.to_bytes()


def test_memories_that_are_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compiler.compile.MEMORY_LIMIT_BYTES", 1000)
    with pytest.raises(CompileError, match=r"^graph 'network' must need at most 1000 bytes of external memory, got "):
        compile_graph(network((1, 3, 3, 2), conv(2, (1, 1))), TINY)


@pytest.mark.parametrize("kernel", [(2, 2), (1, 3), (3, 3)])
def test_kernels_of_one_channel_are_not_folded_for_the_depthwise_engine(kernel: tuple[int, int]) -> None:
    graph = network((1, 6, 7, 1), conv(1, kernel))
    assert "depthwise" in {operator.unit for operator in compile_graph(graph, ENGINE).operators}
    assert_equal(graph, ENGINE, np.random.default_rng(1), ("fast", "stepped"))
