"""Functions of ONNX that hosts run, in the version of the operators around them: a file has one for both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.exports.inexpressible import InexpressibleError
from accel.network.nodes import HostOperator
from accel.network.nodes.host import FUNCTION_BODY, FUNCTION_DOMAIN

if TYPE_CHECKING:
    import onnx

_IR = 8

_ONLY_EXTENDED = (
    "AveragePool",
    "Cast",
    "Constant",
    "GRU",
    "LSTM",
    "Pad",
    "RNN",
    "Reshape",
    "Resize",
    "ScatterElements",
    "ScatterND",
    "TopK",
)
"""Operators whose later versions have more attributes or inputs, and give without them what earlier versions gave."""
_CHANGED = {
    "Clip": 11,
    "Dropout": 12,
    "LogSoftmax": 13,
    "Pad": 11,
    "Resize": 11,
    "Slice": 10,
    "Softmax": 13,
    "Split": 13,
    "TopK": 10,
    "Upsample": 10,
}
"""The versions that gave operators another form, to which the converter of the package `onnx` brings them."""


def opset_of(node: HostOperator) -> int:
    """The version of ONNX's operators that a node of the host has; 0 if it has none."""
    if node.domain != FUNCTION_DOMAIN:
        return 0 if node.domain else node.opset
    return next((entry.version for entry in _function(node).opset_import if entry.domain in ("", "ai.onnx")), 0)


def check_version(node: HostOperator, version: int) -> None:
    """Raise `InexpressibleError` unless all operators of a node of the host have a form in a later version."""
    own = opset_of(node)
    if not own:
        return
    for one in _own(_function(node).node if node.domain == FUNCTION_DOMAIN else [as_node(node)]):
        if _is_changed(one, own, version):
            continue
        kind = one.op_type
        before, later = _schemas(kind, own, version)
        extended = kind in _ONLY_EXTENDED and own >= _CHANGED.get(kind, 0)
        same = _signature(before) == _signature(later) or extended
        if not same and not _moves_axes(kind, own, version):
            raise InexpressibleError(node, f"opset {own} of {kind} beside operators of opset {version}")


def as_node(node: HostOperator, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> onnx.NodeProto:
    """A node of the host as one of ONNX, which is no function; inputs and outputs may have other names."""
    from onnx import helper, numpy_helper

    fields = {
        name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in node.attributes.items()
    }
    return helper.make_node(node.op_type, inputs, outputs, node.name, domain=node.domain, **fields)


def _is_changed(node: onnx.NodeProto, own: int, version: int) -> bool:
    """Whether an operator has another form in a later version, which `in_version` finds.

    Before opset 11 the nearest element of a Resize depended on whether its axis grows: later versions cannot say that.
    """
    kind = node.op_type
    nearest = kind == "Resize" and _mode(node) == "nearest"
    return not node.domain and not nearest and kind in _CHANGED and own < _CHANGED[kind] <= version


def _mode(node: onnx.NodeProto) -> str:
    return next((entry.s.decode() for entry in node.attribute if entry.name == "mode"), "nearest")


def _moves_axes(kind: str, own: int, version: int) -> bool:
    """Whether an operator whose axes are an attribute has them as an input in a later version: Reduce..., Squeeze."""
    before, later = _schemas(kind, own, version)
    return "axes" in before.attributes and len(before.inputs) == 1 and any(p.name == "axes" for p in later.inputs)


def in_version(node: onnx.NodeProto, own: int, version: int) -> list[onnx.NodeProto]:
    """The nodes that an operator is in a later version, constants first; their names begin with its result's."""
    import onnx.version_converter
    from onnx import TensorProto, helper

    changed = _is_changed(node, own, version)
    axes = next((one for one in node.attribute if one.name == "axes"), None)
    if axes is not None and not changed and not node.domain and _moves_axes(node.op_type, own, version):
        name = f"{node.output[0]}_axes"
        value = helper.make_tensor(name, TensorProto.INT64, [len(axes.ints)], list(axes.ints))
        node.input.append(name)
        node.attribute.remove(axes)
        return [helper.make_node("Constant", [], [name], name, value=value), node]
    if not changed:
        return [node]
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in dict.fromkeys(names) if name]
        for names in (node.input, node.output)
    ]
    single = helper.make_model(
        helper.make_graph([node], "single", *ports), opset_imports=[helper.make_opsetid("", own)], ir_version=_IR
    )
    found = onnx.version_converter.convert_version(single, version).graph
    names = {"", *(port.name for port in (*found.input, *found.output))}
    constants = [helper.make_node("Constant", [], [one.name], value=one) for one in found.initializer]
    nodes = [*constants, *found.node]
    for place, one in enumerate(nodes):
        for side in (one.input, one.output):
            side[:] = [name if name in names else f"{node.output[0]}_{name}" for name in side]
        one.name = one.name or f"{node.output[0]}_{one.op_type}_{place}"
        if one.op_type == "Resize":
            _set_coordinates(one, node)
    return nodes


def _set_coordinates(resize: onnx.NodeProto, before: onnx.NodeProto) -> None:
    """State the only coordinates that there were before opset 11, which the converter leaves out of linear ones."""
    from onnx import helper

    fields = {"mode": _mode(before), "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    del resize.attribute[:]
    resize.attribute.extend(helper.make_attribute(name, value) for name, value in fields.items())


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
    """Bring nodes, and those of the graphs inside them, to a later version."""
    result = []
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _raise_version(attribute.g.node, own, version)
        result.extend(in_version(node, own, version))
    del nodes[:]
    nodes.extend(result)


def _own(nodes: Any) -> Iterator[onnx.NodeProto]:
    """The operators of ONNX among nodes and in the graphs inside them."""
    for node in nodes:
        if node.domain in ("", "ai.onnx"):
            yield node
        for attribute in node.attribute:
            yield from _own(attribute.g.node)


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
