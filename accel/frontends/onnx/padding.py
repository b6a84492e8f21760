"""SAME padding where ONNX Runtime's rule gives other sizes than ONNX's: stated as numbers, which mean one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from accel.network.windows import Shape
from accel.quantized.builder import free_name

if TYPE_CHECKING:
    import onnx


def state_first_padding(model: onnx.ModelProto, shapes: dict[str, Shape]) -> bool:
    """Give one operator its padding in numbers; False if none is left whose input has a known shape.

    Notes
    -----
    The runtime pads a dilated MaxPool as if it were not dilated, by less than nothing where its kernel is below its
    stride. It never pads a ConvTranspose below zero: where its kernel is below its stride, its output is smaller.
    """
    from onnx import helper

    for place, node in enumerate(model.graph.node):
        fields = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        auto = fields.get("auto_pad", b"")
        if auto not in (b"SAME_UPPER", b"SAME_LOWER") or "output_shape" in fields or node.input[0] not in shapes:
            continue
        sizes = shapes[node.input[0]][2:]
        crop: list[tuple[int, int]] = []
        if node.op_type == "MaxPool" and max(fields.get("dilations", [1])) > 1:
            pads = _halves(auto, _of_pool(fields, sizes))
            windows = _windows(fields, sizes, pads)
            if any(window.lacks for window in windows):
                fields["ceil_mode"] = 1
                crop = [(window.start, window.stop) for window in windows]
                pads = [*(window.before for window in windows), *(window.after for window in windows)]
            crop = crop if crop != [(0, n) for n in sizes] else []
            if crop and any(node.output[1:]):  # Indices count the whole image's elements.
                continue
        elif node.op_type == "ConvTranspose" and node.input[1] in shapes:
            pads = _halves(auto, _of_transposed(fields, shapes[node.input[1]][2:]))
        else:
            continue
        del fields["auto_pad"]
        fields["pads"] = pads
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(name, value) for name, value in fields.items())
        if crop:
            _crop(model, place, crop, shapes)
        return True
    return False


def _crop(model: onnx.ModelProto, place: int, ranges: Sequence[tuple[int, int]], shapes: dict[str, Shape]) -> None:
    """Let a node read a range of rows and one of columns of its input."""
    from onnx import helper, numpy_helper

    node = model.graph.node[place]
    source = node.input[0]
    starts, stops = zip(*ranges, strict=True)
    bounds = {"starts": starts, "stops": stops, "axes": range(2, 2 + len(ranges))}
    taken = {*shapes, *(name for other in model.graph.node for name in other.output)}
    names = [free_name(f"{node.output[0]}_{what}", taken) for what in ("cropped", *bounds)]
    constants = [numpy_helper.from_array(np.array(value, np.int64)) for value in bounds.values()]
    made = [helper.make_node("Constant", [], [n], value=v) for n, v in zip(names[1:], constants, strict=True)]
    made.append(helper.make_node("Slice", [source, *names[1:]], names[:1], name=names[0]))
    node.input[0] = names[0]
    rest = list(model.graph.node[place:])
    del model.graph.node[place:]
    model.graph.node.extend([*made, *rest])


def _halves(auto: bytes, totals: list[int]) -> list[int]:
    """The padding before every axis, then that after; halves are rounded toward zero, as in C++."""
    before = [int((total if auto == b"SAME_UPPER" else total + 1) / 2) for total in totals]
    return [*before, *(total - half for total, half in zip(totals, before, strict=True))]


class _Axis(NamedTuple):
    """What the windows of a pool read along an axis, the padding left, and whether padding or image lacks elements."""

    start: int
    stop: int
    before: int
    after: int
    lacks: bool


def _windows(fields: dict[str, Any], sizes: Shape, pads: list[int]) -> list[_Axis]:
    """Every axis of a pool, so that rounding up gives the runtime's number of windows; [] if none fits.

    Notes
    -----
    Negative padding lessens the number of windows, but not what they read: a window reads elements after the last
    that padding leaves. The number is rounded toward zero, so that one window is left where less than a stride is
    missing.
    """
    axes, ceil, found = len(sizes), fields.get("ceil_mode", 0), []
    strides = fields.get("strides", [1] * axes)
    rows = zip(sizes, pads[:axes], pads[axes:], fields["kernel_shape"], fields["dilations"], strides, strict=True)
    for n, before, after, k, d, s in rows:
        extent = (k - 1) * d + 1
        rest = n + before + after - extent
        if rest <= -s:
            return []
        last = (-(-rest // s) if ceil else int(rest / s)) * s - before
        if ceil and last >= n:
            last -= s
        stop, lacks = last + extent, min(before, after, rest) < 0
        padding = max(before, 0), min(max(stop - n, 0), max(after, 0))
        found.append(_Axis(max(-before, 0), min(stop, n), *padding, lacks))
    return found


def _of_pool(fields: dict[str, Any], sizes: Shape) -> list[int]:
    strides = fields.get("strides", [1] * len(sizes))
    return [(-(-n // s) - 1) * s + k - n for n, s, k in zip(sizes, strides, fields["kernel_shape"], strict=True)]


def _of_transposed(fields: dict[str, Any], kernel: Shape) -> list[int]:
    ones = [1] * len(kernel)
    strides, dilations = fields.get("strides", ones), fields.get("dilations", ones)
    extra = fields.get("output_padding", [0] * len(kernel))
    return [max((k - 1) * d + 1 + e - s, 0) for k, d, e, s in zip(kernel, dilations, extra, strides, strict=True)]
