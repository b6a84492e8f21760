"""Whole networks in the Verilog: bytes, cycles and stamps equal to the simulator, outputs equal to the reference."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks import host_between
from support.networks.host_between import BETWEEN, between
from support.networks.host_graphs import random_segments
from support.networks.int4 import with_int4
from support.networks.random_graphs import random_graph
from support.networks.random_graphs import random_inputs as random_graph_inputs
from support.networks.random_movement import MOVES, random_movement_graph
from support.networks.random_pairs import random_chain
from support.networks.small_networks import add, conv, network, pool, softmax

import accel
from accel import demo
from accel.coverify import Divergence, VerificationError, first_divergence, random_inputs, verify
from accel.frontends import load_model
from accel.machine.config import ArchConfig, preset
from accel.network import reference
from accel.network.graph import Graph, Tensor
from accel.network.nodes import Conv2d, MaxPool2d, Weighted
from compiler import compile_phases
from compiler.emit.overlap import Overlap
from compiler.lower import pool_packing

pytestmark = [pytest.mark.rtl, pytest.mark.slow]

RECTANGULAR = dataclasses.replace(preset("tiny"), name="rectangular", rows=8, cols=2, post_lanes=2, bus_bytes=16)


@pytest.fixture(scope="module")
def digits() -> tuple[Graph, np.ndarray]:
    data = demo.load()
    graph = accel.quantize(data.model_path, data.calibration)
    return graph, accel.quantize_input(graph, data.test_images[:1])


@pytest.mark.parametrize("config", [preset("tiny"), preset("edge"), RECTANGULAR], ids=lambda config: config.name)
def test_the_demo_network(config: ArchConfig, digits: tuple[Graph, np.ndarray]) -> None:
    graph, image = digits
    program = accel.compile(graph, config)
    found = verify(program, image)
    truth = reference.run(graph, image)
    for name, output in found.outputs.items():
        np.testing.assert_array_equal(output, truth[name])
    assert found.cycles == accel.run(program, image).cycles == accel.run(program, image, engine="stepped").cycles


def test_a_large_product_keeps_the_array_busy() -> None:
    size = 512
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (size, 1, 1, size)).astype(np.int8)
    ones = np.ones(size, np.int32)
    node = Conv2d(
        name="gemm", inputs=("x",), output="y", weight=weight, bias=0 * ones, multiplier=ones << 30,
        shift=np.full(size, -11, np.int8),
    )  # fmt: skip
    tensors = {name: Tensor(name, (1, size, 1, size), 0.0625, 0) for name in "xy"}
    config = preset("edge")
    program = accel.compile(Graph("gemm", "tflite", tensors, (node,), ("x",), ("y",)), config)
    found = verify(program)
    occupancy = size**3 / (found.cycles * config.rows * config.cols)
    print(f"GEMM {size}x{size}x{size} on edge: {found.cycles} cycles in Verilog, {occupancy:.2%} of peak")
    assert occupancy >= 0.97


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("mlperf_tiny/resnet8_int8", preset("edge")),
        ("mlperf_tiny/dscnn_kws_int8", preset("edge")),
        ("imagenet/mobilenet_v2_int8", preset("edge")),
        ("mlperf_tiny/dscnn_kws_int8", preset("tiny")),
        ("mlperf_tiny/dscnn_kws_int8", RECTANGULAR),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_networks_that_others_trained(model: str, config: ArchConfig, shared_models: Path) -> None:
    graph = load_model(shared_models / f"{model}.tflite")
    program = accel.compile(graph, config)
    inputs = random_inputs(program, 0)
    found = verify(program, inputs)
    truth = reference.run(graph, inputs)
    for name, output in found.outputs.items():
        np.testing.assert_array_equal(output, truth[name])
    print(f"{model} on {config.name}: {found.cycles} cycles, equal")


@pytest.mark.parametrize("overlap", [None, Overlap(4, False)], ids=str)
def test_packed_values_and_layers_that_overlap(overlap: Overlap | None) -> None:
    """Two channels between convolutions, whose columns share words; tiles of neighbouring layers by turns."""
    config = preset("tiny")
    graph = network(
        (1, 12, 16, 8), conv(2, (1, 1)), conv(2, (3, 3), padding=(1, 1, 1, 1)), conv(8, (1, 1)), add(), conv(8, (1, 1)),
        conv(4, (3, 3)),
    )  # fmt: skip
    phases = [compile_phases(graph, config, how) for how in (None, overlap)]
    packed = [layer for layer in phases[0].segments[0].network.layers if getattr(layer, "product", None)]
    assert len(packed) >= 3
    program = phases[1].program
    assert (program.code == phases[0].program.code) == (overlap is None)
    inputs = random_inputs(program, 0)
    found, truth = verify(program, inputs), reference.run(graph, inputs)
    for name, output in found.outputs.items():
        np.testing.assert_array_equal(output, truth[name])


def test_a_pool_of_packed_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two columns in a word of a convolution's output, one in what the pool over columns loads again."""
    monkeypatch.setattr(pool_packing, "_cycles", lambda site, packing, config: -packing.output)
    graph = network(
        (1, 12, 16, 2), conv(2, (3, 3), padding=(1, 1, 1, 1)), pool(MaxPool2d, (3, 3), (2, 2), (1, 1, 1, 1)),
        conv(4, (1, 1)),
    )  # fmt: skip
    phases = compile_phases(graph, preset("tiny"), Overlap(3, True))
    assert phases.segments[0].network.unpacked
    inputs = random_inputs(phases.program, 0)
    found, truth = verify(phases.program, inputs), reference.run(graph, inputs)
    for name, output in found.outputs.items():
        np.testing.assert_array_equal(output, truth[name])


@pytest.mark.parametrize("model", ["mlperf_tiny/resnet8_int8.tflite", "onnx/dscnn_kws_float.onnx"])
def test_networks_with_int4_weights(model: str, shared_models: Path) -> None:
    """ResNet8 with the upper halves of its weights, the keyword network quantized to 4 bits: half the bytes."""
    if model.endswith(".onnx"):
        with np.load(shared_models / "samples" / "kws_1000.npz") as archive:
            (given,) = load_model(shared_models / "mlperf_tiny" / "dscnn_kws_int8.tflite").input_tensors
            samples = ((archive["x"][:16].astype(np.float32) - given.zero_point) * given.scale).astype(np.float32)
        wide, narrow = (accel.quantize(shared_models / model, samples, weight_bits=bits) for bits in (8, 4))
    else:
        wide = load_model(shared_models / model)
        narrow = with_int4(wide, np.random.default_rng(0), share=1.0)
    nodes = [node for node in narrow.nodes if isinstance(node, Weighted)]
    assert {node.weight_bits for node in nodes} == {4}
    programs = [accel.compile(graph, "edge") for graph in (wide, narrow)]
    inputs = random_inputs(programs[1], 0)
    found, before = verify(programs[1], inputs), accel.run(programs[0], random_inputs(programs[0], 0))
    truth = reference.run(narrow, inputs)
    for name, output in found.outputs.items():
        np.testing.assert_array_equal(output, truth[name])
    saved = len(programs[0].constants) - len(programs[1].constants)
    halves = sum(node.weight_bytes for node in nodes if not is_depthwise(node))
    print(f"{model}: {found.cycles} cycles ({before.cycles} with int8), {saved} bytes less of {2 * halves}")
    assert found.cycles < before.cycles
    assert abs(saved - halves) <= 64 * len(nodes)


def is_depthwise(node: Weighted) -> bool:
    return isinstance(node, Conv2d) and node.groups == len(node.weight) > 1


def random_network(rng: np.random.Generator, mode: str, kind: str) -> Graph:
    if kind == "arithmetic":
        return random_graph(rng, mode, layers=5)
    return random_chain(rng, mode, 14, 24) if kind == "pairs" else random_movement_graph(rng, mode, kind)


@pytest.mark.parametrize("config", [preset("tiny"), RECTANGULAR], ids=lambda config: config.name)
@pytest.mark.parametrize("kind", ["arithmetic", "pairs", *MOVES])
def test_random_networks_of_every_operation(kind: str, config: ArchConfig) -> None:
    """Compiled networks use combinations of fields that random programs rarely draw."""
    for seed in range(8):
        rng = np.random.default_rng([seed, 0xBEEF])
        mode = str(rng.choice(config.requant_modes))
        graph = with_int4(random_network(rng, mode, kind), rng)
        program = accel.compile(graph, config)
        if not program.machine_segments:
            continue
        inputs = random_inputs(program, seed)
        found = verify(program, inputs)
        truth = reference.run(graph, inputs)
        for name, output in found.outputs.items():
            np.testing.assert_array_equal(output, truth[name])


def test_an_error_carries_the_first_divergence(digits: tuple[Graph, np.ndarray]) -> None:
    """A program whose Verilog run sees another weight than the simulator's differs first in a stored byte."""
    from accel.coverify import execute_both

    graph, image = digits
    program = accel.compile(graph, "tiny")
    memory = program.memory_image(image)
    simulated, emulated = execute_both(program.config, program.code, program.code_address, memory)
    assert first_divergence(program.code, simulated, emulated) is None
    slot = program.outputs[0]
    emulated.memory[slot.address] ^= 1
    divergence = first_divergence(program.code, simulated, emulated)
    assert isinstance(divergence, Divergence)
    assert divergence.field == f"memory[{slot.address:#x}]"
    assert divergence.text.startswith("STORE")
    emulated.issue[accel.coverify.Unit.EXEC][0] += 1
    late = first_divergence(program.code, simulated, emulated)
    assert (late.field, late.verilog - late.simulator) == ("issue", 1)
    assert str(VerificationError(late)).startswith(f"cycle {late.cycle}, instruction {late.instruction} (EXEC")


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_with_host_operators_in_the_middle(seed: int) -> None:
    """Every segment of the machine starts from the memory that the one before and the host left."""
    rng = np.random.default_rng([seed, 0x5E6])
    config = preset("edge") if seed % 3 == 0 else preset("tiny")
    graph = random_segments(rng, str(rng.choice(config.requant_modes)))
    program, inputs = accel.compile(graph, config), random_graph_inputs(rng, graph)
    found, truth = verify(program, inputs), reference.run(graph, inputs)
    assert found.segments == len(program.machine_segments) > 1
    assert (found.instructions, found.cycles) == (program.instruction_count, accel.run(program, inputs).cycles)
    for name, output in found.outputs.items():
        np.testing.assert_array_equal(output, truth[name])


@pytest.mark.parametrize("kind", BETWEEN)
def test_an_operator_of_the_host_between_two_convolutions(kind: str) -> None:
    """Values of the same networks are compared with ONNX Runtime in tests/oracles/test_host_between.py."""
    graph = accel.quantize(between(kind), host_between.samples(16), mode="fp32")
    inputs = {"x": accel.quantize_input(graph, host_between.samples(1))}
    found, truth = verify(accel.compile(graph, "tiny"), inputs), reference.run(graph, inputs)
    assert found.segments > 1
    np.testing.assert_array_equal(found.outputs["y"], truth["y"])


def test_a_segment_that_starts_from_stale_memory_in_the_verilog_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Verilog's second run gets the memory of before the first."""
    from accel import coverify

    right, images = coverify.execute_both, list[np.ndarray]()

    def stale(config: ArchConfig, code: bytes, address: int, memory: np.ndarray, simulator: str) -> tuple[Any, Any]:
        images.append(memory)
        simulated, _ = right(config, code, address, memory, simulator)
        return simulated, right(config, code, address, images[0], simulator)[1]

    monkeypatch.setattr(coverify, "execute_both", stale)
    graph = network((1, 4, 4, 3), conv(5, (2, 2)), softmax(), conv(4, (1, 1)))
    with pytest.raises(VerificationError, match=r"^segment 2, cycle \d+") as caught:
        verify(accel.compile(graph, "tiny"))
    assert caught.value.divergence.segment == 2
