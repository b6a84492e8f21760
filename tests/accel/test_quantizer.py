"""The quantizer: each operator follows its float model, and the parameters keep the rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from support.networks.float_models import Node, onnx_model, run_float, sqnr
from support.networks.quantizer_models import IMAGE, MODELS, W, conv, normal

from accel.errors import InputError
from accel.frontends.onnx.reader import read_onnx, read_quantized_onnx
from accel.frontends.onnx.write import to_onnx
from accel.machine.numerics import RequantMode
from accel.network.graph import Add, Conv2d, FullyConnected, MaxPool2d, Reshape
from accel.network.graph_file import dump_graph
from accel.network.nodes import HostOperator, Mean
from accel.network.real import dequantize_output, quantize_input
from accel.network.reference import run
from accel.quantized import products
from accel.quantized.lower import lower
from accel.quantizer import QuantizationConfig, quantize, quantize_network


@pytest.mark.parametrize("mode", ["tflite", "single", "fp32"])
@pytest.mark.parametrize("name", MODELS)
def test_operator_follows_its_float_model(name: str, mode: str) -> None:
    nodes, constants = MODELS[name]
    model = onnx_model(nodes, constants, IMAGE)
    samples = normal(24, 4, 6, 9) + np.float32(0.5)
    graph = quantize(model, samples, mode=mode)
    assert sqnr(model, graph, samples) > 28


def test_flattened_weights_are_reordered(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, constants = MODELS["flatten and Gemm"]
    model, samples = onnx_model(nodes, constants, IMAGE), normal(8, 4, 6, 9)
    monkeypatch.setattr(products, "_in_memory_order", lambda values, view, axis: values)
    assert sqnr(model, quantize(model, samples), samples) < 5


def test_parameters_keep_the_rules() -> None:
    nodes: list[Node] = [
        conv(["x", "w", "b"], "a", pads=[1, 1, 1, 1]),
        ("Relu", ["a"], "r", {}),
        ("MaxPool", ["r"], "p", {"kernel_shape": [2, 2]}),
        ("Flatten", ["p"], "y", {}),
    ]
    weight = W["w"].copy()
    weight[2] = 0
    weight[3] *= 1e-20
    model = onnx_model([*nodes[:3], ("GlobalAveragePool", ["p"], "y", {})], {"w": weight, "b": W["b"]}, IMAGE)
    samples = normal(16, 4, 6, 9)
    graph = quantize(model, samples, name="rules", calibrate_method="minmax")
    stem, pool, mean = graph.nodes
    assert isinstance(stem, Conv2d)
    assert isinstance(pool, MaxPool2d)
    assert isinstance(mean, Mean)
    assert graph.name == "rules"
    assert np.abs(stem.weight[[0, 1, 4, 5]]).reshape(4, -1).max(axis=1).tolist() == [127] * 4
    assert not stem.weight[[2, 3]].any()
    assert stem.act_min == -128
    assert graph.tensors["r"].zero_point == -128
    assert graph.tensors["r"].parameters == graph.tensors["p"].parameters
    assert graph.tensors["y"].scale < graph.tensors["p"].scale / 1.8
    assert sqnr(model, graph, samples) > 40
    source = graph.tensors["x"]
    assert source.scale == float(np.float32((float(samples.max()) - float(samples.min())) / 255))
    assert source.zero_point == round(-128 - float(samples.min()) / source.scale)


@pytest.mark.parametrize("mode", ["tflite", "fp32"])
def test_limits_behind_another_layout_narrow_the_range(mode: str) -> None:
    """A convolution, its axes in another order, another shape, and bounds: one layer whose integers end at them."""
    layouts: list[Node] = [
        ("Transpose", ["a"], "t", {"perm": [0, 2, 3, 1]}),
        ("Reshape", ["t", "shape"], "f", {}),
    ]
    bounds: Node = ("Clip", ["f", "zero", "one"], "y", {})
    constants = W | {"shape": np.array([1, -1, 6]), "zero": np.float32(0), "one": np.float32(1)}
    model = onnx_model([conv(["x", "w"], "a"), *layouts, bounds], constants, IMAGE)
    samples = normal(24, 4, 6, 9)
    graph = quantize(model, samples, mode=mode)
    assert [type(node) for node in graph.nodes if not isinstance(node, Reshape)] == [Conv2d]
    assert graph.output_tensors[0].scale == pytest.approx(1 / 255, rel=1 / 200)
    assert sqnr(model, graph, samples) > 30


def test_large_bias_keeps_room_for_the_products() -> None:
    constants = {"w": W["w"] * np.float32(1e-9), "b": W["b"] * np.float32(1e3)}
    model, samples = onnx_model([conv(["x", "w", "b"], "y")], constants, IMAGE), normal(4, 4, 6, 9)
    node = quantize(model, samples).nodes[0]
    assert isinstance(node, Conv2d)
    room = np.abs(node.weight.astype(np.int64)).reshape(6, -1).sum(axis=1) * 255
    assert np.all(np.abs(node.bias.astype(np.int64)) + room < 2**31)
    assert sqnr(model, quantize(model, samples), samples) > 35


def test_residual_add_uses_both_scales() -> None:
    nodes: list[Node] = [
        conv(["x", "w"], "a", pads=[1, 1, 1, 1]),
        conv(["x", "v"], "d", pads=[1, 1, 1, 1]),
        ("Add", ["a", "d"], "s", {}),
        ("Relu", ["s"], "y", {}),
    ]
    model = onnx_model(nodes, W | {"v": normal(6, 4, 3, 3, seed=9) * 5}, IMAGE)
    samples = normal(16, 4, 6, 9)
    graph = quantize(model, samples)
    add = graph.nodes[2]
    assert isinstance(add, Add)
    assert add.operand1 == (2**30, 0)
    assert add.act_min == -128
    assert sqnr(model, graph, samples) > 30


def test_two_inputs_and_outputs() -> None:
    model = onnx_model([("Add", ["u", "v"], "y", {}), ("Relu", ["y"], "z", {})], {}, (1, 5), ("y", "z"), 17, ("u", "v"))
    graph = quantize(model, {"u": normal(9, 5), "v": normal(9, 5, seed=2)})
    assert graph.inputs == ("u", "v")
    assert graph.outputs == ("y", "z")
    with pytest.raises(InputError, match=r"^name must be one of \('u', 'v'\), got None$"):
        quantize_input(graph, normal(1, 5))
    assert quantize_input(graph, normal(1, 5), "u").shape == (1, 5)


def test_quantizing_twice_gives_equal_bytes() -> None:
    nodes, constants = MODELS["batch normalization"]
    model = onnx_model(nodes, constants, IMAGE)
    first, second = (dump_graph(quantize(model, normal(8, 4, 6, 9), calibrate_method="percentile")) for _ in range(2))
    assert first == second


def test_image_layouts_of_inputs_and_outputs() -> None:
    model = onnx_model([("MaxPool", ["x"], "y", {"kernel_shape": [1, 1]})], {}, IMAGE)
    graph, x = quantize(model, normal(4, 4, 6, 9)), normal(1, 4, 6, 9)
    q = quantize_input(graph, x)
    assert q.shape == (1, 6, 9, 4)
    assert np.array_equal(q, quantize_input(graph, x.transpose(0, 2, 3, 1), layout="NHWC"))
    scale = graph.tensors["x"].scale
    low, high = ((limit - graph.tensors["x"].zero_point) * scale for limit in (-128, 127))
    assert np.abs(dequantize_output(graph, q) - np.clip(x, low, high)).max() <= scale * 0.5001
    assert dequantize_output(graph, q, layout="NHWC").shape == (1, 6, 9, 4)
    assert np.array_equal(q, quantize_input(graph, x.transpose(0, 2, 3, 1)))
    with pytest.raises(InputError, match=r"^input 'x' must have shape \(1, 4, 6, 9\), got \(1, 6, 9, 4\)$"):
        quantize_input(graph, x.transpose(0, 2, 3, 1), layout="NCHW")
    message = r"^input 'x' must have shape \(1, 4, 6, 9\) or \(1, 6, 9, 4\), got \(1, 9, 4, 6\)$"
    with pytest.raises(InputError, match=message):
        quantize_input(graph, x.transpose(0, 3, 1, 2))
    with pytest.raises(InputError, match=r"^layout must be 'NCHW' or 'NHWC', got 'HWC'$"):
        quantize_input(graph, x, layout="HWC")
    with pytest.raises(InputError, match=r"^input 'x' must be finite$"):
        quantize_input(graph, x * np.nan)


HOSTED: dict[str, tuple[Node, dict[str, Any]]] = {
    "LpPool": (("LpPool", ["x"], "y", {"kernel_shape": [2, 2]}), {}),
    "Trilu": (("Trilu", ["x"], "y", {}), {}),
    "cubic Resize": (("Resize", ["x", "", "f"], "y", {"mode": "cubic"}), {"f": np.array([1, 1, 2, 2], np.float32)}),
    "windows beyond the padding that count": (
        (
            "AveragePool",
            ["x"],
            "y",
            {"kernel_shape": [2, 4], "strides": [2, 4], "ceil_mode": 1, "count_include_pad": 1},
        ),
        {},
    ),
}


@pytest.mark.parametrize("case", HOSTED)
def test_what_has_no_integer_form_is_the_hosts(case: str) -> None:
    node, constants = HOSTED[case]
    model = onnx_model([("Relu", ["x"], "r", {}), (node[0], ["r", *node[1][1:]], "y", node[3])], constants, IMAGE)
    graph = quantize(model, normal(8, 4, 6, 9))
    assert any(isinstance(found, HostOperator) for found in graph.nodes)
    values = run(graph, quantize_input(graph, normal(1, 4, 6, 9)))["y"]
    computed = values if values.dtype == np.float32 else dequantize_output(graph, values)
    expected = run_float(model, normal(1, 4, 6, 9))
    assert np.linalg.norm(computed - expected) < np.linalg.norm(expected) / 30


def test_real_mnist_network_keeps_its_accuracy(shared_models: Path) -> None:
    import gzip

    from support.networks.float_models import run_float, run_graph

    images, labels = (
        np.frombuffer(gzip.decompress((shared_models / "samples" / name).read_bytes()), np.uint8, offset=offset)
        for name, offset in (("t10k-images-idx3-ubyte.gz", 16), ("t10k-labels-idx1-ubyte.gz", 8))
    )
    x = images.reshape(-1, 1, 1, 28, 28).astype(np.float32)
    path = shared_models / "onnx" / "mnist_float.onnx"
    graph = quantize(path, x[:100, 0])
    assert [node.op for node in graph.nodes] == ["Conv2d", "MaxPool2d"] * 2 + ["Reshape", "FullyConnected"]
    assert isinstance(graph.nodes[-1], FullyConnected)
    assert isinstance(graph.nodes[-2], Reshape)
    model, chosen = path.read_bytes(), range(1000, 10_000, 80)
    real = np.array([run_float(model, x[index]).argmax() for index in chosen])
    quantized = np.array([run_graph(graph, x[index]).argmax() for index in chosen])
    accuracy = [(result == labels[chosen]).mean() for result in (real, quantized)]
    print(f"MNIST, {len(chosen)} images: float {accuracy[0]:.2%}, int8 {accuracy[1]:.2%}")
    assert accuracy[1] >= accuracy[0] - 0.01


def test_the_node_that_does_an_operators_work_has_its_name() -> None:
    nodes = [conv(["x", "w"], "a"), ("Flatten", ["a"], "b", {}), ("Gemm", ["b", "v"], "y", {})]
    numbers = np.random.default_rng(1).normal(0, 1, (6 * 4 * 7, 3)).astype(np.float32)
    model = onnx.load_model_from_string(onnx_model(nodes, {"w": W["w"], "v": numbers}, IMAGE))
    for node, name in zip(model.graph.node, ("first", "flat", "fc"), strict=True):
        node.name = name
    graph = quantize(model.SerializeToString(), normal(4, *IMAGE[1:]))
    named = {node.name: node.op for node in graph.nodes}
    assert (named["first"], named["fc"]) == ("Conv2d", "FullyConnected")
    assert {name for name in named if name not in ("first", "flat", "fc")} <= {
        "fc_reshape",
        "fc_rearrange",
        "flat_reshape",
    }


@pytest.mark.parametrize("kind", ["Add", "Mul", "Sub"])
def test_constants_per_channel_may_be_zero(kind: str) -> None:
    numbers = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1)
    model = onnx_model([conv(["x", "w"], "a"), (kind, ["a", "k"], "y", {})], {"w": W["w"], "k": numbers}, IMAGE)
    samples = normal(4, *IMAGE[1:])
    assert sqnr(model, quantize(model, samples), samples[:2]) > 30


def test_names_that_the_quantizer_makes_are_free() -> None:
    """Constants of this model have the names of parts of the normalization L and of the weights of the layer A."""
    nodes = [
        ("LRN", ["x"], "l", {"size": 3, "alpha": 0.1}),
        conv(["l", "L_0", "L_bias"], "a"),
        ("Conv", ["a", "A_weight", "A_bias"], "y", {}),
    ]
    constants = {"L_0": W["w"], "L_bias": W["b"], "A_weight": normal(3, 6, 1, 1), "A_bias": normal(3)}
    model, samples = onnx_model(nodes, constants, IMAGE), normal(4, *IMAGE[1:])
    assert sqnr(model, quantize(model, samples), samples[:2]) > 30


CASTS: dict[str, list[Node]] = {
    "to integers and back": [("Cast", ["a"], "i", {"to": TensorProto.INT64}), ("Cast", ["i"], "f", {"to": 1})],
    "of a comparison": [("Greater", ["a", "half"], "i", {}), ("Cast", ["i"], "f", {"to": TensorProto.FLOAT16})],
    "to less precision and back": [("Cast", ["a"], "i", {"to": 10}), ("Cast", ["i"], "f", {"to": 1})],
}


@pytest.mark.parametrize("case", CASTS)
def test_casts_between_integers_and_real_numbers(case: str) -> None:
    """Only those between real types compute nothing."""
    nodes = [conv(["x", "w"], "a"), *CASTS[case], ("Cast", ["f"], "g", {"to": 1}), ("Mul", ["a", "g"], "y", {})]
    model = onnx_model(nodes, {"w": W["w"], "half": np.float32(0.5)}, IMAGE)
    samples = normal(4, *IMAGE[1:])
    graph = quantize(model, samples)
    assert sqnr(model, graph, samples[:2]) > 25
    assert ("Cast" in {node.label for node in graph.nodes}) == (case != "to less precision and back")


@pytest.mark.parametrize("opset", [9, 11, 13])
def test_networks_of_old_versions_are_written_as_qdq(opset: int) -> None:
    """Before opset 13 ONNX has no scales per channel."""
    nodes = [conv(["x", "w", "b"], "a"), ("Relu", ["a"], "r", {}), ("MaxPool", ["r"], "y", {"kernel_shape": [2, 2]})]
    model, samples = onnx_model(nodes, W, IMAGE, opset=opset), normal(4, *IMAGE[1:])
    network = quantize_network(read_onnx(model), samples, QuantizationConfig(mode="fp32"))
    data, graph = to_onnx(network).SerializeToString(), lower(network, RequantMode.FP32)
    assert dump_graph(read_quantized_onnx(data)) == dump_graph(graph)
    if opset > 9:  # of that version ONNX Runtime makes operators that it does not have
        real = [dequantize_output(graph, run(graph, quantize_input(graph, x[None]))["y"]) for x in samples]
        written = [run_float(data, x[None]) for x in samples]
        assert np.abs(np.concatenate(real) - np.concatenate(written)).max() < 1.01 * graph.tensors["y"].scale


@pytest.mark.parametrize("kind", ["Add", "Sub"])
def test_products_of_several_rows_have_a_bias(kind: str) -> None:
    """Exporters write a layer on rows as MatMul and Add: one node, and its sums are rounded once."""
    arrays = {"m": normal(8, 5), "c": normal(5)}
    model = onnx_model([("MatMul", ["x", "m"], "a", {}), (kind, ["a", "c"], "y", {})], arrays, ("N", 6, 8))
    samples = normal(4, 6, 8)
    graph = quantize(model, samples)
    assert [node.label for node in graph.nodes if not isinstance(node, Reshape)] == ["Conv2d"]
    assert sqnr(model, graph, samples) > 35


def test_small_shares_that_are_summed_keep_their_precision() -> None:
    """A soft argmax: each of 64 shares is about 1/64, three steps of a range that ends at 1."""
    nodes = [
        conv(["x", "w"], "a", pads=[1, 1, 1, 1]),
        ("Reshape", ["a", "flat"], "f", {}),
        ("Softmax", ["f"], "s", {"axis": 2}),
        ("Mul", ["s", "places"], "m", {}),
        ("ReduceSum", ["m", "last"], "y", {"keepdims": 0}),
        ("Identity", ["s"], "z", {}),
    ]
    columns = np.tile(np.linspace(0, 1, 8, dtype=np.float32), 8)
    arrays = {"w": W["w"] / 40, "flat": np.array([1, 6, 64]), "places": columns, "last": np.array([2])}
    samples = normal(16, 4, 8, 8)
    graph = quantize(onnx_model(nodes, arrays, (1, 4, 8, 8)), samples, mode="fp32")
    assert graph.tensors["s"].scale < 1 / 1000
    assert sqnr(onnx_model(nodes, arrays, (1, 4, 8, 8)), graph, samples[:4]) > 25
    last = quantize(onnx_model(nodes[:3], arrays, (1, 4, 8, 8), outputs=("s",)), samples, mode="fp32")
    assert last.tensors["s"].scale == np.float32(1 / 255)
