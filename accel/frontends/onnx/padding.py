"""SAME padding where ONNX Runtime's rule gives other sizes than ONNX's: stated as numbers, which mean one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.network.windows import Shape
from accel.quantized.builder import free_name

if TYPE_CHECKING:
    import onnx


def state_first_padding(model: onnx.ModelProto, shapes: dict[str, Shape]) -> bool:
    """Give one operator its padding in numbers; False if none is left whose input has a known shape.

    Notes
    -----
    The runtime pads a dilated MaxPool as if it were not dilated, and cuts off what a kernel below its stride has too
    much. It never pads a ConvTranspose below zero, so that its output is larger where the kernel is smaller than the
    stride.
    """
    from onnx import helper

    for place, node in enumerate(model.graph.node):
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
        halves = [int((total if auto == b"SAME_UPPER" else total + 1) / 2) for total in totals]
        pads = [*halves, *(total - half for total, half in zip(totals, halves, strict=True))]
        kept = [attribute for attribute in node.attribute if attribute.name not in ("auto_pad", "pads")]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("pads", [max(pad, 0) for pad in pads])])
        if min(pads) < 0:
            _crop(model, place, [min(pad, 0) for pad in pads], shapes)
        return True
    return False


def _crop(model: onnx.ModelProto, place: int, pads: Sequence[int], shapes: dict[str, Shape]) -> None:
    """Let a node read its input without the rows and columns that negative padding cuts off."""
    from onnx import helper, numpy_helper

    node = model.graph.node[place]
    source, axes = node.input[0], len(pads) // 2
    sizes = shapes[source][2:]
    stops = [n + pad for n, pad in zip(sizes, pads[axes:], strict=True)]
    bounds = {"starts": [-pad for pad in pads[:axes]], "stops": stops, "axes": list(range(2, 2 + axes))}
    taken = {*shapes, *(name for other in model.graph.node for name in other.output)}
    names = [free_name(f"{node.output[0]}_{what}", taken) for what in ("cropped", *bounds)]
    constants = [numpy_helper.from_array(np.array(value, np.int64)) for value in bounds.values()]
    made = [helper.make_node("Constant", [], [n], value=v) for n, v in zip(names[1:], constants, strict=True)]
    made.append(helper.make_node("Slice", [source, *names[1:]], names[:1], name=names[0]))
    node.input[0] = names[0]
    rest = list(model.graph.node[place:])
    del model.graph.node[place:]
    model.graph.node.extend([*made, *rest])


def _of_pool(fields: dict[str, Any], sizes: Shape) -> list[int]:
    strides = fields.get("strides", [1] * len(sizes))
    return [(-(-n // s) - 1) * s + k - n for n, s, k in zip(sizes, strides, fields["kernel_shape"], strict=True)]


def _of_transposed(fields: dict[str, Any], kernel: Shape) -> list[int]:
    ones = [1] * len(kernel)
    strides, dilations = fields.get("strides", ones), fields.get("dilations", ones)
    extra = fields.get("output_padding", [0] * len(kernel))
    return [max((k - 1) * d + 1 + e - s, 0) for k, d, e, s in zip(kernel, dilations, extra, strides, strict=True)]
