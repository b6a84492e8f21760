"""The old scheme of quantization: int8 models turned into uint8 ones, whose weights have zero points."""

from __future__ import annotations

from collections.abc import Callable

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from support.oracles.tflite_random import Rng

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def unsigned(model: bytes, rng: Rng) -> bytes:
    """`model` with uint8 for int8.

    Weights get one scale and, often, another zero point; the bias their scale; what is concatenated gets scales and
    zero points of its own.
    """
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = parsed.subgraphs[0]
    names = {value: key for key, value in vars(schema.BuiltinOperator).items()}
    for tensor in graph.tensors:
        if tensor.type == schema.TensorType.INT8:
            tensor.type = schema.TensorType.UINT8
            tensor.quantization.zeroPoint = np.asarray(tensor.quantization.zeroPoint) + 128
            if (data := parsed.buffers[tensor.buffer].data) is not None:
                parsed.buffers[tensor.buffer].data = np.asarray(data, np.uint8) ^ np.uint8(128)
    for operator in graph.operators:
        builtin = names[parsed.operatorCodes[operator.opcodeIndex].builtinCode]
        if builtin in WEIGHTED:
            _weights(parsed, operator, builtin, rng)
        if builtin == "CONCATENATION":
            for index in operator.inputs:
                scale = np.asarray(graph.tensors[index].quantization.scale) * np.float32(2 ** rng.uniform(-1, 1))
                graph.tensors[index].quantization = _parameters(scale, int(rng.integers(256)))
    packer = flatbuffers.Builder(1024)
    packer.Finish(parsed.Pack(packer), b"TFL3")
    return bytes(packer.Output())


def _parameters(scale: NDArray[np.float32], zero_point: int) -> schema.QuantizationParametersT:
    return schema.QuantizationParametersT(scale=scale.astype(np.float32), zeroPoint=np.array([zero_point]))


def _weights(model: schema.ModelT, operator: schema.OperatorT, builtin: str, rng: Rng) -> None:
    """Parameters of weights and bias; CONV_2D gets a bias of zeros where it has none, which LiteRT demands."""
    graph, inputs = model.subgraphs[0], [*operator.inputs]
    source, place = (2, 3) if builtin == "TRANSPOSE_CONV" else (0, 2)
    weight = graph.tensors[inputs[1]]
    scale = np.asarray(weight.quantization.scale, np.float32)[:1]
    weight.quantization = _parameters(scale, int(rng.choice([128, 0, 255, int(rng.integers(256))])))
    if builtin == "CONV_2D" and inputs[place] < 0:
        channels = weight.shape[0]
        model.buffers.append(schema.BufferT(data=np.zeros(4 * channels, np.uint8)))
        kind, buffer = schema.TensorType.INT32, len(model.buffers) - 1
        graph.tensors.append(schema.TensorT(shape=[channels], type=kind, buffer=buffer, name="bias"))
        operator.inputs = [*inputs[:place], len(graph.tensors) - 1]
    index = operator.inputs[place] if place < len(operator.inputs) else -1
    if index >= 0:
        product = np.asarray(graph.tensors[inputs[source]].quantization.scale, np.float32) * scale
        graph.tensors[index].quantization = _parameters(product, 0)


def with_unsigned(make: Callable[[Rng], bytes]) -> Callable[[Rng], bytes]:
    """`make` in the old scheme."""
    return lambda rng: unsigned(make(rng), rng)
