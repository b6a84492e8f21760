"""Pools of the host for which ONNX's inference and ONNX Runtime disagree on the size: the runtime's, to the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from oracles.test_onnx_operators import plain_session

import accel
from accel.frontends.onnx import folding
from accel.network.real import dequantize_output, quantize_input
from accel.network.reference import run

CASES: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "volumes of VALID windows": (
        "AveragePool",
        (4, 7, 8),
        {"kernel_shape": [2, 2, 1], "strides": [1, 2, 2], "dilations": [2, 2, 1], "ceil_mode": 1, "auto_pad": "VALID"},
    ),
    "dilated rows": ("AveragePool", (6,), {"kernel_shape": [1], "strides": [4], "dilations": [2], "ceil_mode": 1}),
    "dilated images of SAME windows": (
        "AveragePool",
        (8, 4),
        {"kernel_shape": [3, 1], "strides": [3, 2], "dilations": [3, 1], "ceil_mode": 1, "auto_pad": "SAME_UPPER"},
    ),
    "largest of volumes": (
        "MaxPool",
        (3, 7, 9),
        {"kernel_shape": [2, 3, 2], "strides": [3, 3, 1], "dilations": [1, 1, 2], "ceil_mode": 1},
    ),
    "norms": (
        "LpPool",
        (6, 9, 5),
        {"kernel_shape": [3, 1, 2], "strides": [4, 3, 3], "dilations": [1, 2, 2], "auto_pad": "SAME_UPPER"},
    ),
}


def model(kind: str, sizes: tuple[int, ...], attributes: dict[str, Any]) -> bytes:
    """A pool, and a sum with a constant behind it."""
    pool = helper.make_node(kind, ["x"], ["p"], name="pool", **attributes)
    last = helper.make_node("Add", ["p", "one"], ["y"], name="last")
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, *sizes))]
    result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    one = numpy_helper.from_array(np.ones((1,) * (2 + len(sizes)), np.float32), "one")
    graph = helper.make_graph([pool, last], "g", ends, result, [one])
    opset = 22 if kind == "LpPool" else 19
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(made.SerializeToString())


def samples(sizes: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, 1, (16, 2, *sizes)).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_sizes_are_the_runtime_s(name: str) -> None:
    kind, sizes, attributes = CASES[name]
    data, x = model(kind, sizes, attributes), samples(sizes)
    (expected,) = plain_session(data).run(None, {"x": x[:1]})
    inferred = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data)).graph.value_info[0]
    assert tuple(dim.dim_value for dim in inferred.type.tensor_type.shape.dim) != expected.shape
    graph = accel.quantize(data, x, mode="fp32")
    found = dequantize_output(graph, run(graph, quantize_input(graph, x[:1]))["y"])
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_the_inferred_size_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "has_unsure", lambda model: False)
    kind, sizes, attributes = CASES["dilated rows"]
    graph = accel.quantize(model(kind, sizes, attributes), samples(sizes))
    with pytest.raises(accel.AccelError, match=r"output '.*' must be float32 \(1, 2, 3\), got float32 \(1, 2, 2\)"):
        run(graph, quantize_input(graph, samples(sizes)[:1]))
