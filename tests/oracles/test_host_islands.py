"""Networks with operators that have no integer form: the host computes these, the machine what is around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from oracles.test_onnx_operators import plain_session
from support.networks.float_networks import FloatWriter
from support.oracles.on_machine import simulated

import accel
from accel.frontends.onnx.reader import read_onnx, read_quantized_onnx
from accel.frontends.onnx.write import to_onnx
from accel.network.graph import Graph
from accel.network.nodes import HostOperator
from accel.network.real import dequantize_output, quantize_input
from accel.network.reference import run
from accel.quantizer import QuantizationConfig, quantize, quantize_network

SHAPE = (1, 4, 6, 6)


def finished(w: FloatWriter, outputs: dict[str, int], kinds: dict[str, int] | None = None) -> bytes:
    """The model of a writer's nodes with one input "x"."""
    graph = helper.make_graph(
        w.nodes,
        "island",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [
            helper.make_tensor_value_info(name, (kinds or {}).get(name, TensorProto.FLOAT), [None] * rank)
            for name, rank in outputs.items()
        ],
        w.constants,
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


def writer() -> FloatWriter:
    """Seeded."""
    return FloatWriter(np.random.default_rng(3), channels={"x": 4})


def samples(count: int = 8) -> NDArray[np.float32]:
    """Calibration."""
    return np.random.default_rng(5).normal(0, 1, (count, *SHAPE[1:])).astype(np.float32)


def outputs_of(graph: Graph, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """The graph's outputs as numbers; the compiled program gives the same."""
    values = run(graph, quantize_input(graph, x))
    for name, found in zip(
        graph.outputs, simulated(accel.compile(graph, "edge"), [quantize_input(graph, x)]), strict=True
    ):
        assert np.array_equal(found, values[name])
    return real(graph, values)


def real(graph: Graph, values: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The graph's outputs among its values, as numbers."""
    return {
        name: dequantize_output(graph, values[name], name) if graph.tensors[name].dtype == "int8" else values[name]
        for name in graph.outputs
    }


def attention(w: FloatWriter) -> dict[str, int]:
    """Products of two activations and a softmax between matrix products with weights."""
    rows = w.op("Transpose", w.op("Reshape", w.conv("x", 8), w.ints(1, 8, 36)), perm=[0, 2, 1])
    parts = []
    for _ in range(3):
        parts.append(w.op("MatMul", rows, w.constant(w.rng.normal(0, 0.4, (8, 8)).astype(np.float32))))
    scores = w.op("MatMul", parts[0], w.op("Transpose", parts[1], perm=[0, 2, 1]))
    shares = w.op("Softmax", w.op("Div", scores, w.constant(np.float32(8**0.5))), axis=-1)
    mixed = w.op("MatMul", shares, parts[2])
    result = w.op("MatMul", mixed, w.constant(w.rng.normal(0, 0.4, (8, 4)).astype(np.float32)))
    return {result: 3}


def recurrent(w: FloatWriter) -> dict[str, int]:
    """An LSTM between convolutions and a classifier."""
    steps = w.op("Transpose", w.op("Reshape", w.conv("x", 5), w.ints(1, 5, 36)), perm=[2, 0, 1])
    arrays = [w.rng.normal(0, 0.4, (1, 24, n)).astype(np.float32) for n in (5, 6)]
    result = w.op("LSTM", steps, *(w.constant(a) for a in arrays), hidden_size=6)
    last = w.op("Reshape", w.op("Slice", result, w.ints(35), w.ints(36), w.ints(0)), w.ints(1, 6), channels=6)
    return {w.dense(last, 3): 2}


def logarithm(w: FloatWriter) -> dict[str, int]:
    """LogSoftmax over the channels, in the middle."""
    inner = w.op("LogSoftmax", w.conv("x", 8), axis=1)
    return {w.conv(inner, 4): 4}


def gram(w: FloatWriter) -> dict[str, int]:
    """A tensor times its own transpose, of which memory holds one."""
    inner = w.conv("x", 8)
    return {w.op("MatMul", inner, w.op("Transpose", inner, perm=[0, 1, 3, 2])): 4}


NETWORKS = {make.__name__: make for make in (attention, recurrent, logarithm, gram)}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("mode", ["tflite", "fp32"])
def test_network_with_an_island(kind: str, mode: str) -> None:
    w = writer()
    model = finished(w, NETWORKS[kind](w))
    graph = quantize(model, samples(), mode=mode)
    assert any(isinstance(node, HostOperator) for node in graph.nodes)
    x = samples()[:1]
    (computed,) = outputs_of(graph, x).values()
    expected = plain_session(model).run(None, {"x": x})[0]
    noise = 20 * np.log10(np.linalg.norm(expected) / np.linalg.norm(computed - expected))
    print(f"{kind} in mode {mode}: {noise:.1f} dB")
    assert noise > 25


def test_light_operators_between_those_of_the_host_stay_there() -> None:
    """Scores of attention are divided, normalized and multiplied again without a conversion."""
    w = writer()
    nodes = quantize(finished(w, attention(w)), samples()).nodes
    names = [node.label for node in nodes]
    assert names[names.index("MatMul") :].count("Quantize") == 1
    assert [name for name in names if name in ("MatMul", "Div", "Softmax")] == ["MatMul", "Div", "Softmax", "MatMul"]
    assert all(isinstance(node, HostOperator) for node in nodes if node.label in ("Div", "Softmax"))


def test_inputs_that_only_the_host_reads_stay_real() -> None:
    w = writer()
    steps = w.op("Transpose", w.op("Reshape", "x", w.ints(1, 4, 36)), perm=[2, 0, 1])
    arrays = [w.constant(w.rng.normal(0, 0.4, (1, 24, n)).astype(np.float32)) for n in (4, 6)]
    result = w.op("Reshape", w.op("LSTM", steps, *arrays, hidden_size=6), w.ints(1, 216), channels=216)
    graph = quantize(finished(w, {w.dense(result, 3): 2}), samples())
    assert graph.tensors["x"].dtype == "float32"
    machine = [node.label for node in graph.nodes if not isinstance(node, HostOperator)]
    assert machine == ["Quantize", "Reshape", "FullyConnected"]


@pytest.mark.parametrize("kind", NETWORKS)
def test_written_network_with_an_island_gives_what_the_runtime_gives(kind: str) -> None:
    w = writer()
    network = read_onnx(finished(w, NETWORKS[kind](w)))
    data = to_onnx(quantize_network(network, samples(), QuantizationConfig(mode="fp32"))).SerializeToString()
    graph, x = read_quantized_onnx(data), samples()[:1]
    (computed,) = outputs_of(graph, x).values()
    expected = plain_session(data).run(None, {"x": x})[0]
    scale = graph.tensors[graph.outputs[0]].scale
    assert np.abs(computed - expected).max() <= 1.01 * scale


def test_outputs_of_integers_are_the_hosts() -> None:
    """ArgMax and TopK give int64."""
    w = writer()
    scores = w.head(w.conv("x", 8))
    w.nodes.append(helper.make_node("ArgMax", [scores], ["best"], name="best", axis=1, keepdims=0))
    w.nodes.append(helper.make_node("TopK", [scores, w.ints(3)], ["values", "places"], name="top", axis=1))
    kinds = dict.fromkeys(("best", "places"), TensorProto.INT64)
    model = finished(w, {"best": 1, "values": 2, "places": 2}, kinds)
    graph, x = quantize(model, samples()), samples()[:1]
    computed = outputs_of(graph, x)
    best, values, places = plain_session(model).run(None, {"x": x})
    assert graph.outputs == ("best", "values", "places")
    assert computed["best"].dtype == computed["places"].dtype == np.int64
    assert np.array_equal(computed["best"], best)
    assert computed["places"][0, 0] == places[0, 0]
    assert np.allclose(computed["values"], values, atol=0.1)


def qdq(nodes: list[onnx.NodeProto], constants: dict[str, Any]) -> bytes:
    """A model from "x" to "y"."""
    w = writer()
    w.nodes = nodes
    w.constants = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return finished(w, {"y": 4})


QUANTIZED = {
    "s": np.float32(0.05),
    "z": np.int8(3),
    "w": np.arange(-8, 8, dtype=np.int8).reshape(4, 4, 1, 1),
    "ws": np.float32(0.01),
    "wz": np.int8(0),
    "f": np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4, 1, 1),
}
node = helper.make_node
START = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"])]
WEIGHTS = node("DequantizeLinear", ["w", "ws", "wz"], ["wd"])
STYLES: dict[str, list[onnx.NodeProto]] = {
    "last layer without QuantizeLinear": [*START, WEIGHTS, node("Conv", ["d", "wd"], ["y"], name="conv")],
    "float weights": [*START, node("Conv", ["d", "f"], ["y"], name="conv")],
    "float head and tail": [
        node("LogSoftmax", ["x"], ["h"], name="head", axis=1),
        node("QuantizeLinear", ["h", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        WEIGHTS,
        node("Conv", ["d", "wd"], ["c"], name="conv"),
        node("QuantizeLinear", ["c", "s", "z"], ["p"]),
        node("DequantizeLinear", ["p", "s", "z"], ["e"]),
        node("LogSoftmax", ["e"], ["y"], name="tail", axis=1),
    ],
    "sigmoid gate between Conv and QuantizeLinear": [
        *START,
        WEIGHTS,
        node("Conv", ["d", "wd"], ["c"], name="conv"),
        node("Sigmoid", ["c"], ["g"], name="gate"),
        node("Mul", ["c", "g"], ["m"], name="product"),
        node("QuantizeLinear", ["m", "s", "z"], ["p"]),
        node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ],
}


@pytest.mark.parametrize("style", STYLES)
def test_real_results_between_quantized_regions(style: str) -> None:
    """What the file leaves real stays real."""
    model = qdq(STYLES[style], QUANTIZED)
    graph, x = read_quantized_onnx(model), samples()[:1]
    values = run(graph, quantize_input(graph, x) if graph.tensors["x"].dtype == "int8" else {"x": x})
    computed = values["y"]
    if graph.tensors["y"].dtype == "int8":
        computed = dequantize_output(graph, computed, "y")
    assert np.allclose(computed, plain_session(model).run(None, {"x": x})[0], atol=1e-5)


def quantized(source: str, scale: str, result: str) -> list[onnx.NodeProto]:
    """A QuantizeLinear and its DequantizeLinear."""
    steps = f"{result}_steps"
    return [
        node("QuantizeLinear", [source, scale, "z"], [steps], name=steps),
        node("DequantizeLinear", [steps, scale, "z"], [result], name=result),
    ]


SOURCES = {
    "of the host": [node("TopK", ["x", "six"], ["v", "places"], name="top", axis=-1)],
    "of the machine": [*START, WEIGHTS, node("Conv", ["d", "wd"], ["v"], name="conv")],
}
PARTS = node("Split", ["v", "sizes"], ["p", "r"], name="parts", axis=1)
TURNED = node("Transpose", ["v"], ["r"], name="turned", perm=[0, 2, 3, 1])
CONSUMERS = {
    "parts": [PARTS, *quantized("p", "small", "y"), *quantized("r", "large", "u")],
    "a part stays real": [PARTS, *quantized("p", "small", "y"), node("LogSoftmax", ["r"], ["u"], name="u", axis=1)],
    "whole and turned": [TURNED, *quantized("v", "small", "y"), *quantized("r", "large", "u")],
    "twice": [*quantized("v", "small", "y"), *quantized("v", "large", "u")],
    "itself an output": [TURNED, *quantized("r", "small", "y"), node("Identity", ["v"], ["u"])],
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("consumers", CONSUMERS)
def test_real_numbers_that_are_quantized_in_several_ways(source: str, consumers: str) -> None:
    """The parameters of one consumer do not round or clip what another one gets."""
    w = writer()
    w.nodes = [*SOURCES[source], *CONSUMERS[consumers]]
    constants = QUANTIZED | {
        "small": np.float32(0.0013),
        "large": np.float32(0.0625),
        "six": np.array([6]),
        "sizes": np.array([1, 3]),
    }
    w.constants = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    model, x = finished(w, {"y": 4, "u": 4}), samples()[:1]
    graph = read_quantized_onnx(model)
    computed = real(graph, run(graph, quantize_input(graph, x)))
    for name, expected in zip(("y", "u"), plain_session(model).run(None, {"x": x}), strict=True):
        assert np.allclose(computed[name], expected, atol=1e-5)


def test_parts_of_the_hosts_result_are_read_back_from_an_export() -> None:
    """Small numbers in one part, large ones in the other."""
    w = writer()
    w.nodes.append(node("TopK", ["x", w.ints(3)], ["v", "places"], name="top", axis=-1))
    w.nodes.append(node("Split", ["v", w.ints(1, 3)], ["p", "r"], name="parts", axis=1))
    w.nodes += [node("Relu", ["p"], ["y"], name="y"), node("Relu", ["r"], ["u"], name="u")]
    x = samples() * np.array([0.01, 10, 10, 10], np.float32).reshape(1, 4, 1, 1)
    network = quantize_network(read_onnx(finished(w, {"y": 4, "u": 4})), x, QuantizationConfig(mode="fp32"))
    data = to_onnx(network).SerializeToString()
    graph = read_quantized_onnx(data)
    computed = outputs_of(graph, x[:1])
    for name, expected in zip(("y", "u"), plain_session(data).run(None, {"x": x[:1]}), strict=True):
        assert np.abs(computed[name] - expected).max() <= 1.01 * graph.tensors[name].scale


def test_a_mask_of_integers_stays_real() -> None:
    """Minus ten thousand where attention must not look: beside it, int8 would leave nothing of the scores."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,8,6] x, int64[1,8] m) => (float[1,8,6] y)
        <float one = {1.0}, float low = {-10000.0}, int64[1] axis = {1}> {
        q = MatMul (x, wq) k = MatMul (x, wk) t = Transpose <perm = [0, 2, 1]> (k) s = MatMul (q, t)
        f = Cast <to = 1> (m) r = Sub (one, f) n = Mul (r, low) u = Unsqueeze (n, axis) a = Add (s, u)
        p = Softmax <axis = 2> (a) v = MatMul (p, x) y = MatMul (v, wv) }"""
    parsed, rng = onnx.parser.parse_model(text), np.random.default_rng(2)
    for name in ("wq", "wk", "wv"):
        parsed.graph.initializer.append(numpy_helper.from_array(rng.normal(0, 0.5, (6, 6)).astype(np.float32), name))
    data = {"x": rng.normal(0, 1, (16, 8, 6)).astype(np.float32), "m": rng.integers(0, 2, (16, 8))}
    data["m"][:, 0] = 1
    graph = quantize(parsed.SerializeToString(), data, mode="fp32")
    assert [node.label for node in graph.nodes if node.label in ("Sub", "Mul", "Table")] == ["Sub", "Mul"]
    signal = noise = 0.0
    for i in range(4):
        one = {name: values[i : i + 1] for name, values in data.items()}
        (expected,) = plain_session(parsed.SerializeToString()).run(None, one)
        found = dequantize_output(graph, run(graph, quantize_input(graph, one))["y"])
        signal, noise = signal + np.square(expected).sum(), noise + np.square(expected - found).sum()
    assert 10 * np.log10(signal / noise) > 30
