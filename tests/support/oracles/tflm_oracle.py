"""Running a graph of one node in TensorFlow Lite Micro."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from tflite_micro import runtime

from support.oracles.single_node import Case
from support.oracles.tflite_writer import ModelWriter

ARENA_BYTES = 2**22
ACTIVATION_CODES = {"none": 0, "relu": 1, "relu6": 3}
BUILTINS = {"Conv2d": "CONV_2D", "FullyConnected": "FULLY_CONNECTED", "Add": "ADD"} | {
    "MaxPool2d": "MAX_POOL_2D",
    "AveragePool2d": "AVERAGE_POOL_2D",
    "Softmax": "SOFTMAX",
}


def outputs(case: Case, samples: list[dict[str, NDArray[np.int8]]]) -> list[NDArray[np.int8]]:
    """The runtime's output for every sample."""
    interpreter = runtime.Interpreter.from_bytes(flatbuffer(case), arena_size=ARENA_BYTES)
    results = []
    for sample in samples:
        for index, name in enumerate(case.graph.inputs):
            interpreter.set_input(sample[name], index)
        interpreter.invoke()
        results.append(interpreter.get_output(0))
    return results


def flatbuffer(case: Case) -> bytes:
    """The model file."""
    writer = ModelWriter()
    graph, node = case.graph, case.node
    inputs = [writer.tensor(graph.tensors[name].shape, *graph.tensors[name].parameters) for name in graph.inputs]
    constants = []
    if node.op in ("Conv2d", "FullyConnected"):
        source = np.float32(graph.tensors[graph.inputs[0]].scale)
        constants = [
            writer.tensor(node.weight.shape, case.weight_scales, 0, node.weight),
            writer.tensor(node.bias.shape, source * case.weight_scales, 0, node.bias),
        ]
    result = graph.tensors[graph.outputs[0]]
    output = writer.tensor(result.shape, *result.parameters)
    kind, options = _options(case)
    writer.operator(BUILTINS[node.op], [*inputs, *constants], [output], kind, **options)
    return writer.finish(inputs, [output])


def _options(case: Case) -> tuple[str, dict[str, Any]]:
    """Name and fields of the operator's options."""
    node, options = case.node, {"fusedActivationFunction": ACTIVATION_CODES[case.activation]}
    if node.op in ("Conv2d", "MaxPool2d", "AveragePool2d"):
        padding = schema.Padding.SAME if case.same_padding else schema.Padding.VALID
        options |= {"padding": padding, "strideH": node.stride[0], "strideW": node.stride[1]}
    if node.op == "Conv2d":
        return "Conv2DOptions", options | {
            "dilationHFactor": node.dilation[0],
            "dilationWFactor": node.dilation[1],
        }
    if node.op == "FullyConnected":
        return "FullyConnectedOptions", options
    if node.op == "Softmax":
        return "SoftmaxOptions", {"beta": 1.0}
    if node.op == "Add":
        return "AddOptions", options
    return "Pool2DOptions", options | {"filterHeight": node.kernel[0], "filterWidth": node.kernel[1]}
