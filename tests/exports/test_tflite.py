"""Exported TensorFlow Lite files give the graph's bytes in TensorFlow Lite Micro, and are read as the same graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks.exported import demo_graph, differing_field, narrow, symmetric
from support.networks.float_models import onnx_model

import accel
from accel import demo
from accel.exports import FORMATS
from accel.exports.inexpressible import InexpressibleError
from accel.exports.tflite import nodes, write
from accel.frontends.tflite.reader import read_tflite
from accel.network import reference
from accel.network.graph import Graph, Tensor
from accel.network.nodes import Clamp, Weighted
from accel.network.real import layouts, quantize_input

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from support.oracles import tflite_litert_models, tflite_models
from support.oracles.tflite_models import HOSTED
from support.oracles.tflite_runtime import REAL_MODELS, LiteRt, interpreter, outputs, random_samples, real_samples
from support.oracles.tflite_writer import ModelWriter

PARTS = ("RELU6", "PRELU", "BATCH_MATMUL", "DIV", "MEAN", "MEAN, any axes", "RSQRT", "ZEROS_LIKE")
"""Operators of whose models some become nodes that the format cannot express, or that the runtime refuses."""
WRITTEN_BACK = ("GELU", "LOG", "NEG", "RELU_0_TO_1", "RELU_N1_TO_1", "SQRT")
"""Functions that only LiteRT has for integers, which other operators come near."""
COMPARING = {"GATHER, of a batch at computed places", "REDUCE_ALL", "REDUCE_ANY"}
"""Models with operators that ONNX Runtime computes."""
STEPPED = {"LEAKY_RELU"}
"""Tables that are written as the operator that comes nearest, or not at all: a note names what differs by a step."""
MODELS = {name: make for name, make in tflite_models.MODELS.items() if name not in PARTS}


def differences(
    graph: Graph, samples: list[list[np.ndarray]], name: str = "", *, litert: bool = False
) -> tuple[int, int]:
    """Bytes compared, and how many differ, between the runtime of the exported file, its reader, and the graph."""
    notes: list[str] = []
    data = FORMATS["tflite"].write(graph, notes)[""]
    again = read_tflite(data)
    runtime = LiteRt(data) if litert else interpreter(data, name.removeprefix("uint8 "))
    compared = differing = 0
    for sample in samples:
        values = reference.run(graph, dict(zip(graph.inputs, sample, strict=True)))
        shaped = {t.name: _given(t, x) for t, x in zip(again.input_tensors, sample, strict=True)}
        read = reference.run(again, shaped)
        for output, copy, found in zip(
            graph.outputs, again.outputs, outputs(runtime, sample, len(graph.outputs)), strict=True
        ):
            expected = values[output].reshape(-1)
            compared += 2 * expected.size
            differing += np.count_nonzero(found.reshape(-1) != expected)
            copied = layouts(again.tensors[copy], None)[0].from_graph(read[copy])
            differing += np.count_nonzero(copied.reshape(-1) != expected)
    assert differing or not [note for note in notes if note.endswith("differ by a step")]
    return compared, differing


def _given(tensor: Tensor, value: Any) -> Any:
    """An array of the file as the input of its graph, which may hold the axes in another order."""
    layout = layouts(tensor, None)[0]
    return layout.to_graph(value.reshape(layout.shape), tensor.shape)


def count_differences(name: str, count: int, seed: int = 5) -> tuple[int, int]:
    """Bytes compared and differing in `count` random models of one operator; those that are refused count none."""
    compared = differing = 0
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        graph = read_tflite(MODELS[name](rng))
        try:
            found = differences(graph, random_samples(graph, rng, 2), name)
        except InexpressibleError:
            continue
        compared, differing = compared + found[0], differing + found[1]
    return compared, differing


EMBEDDED = tuple(tflite_litert_models.MODELS)
"""Operators that the graph carries whole."""


@pytest.mark.parametrize("name", sorted({*HOSTED} - {*EMBEDDED}))
def test_operators_of_the_host_are_refused(name: str) -> None:
    assert count_differences(name, 3) == (0, 0)


@pytest.mark.parametrize("count", [1, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(set(MODELS) - {*HOSTED, *STEPPED} | {*EMBEDDED} - {*COMPARING}))
def test_operator_equals_its_runtime(name: str, count: int) -> None:
    compared, differing = count_differences(name, count)
    print(f"{name}: {differing} of {compared} bytes differ")
    assert differing == 0
    assert compared or count == 1


def test_inputs_of_int16_are_written_back() -> None:
    """QUANTIZE needs the scale of such an input, which the graph's tensor does not have."""
    writer = ModelWriter()
    x, a = writer.tensor((1, 6), 2**-11, 0, kind="INT16"), writer.tensor((1, 6), 0.05, 3)
    b, y = writer.tensor((1, 6), 0.04, -9), writer.tensor((1, 6), 2**-10, 0, kind="INT16")
    writer.operator("QUANTIZE", [x], [a], "QuantizeOptions")
    writer.operator("RELU", [a], [b])
    writer.operator("QUANTIZE", [b], [y], "QuantizeOptions")
    model = writer.finish([x], [y])
    graph = read_tflite(model)
    data = FORMATS["tflite"].write(graph, [])[""]
    again, runtimes = read_tflite(data), [interpreter(model), interpreter(data)]
    for value in np.random.default_rng(1).integers(-(2**15), 2**15, (20, 1, 6)).astype(np.int16):
        found = [reference.run(one, {one.inputs[0]: value})[one.outputs[0]] for one in (graph, again)]
        for runtime in runtimes:
            runtime.set_input(value, 0)
            runtime.invoke()
            found.append(runtime.get_output(0))
        assert all(np.array_equal(found[0], other) for other in found[1:])
    assert len({*found[0].reshape(-1).tolist()}) > 2


@pytest.mark.parametrize("name", WRITTEN_BACK)
def test_a_function_of_litert_comes_back_as_itself(name: str) -> None:
    """Those of ten random models that no operator of TensorFlow Lite Micro computes exactly."""
    same = 0
    for index in range(10):
        graph, notes = read_tflite(MODELS[name](np.random.default_rng([7, index]))), list[str]()
        FORMATS["tflite"].write(graph, notes)
        assert not [note for note in notes if note.endswith("differ by a step")]
        same += nodes.NO_FUNCTION_IN_MICRO.format(name) in notes
    assert same >= 3


def test_demo_equals_both_runtimes() -> None:
    graph, data = demo_graph("tflite"), demo.load()
    images = [[quantize_input(graph, image[None])] for image in data.test_images[:40]]
    samples = [*images, *random_samples(graph, np.random.default_rng(3), 10)]
    assert differences(graph, samples)[1] == 0


def test_weights_of_4_bits_are_packed() -> None:
    graph = narrow(symmetric())
    again = read_tflite(FORMATS["tflite"].write(graph, [])[""])
    bits = [node.weight_bits for node in again.nodes if isinstance(node, Weighted)]
    assert bits == [4, 4]
    assert differences(graph, random_samples(graph, np.random.default_rng(3), 4))[1] == 0


@pytest.mark.parametrize("shape", [(8, 6), (7, 5)])
def test_what_micro_does_not_load_is_noted(shape: tuple[int, int]) -> None:
    """Weights of 4 bits with a scale for each output of a matrix product; LiteRT loads them (and rounds by itself)."""
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    model = onnx_model([("MatMul", ["x", "w"], "y", {})], {"w": weight}, (1, shape[0]))
    x = np.random.default_rng(1).normal(size=(16, shape[0])).astype(np.float32)
    graph, notes = accel.quantize(model, x, weight_bits=4), list[str]()
    data = FORMATS["tflite"].write(graph, notes)[""]
    assert notes == [nodes.NOT_IN_MICRO]
    with pytest.raises(RuntimeError, match="failed to allocate"):
        interpreter(data)
    for (sample,) in random_samples(graph, np.random.default_rng(2), 4):
        found, expected = outputs(LiteRt(data), [sample], 1)[0], reference.run(graph, sample)["y"]
        assert np.abs(found.astype(int) - expected).max() <= 1


def test_exponentials_of_integers_are_noted() -> None:
    x = np.random.default_rng(1).normal(size=(16, 6)).astype(np.float32)
    graph, notes = accel.quantize(onnx_model([("Exp", ["x"], "y", {})], {}, (1, 6)), x), list[str]()
    data = FORMATS["tflite"].write(graph, notes)[""]
    assert notes == [nodes.NO_FUNCTION_IN_MICRO.format("EXP")]
    with pytest.raises(RuntimeError, match="failed to allocate"):
        interpreter(data)


@pytest.mark.parametrize("builtin", ["Sub", "Add"])
def test_sums_that_end_the_runtime_are_not_written(builtin: str) -> None:
    """The result is zero on all samples, so that its scale is 1, and the operands' is 1e9."""
    x = 1e10 * np.random.default_rng(1).normal(size=(16, 6)).astype(np.float32)
    nodes = [("Neg", ["x"], "n", {}), (builtin, ["x", "x" if builtin == "Sub" else "n"], "y", {})]
    nodes = nodes[1:] if builtin == "Sub" else nodes
    graph = accel.quantize(onnx_model(nodes, {}, (1, 6)), x)
    try:
        data = FORMATS["tflite"].write(graph, [])[""]
    except InexpressibleError:
        return
    (sample,) = random_samples(graph, np.random.default_rng(2), 1)[0]
    assert np.array_equal(outputs(interpreter(data), [sample], 1)[0], reference.run(graph, sample)["y"])


def test_bounds_that_leave_one_integer_are_written() -> None:
    """The negative part of what is never negative: its upper bound is -128, the lowest integer."""
    nodes = [("Abs", ["x"], "a", {}), ("PRelu", ["a", "s"], "y", {})]
    slopes = np.array([[[0.5]], [[0.1]], [[-0.2]]], np.float32)
    x = np.random.default_rng(1).normal(size=(16, 3, 4, 4)).astype(np.float32)
    graph = accel.quantize(onnx_model(nodes, {"s": slopes}, (1, 3, 4, 4)), x, per_channel=False)
    assert any(isinstance(node, Clamp) and node.act_max == -128 for node in graph.nodes)
    assert differences(graph, random_samples(graph, np.random.default_rng(3), 4))[1] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL_MODELS)
def test_real_networks_come_back_as_the_same_graph(name: str, shared_models: Path) -> None:
    graph = read_tflite(shared_models / name)
    data = FORMATS["tflite"].write(graph, [])[""]
    assert differing_field(graph, read_tflite(data)) == ""
    assert data == FORMATS["tflite"].write(read_tflite(data), [])[""]
    real, _ = real_samples(shared_models, name)
    samples = [[x.reshape(graph.tensors[graph.inputs[0]].shape)] for x in real[:5]]
    samples += random_samples(graph, np.random.default_rng(9), 5)
    for litert in (False, True):
        compared, differing = differences(graph, samples, litert=litert)
        print(f"{name}, {'LiteRT' if litert else 'tflite-micro'}: {differing} of {compared} bytes differ")
        assert differing == 0


def shifted(graph: Graph, node: object) -> object:
    """Scales twice as large: a shift off by one."""
    scales = RIGHT_SCALES(graph, node)
    return None if scales is None else scales * np.float32(2)


RIGHT_SCALES = nodes.weight_scales


def test_suite_catches_a_shift_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "weight_scales", shifted)
    assert count_differences("CONV_2D", 2)[1] > 0


def test_suite_catches_zero_points_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    right = write.Writing.tensor
    monkeypatch.setattr(
        write.Writing, "tensor", lambda w, name, shape, p, kind="INT8": right(w, name, shape, (p[0], p[1] ^ 1), kind)
    )
    assert count_differences("ADD", 2)[1] > 0
