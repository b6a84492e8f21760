"""SAME padding where ONNX Runtime's rule gives other sizes than ONNX's: stated as numbers, which mean one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accel.network.windows import Shape

if TYPE_CHECKING:
    import onnx


def state_first_padding(model: onnx.ModelProto, shapes: dict[str, Shape]) -> bool:
    """Give one operator its padding in numbers; False if none is left whose input has a known shape.

    Notes
    -----
    The runtime pads a dilated MaxPool as if it were not dilated, and a ConvTranspose never below zero, so that its
    output is larger where the kernel is smaller than the stride.
    """
    from onnx import helper

    for node in model.graph.node:
        fields = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        auto = fields.get("auto_pad", b"")
        if auto not in (b"SAME_UPPER", b"SAME_LOWER") or "output_shape" in fields or node.input[0] not in shapes:
            continue
        if node.op_type == "MaxPool" and max(fields.get("dilations", [1])) > 1:
            totals = _of_pool(fields, shapes[node.input[0]][2:])
        elif node.op_type == "ConvTranspose" and node.input[1] in shapes:
            totals = _of_transposed(fields, shapes[node.input[1]][2:])
        else:
            continue
        halves = [total // 2 if auto == b"SAME_UPPER" else total - total // 2 for total in totals]
        pads = [*halves, *(total - half for total, half in zip(totals, halves, strict=True))]
        kept = [attribute for attribute in node.attribute if attribute.name not in ("auto_pad", "pads")]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("pads", pads)])
        return True
    return False


def _of_pool(fields: dict[str, Any], sizes: Shape) -> list[int]:
    strides = fields.get("strides", [1] * len(sizes))
    return [
        max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(sizes, strides, fields["kernel_shape"], strict=True)
    ]


def _of_transposed(fields: dict[str, Any], kernel: Shape) -> list[int]:
    ones = [1] * len(kernel)
    strides, dilations = fields.get("strides", ones), fields.get("dilations", ones)
    extra = fields.get("output_padding", [0] * len(kernel))
    return [max((k - 1) * d + 1 + e - s, 0) for k, d, e, s in zip(kernel, dilations, extra, strides, strict=True)]
