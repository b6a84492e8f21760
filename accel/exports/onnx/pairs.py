"""Pairs of Transpose of real numbers that cancel: the machine's order of axes, and the host's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from accel.quantized.network import Operator


def without_pairs(operators: Sequence[Operator], kept: Collection[str]) -> list[Operator]:
    """The operators without those Transposes that another undoes, and that nothing else reads.

    Parameters
    ----------
    operators : sequence of Operator
        In order.
    kept : collection of str
        Tensors that stay: outputs, and integers, which pass through QuantizeLinear.

    Notes
    -----
    ONNX Runtime 1.31 aborts when it optimizes a model in which the branch of an If reads a dequantized tensor behind a
    Transpose.
    """
    sources: dict[str, Operator] = {}
    names: dict[str, str] = {}
    result = []
    for op in operators:
        op = replace(op, inputs=tuple(names.get(name, name) for name in op.inputs))
        before = sources.get(op.inputs[0]) if op.kind == "Transpose" else None
        if before is not None and op.outputs[0] not in kept and before.outputs[0] not in kept and _undoes(op, before):
            names[op.outputs[0]] = before.inputs[0]
            continue
        if op.kind == "Transpose":
            sources[op.outputs[0]] = op
        result.append(op)
    read = {name for op in result for name in op.inputs}
    return [op for op in result if op.kind != "Transpose" or op.outputs[0] in read or op.outputs[0] in kept]


def _undoes(op: Operator, before: Operator) -> bool:
    first, second = before.attributes["perm"], op.attributes["perm"]
    return [first[axis] for axis in second] == list(range(len(first)))
