"""Which tensors of a float network become integers, and which stay inside one integer operation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.quantized.functions import BINARY, FUNCTIONS
from accel.quantized.network import Network, Operator
from accel.quantized.operators import OPERATORS

SUMS = (
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "Add",
    "Sub",
    "Mul",
    "Sum",
    "AveragePool",
    "BatchNormalization",
    "GlobalAveragePool",
)
"""Operators whose result can be limited before it becomes integers."""
LIMITS = ("Relu", "Clip")
"""What limits it: the integers start behind it, also for functions of its result."""
LAYOUTS = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""What may stand between: the same numbers in another shape or order."""


def quantized_tensors(network: Network) -> set[str]:
    """Results that become integers, and inputs, except those that only the host reads."""
    inside, readers = real_tensors(network), network.readers()
    results = {name for op in network.operators for name in op.outputs if name and name not in inside}
    inputs = {name for name in network.inputs if network.tensors[name].dtype == "float32"}
    hosted = {name for name in inputs if readers[name] and all(_is_host(network, op) for op in readers[name])}
    return results | inputs - hosted


def real_tensors(network: Network) -> set[str]:
    """Results that need no integers of their own.

    Three kinds: a result that only a Relu or a Clip reads, at once or in another layout, which then limits the integers
    of the operator before; a product whose only reader adds a number per column, which is its bias; and a result on the
    path from one tensor to a function of that tensor alone, since the whole path is one table.
    """
    readers = network.readers()
    roots: dict[str, str] = {}
    inside, limited = set[str](), set[str]()
    for op in network.operators:
        of_limited = bool(op.inputs) and op.inputs[0] in limited
        limits = op.kind in LIMITS and of_limited and op.inputs[0] not in roots
        if (op.kind in SUMS or limits or (op.kind in LAYOUTS and of_limited)) and _is_limited(network, op, readers):
            limited.add(op.outputs[0])
        if not limits and (root := _root(network, op, roots)) is not None:
            roots[op.outputs[0]] = root
    for op in network.operators:
        name = op.outputs[0]
        inside.update(result for result in op.outputs if result and _stays_on_host(network, op, result, readers))
        if name in network.outputs or not readers.get(name):
            continue
        same_table = name in roots and all(_root(network, reader, roots) == roots[name] for reader in readers[name])
        if same_table or name in limited or added_columns(network, op, readers[name]) is not None:
            inside.add(name)
    return inside


def added_columns(network: Network, op: Operator, readers: list[Operator]) -> NDArray[np.float32] | None:
    """The numbers, one per column or one for all, that the only reader of a MatMul adds to its result; None if none."""
    weight, hosted = network.value(op.input(1)), {op.name, *(reader.name for reader in readers)} & network.host
    if op.kind != "MatMul" or weight is None or hosted or len(readers) != 1 or readers[0].kind not in ("Add", "Sub"):
        return None
    source, (reader,) = op.outputs[0], readers
    columns, other = weight.shape[-1], reader.inputs[1 - reader.inputs.index(source)]
    constant = network.value(other)
    if constant is None or constant.size not in (1, columns) or constant.shape[-1:] not in ((), (1,), (columns,)):
        return None
    if (reader.kind == "Sub" and reader.inputs[0] != source) or constant.ndim > len(network.tensors[source].shape):
        return None
    numbers = np.broadcast_to(constant.reshape(-1), (columns,)).astype(np.float32)
    return -numbers if reader.kind == "Sub" else numbers


def _stays_on_host(network: Network, op: Operator, name: str, readers: dict[str, list[Operator]]) -> bool:
    """Whether a result of an operator does not have to become integers: others of the host's read it, or the user."""
    if name in network.tensors and network.tensors[name].dtype != "float32":
        return True
    return _is_host(network, op) and all(_is_host(network, reader) for reader in readers.get(name, []))


def _is_host(network: Network, op: Operator) -> bool:
    """Whether the host computes an operator."""
    return op.kind not in OPERATORS or op.name in network.host


def _root(network: Network, op: Operator, roots: dict[str, str]) -> str | None:
    """The one tensor that the result of an operator is a function of."""
    if op.name in network.host:
        return None
    if op.kind in FUNCTIONS or op.kind in LIMITS:
        return roots.get(op.inputs[0], op.inputs[0])
    if op.kind == "PRelu":
        slope = network.value(op.inputs[1])
        return roots.get(op.inputs[0], op.inputs[0]) if slope is not None and slope.size == 1 else None
    if op.kind not in BINARY:
        return None
    values = {name: network.value(name) for name in op.inputs}
    sources = {roots.get(name, name) for name, value in values.items() if value is None}
    numbers = all(value is None or value.size == 1 for value in values.values())
    return sources.pop() if len(sources) == 1 and numbers else None


def _is_limited(network: Network, op: Operator, readers: dict[str, list[Operator]]) -> bool:
    """Whether the only reader of a result, behind changes of its layout, is a Relu or a Clip of the machine."""
    found = readers.get(op.outputs[0], [])
    if op.name in network.host or op.outputs[0] in network.outputs or len(found) != 1:
        return False
    if found[0].name in network.host:
        return False
    return found[0].kind in LIMITS or (found[0].kind in LAYOUTS and _is_limited(network, found[0], readers))
