"""uint8 weights at the ends of their range less any zero point, beside ONNX Runtime: int8 holds them in parts."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.oracles.on_machine import compiled, simulated
from support.oracles.ort_session import as_graph, session

from accel.frontends import read_quantized_onnx
from accel.quantized.wide_weights import int8_parts


def convolution(zero_point: int, groups: int) -> bytes:
    """A QLinearConv whose first output has all weights 255, the second 0, the others anything."""
    weight = np.random.default_rng([zero_point, groups]).integers(0, 256, (4, 4 // groups, 3, 3)).astype(np.uint8)
    weight[0], weight[1] = 255, 0
    values = {
        "x_scale": np.float32(0.02), "x_zero": np.uint8(120), "w": weight, "w_scale": np.float32(0.01),
        "w_zero": np.uint8(zero_point), "y_scale": np.float32(0.3), "y_zero": np.uint8(100),
    }  # fmt: skip
    names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"]
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", names, ["y"], group=groups)],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, 4, 6, 6))],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, (1, 4, 4, 4))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("zero_point", [0, 1, 100, 128, 255])
@pytest.mark.parametrize("groups", [1, 2])
def test_wide_weights_equal_the_runtime(zero_point: int, groups: int) -> None:
    model = convolution(zero_point, groups)
    graph = read_quantized_onnx(model)
    sample = {"x": np.random.default_rng(groups).integers(0, 256, (1, 4, 6, 6)).astype(np.uint8)}
    (expected,) = session(model).run(None, sample)
    (result,) = simulated(compiled(graph, "edge"), [as_graph(sample["x"], graph.tensors[graph.inputs[0]])])
    np.testing.assert_array_equal(result, as_graph(expected, graph.tensors[graph.outputs[0]]))


def test_parts_add_up() -> None:
    weight = np.arange(-255, 256).reshape(-1, 1)
    parts, count = int8_parts(weight)
    assert (parts.dtype, count) == (np.int8, 3)
    np.testing.assert_array_equal(parts.astype(np.int64).sum(axis=1, keepdims=True), weight)
