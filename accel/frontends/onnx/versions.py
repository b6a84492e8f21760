"""Normalizations that ONNX Runtime knows in versions of ONNX that do not: as operators that the checker knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.quantized.builder import free_name

if TYPE_CHECKING:
    import onnx

_HIDDEN = "accel.hidden"
"""A domain that neither the checker nor the converter looks into."""
_LAYERS, _GROUPS, _GROUPS_OF_CHANNELS = 17, 18, 21
"""The first versions that define LayerNormalization, and GroupNormalization as it was withdrawn and as it is."""


def modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with normalizations that its version defines; itself if it has no others.

    Raises
    ------
    onnx.checker.ValidationError
        The model is damaged.

    Notes
    -----
    The runtime's transformer optimizer writes LayerNormalization in every version: such models are converted to the
    first that has it, unless they have functions or graphs inside, which the converter of `onnx` does not enter.
    GroupNormalization with numbers per group, which ONNX withdrew, is InstanceNormalization of the groups.
    """
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    kinds = {node.op_type for node in model.graph.node if not node.domain}
    if "GroupNormalization" in kinds and _GROUPS <= opset < _GROUPS_OF_CHANNELS:
        _divide_groups(model.graph)
    inside = any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute)
    if "LayerNormalization" not in kinds or opset >= _LAYERS or inside or model.functions:
        return model
    return _converted(model)


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in the first version that defines LayerNormalization."""
    import onnx.version_converter

    for node in model.graph.node:
        if node.op_type == "LayerNormalization" and not node.domain:
            node.domain = _HIDDEN
    model.opset_import.append(onnx.helper.make_opsetid(_HIDDEN, 1))
    onnx.checker.check_model(model)
    found = onnx.version_converter.convert_version(model, _LAYERS)
    for node in found.graph.node:
        if node.domain == _HIDDEN:
            node.domain = ""
    kept = [entry for entry in found.opset_import if entry.domain != _HIDDEN]
    del found.opset_import[:]
    found.opset_import.extend(kept)
    return found


def _divide_groups(graph: onnx.GraphProto) -> None:
    """Put InstanceNormalization between two Reshapes in the place of GroupNormalization."""
    from onnx import helper

    nodes = list(graph.node)
    taken = {name for node in nodes for name in (node.name, *node.input, *node.output)}
    del graph.node[:]
    for node in nodes:
        if node.op_type != "GroupNormalization" or node.domain:
            graph.node.append(node)
            continue
        fields = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        x, scale, bias = node.input
        whole, groups, divided, normal = (
            free_name(f"{node.output[0]}_{what}", taken) for what in ("whole", "groups", "divided", "normal")
        )
        taken |= {whole, groups, divided, normal}
        sizes, epsilon = [0, int(fields["num_groups"]), -1], float(fields.get("epsilon", 1e-5))
        graph.node.extend(
            [
                helper.make_node("Shape", [x], [whole], name=whole),
                helper.make_node("Constant", [], [groups], name=groups, value_ints=sizes),
                helper.make_node("Reshape", [x, groups], [divided], name=divided),
                helper.make_node("InstanceNormalization", [divided, scale, bias], [normal], node.name, epsilon=epsilon),
                helper.make_node("Reshape", [normal, whole], [node.output[0]], name=f"{normal}_whole"),
            ]
        )
