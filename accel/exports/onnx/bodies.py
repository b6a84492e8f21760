"""Functions of ONNX that hosts run, in the version of the operators around them: a file has one for both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.exports.inexpressible import InexpressibleError
from accel.network.nodes import HostOperator
from accel.network.nodes.host import FUNCTION_BODY, FUNCTION_DOMAIN

if TYPE_CHECKING:
    import onnx

_ONLY_EXTENDED = (
    "AveragePool",
    "Cast",
    "GRU",
    "LSTM",
    "Pad",
    "RNN",
    "Reshape",
    "Resize",
    "ScatterElements",
    "ScatterND",
)
"""Operators whose later versions have more attributes or inputs, and give without them what earlier versions gave."""


def opset_of(node: HostOperator) -> int:
    """The version of ONNX's operators that a node of the host has; 0 if it has none."""
    if node.domain != FUNCTION_DOMAIN:
        return 0 if node.domain else node.opset
    return next((entry.version for entry in _function(node).opset_import if entry.domain in ("", "ai.onnx")), 0)


def check_version(node: HostOperator, version: int) -> None:
    """Raise `InexpressibleError` unless all operators of a node of the host have a form in a later version."""
    own = opset_of(node)
    for kind in _kinds(_function(node).node) if node.domain == FUNCTION_DOMAIN else [node.op_type] * (own > 0):
        before, later = _schemas(kind, own, version)
        same = _signature(before) == _signature(later) or kind in _ONLY_EXTENDED
        if not same and not moves_axes(kind, own, version):
            raise InexpressibleError(node, f"opset {own} of {kind} beside operators of opset {version}")


def moves_axes(kind: str, own: int, version: int) -> bool:
    """Whether an operator whose axes are an attribute has them as an input in a later version: Reduce..., Squeeze."""
    before, later = _schemas(kind, own, version)
    return "axes" in before.attributes and len(before.inputs) == 1 and any(p.name == "axes" for p in later.inputs)


def body_in_version(node: HostOperator, version: int) -> np.ndarray[Any, Any]:
    """The attribute `FUNCTION_BODY` of a node that is a function, with operators of a later version."""
    function, own = _function(node), opset_of(node)
    _raise_version(function.node, own, version)
    for entry in function.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = version
    return np.frombuffer(function.SerializeToString(deterministic=True), np.uint8)


def _function(node: HostOperator) -> onnx.FunctionProto:
    from onnx import FunctionProto

    return FunctionProto.FromString(np.asarray(node.attributes[FUNCTION_BODY]).tobytes())


def _raise_version(nodes: Any, own: int, version: int) -> None:
    """Make the axes of operators that have them as an attribute an input, where the later version wants that."""
    from onnx import helper

    result = []
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _raise_version(attribute.g.node, own, version)
        axes = next((one for one in node.attribute if one.name == "axes"), None)
        if axes is not None and not node.domain and moves_axes(node.op_type, own, version):
            name = f"{node.output[0]}_axes"
            result.append(helper.make_node("Constant", [], [name], name=name, value_ints=list(axes.ints)))
            node.input.append(name)
            node.attribute.remove(axes)
        result.append(node)
    del nodes[:]
    nodes.extend(result)


def _kinds(nodes: Any) -> Iterator[str]:
    """The operators of ONNX among nodes and in the graphs inside them."""
    for node in nodes:
        if node.domain in ("", "ai.onnx"):
            yield node.op_type
        for attribute in node.attribute:
            yield from _kinds(attribute.g.node)


def _schemas(kind: str, *versions: int) -> list[Any]:
    from onnx import defs

    return [defs.get_schema(kind, version) for version in versions]


def _signature(schema: Any) -> tuple[Any, ...]:
    """Inputs, outputs and attributes of an operator's version: versions that differ in types alone have the same."""
    ports = [[(port.name, port.option) for port in side] for side in (schema.inputs, schema.outputs)]
    attributes = {
        name: (one.type, one.required, one.default_value.SerializeToString()) for name, one in schema.attributes.items()
    }
    return *ports, attributes
