"""Networks of several images at once: every format with scales comes back, and its runtime gives the graph's bytes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from support.networks.exported import differing_field
from support.oracles.onnx_layers import session

import accel
from accel.exports import FORMATS
from accel.frontends import read_quantized_onnx
from accel.frontends.tflite.reader import read_tflite
from accel.machine.numerics import output_multipliers
from accel.network import reference
from accel.network.graph import Graph
from accel.network.nodes import Weighted

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from support.oracles.tflite_models import linear
from support.oracles.tflite_runtime import interpreter, outputs, random_samples
from support.oracles.tflite_writer import ModelWriter

BATCH = (3, 6, 5, 4)
NETWORKS = [
    ("conv", "pool", "fc"),
    ("conv", "mean", "softmax"),
    ("conv", "add"),
    ("fc", "softmax"),
    ("relu",),
    ("mean",),
]


def network(operators: tuple[str, ...], seed: int = 0) -> bytes:
    """A chain of operators on three images."""
    rng, writer, scale, point, shape = np.random.default_rng(seed), ModelWriter(), 0.05, 3, BATCH
    given = value = writer.tensor(shape, scale, point)
    for operator in operators:
        source = value
        if operator in ("conv", "fc"):
            features = 4 if operator == "conv" else int(np.prod(shape[1:]))
            form = (4, 3, 3, shape[3]) if operator == "conv" else (7, features)
            weights, bias, scale = linear(rng, writer, form, 0, scale, per_tensor=operator == "fc", biased=1)
            shape, point = (*shape[:-1], 4) if operator == "conv" else (3, 7), -5
            value = writer.tensor(shape, scale, point)
            options = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
            kind, options = ("Conv2DOptions", options) if operator == "conv" else ("FullyConnectedOptions", {})
            builtin = "CONV_2D" if operator == "conv" else "FULLY_CONNECTED"
            writer.operator(builtin, [source, weights, bias], [value], kind, **options)
        elif operator == "pool":
            shape = (3, shape[1] // 2, shape[2] // 2, shape[3])
            value = writer.tensor(shape, scale, point)
            options = {"padding": 1, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
            writer.operator("MAX_POOL_2D", [source], [value], "Pool2DOptions", **options)
        elif operator == "mean":
            shape = (3, shape[3])
            value = writer.tensor(shape, scale, point)
            writer.operator("MEAN", [source, writer.integers([1, 2])], [value], "ReducerOptions")
        elif operator == "softmax":
            scale, point = 1 / 256, -128
            value = writer.tensor(shape, scale, point)
            writer.operator("SOFTMAX", [source], [value], "SoftmaxOptions", beta=1.0)
        elif operator == "add":
            number = writer.tensor((1, 1, 1, 4), 0.1, 0, rng.integers(-128, 128, (1, 1, 1, 4)).astype(np.int8))
            scale *= 2
            value = writer.tensor(shape, scale, point)
            writer.operator("ADD", [source, number], [value], "AddOptions")
        else:
            value = writer.tensor(shape, scale, point)
            writer.operator("RELU", [source], [value])
    return writer.finish([given], [value])


def batches(count: int) -> NDArray[np.int8]:
    return np.random.default_rng(4).integers(-128, 128, (count, *BATCH)).astype(np.int8)


def real_output(graph: Graph, batch: NDArray[np.int8]) -> NDArray[np.float32]:
    values = reference.run(graph, accel.quantize_input(graph, batch))
    return accel.dequantize_output(graph, values[graph.outputs[0]])


@pytest.mark.parametrize("operators", NETWORKS, ids="-".join)
def test_tflite_comes_back(operators: tuple[str, ...]) -> None:
    for seed in range(4):
        graph = read_tflite(network(operators, seed))
        data = FORMATS["tflite"].write(graph, [])[""]
        again, runtime = read_tflite(data), interpreter(data)
        for sample in random_samples(graph, np.random.default_rng(seed), 3):
            (expected,) = outputs(runtime, sample, 1)
            for one in (graph, again):
                found = reference.run(one, sample[0].reshape(one.input_tensors[0].shape))[one.outputs[0]]
                np.testing.assert_array_equal(found.reshape(-1), expected.reshape(-1))


@pytest.mark.parametrize("format", ["qdq", "qoperator"])
@pytest.mark.parametrize("operators", NETWORKS, ids="-".join)
def test_onnx_comes_back(operators: tuple[str, ...], format: str) -> None:
    source = read_tflite(network(operators))
    graph = read_quantized_onnx(FORMATS[format].write(source, [])[""])
    data = FORMATS[format].write(graph, [])[""]
    again, runtime = read_quantized_onnx(data), session(data, optimized=format == "qdq")
    assert graph.input_tensors[0].source.shape == source.input_tensors[0].source.shape == BATCH
    step = np.float32(graph.output_tensors[0].scale)
    for batch in batches(3):
        real = np.float32(graph.input_tensors[0].scale) * (batch.astype(np.float32) - graph.input_tensors[0].zero_point)
        expected = runtime.run(None, {graph.inputs[0]: real})[0]
        found = real_output(graph, batch)
        off = np.rint(np.abs(found - expected) / step)
        assert (found.shape, off.max() <= ("add" in operators or "softmax" in operators)) == (expected.shape, True)
        assert np.count_nonzero(off) <= 0.01 * off.size
        np.testing.assert_array_equal(found, real_output(again, batch))
        near = np.abs(real_output(source, batch) - found) / step
        assert near.max() <= 1.5, "the source rounds as TensorFlow Lite"


def test_products_of_rows_need_the_rule_of_fully_connected() -> None:
    """Some network's multiplier is that of a float32 product only, which no CONV_2D has."""
    found = 0
    for seed in range(8):
        graph = read_tflite(network(("fc",), seed))
        (node,) = (node for node in graph.nodes if isinstance(node, Weighted))
        scale, result = graph.tensors[node.inputs[0]].scale, graph.tensors[node.output].scale
        real = np.ldexp(float(node.multiplier[0]), int(node.shift[0]) - 31) * result / scale
        near = [np.float32(real)]
        for direction in (-1, 1):
            step = near[0]
            for _ in range(4):
                step = np.nextafter(step, np.float32(direction) * np.inf)
                near.append(step)
        ordinary, _ = output_multipliers(scale, np.array(near, np.float32), result, graph.mode)
        found += node.multiplier[0] not in ordinary
        data = FORMATS["tflite"].write(graph, [])[""]
        again = read_tflite(data)
        assert differing_field(graph, again) == ""
    assert found
