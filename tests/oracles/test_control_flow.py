"""Branches, loops and operators of others: what is known is chosen, the rest is the host's, as ONNX Runtime has it."""

from __future__ import annotations

import logging
import re

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from oracles.test_onnx_operators import plain_session
from support.oracles.on_machine import simulated

import accel
from accel.errors import ModelError
from accel.exports import FORMATS
from accel.frontends.onnx.reader import read_onnx, read_quantized_onnx
from accel.frontends.onnx.write import to_onnx
from accel.network.graph import Graph
from accel.network.graph_file import dump_graph, parse_graph
from accel.network.nodes import HostOperator
from accel.network.real import dequantize_output, quantize_input
from accel.network.reference import run
from accel.quantizer import QuantizationConfig, quantize, quantize_network

HEAD = '<ir_version: 8, opset_import: ["" : 17, "mine" : 3]> g (float[1,3,8,8] x) => ({outputs}) {{ {nodes} }}'
BRANCHES = """
    <then_branch = one () => (float[1,4,8,8] t) {{ half = Constant <value = float {{0.5}}> () t = Mul (a, half) }},
     else_branch = two () => (float[1,4,8,8] e) {{ half = Constant <value = float {{2.0}}> () e = Sub (a, half) }}>"""
BRANCHES = BRANCHES.replace("{{", "{").replace("}}", "}")
BODY = """
    <body = step (int64 i, bool c, float[1,4,8,8] v) => (bool c_out, float[1,4,8,8] v_out) {
        half = Constant <value = float {0.5}> () h = Mul (v, half) v_out = Add (h, a) c_out = Identity (c) }>"""
ROWS = """
    <num_scan_inputs = 1, body = row (float[4,8] s, float[4,8] r) => (float[4,8] s_out, float[4,8] o) {
        s_out = Max (s, r) o = Identity (s_out) }>"""
SIZE = "n = Shape (x) size = Size (n) four = Constant <value = int64 {%d}> () cond = Equal (size, four) "
MEAN = "mean = ReduceMean <keepdims = 0> (a) zero = Constant <value = float {%s}> () cond = Greater (mean, zero) "
COUNT = "count = Constant <value = int64 {3}> () "

NETWORKS = {
    "known, true": f"{SIZE % 4} r = If (cond) {BRANCHES}",
    "known, false": f"{SIZE % 5} r = If (cond) {BRANCHES}",
    "computed, true": f"{MEAN % -100} r = If (cond) {BRANCHES}",
    "computed, false": f"{MEAN % 100} r = If (cond) {BRANCHES}",
    "two": f"{MEAN % -100} q = If (cond) {BRANCHES} b = Add (q, a) r = Loop (count, , b) {BODY}",
    "loop": f"r = Loop (count, , a) {BODY}",
    "scan": f"""rows = Transpose <perm = [2, 0, 1, 3]> (a) axes = Constant <value_ints = [1]> ()
        flat = Squeeze (rows, axes) first = Constant <value = float[4,8] {{ {", ".join(["-9."] * 32)} }}> ()
        last, all = Scan (first, flat) {ROWS}
        wide = Unsqueeze (all, axes) r = Transpose <perm = [1, 2, 0, 3]> (wide)""",
}


def model(nodes: str, outputs: str = "float[1,5,8,8] y", last: str = "y = Conv <pads = [1,1,1,1]> (r, w1)") -> bytes:
    """Nodes from "a" to "r", between two convolutions of random weights."""
    text = HEAD.format(outputs=outputs, nodes=f"a = Conv <pads = [1,1,1,1]> (x, w0) {COUNT} {nodes} {last}")
    parsed, rng = onnx.parser.parse_model(text), np.random.default_rng(3)
    for i, shape in enumerate([(4, 3, 3, 3), (5, 4, 3, 3)]):
        parsed.graph.initializer.append(numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), f"w{i}"))
    return bytes(parsed.SerializeToString())


def samples() -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(0, 1, (8, 3, 8, 8)).astype(np.float32)


def real_output(graph: Graph, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The output as real numbers; the compiled program gives the same."""
    values = run(graph, quantize_input(graph, x))["y"]
    (found,) = simulated(accel.compile(graph, "edge"), [quantize_input(graph, x)])
    assert np.array_equal(found, values)
    return dequantize_output(graph, values)


@pytest.mark.parametrize("kind", NETWORKS)
def test_float_networks_with_control_flow(kind: str) -> None:
    data, x = model(NETWORKS[kind]), samples()[:1]
    graph = quantize(data, samples())
    hosted = [node.op_type for node in graph.nodes if isinstance(node, HostOperator)]
    assert ("known" in kind) == (not hosted)
    expected = plain_session(data).run(None, {"x": x})[0]
    noise = 20 * np.log10(np.linalg.norm(expected) / np.linalg.norm(real_output(graph, x) - expected))
    print(f"{kind}: {noise:.1f} dB, on the host {hosted}")
    assert noise > 30


@pytest.mark.parametrize("kind", NETWORKS)
def test_quantized_networks_with_control_flow_equal_the_runtime(kind: str) -> None:
    network, x = read_onnx(model(NETWORKS[kind])), samples()[:1]
    data = to_onnx(quantize_network(network, samples(), QuantizationConfig(mode="fp32"))).SerializeToString()
    graph = read_quantized_onnx(data)
    found = parse_graph(dump_graph(graph))
    expected = plain_session(data).run(None, {"x": x})[0]
    steps = np.abs(real_output(found, x) - expected) / graph.tensors["y"].scale
    assert steps.max() < 0.01


def test_the_wrong_branch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    data, x = model(NETWORKS["known, true"]), samples()[:1]
    expected = plain_session(data).run(None, {"x": x})[0]
    wrong = real_output(quantize(model(NETWORKS["known, false"]), samples()), x)
    assert 20 * np.log10(np.linalg.norm(expected) / np.linalg.norm(wrong - expected)) < 10


TAILS = {
    "operator is not ONNX's": ("y = Relu (a) p, q = mine.Decode (y, a, count) z = Sigmoid (q)", ("y", "a")),
    "sizes of its results depend on values": ("y = Relu (a) p = NonZero (y) z = Cast <to = 1> (p)", ("y",)),
}


@pytest.mark.parametrize("problem", TAILS)
def test_what_nobody_can_run_at_the_end_is_left_to_the_user(problem: str, caplog: pytest.LogCaptureFixture) -> None:
    nodes, outputs = TAILS[problem]
    data, x = model(nodes, "float[4,n] z", last=""), samples()[:1]
    with caplog.at_level(logging.WARNING):
        graph = quantize(data, samples())
    assert graph.outputs == outputs
    assert caplog.messages[0].endswith(f"and what follows is left to you: {problem}")
    assert caplog.messages[1] == "Outputs are " + ", ".join(map(repr, outputs))
    cut = model("y = Relu (a)", "float[1,4,8,8] y, float[1,4,8,8] a", last="")
    expected = dict(zip(("y", "a"), plain_session(cut).run(None, {"x": x}), strict=True))
    values = run(graph, quantize_input(graph, x))
    for name in outputs:
        found = dequantize_output(graph, values[name], name)
        assert np.abs(found - expected[name]).max() < 8 * graph.tensors[name].scale


REFUSED = {
    "mine.Decode 'mine.Decode_1': operator is not ONNX's, and the network goes on with Conv 'Conv_3': "
    "split the model": (
        "p = mine.Decode (a, count) r = Sigmoid (p)", "y = Conv <pads = [1,1,1,1]> (r, w1)",
    ),
    "NonZero 'NonZero_1': sizes of its results depend on values, and the network goes on with MatMul 'MatMul_3': "
    "split the model": ("p = NonZero (a) q = Cast <to = 1> (p)", "y = MatMul (q, w1)"),
    "mine.Decode 'mine.Decode_1': operator is not ONNX's, and nothing comes before it": (
        "p = mine.Decode (x, count) y = Sigmoid (p)", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_nobody_can_run_in_the_middle_is_named(message: str) -> None:
    nodes, last = REFUSED[message]
    data = model(nodes, "float[5,4] y", last)
    with pytest.raises(ModelError) as caught:
        quantize(data, samples())
    assert str(caught.value) == message


def test_a_result_whose_size_depends_on_values_is_named() -> None:
    nodes = "s = ReduceMax <keepdims = 0> (a) n = Cast <to = 7> (s) q = Range (zero, n, one) r = Cast <to = 1> (q)"
    numbers = "zero = Constant <value = int64 {0}> () one = Constant <value = int64 {1}> () "
    message = (
        "Range 'Range_3': shape of its result 'q' must be known, and does not follow from the sizes of the model's "
        "inputs: make a constant of what decides it, or end the model before it"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        quantize(model(numbers + nodes, "float[n] y", "y = Relu (r)"), samples())


def test_an_input_may_be_one_number() -> None:
    text = model(f"cond = Equal (rate, count) r = If (cond) {BRANCHES}")
    parsed = onnx.load_model_from_string(text)
    parsed.graph.input.append(onnx.helper.make_tensor_value_info("rate", onnx.TensorProto.INT64, []))
    data, x = parsed.SerializeToString(), samples()
    graph = quantize(data, {"x": x, "rate": np.arange(8)})
    program = accel.compile(graph, "tiny")
    for rate in (3, 4):
        given = {"x": quantize_input(graph, x[:1], "x"), "rate": np.array(rate)}
        expected = plain_session(data).run(None, {"x": x[:1], "rate": np.array(rate)})[0]
        output = run(graph, given)["y"]
        found = dequantize_output(graph, output)
        assert 20 * np.log10(np.linalg.norm(expected) / np.linalg.norm(found - expected)) > 25
        assert np.array_equal(accel.run(program, given).outputs["y"], output)


INTEGERS = {
    "If": """mean = ReduceMean <keepdims = 0> (x) zero = Constant <value = float {{0.0}}> () cond = Greater (mean, zero)
        r = If (cond) <then_branch = one () => ({kind}[1,4,6] t) {{ t = Identity (a) }},
        else_branch = two () => ({kind}[1,4,6] e) {{
            d = DequantizeLinear (a, s, z) h = Neg (d) e = QuantizeLinear (h, s, z) }}>""",
    "Loop": """count = Constant <value = int64 {{3}}> () r = Loop (count, , a)
        <body = step (int64 i, bool c, {kind}[1,4,6] v) => (bool c_out, {kind}[1,4,6] v_out) {{
            d = DequantizeLinear (v, s, z) m = MatMul (w, d) n = Tanh (m)
            v_out = QuantizeLinear (n, s, z) c_out = Identity (c) }}>""",
    "Scan": """last, r = Scan (first, a) <num_scan_inputs = 1, scan_input_axes = [2], scan_output_axes = [2],
        body = step ({kind}[1,4] v, {kind}[1,4] u) => ({kind}[1,4] v_out, {kind}[1,4] o) {{
            p = QLinearMatMul (u, s, z, q, s, z, s, z) d = DequantizeLinear (p, s, z) g = DequantizeLinear (v, s, z)
            sum = Add (d, g) o = QuantizeLinear (sum, s, z) v_out = Identity (o) }}>""",
}
"""Control flow on integers of 8 bits, from `a` to `r`."""


def of_integers(kind: str, dtype: str) -> bytes:
    """A network whose control flow reads and gives integers of 8 bits, which a Conv in front of it has made."""
    nodes = f"""a = QLinearConv (i, s, z, k, s, z, s, z) {INTEGERS[kind].format(kind=dtype)}
        t = DequantizeLinear (r, s, z) y = Relu (t)"""
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,6] x) => (float[1,4,6] y)'
    parsed = onnx.parser.parse_model(f"{head} {{ i = QuantizeLinear (x, s, z) {nodes} }}")
    rng, point = np.random.default_rng(9), np.array({"int8": 3, "uint8": 121}[dtype], dtype)
    values = {
        "s": np.float32(0.05),
        "z": point,
        "k": (rng.integers(-60, 60, (4, 3, 1)) + int(point)).clip(0 if dtype == "uint8" else -128, 127).astype(dtype),
        "w": rng.normal(0, 0.5, (4, 4)).astype(np.float32),
        "q": (rng.integers(-30, 30, (4, 4)) + int(point)).astype(dtype),
        "first": np.full((1, 4), point),
    }
    used = {name for node in parsed.graph.node for name in (*node.input, *named_in(node))}
    kept = {name: value for name, value in values.items() if name in used}
    parsed.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in kept.items())
    return bytes(parsed.SerializeToString())


def named_in(node: onnx.NodeProto) -> set[str]:
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {name for graph in graphs for inner in graph.node for name in inner.input}


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_of_8_bits_go_through_control_flow(kind: str, dtype: str) -> None:
    data = of_integers(kind, dtype)
    graph = read_quantized_onnx(data)
    again = read_quantized_onnx(FORMATS["qdq"].write(graph, [])[""])
    assert [node.op_type.partition("_")[0] for node in graph.nodes if isinstance(node, HostOperator)].count(kind) == 1
    session = plain_session(data)
    for x in np.random.default_rng(2).normal(0, 3, (6, 1, 3, 6)).astype(np.float32):
        expected = session.run(None, {"x": x})[0]
        np.testing.assert_array_equal(real_output(graph, x), expected)
        np.testing.assert_array_equal(real_output(again, x), expected)
