"""Inputs of uint8: a file takes them as the model that the graph was read from does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from accel.frontends.onnx.write import suffixed
from accel.network.graph import Graph

if TYPE_CHECKING:
    import onnx


def take_unsigned_inputs(model: onnx.ModelProto, graph: Graph) -> None:
    """Let the inputs that are integers of uint8 in the graph's source be so in a model of real inputs.

    Notes
    -----
    A DequantizeLinear makes real numbers of them; the QuantizeLinear behind it gives the graph's integers exactly.
    """
    from onnx import TensorProto, helper, numpy_helper

    for value in model.graph.input:
        tensor = graph.tensors[value.name]
        if not tensor.unsigned:
            continue
        taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
        real, scale, point = (suffixed(value.name, what, taken) for what in ("real", "step", "unsigned_zero_point"))
        for node in model.graph.node:
            node.input[:] = [real if name == value.name else name for name in node.input]
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", [value.name, scale, point], [real], real))
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(np.float32(tensor.scale)), scale))
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(np.uint8(tensor.zero_point + 128)), point))
        value.type.tensor_type.elem_type = TensorProto.UINT8
