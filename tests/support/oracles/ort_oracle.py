"""Running a graph of one convolution or matrix product in ONNX Runtime, int8 by int8."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from support.oracles.single_node import Case


def outputs(case: Case, samples: list[dict[str, NDArray[np.int8]]]) -> list[NDArray[np.int8]]:
    """The runtime's output for every sample, NHWC."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model(case).SerializeToString(), options, ["CPUExecutionProvider"])
    results = []
    for sample in samples:
        x = sample["x"]
        (y,) = session.run(None, {"x": x.transpose(0, 3, 1, 2) if x.ndim == 4 else x})
        results.append(y.transpose(0, 2, 3, 1) if x.ndim == 4 else y)
    return results


def model(case: Case) -> onnx.ModelProto:
    """QLinearConv or QLinearMatMul (which has no bias) of the case's node; it must not clamp."""
    node = case.node
    convolves = node.op == "Conv2d"
    weight = node.weight.transpose(0, 3, 1, 2) if convolves else node.weight.T
    x, y = (case.graph.tensors[name] for name in ("x", "y"))
    constants = {
        "x_scale": np.float32(x.scale),
        "x_zero": np.int8(x.zero_point),
        "w": np.ascontiguousarray(weight),
        "w_scale": case.weight_scales,
        "w_zero": np.zeros(len(case.weight_scales), dtype=np.int8),
        "y_scale": np.float32(y.scale),
        "y_zero": np.int8(y.zero_point),
    }
    names = ["x", *constants]
    attributes = {}
    if convolves:
        constants["b"] = node.bias
        names.append("b")
        attributes = {"pads": node.padding, "strides": node.stride, "dilations": node.dilation}
    operation = helper.make_node("QLinearConv" if convolves else "QLinearMatMul", names, ["y"], **attributes)
    graph = helper.make_graph(
        [operation],
        "single",
        [helper.make_tensor_value_info("x", TensorProto.INT8, [None] * len(x.shape))],
        [helper.make_tensor_value_info("y", TensorProto.INT8, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
