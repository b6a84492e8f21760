"""Quantized files whose last operators have no QuantizeLinear behind them: their outputs are ONNX Runtime's numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from oracles.test_onnx_operators import plain_session

import accel
from accel.errors import ModelError
from accel.exports import FORMATS
from accel.frontends import read_quantized_onnx
from accel.network import reference
from accel.network.graph import Graph
from accel.network.real import dequantize_output, quantize_input
from accel.quantized import recipes
from accel.quantized.lowering import Lowering
from accel.quantized.values import Integers, OfOne, Target

TAILS = {
    "Softmax": "y = Softmax <axis = 1> (d)",
    "LogSoftmax": "y = LogSoftmax <axis = 1> (d)",
    "Sigmoid": "y = Sigmoid (d)",
    "Tanh": "y = Tanh (d)",
    "Relu": "y = Relu (d)",
    "Erf": "y = Erf (d)",
    "Exp": "y = Exp (d)",
    "Clip": "y = Clip (d, low, high)",
    "Log": "y = Log (d)",
    "a factor": "y = Mul (d, high)",
    "a function of a function": "r = Relu (d) y = Sigmoid (r)",
    "a movement of a function": "s = Sigmoid (d) y = Reshape (s, flat)",
    "a function of a movement": "t = Transpose <perm = [0, 2, 3, 1]> (d) y = Tanh (t)",
    "a product with a softmax": "s = Softmax <axis = 3> (d) t = Transpose <perm = [0, 1, 3, 2]> (d) y = MatMul (s, t)",
    "a silu": "s = Sigmoid (d) y = Mul (s, d)",
}
ON_MACHINE = ("Relu",)
"""The integers stand for the same numbers before and behind it: the machine limits them."""
HEAD = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,6,6] x) => (float[n] y)
    <float sx = {{0.03}}, int8 zx = {{3}}, float sy = {{0.07}}, int8 zy = {{-11}}, float sw = {{0.01}}, int8 zw = {{0}},
     float low = {{-0.5}}, float high = {{1.3}}, int64[2] flat = {{1, -1}}> {{
    qx = QuantizeLinear (x, sx, zx) dx = DequantizeLinear (qx, sx, zx) dw = DequantizeLinear (w, sw, zw)
    c = Conv (dx, dw) q = QuantizeLinear (c, sy, zy) d = DequantizeLinear (q, sy, zy) {tail} }}"""


def quantized(tail: str) -> bytes:
    parsed = onnx.parser.parse_model(HEAD.format(tail=tail))
    weight = np.random.default_rng(1).integers(-99, 99, (5, 3, 3, 3)).astype(np.int8)
    parsed.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    parsed.graph.output[0].type.tensor_type.ClearField("shape")
    return bytes(parsed.SerializeToString())


def samples(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).normal(0, 2, (count, 3, 6, 6)).astype(np.float32)


def runtime(data: bytes) -> NDArray[np.float32]:
    session = plain_session(data)
    return np.stack([session.run(None, {"x": x[None]})[0] for x in samples(3)])


def outputs(graph: Graph) -> NDArray[np.float32]:
    values = [reference.run(graph, {"x": quantize_input(graph, x[None])})["y"] for x in samples(3)]
    return np.stack([dequantize_output(graph, value) for value in values])


@pytest.mark.parametrize("kind", TAILS)
def test_files_of_others(kind: str) -> None:
    data = quantized(TAILS[kind])
    graph = read_quantized_onnx(data)
    assert np.array_equal(outputs(graph), runtime(data), equal_nan=True)
    assert (graph.tensors["y"].dtype == "int8") == (kind in ON_MACHINE)


@pytest.mark.parametrize("format", ["qdq", "qoperator"])
@pytest.mark.parametrize("kind", ["Softmax", "Sigmoid", "Relu", "Erf", "Exp"])
def test_real_outputs_that_were_asked_for_come_back(kind: str, format: str) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,6,6] x) => (float[n] y)'
    parsed = onnx.parser.parse_model(f"{head} {{ c = Conv (x, w) y = {kind} (c) }}")
    weight = np.random.default_rng(1).normal(0, 0.3, (5, 3, 3, 3)).astype(np.float32)
    parsed.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    parsed.graph.output[0].type.tensor_type.ClearField("shape")
    override = {"op_type": kind, "keep_float": True}
    graph = accel.quantize(parsed.SerializeToString(), samples(16), mode="fp32", overrides=[override])
    assert graph.tensors["y"].dtype == "float32"
    data = FORMATS[format].write(graph, [])[""]
    assert np.array_equal(outputs(read_quantized_onnx(data)), outputs(graph))
    assert np.array_equal(runtime(data), outputs(graph))


def test_suite_catches_a_table_in_place_of_a_real_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "keeps_steps", lambda function, source: True)
    data = quantized(TAILS["Sigmoid"])
    assert not np.array_equal(outputs(read_quantized_onnx(data)), runtime(data))


AFTER = {
    "Conv": "Conv (f, dv)",
    "AveragePool": "AveragePool <kernel_shape = [2, 2]> (f)",
    "Mul": "Mul (f, d)",
    "ReduceMean": "ReduceMean <axes = [2, 3]> (f)",
}
"""What the machine computes of integers, behind a function that the file leaves real."""


def unquantized_function(function: str, after: str, scale: float) -> bytes:
    tail = f"dv = DequantizeLinear (v, sw, zw) f = {function} p = {AFTER[after]}"
    data = quantized(f"{tail} t = QuantizeLinear (p, st, zt) y = DequantizeLinear (t, st, zt)")
    proto = onnx.load_model_from_string(data)
    weight = np.random.default_rng(2).integers(-99, 99, (5, 5, 1, 1)).astype(np.int8)
    constants = {"v": weight, "st": np.float32(scale), "zt": np.int8(-3)}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    return bytes(proto.SerializeToString())


def unequal(function: str, after: str, scale: float) -> int:
    """How many outputs differ from the runtime's."""
    data = unquantized_function(function, after, scale)
    program = accel.compile(read_quantized_onnx(data), "edge")
    found = dequantize_output(program, accel.run(program, samples(3)).outputs)["y"]
    return int(np.count_nonzero(np.rint((found.reshape(-1) - runtime(data).reshape(-1)) / scale)))


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize(
    ("function", "scale"),
    [("Sigmoid (d)", 0.02), ("Exp (d)", 0.5), ("LeakyRelu (d)", 0.05), ("Softmax <axis = 1> (d)", 0.01)],
)
def test_functions_without_parameters_stay_real(function: str, scale: float, after: str) -> None:
    assert unequal(function, after, scale) == 0


def test_suite_catches_integers_over_the_range_of_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_its_range(low: Lowering, value: OfOne, name: str, problem: ModelError) -> Integers:
        real = recipes.evaluate(value.function, low.parameters(value.source))
        parameters = recipes.affine_parameters((float(real.min()), float(real.max())), low.mode)
        return low.finished(value, Target(name, parameters))

    monkeypatch.setattr(Lowering, "of_same_steps", of_its_range)
    assert all(unequal("Exp (d)", after, 0.5) for after in AFTER if after != "Mul")  # a function of one tensor


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16", "DOUBLE"])
def test_outputs_of_other_real_types_are_float32(kind: str) -> None:
    """In the type of the model's output they are what the runtime gives: nothing was rounded before."""
    code = onnx.TensorProto.DataType.Value(kind)
    proto = onnx.load_model_from_string(quantized(f"s = Sigmoid (d) y = Cast <to = {code}> (s)"))
    proto.graph.output[0].type.tensor_type.elem_type = code
    program = accel.compile(read_quantized_onnx(proto.SerializeToString()), "edge")
    result = accel.run(program, samples(3))
    found = dequantize_output(program, result.outputs["y"], "y").reshape(3, -1)
    assert found.dtype == np.float32
    proto.graph.node.append(onnx.helper.make_node("Cast", ["y"], ["wide"], to=onnx.TensorProto.FLOAT))
    proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("wide", onnx.TensorProto.FLOAT, None))
    wanted = runtime(proto.SerializeToString()).reshape(3, -1)
    own = found.astype(onnx.helper.tensor_dtype_to_np_dtype(code)).astype(np.float32)
    assert np.array_equal(own, wanted)
    assert (kind == "DOUBLE") == np.array_equal(found, wanted)


@pytest.mark.parametrize("kind", ["FLOAT16", "DOUBLE"])
def test_inputs_of_other_real_types_are_taken(kind: str) -> None:
    """Arrays in the model's own type give what float32 gives."""
    code = onnx.TensorProto.DataType.Value(kind)
    proto = onnx.load_model_from_string(quantized("y = Relu (d)"))
    proto.graph.input[0].type.tensor_type.elem_type = code
    proto.graph.node.insert(0, onnx.helper.make_node("Cast", ["x"], ["x32"], to=onnx.TensorProto.FLOAT))
    proto.graph.node[1].input[0] = "x32"
    program = accel.compile(read_quantized_onnx(proto.SerializeToString()), "edge")
    x = samples(3).astype(onnx.helper.tensor_dtype_to_np_dtype(code))
    session = plain_session(proto.SerializeToString())
    found = dequantize_output(program, accel.run(program, x).outputs["y"], "y")
    wanted = np.stack([session.run(None, {"x": one[None]})[0] for one in x])
    assert np.array_equal(found.reshape(-1), wanted.reshape(-1))
