"""Scales and zero points of every form that ONNX allows: types without zero point, `output_dtype`, refusals."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from oracles.test_onnx_operators import plain_session

from accel.errors import ModelError
from accel.frontends.onnx.reader import read_quantized_onnx
from accel.network.real import dequantize_output, quantize_input
from accel.network.reference import run

Node = tuple[str, list[str], str, dict[str, Any]]


def model_of(nodes: list[Node], constants: dict[str, Any], opset: int = 21, shape: tuple[int, ...] = (1, 6)) -> bytes:
    """A model from a real "x" to a real "y"."""
    graph = helper.make_graph(
        [helper.make_node(kind, names, [out], name=out.upper(), **fields) for kind, names, out, fields in nodes],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
        [
            value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value), name)
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return bytes(model.SerializeToString())


def both(model: bytes, x: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The graph's real outputs, and the runtime's."""
    graph = read_quantized_onnx(model)
    values = run(graph, quantize_input(graph, x))
    expected = plain_session(model).run(None, {"x": x})[0]
    return dequantize_output(graph, values[graph.outputs[0]]), expected


X = np.array([[-100, -3.25, -0.5, 0, 2.75, 100]], dtype=np.float32)
SCALE = {"s": np.float32(0.5)}
FORMS: dict[str, tuple[list[Node], dict[str, Any], int]] = {
    "no zero point: the type of the integers tells": (
        [
            ("QuantizeLinear", ["x", "s", "z"], "q", {}),
            ("DequantizeLinear", ["q", "s"], "d", {}),
            ("LeakyRelu", ["d"], "r", {"alpha": 0.5}),
            ("QuantizeLinear", ["r", "s", "z"], "p", {}),
            ("DequantizeLinear", ["p", "s"], "y", {}),
        ],
        SCALE | {"z": np.int8(0)},
        17,
    ),
    "no zero point at all: uint8": (
        [
            ("QuantizeLinear", ["x", "s"], "q", {}),
            ("DequantizeLinear", ["q", "s"], "d", {}),
            ("Sqrt", ["d"], "r", {}),
            ("QuantizeLinear", ["r", "s"], "p", {}),
            ("DequantizeLinear", ["p", "s"], "y", {}),
        ],
        SCALE,
        13,
    ),
    "output_dtype int8": (
        [
            ("QuantizeLinear", ["x", "s"], "q", {"output_dtype": TensorProto.INT8}),
            ("DequantizeLinear", ["q", "s"], "d", {}),
            ("Neg", ["d"], "r", {}),
            ("QuantizeLinear", ["r", "s"], "p", {"output_dtype": TensorProto.INT8}),
            ("DequantizeLinear", ["p", "s"], "y", {}),
        ],
        SCALE,
        21,
    ),
    "output_dtype and zero point": (
        [
            ("QuantizeLinear", ["x", "s", "z"], "q", {"output_dtype": TensorProto.UINT8}),
            ("DequantizeLinear", ["q", "s", "z"], "d", {}),
            ("Abs", ["d"], "r", {}),
            ("QuantizeLinear", ["r", "s", "z"], "p", {"saturate": 1}),
            ("DequantizeLinear", ["p", "s", "z"], "y", {}),
        ],
        SCALE | {"z": np.uint8(100)},
        21,
    ),
    "weights without zero point, quantized in the file by output_dtype": (
        [
            ("QuantizeLinear", ["x", "s", "z"], "q", {}),
            ("DequantizeLinear", ["q", "s", "z"], "d", {}),
            ("QuantizeLinear", ["w", "ws"], "wq", {"output_dtype": TensorProto.INT8}),
            ("DequantizeLinear", ["wq", "ws"], "wd", {}),
            ("MatMul", ["d", "wd"], "r", {}),
            ("QuantizeLinear", ["r", "ys", "z"], "p", {}),
            ("DequantizeLinear", ["p", "ys", "z"], "y", {}),
        ],
        SCALE
        | {
            "z": np.int8(0),
            "w": np.arange(-9, 9, dtype=np.float32).reshape(6, 3) / 4,
            "ws": np.float32(0.25),
            "ys": np.float32(4),
        },
        21,
    ),
    "weights of four bits": (
        [
            ("QuantizeLinear", ["x", "s", "z"], "q", {}),
            ("DequantizeLinear", ["q", "s", "z"], "d", {}),
            ("DequantizeLinear", ["w", "ws"], "wd", {}),
            ("MatMul", ["d", "wd"], "r", {}),
            ("QuantizeLinear", ["r", "ys", "z"], "p", {}),
            ("DequantizeLinear", ["p", "ys", "z"], "y", {}),
        ],
        SCALE
        | {
            "z": np.int8(0),
            "w": helper.make_tensor("w", TensorProto.INT4, [6, 2], [-8, 7, 3, -1, 0, 5, -6, 2, 1, -3, 4, -7]),
            "ws": np.float32(0.25),
            "ys": np.float32(4),
        },
        21,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_form_gives_what_the_runtime_gives(form: str) -> None:
    computed, expected = both(model_of(*FORMS[form]), X)
    assert np.array_equal(computed, expected)


@pytest.mark.parametrize("shape", [(), (1,), (1, 3, 1, 1), (1, 3, 4, 5)])
@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul"])
def test_integer_constants_are_not_quantized_again(operator: str, shape: tuple[int, ...]) -> None:
    """Any shape, a number without axes too; scales far from those that the range of the integers would give."""
    rng = np.random.default_rng(4)
    nodes: list[Node] = [
        ("QuantizeLinear", ["x", "s", "z"], "q", {}),
        ("DequantizeLinear", ["q", "s", "z"], "d", {}),
        ("DequantizeLinear", ["k", "ks", "kz"], "c", {}),
        (operator, ["d", "c"], "r", {}),
        ("QuantizeLinear", ["r", "ys", "z"], "p", {}),
        ("DequantizeLinear", ["p", "ys", "z"], "y", {}),
    ]
    constants = {
        "s": np.float32(0.047),
        "z": np.int8(3),
        "k": np.asarray(rng.integers(-20, 21, shape)).astype(np.int8),
        "ks": np.float32(0.0931),
        "kz": np.int8(-5),
        "ys": np.float32(0.0613),
    }
    x = rng.normal(0, 3, (1, 3, 4, 5)).astype(np.float32)
    computed, expected = both(model_of(nodes, constants, 17, (1, 3, 4, 5)), x)
    assert np.array_equal(computed, expected)


@pytest.mark.parametrize("operator", ["Add", "Mul"])
def test_integer_constants_of_q_linear_operators(operator: str) -> None:
    rng = np.random.default_rng(5)
    nodes: list[Node] = [
        ("QuantizeLinear", ["x", "s", "z"], "q", {}),
        (f"QLinear{operator}", ["q", "s", "z", "k", "ks", "z", "ys", "z"], "p", {"domain": "com.microsoft"}),
        ("DequantizeLinear", ["p", "ys", "z"], "y", {}),
    ]
    constants = {
        "s": np.float32(0.047),
        "z": np.uint8(120),
        "k": rng.integers(90, 150, (1, 3, 1, 1)).astype(np.uint8),
        "ks": np.float32(0.0931),
        "ys": np.float32(0.0613),
    }
    data = onnx.load_model_from_string(model_of(nodes, constants, 17, (1, 3, 4, 5)))
    data.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    x = rng.normal(0, 3, (1, 3, 4, 5)).astype(np.float32)
    computed, expected = both(data.SerializeToString(), x)
    assert np.array_equal(computed, expected)


Q: Node = ("QuantizeLinear", ["x", "s", "z"], "q", {})
REFUSED: dict[str, tuple[list[Node], dict[str, Any], str]] = {
    "output_dtype against zero point": (
        [("QuantizeLinear", ["x", "s", "z"], "q", {"output_dtype": TensorProto.INT8})],
        {"z": np.uint8(0)},
        "QuantizeLinear 'Q': output_dtype must be the type of the zero point, uint8, got int8",
    ),
    "16 bits": (
        [("QuantizeLinear", ["x", "s", "z"], "q", {})],
        {"z": np.int16(0)},
        "QuantizeLinear 'Q': integers must be int8 or uint8 (int32 for biases, 4 bits for weights), got int16",
    ),
    "16 bits by output_dtype": (
        [("QuantizeLinear", ["x", "s"], "q", {"output_dtype": TensorProto.UINT16})],
        {},
        "QuantizeLinear 'Q': integers must be int8 or uint8 (int32 for biases, 4 bits for weights), got uint16",
    ),
    "blocks": (
        [("QuantizeLinear", ["x", "b", "bz"], "q", {"block_size": 3})],
        {"b": np.ones((1, 2), np.float32), "bz": np.zeros((1, 2), np.int8)},
        "QuantizeLinear 'Q': block_size must be 0: scales of blocks are not supported; quantize per tensor or per ",
    ),
    "zero point of another type": (
        [Q, ("DequantizeLinear", ["q", "s", "u"], "d", {})],
        {"z": np.int8(0), "u": np.uint8(0)},
        "DequantizeLinear 'D': zero point must have the type of the integers, int8, got uint8",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_supported_is_refused(case: str) -> None:
    nodes, constants, message = REFUSED[case]
    last = nodes[-1][2]
    nodes = [*nodes, ("DequantizeLinear", [last, "s"], "y", {})] if nodes[-1][0] == "QuantizeLinear" else nodes
    nodes = [(*node[:2], "y" if node[2] == "d" else node[2], node[3]) for node in nodes]
    expected = message.replace("'D'", "'Y'")
    with pytest.raises(ModelError, match=f"^{re.escape(expected)}"):
        read_quantized_onnx(model_of(nodes, SCALE | constants))


def test_ratios_of_scales_that_no_runtime_defines_are_refused() -> None:
    nodes: list[Node] = [
        Q,
        ("DequantizeLinear", ["q", "s", "z"], "d", {}),
        ("DequantizeLinear", ["w", "ws"], "wd", {}),
        ("MatMul", ["d", "wd"], "r", {}),
        ("QuantizeLinear", ["r", "ys", "z"], "p", {}),
        ("DequantizeLinear", ["p", "ys", "z"], "y", {}),
    ]
    constants = SCALE | {
        "z": np.int8(0),
        "w": np.ones((6, 2), np.int8),
        "ws": np.float32(2),
        "ys": np.float32(2.0**-30),
    }
    with pytest.raises(ModelError, match=r"^MatMul 'R': ratio of the scales must be below 2\*\*30, got 1073741824"):
        read_quantized_onnx(model_of(nodes, constants))
