"""Operators of the host: real numbers and other integers, one ONNX operator a node."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.networks.host_graphs import float_head, float_softmax, top_k

from accel.errors import GraphError, InputError
from accel.machine.config import preset
from accel.network.graph import Graph, Tensor
from accel.network.graph_file import dump_graph, parse_graph
from accel.network.nodes import Dequantize, HostOperator, Quantize
from accel.network.reference import run
from accel.report.placement import host_share
from compiler import compile_graph

RNG = np.random.default_rng(5)


def int8(shape: tuple[int, ...]) -> NDArray[np.int8]:
    return RNG.integers(-128, 128, shape, dtype=np.int8)


def refusal(graph: Graph, **changes: Any) -> str:
    with pytest.raises(GraphError) as caught:
        replace(graph, **changes)
    return str(caught.value)


def with_tensor(graph: Graph, name: str, **changes: Any) -> dict[str, Any]:
    return {"tensors": {**graph.tensors, name: replace(graph.tensors[name], **changes)}}


def with_node(graph: Graph, index: int, **changes: Any) -> dict[str, Any]:
    return {"nodes": tuple(replace(n, **changes) if i == index else n for i, n in enumerate(graph.nodes))}


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["tflite", "fp32"])
def test_real_numbers_between_integers(mode: str) -> None:
    graph = float_softmax((1, 3, 4), mode)
    x = int8((1, 12))
    values = run(graph, x)
    real = (x.astype(np.float64) - 3) * 0.25
    shares = np.exp(real.reshape(3, 4)) / np.exp(real.reshape(3, 4)).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(values["shares"][0], shares, rtol=1e-6)
    assert values["shares"].dtype == np.float32
    np.testing.assert_array_equal(values["y"], np.clip(np.rint(shares.reshape(1, 12) * 256) - 128, -128, 127))


@pytest.mark.parametrize(("mode", "half"), [("tflite", 1), ("single", 1), ("fp32", 0)])
def test_ties_are_rounded_as_the_mode_does(mode: str, half: int) -> None:
    graph = float_head((1, 2), mode)
    scale = graph.tensors["q"].scale
    assert run(graph, np.array([[0.5 * scale, -1e9]], np.float32))["q"].tolist() == [[half, -128]]


@pytest.mark.parametrize("mode", ["tflite", "single", "fp32"])
def test_real_numbers_beyond_float32_are_the_last_integers(mode: str) -> None:
    """Warnings are errors in this suite."""
    graph = float_head((1, 2), mode)
    small = replace(graph, tensors={n: replace(t, scale=2.0**-7) if n == "q" else t for n, t in graph.tensors.items()})
    huge = np.finfo(np.float32).max
    assert run(small, np.array([[huge, -huge]], np.float32))["q"].tolist() == [[127, -128]]
    if mode == "fp32":
        assert run(small, np.array([[np.inf, np.nan]], np.float32))["q"].tolist() == [[127, -128]]


def test_operators_may_have_several_outputs_and_integers_of_64_bits() -> None:
    x = int8((1, 9))
    values = run(top_k(9, 4), x)
    order = np.argsort(-x[0].astype(int), kind="stable")[:4]
    assert values["indices"].dtype == np.int64
    np.testing.assert_array_equal(values["indices"], order[None])
    np.testing.assert_array_equal(values["values"], (x[0, order][None].astype(np.float32) - 3) * np.float32(0.25))


def test_equal_inputs_give_equal_bits() -> None:
    graph, x = float_softmax((1, 30, 40), "tflite"), int8((1, 1200))
    assert len({run(graph, x)["shares"].tobytes() for _ in range(3)}) == 1


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [float_softmax((1, 3, 4), "tflite"), top_k(9, 4), float_head((1, 2), "fp32")])
def test_round_trip(graph: Graph) -> None:
    data = dump_graph(graph)
    loaded = parse_graph(data)
    assert dump_graph(loaded) == data
    assert loaded.tensors == graph.tensors
    tensor = graph.tensors[graph.inputs[0]]
    x = int8(tensor.shape).astype(tensor.dtype)
    for name, values in run(graph, x).items():
        np.testing.assert_array_equal(run(loaded, x)[name], values)


def test_attributes_of_every_kind_survive() -> None:
    attributes = {
        "i": 1, "f": 1.0, "s": "a", "is": (1, 2), "fs": (1.0, 2.5), "ss": ("a", "b"), "t": np.arange(3, dtype=np.int64),
    }  # fmt: skip
    graph = top_k(9, 4)
    node = graph.nodes[1]
    assert isinstance(node, HostOperator)
    loaded = parse_graph(dump_graph(replace(graph, **with_node(graph, 1, attributes=attributes)))).nodes[1]
    assert isinstance(loaded, HostOperator)
    assert sorted(loaded.attributes) == sorted(attributes)
    for name, value in attributes.items():
        assert type(loaded.attributes[name]) is type(value)
        np.testing.assert_array_equal(loaded.attributes[name], value)
    np.testing.assert_array_equal(loaded.constants["k"], node.constants["k"])


# Refusals -------------------------------------------------------------------------------------------------------------


def test_types_are_checked() -> None:
    graph = float_softmax((1, 3, 4), "tflite")
    wrong = with_tensor(graph, "real", dtype="int64")
    assert refusal(graph, **wrong) == "Dequantize 'dequantize': output 'real' must be float32, got int64"
    x = Tensor("x", (1, 2), 1.0, 0, dtype="float32")
    y = Tensor("y", (1, 2), 1.0, 0, dtype="float32")
    node = Dequantize(name="n", inputs=("x",), output="y")
    with pytest.raises(GraphError, match=r"^Dequantize 'n': input 'x' must be int8, got float32$"):
        Graph("g", graph.mode, {"x": x, "y": y}, (node,), ("x",), ("y",))
    with pytest.raises(GraphError, match=r"^tensor 'x': dtype must be one of int8, float32, .*, got 'f'$"):
        replace(x, dtype="f").check()
    with pytest.raises(GraphError, match=r"^tensor 'x': float32 must have scale 1\.0 and zero_point 0, got "):
        replace(x, scale=2.0).check()
    with pytest.raises(GraphError, match=r"^tensor 'x': shape must be positive sizes, got \(0,\)$"):
        replace(x, shape=(0,)).check()
    replace(x, shape=()).check()
    two = Quantize(name="n", inputs=("x",), output="y")
    with pytest.raises(GraphError, match=r"^Quantize 'n': output 'y' must be int8, got float32$"):
        Graph("g", graph.mode, {"x": x, "y": y}, (two,), ("x",), ("y",))


FIELDS: dict[str, dict[str, Any]] = {
    "opset must be an integer in 1..65535, got 0": {"opset": 0},
    "opset must be an integer in 1..65535, got True": {"opset": True},
    "domain, op_type, arguments and more_outputs must be texts": {"op_type": 7},
    "constants must be arrays": {"constants": {"k": 1}},
    "constants must be numbers, texts, tuples of one of them, or arrays, got 'k': array([4.])": {
        "constants": {"k": np.array([4.0])}
    },
    "attributes must be numbers, texts, tuples of one of them, or arrays, got 'a': (1, 2.0)": {
        "attributes": {"a": (1, 2.0)}
    },
    "arguments must name every input and constant, ['k', 'real'], got ('real',)": {"arguments": ("real",)},
}


@pytest.mark.parametrize("message", FIELDS)
def test_fields_are_checked(message: str) -> None:
    graph = top_k(9, 4)
    assert refusal(graph, **with_node(graph, 1, **FIELDS[message])) == f"HostOperator 'top': {message}"


def test_operators_that_the_runtime_lacks_are_named() -> None:
    graph = top_k(9, 4)
    unknown = replace(graph, **with_node(graph, 1, op_type="Frobnicate"))
    with pytest.raises(GraphError, match=r"^HostOperator 'top': Frobnicate must be an operator that ONNX Runtime eval"):
        run(unknown, int8((1, 9)))


def test_outputs_must_be_what_their_tensors_say() -> None:
    graph = top_k(9, 4)
    wrong = replace(graph, **with_tensor(graph, "values", shape=(4,)))
    with pytest.raises(GraphError, match=r"^HostOperator 'top': "):
        run(wrong, int8((1, 9)))


def test_inputs_have_the_types_of_their_tensors() -> None:
    message = "input 'x' must be float32 of shape (1, 2), got int8 (1, 2); see quantize_input"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        run(float_head((1, 2), "tflite"), int8((1, 2)))


# Products -------------------------------------------------------------------------------------------------------------

PRODUCTS: dict[str, tuple[str, list[tuple[int, ...]], tuple[int, ...], dict[str, Any], int]] = {
    "rows": ("MatMul", [(2, 3, 4), (4, 5)], (2, 3, 5), {}, 2 * 3 * 4 * 5),
    "broadcast": ("MatMul", [(2, 1, 3, 4), (6, 4, 5)], (2, 6, 3, 5), {}, 12 * 3 * 4 * 5),
    "vector": ("MatMul", [(4,), (4, 5)], (5,), {}, 4 * 5),
    "gemm": ("Gemm", [(3, 4), (4, 5), (5,)], (3, 5), {}, 3 * 4 * 5),
    "transposed": ("Gemm", [(4, 3), (5, 4)], (3, 5), {"transA": 1, "transB": 1}, 3 * 4 * 5),
    "conv": ("Conv", [(1, 6, 9, 9), (8, 3, 3, 3)], (1, 8, 4, 4), {"group": 2}, 16 * 8 * 3 * 9),
    "conv of a volume": ("Conv", [(1, 2, 5, 5, 5), (3, 2, 3, 3, 3)], (1, 3, 3, 3, 3), {}, 27 * 3 * 2 * 27),
    "transposed conv": ("ConvTranspose", [(1, 6, 4, 4), (6, 5, 2, 2)], (1, 5, 8, 8), {}, 16 * 6 * 5 * 4),
    "lstm": ("LSTM", [(7, 1, 5), (1, 24, 5), (1, 24, 6)], (7, 1, 1, 6), {}, 7 * 24 * (5 + 6)),
    "both ways": ("GRU", [(7, 2, 5), (2, 18, 5), (2, 18, 6)], (7, 2, 2, 6), {}, 7 * 2 * 2 * 18 * (5 + 6)),
    "einsum": ("Einsum", [(2, 3, 4), (2, 5, 4)], (2, 3, 5), {"equation": "bij, bkj -> bik"}, 2 * 3 * 4 * 5),
    "attention": ("Attention", [(1, 2, 7, 4), (1, 2, 9, 4), (1, 2, 9, 3)], (1, 2, 7, 3), {}, 2 * 7 * 9 * (4 + 3)),
    "no weights": ("Softmax", [(3, 4)], (3, 4), {}, 0),
    "no matrix": ("MatMul", [(), ()], (), {}, 0),
}
"""Shapes of arguments, shape of the result, attributes, products counted by hand."""


@pytest.mark.parametrize("case", PRODUCTS)
def test_products_are_counted(case: str) -> None:
    kind, given, result, attributes, expected = PRODUCTS[case]
    names = [f"a{i}" for i in range(len(given))]
    fields: dict[str, Any] = {"name": "n", "output": "y", "op_type": kind, "opset": 23, "attributes": attributes}
    node = HostOperator(inputs=tuple(names), arguments=tuple(names), **fields)
    assert node.macs(*given, result) == expected
    weight = {"a1": np.zeros(given[1], np.float32)} if len(given) > 1 and kind != "Attention" else {}
    rest = [name for name in names if name not in weight]
    node = HostOperator(inputs=tuple(rest), arguments=tuple(names), constants=weight, **fields)
    assert node.macs(*(s for name, s in zip(names, given, strict=True) if name in rest), result) == expected


def test_the_share_of_the_host_counts_its_products() -> None:
    x, y = Tensor("x", (1, 6), 1.0, 0, dtype="float32"), Tensor("y", (1, 5), 1.0, 0, dtype="float32")
    node = HostOperator(
        name="n", inputs=("x",), output="y", op_type="Gemm", opset=13, arguments=("x", "w"),
        constants={"w": np.zeros((6, 5), np.float32)},
    )  # fmt: skip
    program = compile_graph(Graph("g", "tflite", {"x": x, "y": y}, (node,), ("x",), ("y",)), preset("tiny"))
    share = host_share(program.operators)
    assert (share.macs, share.share) == (30, 1.0)
