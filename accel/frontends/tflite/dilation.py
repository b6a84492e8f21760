"""Dilated convolutions that a file spells as SPACE_TO_BATCH_ND, a convolution without stride, BATCH_TO_SPACE_ND.

Each phase of the grid is convolved by itself, which is one convolution whose taps are a block apart; what the first
operator adds around the image is padding, less what the last one cuts off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from accel.frontends.tflite.axes import keeps_axes
from accel.frontends.tflite.file import INTEGER_TYPES, TfliteFile, TfliteOperator

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True, eq=False)
class Dilated:
    """Options of a convolution that is dilated by its neighbours.

    Parameters
    ----------
    options : table
        The convolution's own.
    block : (int, int)
        Vertical, horizontal.
    edges : four int
        What is added less what is cut off: top, left, bottom, right.
    """

    options: Any
    block: tuple[int, int]
    edges: tuple[int, int, int, int]


def join_dilations(file: TfliteFile) -> TfliteFile:
    """The file with every such triple as one convolution that has `Dilated` options."""
    readers: dict[int, list[TfliteOperator]] = {}
    for operator in file.operators:
        for index in operator.inputs:
            readers.setdefault(index, []).append(operator)
    joined, gone = dict[int, TfliteOperator](), set[int]()
    for first in file.operators:
        convolution, last = _only_reader(file, readers, first), None
        if first.builtin == "SPACE_TO_BATCH_ND" and convolution and convolution.builtin in CONVOLUTIONS:
            last = _only_reader(file, readers, convolution)
        if convolution and last and last.builtin == "BATCH_TO_SPACE_ND":
            options = _dilated(file, first, convolution, last)
            if options:
                inputs, outputs = (first.inputs[0], *convolution.inputs[1:]), last.outputs
                joined[last.index] = replace(convolution, inputs=inputs, outputs=outputs, options=options)
                gone |= {first.index, convolution.index}
    operators = (joined.get(operator.index, operator) for operator in file.operators if operator.index not in gone)
    return replace(file, operators=tuple(operators))


def _only_reader(
    file: TfliteFile, readers: dict[int, list[TfliteOperator]], operator: TfliteOperator
) -> TfliteOperator | None:
    """The operator that alone reads what `operator` gives, as its first input."""
    found = readers.get(operator.outputs[0], []) if operator.outputs else []
    alone = len(found) == 1 and found[0].inputs[0] == operator.outputs[0] and operator.outputs[0] not in file.outputs
    return found[0] if alone else None


def _dilated(
    file: TfliteFile, first: TfliteOperator, convolution: TfliteOperator, last: TfliteOperator
) -> Dilated | None:
    """Options of the triple as one convolution; None if it is something else."""
    if len(first.inputs) != 3 or len(last.inputs) != 3 or convolution.options is None:
        return None
    constants, image = [file.tensors[i] for i in (*first.inputs[1:], *last.inputs[1:])], file.tensors[first.inputs[0]]
    if any(tensor.data is None for tensor in constants) or len(image.shape) != 4 or not keeps_axes(image.shape):
        return None
    if image.type not in INTEGER_TYPES:
        return None
    block, paddings, same, crops = (tensor.integers() for tensor in constants)
    options = convolution.options
    if not (block == same and len(block) == 2 and min(block) > 0 and len(paddings) == len(crops) == 4):
        return None
    plain = options.StrideH() == options.StrideW() == options.DilationHFactor() == options.DilationWFactor() == 1
    kept = file.tensors[first.inputs[0]].parameters() == file.tensors[first.outputs[0]].parameters()
    kept &= file.tensors[last.inputs[0]].parameters() == file.tensors[last.outputs[0]].parameters()
    if not (plain and kept):
        return None
    top, bottom, left, right = (added - cut for added, cut in zip(paddings, crops, strict=True))
    return Dilated(options, (block[0], block[1]), (top, left, bottom, right))
