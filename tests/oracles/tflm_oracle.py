"""Running a graph of one node in TensorFlow Lite Micro."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from single_node import Case
from tflite_micro import runtime

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
    builder = _Builder()
    graph, node = case.graph, case.node
    inputs = [builder.tensor(graph.tensors[name].shape, *_parameters(case, name)) for name in graph.inputs]
    constants = []
    if node.op in ("Conv2d", "FullyConnected"):
        zeros = np.zeros(len(case.weight_scales), dtype=np.int64)
        source = np.float32(graph.tensors[graph.inputs[0]].scale)
        constants = [
            builder.tensor(node.weight.shape, case.weight_scales, zeros, node.weight),
            builder.tensor(node.bias.shape, source * case.weight_scales, zeros, node.bias),
        ]
    output = builder.tensor(graph.tensors[graph.outputs[0]].shape, *_parameters(case, graph.outputs[0]))
    operator = schema.OperatorT(inputs=[*inputs, *constants], outputs=[output])
    _set_options(operator, case)
    return builder.model(BUILTINS[node.op], operator, inputs, output)


def _parameters(case: Case, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    tensor = case.graph.tensors[name]
    return np.array([tensor.scale], dtype=np.float32), np.array([tensor.zero_point], dtype=np.int64)


def _set_options(operator: schema.OperatorT, case: Case) -> None:
    node, activation = case.node, ACTIVATION_CODES[case.activation]
    window = {}
    if node.op in ("Conv2d", "MaxPool2d", "AveragePool2d"):
        padding = schema.Padding.SAME if case.same_padding else schema.Padding.VALID
        window = {"padding": padding, "strideH": node.stride[0], "strideW": node.stride[1]}
    if node.op == "Conv2d":
        window |= {"dilationHFactor": node.dilation[0], "dilationWFactor": node.dilation[1]}
        kind, options = "Conv2DOptions", schema.Conv2DOptionsT(fusedActivationFunction=activation, **window)
    elif node.op == "FullyConnected":
        kind, options = "FullyConnectedOptions", schema.FullyConnectedOptionsT(fusedActivationFunction=activation)
    elif node.op == "Softmax":
        kind, options = "SoftmaxOptions", schema.SoftmaxOptionsT(beta=1.0)
    elif node.op == "Add":
        kind, options = "AddOptions", schema.AddOptionsT(fusedActivationFunction=activation)
    else:
        window |= {"filterHeight": node.kernel[0], "filterWidth": node.kernel[1]}
        kind, options = "Pool2DOptions", schema.Pool2DOptionsT(fusedActivationFunction=activation, **window)
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
    operator.builtinOptions = options


class _Builder:
    """Collects tensors and buffers; buffer 0 is the empty one that the format asks for."""

    def __init__(self) -> None:
        self.tensors: list[schema.TensorT] = []
        self.buffers = [schema.BufferT()]

    def tensor(
        self,
        shape: tuple[int, ...],
        scale: NDArray[np.float32],
        zero_point: NDArray[np.int64],
        data: NDArray[np.int8] | NDArray[np.int32] | None = None,
    ) -> int:
        """Add a tensor; returns its index."""
        buffer = 0
        if data is not None:
            self.buffers.append(schema.BufferT(data=np.frombuffer(data.tobytes(), dtype=np.uint8)))
            buffer = len(self.buffers) - 1
        wide = data is not None and data.dtype == np.int32
        kind = schema.TensorType.INT32 if wide else schema.TensorType.INT8
        quantization = schema.QuantizationParametersT(scale=scale, zeroPoint=zero_point)
        name = f"t{len(self.tensors)}"
        self.tensors.append(
            schema.TensorT(shape=list(shape), type=kind, buffer=buffer, name=name, quantization=quantization)
        )
        return len(self.tensors) - 1

    def model(self, builtin: str, operator: schema.OperatorT, inputs: list[int], output: int) -> bytes:
        """The finished file."""
        code = getattr(schema.BuiltinOperator, builtin)
        codes = [schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=1)]
        subgraph = schema.SubGraphT(tensors=self.tensors, inputs=inputs, outputs=[output], operators=[operator])
        model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[subgraph], buffers=self.buffers)
        packer = flatbuffers.Builder(1024)
        packer.Finish(model.Pack(packer), b"TFL3")
        return bytes(packer.Output())
