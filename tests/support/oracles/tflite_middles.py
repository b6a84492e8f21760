"""Random TensorFlow Lite models of one operator between functions on the machine, and their tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from support.oracles.tflite_random import Rng, random_parameters
from support.oracles.tflite_writer import ModelWriter

Shape = tuple[int, ...]
Middle = Callable[[ModelWriter, Rng], tuple[list[int], list[int]]]
"""Adds an operator; its inputs and outputs that are no constants."""


def between(rng: Rng, middle: Middle) -> bytes:
    """QUANTIZE before and after an operator; real numbers are those of integers, and become integers again.

    Other results are outputs as they are.
    """
    writer = ModelWriter()
    inputs, results = middle(writer, rng)
    operators, codes = writer.operators, writer.codes
    writer.operators, writer.codes = [], []
    given = [_before(writer, rng, index) for index in inputs]
    front = len(writer.codes)
    for operator in operators:
        operator.opcodeIndex += front
    writer.operators, writer.codes = writer.operators + operators, writer.codes + codes
    return writer.finish(given, [_behind(writer, rng, index) for index in results])


def like(writer: ModelWriter, index: int, *parameters: Any, kind: str = "INT8") -> int:
    """Another tensor of the shape of one."""
    return writer.tensor(tuple(writer.tensors[index].shape), *parameters, kind=kind)


def _is(writer: ModelWriter, index: int, kind: str) -> bool:
    empty = writer.tensor((), kind=kind)
    return bool(writer.tensors[index].type == writer.tensors.pop(empty).type)


def _before(writer: ModelWriter, rng: Rng, index: int) -> int:
    """What makes a tensor: an input, its integers anew, DEQUANTIZE if the tensor is real."""
    x, target = like(writer, index, *random_parameters(rng, 2 ** rng.uniform(-6, -3))), index
    if _is(writer, index, "FLOAT32"):
        target = like(writer, index, *random_parameters(rng, 2 ** rng.uniform(-6, -3)))
    writer.operator("QUANTIZE", [x], [target], "QuantizeOptions")
    if target != index:
        writer.operator("DEQUANTIZE", [target], [index], "DequantizeOptions")
    return x


def _behind(writer: ModelWriter, rng: Rng, index: int) -> int:
    """What reads a tensor: QUANTIZE if it is real, its integers anew, an output."""
    if not (_is(writer, index, "FLOAT32") or _is(writer, index, "INT8")):
        return index
    source = index
    if _is(writer, index, "FLOAT32"):
        source = like(writer, index, *random_parameters(rng, 2 ** rng.uniform(-6, -2)))
        writer.operator("QUANTIZE", [index], [source], "QuantizeOptions")
    y = like(writer, index, *random_parameters(rng, 2 ** rng.uniform(-6, -2)))
    writer.operator("QUANTIZE", [source], [y], "QuantizeOptions")
    return y


def reals(writer: ModelWriter, *shapes: Shape) -> list[int]:
    """Tensors of real numbers."""
    return [writer.tensor(shape, kind="FLOAT32") for shape in shapes]


def numbers_of(writer: ModelWriter, value: Any) -> int:
    """A constant of real numbers."""
    data = np.asarray(value, np.float32)
    return writer.tensor(data.shape, data=data)


def stored(writer: ModelWriter, rng: Rng, shape: Shape, *parameters: Any, low: int = -128) -> int:
    """A constant of random integers of 8 bits."""
    return writer.tensor(shape, *parameters, rng.integers(low, 128, shape).astype(np.int8))
