"""QDQ models as TensorRT reads them, and a check of its rules, for TensorRT itself is not at hand.

Everything is symmetric: zero points are 0. Biases are real numbers.

References
----------
NVIDIA, TensorRT documentation, "Working with Quantized Types": symmetric quantization, types and granularity of scales,
placement of Q/DQ; https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html.
NVIDIA, TensorRT API, `IQuantizeLayer` and `IDequantizeLayer`: zero points of 0 only, positive scales, one or one per
channel; https://docs.nvidia.com/deeplearning/tensorrt/api/c_api/classnvinfer1_1_1_i_quantize_layer.html.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.errors import ExportError
from accel.exports.inexpressible import InexpressibleError
from accel.exports.onnx.raising import raised
from accel.frontends.onnx.write import to_onnx
from accel.network.graph import Graph
from accel.quantized.network import TABLE, Network

if TYPE_CHECKING:
    import onnx


def write(graph: Graph, notes: list[str]) -> bytes:
    """The model's file.

    Raises
    ------
    InexpressibleError
        As for `raised`.
    ExportError
        A rule is broken, by an asymmetric network above all; the message has the rule's name.
    """
    network = raised(graph, notes)
    if table := next((op.name for op in network.operators if op.kind == TABLE), None):
        node = next(node for node in graph.nodes if node.name == table)
        raise InexpressibleError(node, "a table that is of no known function")
    biases = {name for name, found in network.parameters.items() if found.kind == "int32"}
    dropped = biases | _rescaled(network)
    kept = {name: found for name, found in network.parameters.items() if name not in dropped}
    model = to_onnx(replace(network, parameters=kept))
    if broken := validate(model):
        more = f" ({len(broken) - 1} more)" if len(broken) > 1 else ""
        raise ExportError(f"format tensorrt cannot express this network: {broken[0]}{more}")
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _rescaled(network: Network) -> set[str]:
    """Results with zero points whose integers only get other parameters: the Softmax of mode `tflite`.

    Without the first rounding, the real result gets the parameters of the last one.
    """
    readers = network.readers()
    return {
        name
        for op in network.operators
        for name in op.outputs
        if name in network.parameters
        and network.parameters[name].parameters[1]
        and name not in network.outputs
        and {(reader.kind, len(reader.inputs)) for reader in readers.get(name, [])} == {("Sum", 1)}
    }


def validate(model: onnx.ModelProto | bytes) -> list[str]:
    """The rules of TensorRT that a QDQ model breaks, a sentence each, which begins with the rule's name.

    Parameters
    ----------
    model : onnx.ModelProto or bytes
        The model, or its file's content.
    """
    import onnx

    view = _Model(onnx.load_model_from_string(model) if isinstance(model, bytes) else model)
    return [f"{name}: {problem}" for name, rule in RULES.items() for problem in rule.broken(view)]


class _Model:
    """A model with its constants, the producer and the readers of every tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        self.proto = model
        self.nodes = list(model.graph.node)
        self.constants: dict[str, NDArray[Any]] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.producers = {name: node for node in self.nodes for name in node.output}

    @cached_property
    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        """The nodes that read each tensor."""
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        return readers

    def of(self, *kinds: str) -> Iterator[onnx.NodeProto]:
        """The nodes of some kinds."""
        return (node for node in self.nodes if node.op_type in kinds)

    def producer(self, name: str) -> str:
        """The kind of the node that makes a tensor; empty for inputs and constants."""
        return str(self.producers[name].op_type) if name in self.producers else ""

    def scale(self, node: onnx.NodeProto) -> NDArray[Any] | None:
        """The scale of a conversion; None if it is no constant."""
        return self.constants.get(node.input[1])


class Rule(NamedTuple):
    """A rule: what it asks for, and the sentences for where a model breaks it."""

    asks: str
    broken: Callable[[_Model], Iterator[str]]


_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_FUSED = ("Relu", "Clip", "BatchNormalization")


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)


def _zero_points(m: _Model) -> Iterator[str]:
    for node in m.of(_Q, _DQ):
        point = m.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        if point is None or np.any(point != 0):
            got = "a computed one" if point is None else int(point.reshape(-1)[np.flatnonzero(point)[0]])
            yield (
                f"{node.op_type} {node.name!r} must have zero point 0, got {got}; "
                "quantize the network with symmetric activations"
            )


def _types(m: _Model) -> Iterator[str]:
    for node in m.of(_Q, _DQ):
        typed = [m.constants[name] for name in (node.input[0], *node.input[2:]) if name in m.constants]
        kinds = {value.dtype.name for value in typed if value.dtype.name != "float32"} or {"uint8"}
        if not kinds <= {"int8", "int4"}:
            yield f"{node.op_type} {node.name!r} must convert int8 (weights also int4), got {', '.join(sorted(kinds))}"


def _scales(m: _Model) -> Iterator[str]:
    for node in m.of(_Q, _DQ):
        scale = m.scale(node)
        if scale is None or not np.all(np.isfinite(scale) & (scale > 0)):
            yield f"{node.op_type} {node.name!r} must have a constant scale above 0, got {scale}"


def _per_tensor(m: _Model) -> Iterator[str]:
    for node in m.of(_Q, _DQ):
        scale = m.scale(node)
        if node.input[0] not in m.constants and scale is not None and scale.size > 1:
            yield f"{node.op_type} {node.name!r} must have one scale for an activation, got {scale.size}"


def _channel_axis(m: _Model) -> Iterator[str]:
    for node in m.of(*_WEIGHTED):
        weight = m.producers.get(node.input[1])
        if weight is None or weight.op_type != _DQ or weight.input[0] not in m.constants:
            continue
        scale, value = m.scale(weight), m.constants[weight.input[0]]
        output = {"Conv": 0, "ConvTranspose": 1, "MatMul": value.ndim - 1}.get(node.op_type)
        wanted = (0 if _attribute(node, "transB", 0) else 1) if output is None else output
        axis = _attribute(weight, "axis", 1) % max(value.ndim, 1)
        if scale is not None and scale.size > 1 and axis != wanted:
            yield f"weights of {node.op_type} {node.name!r} must have scales along axis {wanted}, got axis {axis}"


def _both_inputs(m: _Model) -> Iterator[str]:
    for node in m.of(*_WEIGHTED):
        found = [m.producer(name) for name in node.input[:2]]
        if _DQ in found and found != [_DQ, _DQ]:
            yield f"{node.op_type} {node.name!r} must read both operands from {_DQ}, got {found}"


def _bias(m: _Model) -> Iterator[str]:
    for node in m.of(*_WEIGHTED):
        if len(node.input) > 2 and m.producer(node.input[2]) in (_Q, _DQ):
            yield f"bias of {node.op_type} {node.name!r} must be real numbers, got a quantized one"


def _fused(m: _Model) -> Iterator[str]:
    for node in m.of(*_FUSED):
        before = m.producers.get(node.input[0])
        quantizer = m.producers.get(before.input[0]) if before is not None and before.op_type == _DQ else None
        source = quantizer.input[0] if quantizer is not None else ""
        if m.producer(source) in _WEIGHTED and len(m.readers[source]) == 1:
            yield f"{node.op_type} {node.name!r} must follow its {m.producer(source)} without {_Q} and {_DQ} between"


def _pairs(m: _Model) -> Iterator[str]:
    for node in m.of(_Q):
        kinds = {reader.op_type for reader in m.readers.get(node.output[0], [])}
        if kinds != {_DQ}:
            yield f"{_Q} {node.name!r} must be read by {_DQ} alone, got {sorted(kinds)}"
    for node in m.of(_DQ):
        if node.input[0] not in m.constants and m.producer(node.input[0]) != _Q:
            yield f"{_DQ} {node.name!r} must read a constant or {_Q}, got {m.producer(node.input[0]) or 'an input'}"


def _opset(m: _Model) -> Iterator[str]:
    version = next((entry.version for entry in m.proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if version < 13:
        yield f"opset must be 13 or later, which knows scales per channel, got {version}"
    foreign = sorted({node.domain for node in m.nodes} - {"", "ai.onnx"})
    if foreign:
        yield f"operators must be ONNX's own, got the domains {', '.join(foreign)}"


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "zero-points": Rule("zero points are 0: quantization is symmetric", _zero_points),
        "types": Rule("integers are int8; those of weights may be int4", _types),
        "scales": Rule("scales are constants above 0", _scales),
        "activations-per-tensor": Rule("an activation has one scale", _per_tensor),
        "weights-per-channel": Rule(
            "several scales of weights belong to the axis of the output channels", _channel_axis
        ),
        "quantized-operands": Rule("an operator with weights reads both operands from DequantizeLinear", _both_inputs),
        "real-bias": Rule("a bias is not quantized", _bias),
        "fusion": Rule(
            "nothing is quantized between a sum of products and the Relu, Clip or normalization after it", _fused
        ),
        "pairs": Rule("QuantizeLinear and DequantizeLinear come in pairs", _pairs),
        "operators": Rule("operators are ONNX's own, of opset 13 or later", _opset),
    }
)
"""Every rule that is checked, by its name."""
