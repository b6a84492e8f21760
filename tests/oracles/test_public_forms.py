"""Forms of ONNX files in public repositories that exporters of today do not write: ONNX Runtime takes them all."""

from __future__ import annotations

from typing import Any

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
from accel.frontends import read_quantized_onnx
from accel.network import reference
from accel.network.graph import Graph
from accel.network.real import dequantize_output, quantize_input

HEAD = '<ir_version: 8, opset_import: ["" : {opset}]> g (float[1,8,6,6] x) => (float[n,c,h,w] y) {{ {nodes} }}'


def model(nodes: str, opset: int, **constants: NDArray[Any]) -> onnx.ModelProto:
    parsed = onnx.parser.parse_model(HEAD.format(opset=opset, nodes=nodes))
    parsed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return parsed


def weights(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(len(shape)).normal(0, 0.4, shape).astype(np.float32)


def samples(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).normal(0, 2, (count, 8, 6, 6)).astype(np.float32)


def outputs(graph: Graph) -> NDArray[np.float32]:
    """The real outputs on a few samples."""
    found = [reference.run(graph, {"x": quantize_input(graph, x[None])})["y"] for x in samples(4)]
    return np.concatenate([dequantize_output(graph, value) for value in found])


def float_outputs(data: bytes) -> NDArray[np.float32]:
    """What ONNX Runtime computes without optimizations, which would replace what is looked at."""
    runtime = session(data, optimized=False)
    return np.concatenate([runtime.run(None, {"x": x[None]})[0] for x in samples(4)])


def quantized(data: bytes, decibels: float = 25) -> Graph:
    """The quantized network, near the float one, and equal to ONNX Runtime on its export."""
    graph = accel.quantize(data, samples(16), mode="fp32", calibrate_method="minmax")
    exact, found = float_outputs(data), outputs(graph)
    assert 10 * np.log10(np.square(exact).sum() / np.square(exact - found).sum()) > decibels
    exported = session(FORMATS["qoperator"].write(graph, [])[""], optimized=False)
    assert np.array_equal(np.concatenate([exported.run(None, {"x": x[None]})[0] for x in samples(4)]), found)
    return graph


@pytest.mark.parametrize("opset", [9, 12, 15])
def test_layer_normalization_of_the_runtime_in_earlier_versions(opset: int) -> None:
    """ONNX Runtime's transformer optimizer writes it in the model's version; a Softmax of two axes stays one of two."""
    nodes = "a = Conv (x, w) l = LayerNormalization <axis = -1> (a, s, b) m = Softmax <axis = 2> (l) y = Conv (m, w)"
    data = model(nodes, opset, w=weights(8, 8, 1, 1), s=weights(6), b=weights(6)).SerializeToString()
    quantized(data)


@pytest.mark.parametrize(("opset", "groups", "count"), [(18, 2, 2), (20, 8, 8), (21, 2, 8)])
def test_group_normalization_of_every_version(opset: int, groups: int, count: int) -> None:
    """One number per group before opset 21, one per channel from then on."""
    nodes = f"a = Conv (x, w) l = GroupNormalization <num_groups = {groups}> (a, s, b) y = Conv (l, w)"
    data = model(nodes, opset, w=weights(8, 8, 1, 1), s=weights(count) + 1, b=weights(count)).SerializeToString()
    quantized(data)


FACTORS = np.array([1e-3, 1e-12, 2e-41, 0, 1, -1e-9, 2, 1e-30], np.float32)
OFFSETS = np.array([1, -2, 3, 0.5, 0, 1, -1, 0], np.float32)


def test_factors_near_zero_of_a_normalization_that_stands_alone() -> None:
    """Pruned channels: their offset is beyond int32 in steps of the products."""
    nodes = "a = Relu (x) n = BatchNormalization (a, f, o, z, v) y = Concat <axis = 1> (n, x)"
    constants = {"f": FACTORS, "o": OFFSETS, "z": np.zeros(8, np.float32), "v": np.ones(8, np.float32)}
    quantized(model(nodes, 12, **constants).SerializeToString(), 30)


def test_factors_near_zero_between_convolution_and_quantize_linear() -> None:
    """QAT style: integers of the weights stay, but for channels whose offset would not fit int32."""
    nodes = """q = QuantizeLinear (x, s, p) d = DequantizeLinear (q, s, p) k = DequantizeLinear (w, t, p)
        a = Conv (d, k) n = BatchNormalization (a, f, o, z, v) r = QuantizeLinear (n, s, p)
        y = DequantizeLinear (r, s, p)"""
    integers = np.random.default_rng(1).integers(-127, 128, (8, 8, 1, 1)).astype(np.int8)
    constants: dict[str, NDArray[Any]] = {"w": integers, "p": np.int8(0), "s": np.float32(0.05), "t": np.float32(0.01)}
    constants |= {"f": FACTORS, "o": OFFSETS, "z": np.zeros(8, np.float32), "v": np.ones(8, np.float32)}
    data = model(nodes, 13, **{name: np.asarray(value) for name, value in constants.items()}).SerializeToString()
    steps = (outputs(read_quantized_onnx(data)) - float_outputs(data)) / np.float32(0.05)
    assert np.abs(steps).max() < 1.5
    assert np.count_nonzero(np.abs(steps) > 0.5) <= 0.01 * steps.size


def test_sizes_below_zero_are_free() -> None:
    made = model("y = Relu (x)", 13)
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    made.graph.input[0].type.tensor_type.shape.dim[2].dim_value = -1
    data = made.SerializeToString()
    with pytest.raises(ModelError, match="--shape x=1,8,N,6"):
        accel.quantize(data, samples(2))
    assert accel.quantize(data, samples(2), shapes={"x": (1, 8, 6, 6)}).inputs == ("x",)


def test_a_graph_without_a_name() -> None:
    made = model("y = Relu (x)", 13)
    made.graph.name = ""
    onnxruntime.InferenceSession(made.SerializeToString())
    assert accel.quantize(made.SerializeToString(), samples(2)).name == "model"


def test_models_of_constants_or_of_other_domains_are_refused_in_a_sentence() -> None:
    made = model("y = Relu (x)", 13, x=samples(1))
    with pytest.raises(ModelError, match="must have an input, got one whose values are all constants"):
        accel.quantize(made.SerializeToString(), samples(2))
    made = model("y = Relu (x)", 13)
    made.opset_import[0].domain = "ai.onnx.ml"
    made.opset_import[0].version = 3
    made.graph.node[0].domain, made.graph.node[0].op_type = "ai.onnx.ml", "Binarizer"
    with pytest.raises(ModelError, match="got no operators of ONNX's own domain"):
        accel.quantize(made.SerializeToString(), samples(2))
