"""Windows over a batch of images, image by image: SPLIT, the operator on each, CONCATENATION."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from accel.frontends.tflite.axes import keeps_axes
from accel.frontends.tflite.file import INTEGER_TYPES, TfliteFile, TfliteOperator, TfliteTensor

IMAGES = (
    *("AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D"),
    *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
)
"""Operators whose first input is images."""
MOST_IMAGES = 256


@dataclass(frozen=True)
class Along:
    """Options of SPLIT and CONCATENATION along the batch, which is the constant 0 of the former."""

    count: int

    def NumSplits(self) -> int:  # noqa: N802
        """How many parts there are."""
        return self.count

    def Axis(self) -> int:  # noqa: N802
        """The batch."""
        return 0

    def FusedActivationFunction(self) -> int:  # noqa: N802
        """None."""
        return 0


def split_batches(file: TfliteFile) -> TfliteFile:
    """The file with every operator on several images of integers as one for each image."""
    tensors, operators = list(file.tensors), list[TfliteOperator]()
    for operator in file.operators:
        count = _images(file, operator)
        operators += [operator] if count == 1 else _apart(tensors, operator, count)
    return replace(file, tensors=tuple(tensors), operators=tuple(operators))


def _images(file: TfliteFile, operator: TfliteOperator) -> int:
    """How many images there are; 1 if the operator is not one on several images of integers."""
    if operator.builtin not in IMAGES or not operator.inputs or operator.inputs[0] < 0 or len(operator.outputs) != 1:
        return 1
    source, result = file.tensors[operator.inputs[0]], file.tensors[operator.outputs[0]]
    apart = all(
        tensor.type in INTEGER_TYPES and len(tensor.shape) == 4 and not keeps_axes(tensor.shape)
        for tensor in (source, result)
    )
    count = source.shape[0] if apart else 1
    return count if 1 < count <= MOST_IMAGES and result.shape[0] == count else 1


def _apart(tensors: list[TfliteTensor], operator: TfliteOperator, count: int) -> Sequence[TfliteOperator]:
    """The operators that stand for one; their tensors are added."""

    def images(index: int) -> tuple[int, ...]:
        whole = tensors[index]
        tensors.extend(
            replace(whole, name=f"{whole.name}_{number}", shape=(1, *whole.shape[1:]), data=None)
            for number in range(count)
        )
        return tuple(range(len(tensors) - count, len(tensors)))

    (source, *others), (result,) = operator.inputs, operator.outputs
    scales, points = np.zeros(0, np.float32), np.zeros(0, np.int64)
    tensors.append(TfliteTensor("batch", (), "INT32", scales, points, 0, np.zeros(4, np.uint8)))
    axis, given, made = len(tensors) - 1, images(source), images(result)
    pairs = zip(given, made, strict=True)
    ones = [replace(operator, inputs=(image, *others), outputs=(one,)) for image, one in pairs]
    rest = replace(operator, options=Along(count), table=None)
    split = replace(rest, builtin="SPLIT", inputs=(axis, source), outputs=given)
    return [split, *ones, replace(rest, builtin="CONCATENATION", inputs=made)]
