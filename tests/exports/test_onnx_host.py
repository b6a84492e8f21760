"""QDQ models of networks with operators of the host, or of nothing else: read back to the same values."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from support.oracles.ort_session import session

import accel
from accel.errors import ModelError
from accel.exports import FORMATS
from accel.exports.inexpressible import InexpressibleError
from accel.frontends import read_quantized_onnx
from accel.network import reference
from accel.network.graph import Graph
from accel.network.nodes import HostOperator, Node
from accel.network.real import dequantize_output, quantize_input

HEAD = '<ir_version: 8, opset_import: ["" : {opset}]> g (float[1,3,6,6] x) => ({output} y) {{ {nodes} }}'
NETWORKS = {
    "an input and a function of it, joined": "n = Neg (x) y = Concat <axis = 1> (x, n)",
    "one operator of the host": "axis = Constant <value = int64 {1}> () y = CumSum (x, axis)",
    "a tensor plus itself": "y = Add (x, x)",
    "a tensor times itself": "y = Mul (x, x)",
    "an image by 255": "k = Constant <value = float {255.0}> () y = Div (x, k)",
    "products of two activations": "t = Transpose <perm = [0, 1, 3, 2]> (x) y = MatMul (x, t)",
    "a branch": """a = Conv <pads = [1,1,1,1]> (x, w0) m = ReduceMean <keepdims = 0> (a)
        zero = Constant <value = float {0.0}> () c = Greater (m, zero)
        y = If (c) <then_branch = one () => (float[1,4,6,6] t) { t = Conv <pads = [1,1,1,1]> (a, w1) },
                    else_branch = two () => (float[1,4,6,6] e) { f = Conv <pads = [1,1,1,1]> (a, w1)
                                                                 e = Conv <pads = [1,1,1,1]> (f, w1) }>""",
}
NARROW = {
    "Transpose": "axis = Constant <value = int64 {1}> () b = CumSum (a, axis)",
    "axes that became an input": "b = ReduceL2 <axes = [3]> (a)",
    "an attribute more": "d = Cast <to = 6> (a) b = Cast <to = 1> (d)",
}
"""Operators of the host between two convolutions of opset 17; integers of 4 bits need opset 21."""
CONTROL = {
    "If": """m = ReduceMean <keepdims = 0> (a) zero = Constant <value = float {0.0}> () c = Greater (m, zero)
        y = If (c) <then_branch = one () => (float[1,4,6,1] t) { t = ReduceMax <axes = [3]> (a) },
                    else_branch = two () => (float[1,4,6,1] e) { s = Neg (a) e = ReduceMean <axes = [3]> (s) }>""",
    "Loop": """n = Constant <value = int64 {3}> () true = Constant <value_int = 1> () c = Cast <to = 9> (true)
        y = Loop (n, c, a) <body = turn (int64 i, bool go, float[1,4,6,6] s) => (bool on, float[1,4,6,6] r) {
            on = Identity (go) l = ReduceL2 <axes = [3]> (s) r = Sub (s, l) }>""",
}
"""Operators inside have axes as attributes, which later versions have as inputs."""


def model(nodes: str, output: str = "float[n,c,h,w]", opset: int = 17) -> bytes:
    parsed, rng = (
        onnx.parser.parse_model(HEAD.format(opset=opset, output=output, nodes=nodes)),
        np.random.default_rng(3),
    )
    for name, shape in {"w0": (4, 3, 3, 3), "w1": (4, 4, 3, 3), "w2": (3, 4, 1, 1)}.items():
        if f"{name})" in nodes:
            weight = rng.normal(0, 0.4, shape).astype(np.float32)
            parsed.graph.initializer.append(numpy_helper.from_array(weight, name))
    return bytes(parsed.SerializeToString())


def samples(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).normal(0, 2, (count, 3, 6, 6)).astype(np.float32)


def outputs(graph: Graph) -> NDArray[np.float32]:
    """The real outputs on a few samples."""
    found = [reference.run(graph, {"x": quantize_input(graph, x[None])})["y"] for x in samples(4)]
    return np.concatenate([dequantize_output(graph, value) for value in found])


@pytest.mark.parametrize("format", ["qdq", "qoperator"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_of_the_host_come_back(kind: str, format: str) -> None:
    graph = accel.quantize(model(NETWORKS[kind]), samples(16), mode="fp32")
    data = FORMATS[format].write(graph, [])[""]
    again = read_quantized_onnx(data)
    assert np.array_equal(outputs(again), outputs(graph))
    expected = np.concatenate([session(data).run(None, {"x": x[None]})[0] for x in samples(4)])
    assert np.abs(expected - outputs(graph)).max() <= 1e-3 * np.abs(expected).max()


REAL = {
    "a convolution that stays real": "b = Conv <pads = [1,1,1,1]> (r, w1)",
    "a dilated average": "b = AveragePool <kernel_shape = [2, 2], dilations = [2, 2]> (r)",
    "an average of rounded size": """b = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1],
        ceil_mode = 1, count_include_pad = 1> (r)""",
    "a softmax": "b = Softmax <axis = 1> (r)",
    "a product of two results": "t = Transpose <perm = [0, 1, 3, 2]> (r) b = MatMul (r, t)",
    "a sum": "q = Neg (r) b = Add (r, q)",
}
"""Operators of the host, named `H`, between two convolutions of the machine."""


def kind_of(node: Node) -> str:
    return node.op_type if isinstance(node, HostOperator) else node.op


@pytest.mark.parametrize("format", ["qdq", "qoperator"])
@pytest.mark.parametrize("kind", REAL)
def test_optimizations_leave_the_host_its_real_numbers(kind: str, format: str) -> None:
    """ONNX Runtime's default would join conversions and operator: other values, or a file that does not load."""
    data = model(f"a = Conv (x, w0) r = Relu (a) {REAL[kind]} y = Conv (b, w2)", opset=19)
    written = onnx.load_model_from_string(data)
    for node in written.graph.node:
        node.name = "H" if "b" in node.output else node.output[0]
    graph = accel.quantize(written.SerializeToString(), samples(16), mode="fp32", nodes_to_exclude=["H"])
    exported = FORMATS[format].write(graph, [])[""]
    again = read_quantized_onnx(exported)
    assert [kind_of(node) for node in again.nodes] == [kind_of(node) for node in graph.nodes]
    assert np.array_equal(outputs(again), outputs(graph))
    plain = session(exported, optimized=False)
    for runtime in (session(exported), onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])):
        for x in samples(8):
            found, expected = (one.run(None, {"x": x[None]})[0] for one in (runtime, plain))
            steps = np.abs(found - expected) / graph.tensors["y"].scale
            assert steps.max() < 1.5
            assert np.count_nonzero(steps > 0.5) <= 0.01 * steps.size


@pytest.mark.parametrize("format", ["qdq", "qoperator"])
def test_a_share_of_1_stays_1_under_optimizations(format: str) -> None:
    """ONNX Runtime's own Softmax on integers gives 0 for it."""
    nodes = "k = Constant <value = float {100.0}> () s = Mul (x, k) y = Softmax <axis = 1> (s)"
    graph = accel.quantize(model(nodes), samples(16), mode="fp32")
    exported = FORMATS[format].write(graph, [])[""]
    found = np.concatenate([session(exported).run(None, {"x": x[None]})[0] for x in samples(4)])
    assert np.array_equal(found, outputs(graph))
    assert found.max() == 1
    assert np.array_equal(outputs(read_quantized_onnx(exported)), outputs(graph))


@pytest.mark.parametrize("format", ["qdq", "qoperator"])
def test_optimizations_round_as_often_as_the_graph(format: str) -> None:
    """A function that saturates everywhere is the same numbers under other parameters: two roundings."""
    graph = accel.quantize(model("y = Tanh (x)"), 1e6 * samples(16))
    exported = FORMATS[format].write(graph, [])[""]
    for x in 1e6 * samples(8):
        optimized, plain = (session(exported, optimized=one).run(None, {"x": x[None]})[0] for one in (True, False))
        assert np.array_equal(optimized, plain)
    assert np.array_equal(outputs(read_quantized_onnx(exported)), outputs(graph))


@pytest.mark.parametrize("kind", NARROW)
def test_weights_of_4_bits_beside_operators_of_the_host(kind: str) -> None:
    last = "y = Conv <pads = [1,1,1,1]> (b, w1)"
    data = model(f"a = Conv <pads = [1,1,1,1]> (x, w0) {NARROW[kind]} {last}")
    graph = accel.quantize(data, samples(16), mode="fp32", weight_bits=4)
    assert any(isinstance(node, HostOperator) for node in graph.nodes)
    written = FORMATS["qdq"].write(graph, [])[""]
    assert np.array_equal(outputs(read_quantized_onnx(written)), outputs(graph))


@pytest.mark.parametrize("format", ["qdq", "qoperator"])
@pytest.mark.parametrize(("bits", "opset"), [(4, 17), (8, 13), (8, 17)])
@pytest.mark.parametrize("kind", CONTROL)
def test_control_flow_has_the_version_of_the_file(kind: str, bits: int, opset: int, format: str) -> None:
    """ONNX wants one version of an operator in a file, inside functions and outside."""
    data = model(f"a = Conv <pads = [1,1,1,1]> (x, w0) {CONTROL[kind]}", opset=opset)
    graph = accel.quantize(data, samples(16), mode="fp32", weight_bits=bits)
    written = FORMATS[format].write(graph, [])[""]
    assert np.array_equal(outputs(read_quantized_onnx(written)), outputs(graph))
    expected = np.concatenate([session(written).run(None, {"x": x[None]})[0] for x in samples(4)])
    assert np.abs(expected - outputs(graph)).max() <= 1e-3 * np.abs(expected).max()


def test_a_float_model_of_others_is_still_refused() -> None:
    written = onnx.load_model_from_string(model(NETWORKS["one operator of the host"]))
    with pytest.raises(
        ModelError, match=r"^model must be quantized, got a float model: run `accel quantize` on it first$"
    ):
        read_quantized_onnx(written.SerializeToString())


def test_an_input_that_is_quantized_in_two_ways() -> None:
    """Each QuantizeLinear rounds the real input: none the integers of the other."""
    nodes = """z = Constant <value = int8 {3}> ()
        s = Constant <value = float {0.02}> () t = Constant <value = float {0.05}> ()
        p = QuantizeLinear (x, s, z) q = QuantizeLinear (x, t, z) a = DequantizeLinear (p, s, z)
        b = DequantizeLinear (q, t, z) c = Concat <axis = 1> (a, b)
        r = QuantizeLinear (c, t, z) y = DequantizeLinear (r, t, z)"""
    data = model(nodes)
    expected = np.concatenate([session(data).run(None, {"x": x[None]})[0] for x in samples(4)])
    assert np.array_equal(outputs(read_quantized_onnx(data)), expected)


def test_the_larger_branch_is_counted() -> None:
    program = accel.compile(accel.quantize(model(NETWORKS["a branch"]), samples(16)), "edge")
    (branch,) = [found for found in program.operators if found.op == "If"]
    assert branch.macs == 2 * 36 * 4 * 4 * 9
    assert branch.why == "no unit computes If; MACs are those of its larger branch"


OLD = {
    "a softmax of three axes": (9, "b = Softmax <axis = 1> (r)"),
    "a logarithm of a softmax": (12, "b = LogSoftmax <axis = 2> (r)"),
    "linear Upsample": (
        9,
        's = Constant <value = float[4] {1.0, 1.0, 2.5, 2.0}> () b = Upsample <mode = "linear"> (r, s)',
    ),
    "linear Resize": (
        10,
        's = Constant <value = float[4] {1.0, 1.0, 0.5, 2.0}> () b = Resize <mode = "linear"> (r, s)',
    ),
    "largest elements": (9, "b, i = TopK <k = 3, axis = 3> (r)"),
    "limits, borders and parts": (
        7,
        """d = Clip <min = -1.5, max = 2.5> (r) e = Pad <pads = [0,0,1,0,0,0,0,1], mode = "reflect"> (d)
        f, g = Split <axis = 2, split = [2, 3]> (e)
        h = Slice <axes = [2], starts = [1], ends = [3]> (g) b = Sum (f, h)""",
    ),
    "a branch": (
        11,
        """m = ReduceMean <keepdims = 0> (r) zero = Constant <value = float {0.0}> () c = Greater (m, zero)
        b = If (c) <then_branch = one () => (float[1,4,4,4] t) { t = Softmax <axis = 1> (r) },
                    else_branch = two () => (float[1,4,4,4] e) { e = LogSoftmax <axis = 2> (r) }>""",
    ),
}
"""Operators between two convolutions, and the opset whose form of them ONNX gave up."""


@pytest.mark.parametrize("kind", OLD)
def test_old_forms_of_the_host_s_operators_are_written_in_the_present_one(kind: str) -> None:
    opset, nodes = OLD[kind]
    written = onnx.load_model_from_string(model(f"a = Conv (x, w0) r = Relu (a) {nodes} y = Conv (b, w2)", opset=opset))
    for node in written.graph.node:
        node.name = f"H_{node.output[0]}" if node.output[0] in "bcdefghv" else node.output[0]
    hosted = [node.name for node in written.graph.node if node.name.startswith("H_")]
    graph = accel.quantize(written.SerializeToString(), samples(16), mode="fp32", nodes_to_exclude=hosted)
    assert any(isinstance(node, HostOperator) and node.opset == opset for node in graph.nodes) or kind == "a branch"
    exported = FORMATS["qoperator"].write(graph, [])[""]
    assert np.array_equal(outputs(read_quantized_onnx(exported)), outputs(graph))
    runtime = session(exported, optimized=False)
    assert np.array_equal(np.concatenate([runtime.run(None, {"x": x[None]})[0] for x in samples(4)]), outputs(graph))


def test_the_nearest_elements_of_old_resizes_are_refused() -> None:
    """They depended on whether the axis grows, which later versions cannot say."""
    nodes = (
        "s = Constant <value = float[4] {1.0, 1.0, 0.5, 1.7}> () a = Conv (x, w0) b = Resize (a, s) y = Conv (b, w2)"
    )
    written = onnx.load_model_from_string(model(nodes, opset=10))
    for node in written.graph.node:
        node.name = node.output[0]
    graph = accel.quantize(written.SerializeToString(), samples(16), mode="fp32", nodes_to_exclude=["b"])
    with pytest.raises(InexpressibleError):
        FORMATS["qdq"].write(graph, [])
