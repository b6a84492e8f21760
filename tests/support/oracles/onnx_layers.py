"""Exported ONNX models layer by layer: each layer cut out of the whole file, between integers, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from accel.exports.onnx.raising import raising
from accel.network.graph import Graph
from accel.network.nodes import Node

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


class Layer(NamedTuple):
    """A node of the graph, the runtime's model of it, and the names of the integers around it."""

    node: Node
    session: onnxruntime.InferenceSession
    inputs: dict[str, str]
    output: str

    def run(self, values: dict[str, NDArray[np.int8]]) -> NDArray[np.int8]:
        """The runtime's integers for inputs of the graph's shapes, in the graph's order."""
        given = {name: _first(values[tensor]) for tensor, name in self.inputs.items()}
        (result,) = self.session.run([self.output], given)
        return result.transpose(TO_CHANNELS_LAST) if result.ndim == 4 else result


def _first(value: NDArray[np.int8]) -> NDArray[np.int8]:
    return value.transpose(TO_CHANNELS_FIRST) if value.ndim == 4 else value


def session(model: bytes, *, optimized: bool) -> onnxruntime.InferenceSession:
    """The runtime on one thread; optimized, it joins conversions and operators to kernels of int8 integers."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_EXTENDED if optimized else levels.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])


def layers(graph: Graph, model: bytes, *, optimized: bool) -> Iterator[Layer]:
    """Every node that has integers of its own in the model, and nothing but integers around it."""
    proto = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model))
    known = {info.name for info in proto.graph.value_info}
    names = raising(graph).names
    for node in graph.nodes:
        inputs = {name: f"{names[name]}_quantized" for name in node.inputs}
        output = f"{names[node.output]}_quantized"
        whole = {graph.tensors[name].dtype for name in (*node.inputs, *node.outputs)} == {"int8"}
        fresh = output not in inputs.values() and all(name in known for name in (*inputs.values(), output))
        if whole and fresh and node.inputs:
            part = onnx.utils.Extractor(proto).extract_model(list(dict.fromkeys(inputs.values())), [output])
            yield Layer(node, session(part.SerializeToString(), optimized=optimized), inputs, output)
