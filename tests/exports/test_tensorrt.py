"""TensorRT's rules: exported models keep them, and each one that is broken is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.networks.exported import demo_graph, differing_field, symmetric
from support.networks.float_models import onnx_model
from support.oracles.ort_session import session

import accel
from accel.errors import ExportError
from accel.exports import FORMATS
from accel.exports.tensorrt import RULES, validate
from accel.frontends import read_quantized_onnx
from accel.network import reference
from accel.network.real import dequantize_output, quantize_input


def exported() -> onnx.ModelProto:
    return onnx.load_model_from_string(FORMATS["tensorrt"].write(symmetric(), [])[""])


def constant(model: onnx.ModelProto, name: str, value: object, dtype: type) -> None:
    """Replace a constant, or add one."""
    kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(value, dtype), name)])


def node(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    """The first node of a kind."""
    return next(found for found in model.graph.node if found.op_type == kind)


def nodes_of_weights(model: onnx.ModelProto) -> onnx.NodeProto:
    """The DequantizeLinear of the convolution's weights."""
    return next(found for found in model.graph.node if found.output[0] == node(model, "Conv").input[1])


def quantized_bias(model: onnx.ModelProto) -> None:
    bias = node(model, "Conv").input[2]
    model.graph.node.insert(
        0, helper.make_node("DequantizeLinear", ["b", "t1_scale", "t1_zero_point"], ["b_real"], name="b_dq")
    )
    constant(model, "b", np.zeros(4), np.int8)
    node(model, "Conv").input[2] = "b_real"
    assert bias != "b_real"


def relu_behind(model: onnx.ModelProto) -> None:
    """The Clip of the convolution's result taken away, and a Relu behind the conversions."""
    clip, conv = node(model, "Clip"), node(model, "Conv")
    conv.output[0] = clip.output[0]
    model.graph.node.remove(clip)
    dequantized = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == "t1_quantized")
    model.graph.node.append(helper.make_node("Relu", [dequantized.output[0]], ["late"], name="late"))


def real_operand(model: onnx.ModelProto) -> None:
    constant(model, "real_weight", np.zeros((4, 3, 3, 3)), np.float32)
    node(model, "Conv").input[1] = "real_weight"


def read_by_another(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Identity", ["t1_quantized"], ["copy"], name="copy"))


def other_axis(model: onnx.ModelProto) -> None:
    dequantize = nodes_of_weights(model)
    constant(model, dequantize.input[1], np.ones(4), np.float32)
    constant(model, dequantize.input[2], np.zeros(4), np.int8)
    del dequantize.attribute[:]
    dequantize.attribute.append(helper.make_attribute("axis", 1))


def of_uint8(model: onnx.ModelProto) -> None:
    constant(model, "t2_zero_point", 0, np.uint8)


def older(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 12


BREAKS: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "zero-points": (
        lambda m: constant(m, "t0_zero_point", 3, np.int8),
        "QuantizeLinear 't0_quantized_QuantizeLinear' must have zero point 0, got 3; "
        "quantize the network with symmetric activations",
    ),
    "types": (
        of_uint8,
        "QuantizeLinear 't2_quantized_QuantizeLinear' must convert int8 (weights also int4), got uint8",
    ),
    "scales": (
        lambda m: constant(m, "t0_scale", 0, np.float32),
        "QuantizeLinear 't0_quantized_QuantizeLinear' must have a constant scale above 0, got 0.0",
    ),
    "activations-per-tensor": (
        lambda m: constant(m, "t0_scale", [1, 1, 1], np.float32),
        "QuantizeLinear 't0_quantized_QuantizeLinear' must have one scale for an activation, got 3",
    ),
    "weights-per-channel": (other_axis, "weights of Conv 'n0' must have scales along axis 0, got axis 1"),
    "quantized-operands": (
        real_operand,
        "Conv 'n0' must read both operands from DequantizeLinear, got ['DequantizeLinear', '']",
    ),
    "real-bias": (quantized_bias, "bias of Conv 'n0' must be real numbers, got a quantized one"),
    "fusion": (relu_behind, "Relu 'late' must follow its Conv without QuantizeLinear and DequantizeLinear between"),
    "pairs": (
        read_by_another,
        "QuantizeLinear 't1_quantized_QuantizeLinear' must be read by DequantizeLinear alone, "
        "got ['DequantizeLinear', 'Identity']",
    ),
    "operators": (older, "opset must be 13 or later, which knows scales per channel, got 12"),
}


def test_exported_model_keeps_the_rules() -> None:
    assert validate(exported()) == []
    assert set(BREAKS) == set(RULES)
    assert all(rule.asks for rule in RULES.values())


@pytest.mark.parametrize("rule", RULES)
def test_broken_rule_is_named(rule: str) -> None:
    break_it, sentence = BREAKS[rule]
    model = exported()
    break_it(model)
    found = validate(model.SerializeToString())
    assert f"{rule}: {sentence}" in found
    assert {text.split(":")[0] for text in found} == {rule}


def test_asymmetric_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        accel.export(demo_graph("fp32"), tmp_path / "a.onnx", format="tensorrt")
    message = str(caught.value)
    assert message.startswith(
        "format tensorrt cannot express this network: zero-points: QuantizeLinear 'image_quantized_QuantizeLinear' "
        "must have zero point 0, got -128; quantize the network with symmetric activations ("
    )


@pytest.mark.parametrize("mode", ["fp32", "tflite"])
def test_symmetric_softmax_has_no_zero_point(mode: str, tmp_path: Path) -> None:
    """In mode `tflite` the graph rounds it to zero point -128 first, as the kernel prescribes."""
    weight = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    model = onnx_model([("MatMul", ["x", "w"], "c", {}), ("Softmax", ["c"], "y", {"axis": -1})], {"w": weight}, (1, 8))
    samples = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
    graph = accel.quantize(model, samples, mode=mode, activation_symmetric=True)
    accel.export(graph, tmp_path / "a.onnx", format="tensorrt")
    (found,) = session((tmp_path / "a.onnx").read_bytes()).run(None, {"x": samples[:1]})
    expected = dequantize_output(graph, reference.run(graph, quantize_input(graph, samples[:1]))["y"])
    assert np.abs(found - expected).max() < 1.5 * graph.tensors["y"].scale


def test_symmetric_network_comes_back() -> None:
    """Biases are real numbers in the file, and the same integers when it is read."""
    graph = symmetric()
    again = read_quantized_onnx(FORMATS["tensorrt"].write(graph, [])[""])
    qdq = read_quantized_onnx(FORMATS["qdq"].write(graph, [])[""])
    assert differing_field(qdq, again) == ""
    x = np.random.default_rng(0).integers(-128, 128, (1, 6, 6, 3)).astype(np.int8)
    first, second = (reference.run(g, x)[g.outputs[0]] for g in (qdq, again))
    assert np.array_equal(first, second)
