"""The quantizer: each operator follows its float model, the parameters keep the rules, the rest is refused clearly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.networks.float_models import FloatArray, Node, load, onnx_model, run_float, sqnr

from accel.errors import AccelError, InputError, ModelError
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

RNG_SEED = 1


def normal(*shape: int, seed: int = RNG_SEED) -> FloatArray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def conv(inputs: list[str], output: str, **attributes: Any) -> Node:
    return ("Conv", inputs, output, attributes)


W = {"w": normal(6, 4, 3, 3), "b": normal(6)}
NORM = {"g": normal(6), "beta": normal(6, seed=2), "mean": normal(6, seed=3), "var": np.abs(normal(6, seed=4)) + 0.1}
DENSE = {"m": normal(6 * 4 * 7, 5), "c": normal(5)}
IMAGE = ("N", 4, 6, 9)

MODELS: dict[str, tuple[list[Node], dict[str, Any]]] = {
    "conv with bias, stride and padding": ([conv(["x", "w", "b"], "y", strides=[2, 1], pads=[1, 0, 0, 2])], W),
    "dilated conv without bias": ([conv(["x", "w"], "y", dilations=[2, 3])], W),
    "SAME_UPPER": ([conv(["x", "w"], "y", auto_pad="SAME_UPPER", strides=[2, 2])], W),
    "SAME_LOWER": ([conv(["x", "w"], "y", auto_pad="SAME_LOWER", strides=[2, 2])], W),
    "VALID and Relu": ([conv(["x", "w"], "a", auto_pad="VALID"), ("Relu", ["a"], "y", {})], W),
    "batch normalization": (
        [
            conv(["x", "w", "b"], "a"),
            ("BatchNormalization", ["a", "g", "beta", "mean", "var"], "n", {"epsilon": 1e-3}),
            ("Clip", ["n", "zero", "six"], "y", {}),
        ],
        W | NORM | {"zero": np.float32(0), "six": np.float32(6)},
    ),
    "added constants": (
        [conv(["x", "w"], "a"), ("Add", ["a", "p"], "s", {}), ("Add", ["q", "s"], "y", {})],
        W | {"p": normal(6, 1, 1), "q": normal(1, 6, 1, 1)},
    ),
    "two readers and a free Relu": (
        [conv(["x", "w"], "a"), ("Relu", ["a"], "r", {}), ("Add", ["a", "r"], "s", {}), ("Relu", ["s"], "y", {})],
        W,
    ),
    "max pool": ([("MaxPool", ["x"], "y", {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]})], {}),
    "average pool": (
        [("AveragePool", ["x"], "y", {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 1, 1, 0]})],
        {},
    ),
    "average pool with counted padding of zero": (
        [("AveragePool", ["x"], "y", {"kernel_shape": [2, 3], "count_include_pad": 1})],
        {},
    ),
    "global average pool": ([("GlobalAveragePool", ["x"], "y", {})], {}),
    "flatten and Gemm": (
        [
            conv(["x", "w"], "a"),
            ("Flatten", ["a"], "f", {}),
            ("Relu", ["f"], "r", {}),
            ("Gemm", ["r", "m", "c"], "y", {"alpha": 0.5, "beta": 2.0}),
        ],
        W | DENSE,
    ),
    "reshape, MatMul and Add": (
        [
            conv(["x", "w"], "a"),
            ("Constant", [], "shape", {"value_ints": [1, -1]}),
            ("Reshape", ["a", "shape"], "f", {}),
            ("Dropout", ["f"], "d", {}),
            ("MatMul", ["d", "k"], "p", {}),
            ("Add", ["p", "c"], "y", {}),
            ("Reshape", ["m", "same"], "k", {}),
        ][:-1],
        W | {"k": DENSE["m"], "c": DENSE["c"]},
    ),
    "transposed Gemm, Softmax and Identity": (
        [
            ("GlobalAveragePool", ["x"], "a", {}),
            ("Flatten", ["a"], "f", {}),
            ("Identity", ["f"], "i", {}),
            ("Gemm", ["i", "t"], "g", {"transB": 1}),
            ("Softmax", ["g"], "s", {}),
            ("Identity", ["s"], "y", {}),
        ],
        {"t": normal(8, 4) * 3},
    ),
}


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


def test_calibration_of_one_input_may_have_any_name() -> None:
    model, samples = onnx_model([("Relu", ["x"], "y", {})], {}, IMAGE), normal(2, 4, 6, 9)
    assert dump_graph(quantize(model, {"images": samples})) == dump_graph(quantize(model, samples))


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


@pytest.mark.parametrize(
    ("node", "constants", "message"),
    [
        (
            ("Relu", ["x"], "y", {"domain": "com.microsoft"}),
            {},
            "model must run in ONNX Runtime for calibration: ",
        ),
        (conv(["x", "w"], "y"), {"w": W["w"] * np.nan}, "Conv 'Y': constant 'w' must be finite"),
        (("MatMul", ["x", "x"], "y", {}), {}, "model must have consistent shapes: "),
    ],
)
def test_unsupported_model_is_refused(node: Node, constants: dict[str, Any], message: str) -> None:
    model = onnx_model([node], constants, IMAGE)
    with pytest.raises(ModelError, match=f"^{re.escape(message)}"):
        quantize(model, normal(2, 4, 6, 9))


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


def test_external_data_must_lie_in_the_folder_of_the_model(tmp_path: Path) -> None:
    model, samples = onnx_model([conv(["x", "w"], "y")], W, IMAGE), normal(2, 4, 6, 9)
    path = tmp_path / "inside" / "m.onnx"
    path.parent.mkdir()
    onnx.save(load(model), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    assert dump_graph(quantize(path, samples)) == dump_graph(quantize(model, samples))
    with pytest.raises(ModelError, match=r"^model must be one file, got external data for 'w'; give its path$"):
        quantize(path.read_bytes(), samples)
    (path.parent / "m.bin").rename(tmp_path / "m.bin")
    with pytest.raises(ModelError, match=r"data of 'w' must be a file in the model's folder, got 'm\.bin'$"):
        quantize(path, samples)
    (path.parent / "m.bin").symlink_to(tmp_path / "m.bin")
    with pytest.raises(ModelError, match=r"data of 'w' must be a file in the model's folder, got 'm\.bin'$"):
        quantize(path, samples)


def test_unreadable_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: model must be a readable file, got No such file or directory$"):
        quantize(tmp_path / "none.onnx", normal(2, 4))
    for data in (b"", b"not a model", onnx_model([conv(["x", "w"], "y")], W, IMAGE)[:-50]):
        with pytest.raises(ModelError, match=r"^model must be (a valid|an) ONNX file(: |, got a damaged file )"):
            quantize(data, normal(2, 4))


def test_damaged_models_never_raise_anything_else() -> None:
    nodes, constants = MODELS["flatten and Gemm"]
    data = onnx_model(nodes, constants, IMAGE)
    rng, samples = np.random.default_rng(5), normal(1, 4, 6, 9)
    for _ in range(150):
        damaged = bytearray(data)
        damaged[rng.choice([rng.integers(len(data)), rng.integers(400)])] = rng.integers(256)
        try:
            quantize(bytes(damaged), samples)
        except AccelError:
            continue


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            ("N", 4, "H", 9),
            "model input 'x' must have known sizes, of which only the first may be free, got (0, 4, 0, 9) with 0 for "
            "free; give them: --shape x=1,4,N,9, or shapes={'x': (...)}",
        ),
        ((2, 4, 6, 9), "model input 'x' must have batch size 1, got shape (2, 4, 6, 9)"),
    ],
)
def test_unknown_sizes_are_refused(shape: tuple[int | str, ...], message: str) -> None:
    model = onnx_model([("Relu", ["x"], "y", {})], {}, shape)
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        quantize(model, normal(2, 4, 6, 9))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_weights_of_other_precisions(kind: int) -> None:
    """Stored in half or double precision, cast where they are used."""
    weight = np.round(W["w"] * 32) / np.float32(32)
    nodes: list[Node] = [("Cast", ["h"], "w", {"to": TensorProto.FLOAT}), conv(["x", "w"], "y")]
    model = load(onnx_model(nodes, {"h": weight}, IMAGE))
    (stored,) = model.graph.initializer
    stored.CopyFrom(helper.make_tensor("h", kind, weight.shape, weight.reshape(-1).tolist()))
    samples = normal(4, 4, 6, 9)
    expected = quantize(onnx_model([conv(["x", "w"], "y")], {"w": weight}, IMAGE), samples)
    assert dump_graph(quantize(model.SerializeToString(), samples)) == dump_graph(expected)


def test_arithmetic_on_shapes_is_folded() -> None:
    """What exporters write for a flattening: sizes read from the tensor, at a free batch."""
    nodes: list[Node] = [
        ("Shape", ["x"], "s", {}),
        ("Gather", ["s", "first"], "n", {"axis": 0}),
        ("Unsqueeze", ["n", "axis"], "u", {}),
        ("Concat", ["u", "rest"], "t", {"axis": 0}),
        ("Reshape", ["x", "t"], "f", {}),
        ("Gemm", ["f", "m"], "y", {}),
    ]
    constants = {"first": np.int64(0), "axis": np.array([0]), "rest": np.array([-1]), "m": normal(4 * 6 * 9, 5)}
    samples = normal(4, 4, 6, 9)
    graph = quantize(onnx_model(nodes, constants, IMAGE), samples)
    plain = onnx_model([("Flatten", ["x"], "f", {}), nodes[-1]], {"m": constants["m"]}, IMAGE)
    assert dump_graph(graph) == dump_graph(quantize(plain, samples))


def test_free_sizes_are_fixed_by_an_option() -> None:
    nodes, constants = MODELS["conv with bias, stride and padding"]
    fixed, free = (onnx_model(nodes, constants, shape) for shape in (IMAGE, ("N", 4, "H", "W")))
    samples = normal(2, 4, 6, 9)
    graph = quantize(free, samples, shapes={"x": (1, 4, 6, 9)})
    assert dump_graph(graph) == dump_graph(quantize(fixed, samples))
    for shapes, message in (
        ({"z": (1, 4, 6, 9)}, "shape must be of an input of the model ('x'), got 'z'"),
        ({"x": (4, 6, 9)}, "shape of 'x' must have 4 sizes, got (4, 6, 9)"),
        ({"x": (1, 3, 6, 9)}, "shape of 'x' must fit (0, 4, 0, 0) with 0 for free, got (1, 3, 6, 9)"),
    ):
        with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
            quantize(free, samples, shapes=shapes)


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        (normal(2, 4, 6, 8), {}, "calibration of 'x' must have shape (samples, 4, 6, 9), got (2, 4, 6, 8)"),
        (normal(0, 4, 6, 9), {}, "calibration of 'x' must have shape (samples, 4, 6, 9), got (0, 4, 6, 9)"),
        (normal(2, 4, 6, 9) * np.nan, {}, "calibration of 'x' must be finite"),
        (np.full((2, 4, 6, 9), 1e300), {}, "calibration of 'x' must be finite"),
        (np.full((2, 4, 6, 9), "1"), {}, "calibration of 'x' must be real numbers, got <U1"),
        (np.full((2, 4, 6, 9), 1j), {}, "calibration of 'x' must be real numbers, got complex128"),
        (
            {"x": normal(2, 4, 6, 9), "z": normal(2, 4, 6, 9)},
            {},
            "calibration must have the inputs ('x',), got ('x', 'z')",
        ),
        (
            normal(2, 4, 6, 9),
            {"calibrate_method": "mean"},
            "calibrate_method must be one of auto, expected, minmax, moving_average, percentile, kl, mse, got 'mean'",
        ),
        (
            normal(2, 4, 6, 9),
            {"calibrate_method": "percentile", "percentile": 0.99},
            "percentile must be in (50, 100], got 0.99",
        ),
        (
            normal(2, 4, 6, 9),
            {"mode": "exact"},
            "mode must be one of tflite, single, fp32, got 'exact'",
        ),
    ],
)
def test_calibration_that_does_not_fit_is_refused(samples: Any, options: dict[str, Any], message: str) -> None:
    model = onnx_model([conv(["x", "w"], "y")], W, IMAGE)
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        quantize(model, samples, **options)


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
