"""Operators between equal parameters, and borders that the input cannot hold: single QDQ groups beside ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.oracles.ort_session import as_graph, session

from accel.frontends import read_quantized_onnx
from accel.network import reference


def differences(
    operators: list[tuple[str, list[Any], dict[str, Any]]], shape: tuple[int, ...], output: tuple[float, int]
) -> Any:
    """Outputs less the runtime's, for operators between parameters (0.05, 0) and `output`."""
    constants = {"s": np.float32(0.05), "z": np.int8(0), "t": np.float32(output[0]), "u": np.int8(output[1])}
    nodes, value = [helper.make_node("DequantizeLinear", ["x", "s", "z"], ["real"])], "real"
    for number, (kind, operands, attributes) in enumerate(operators):
        names = [f"c{number}_{i}" for i in range(len(operands))]
        constants |= dict(zip(names, operands, strict=True))
        nodes.append(helper.make_node(kind, [value, *names], [f"v{number}"], **attributes))
        value = f"v{number}"
    nodes.append(helper.make_node("QuantizeLinear", [value, "t", "u"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "single",
        [helper.make_tensor_value_info("x", TensorProto.INT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT8, [None] * len(shape))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    sample = np.linspace(-128, 127, int(np.prod(shape))).astype(np.int8).reshape(shape)
    (expected,) = session(model).run(None, {"x": sample})
    network = read_quantized_onnx(model)
    result = reference.run(network, as_graph(sample, network.tensors[network.inputs[0]]))[network.outputs[0]]
    wanted = as_graph(expected, network.tensors[network.outputs[0]])
    return result.astype(np.int64) - wanted


@pytest.mark.parametrize(
    "operator",
    [
        ("Mul", [np.float32(2)], {}),
        ("Mul", [np.float32(-1)], {}),
        ("LeakyRelu", [], {"alpha": 1.5}),
        ("PRelu", [np.float32(1.19)], {}),
        ("Selu", [], {}),
        ("Round", [], {}),
        ("Relu", [], {}),
        ("Clip", [np.float32(-1), np.float32(1)], {}),
    ],
)
def test_a_function_between_equal_parameters_is_not_dropped(operator: Any) -> None:
    assert np.count_nonzero(differences([operator], (1, 256), (0.05, 0))) == 0


@pytest.mark.parametrize("number", [0.0, 0.05, 0.07, 9.31, -20.0])
@pytest.mark.parametrize("output", [(0.05, 0), (0.1, -20), (0.2, 5)])
@pytest.mark.parametrize("before", [[], [("Sigmoid", [], {})], [("Relu", [], {})]])
@pytest.mark.parametrize("after", [[], [("Relu", [], {})]])
def test_a_border_of_any_number(number: float, output: tuple[float, int], before: Any, after: Any) -> None:
    pads = np.array([0, 0, 1, 2, 0, 0, 0, 1], np.int64)
    border = ("Pad", [pads, np.float32(number)], {})
    assert np.count_nonzero(differences([*before, border, *after], (1, 3, 8, 9), output)) == 0
