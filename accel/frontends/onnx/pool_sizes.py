"""Sizes of results that ONNX's inference has otherwise than ONNX Runtime, or not at all: the runtime's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from accel.network.windows import Shape

if TYPE_CHECKING:
    import onnx

POOLS = ("AveragePool", "LpPool", "MaxPool")
UNSURE = {"auto_pad", "ceil_mode", "dilations"}
"""Attributes with which sizes differ."""
IR_VERSION = 8
UNKNOWN = "GroupNormalization"
"""The operator of present versions for which ONNX infers no shape: that of its input."""


def has_unsure(model: onnx.ModelProto) -> bool:
    """Whether there are pools on whose sizes the two may disagree, or operators without inference."""
    return any(_is_unsure(node) or node.op_type == UNKNOWN for node in model.graph.node)


def _is_unsure(node: onnx.NodeProto) -> bool:
    return node.op_type in POOLS and not node.domain and any(entry.name in UNSURE for entry in node.attribute)


def disagreeing(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes of those results that the runtime makes otherwise than `shapes` says, which may not have them."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    found: dict[str, Shape] = {}
    for node in model.graph.node:
        if node.op_type == UNKNOWN and node.input[0] in shapes and node.output[0] not in shapes:
            found[node.output[0]] = shapes[node.input[0]]
        if _is_unsure(node) and {node.input[0], node.output[0]} <= shapes.keys():
            shape = _shape(_alone(node), opset, shapes[node.input[0]])
            if shape is not None and shape != shapes[node.output[0]]:
                found |= dict.fromkeys(filter(None, node.output), shape)
    return found


def given(model: onnx.ModelProto, results: Mapping[str, Shape]) -> onnx.ModelProto:
    """A copy of a model in which some results are inputs of known shapes."""
    import onnx
    from onnx import TensorProto, helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = []
    for node in copy.graph.node:
        if results.keys().isdisjoint(node.output):
            kept.append(node)
        for name, kind in zip(node.output, (TensorProto.FLOAT, TensorProto.INT64), strict=False):
            if name in results:
                copy.graph.input.append(helper.make_tensor_value_info(name, kind, results[name]))
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


def _alone(node: onnx.NodeProto) -> bytes:
    """A pool without the names of its tensors."""
    import onnx

    alone = onnx.NodeProto()
    alone.CopyFrom(node)
    alone.name, alone.input[0] = "", "x"
    del alone.output[:]
    alone.output.append("y")
    return bytes(alone.SerializeToString(deterministic=True))


@lru_cache(maxsize=256)
def _shape(pool: bytes, opset: int, shape: Shape) -> Shape | None:
    """The shape of the runtime's result; None if the runtime refuses the operator."""
    import onnxruntime
    from onnx import NodeProto, TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    for end in ends:
        end.type.tensor_type.ClearField("shape")
    graph = helper.make_graph([NodeProto.FromString(pool)], "pool", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        (value,) = session.run(None, {"x": np.zeros(shape, np.float32)})
    except Exception:
        # The runtime raises a dozen types; what it refuses is refused where it is evaluated.
        return None
    return tuple(int(size) for size in value.shape)
