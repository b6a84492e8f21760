"""Tables of 256 integers in ONNX files: a Gather from a constant, at the places that integers of 8 bits name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accel.quantized.network import TABLE, Network, Operator

if TYPE_CHECKING:
    import onnx

ENTRIES = 256
FIRST = 128
"""The place of the integer 0 in a table of int8."""


def lookup_nodes(
    table: NDArray[np.int8], source: str, target: str, name: str, constant: Callable[[str, NDArray[Any]], str]
) -> list[onnx.NodeProto]:
    """The nodes that look integers up; `constant` stores a value under a name that belongs to the operator."""
    from onnx import TensorProto, helper

    places, shifted = f"{target}_places", f"{target}_shifted"
    entries, first = constant("table", table), constant("first", np.asarray(np.int32(FIRST)))
    return [
        helper.make_node("Cast", [source], [places], name=places, to=TensorProto.INT32),
        helper.make_node("Add", [places, first], [shifted], name=shifted),
        helper.make_node("Gather", [entries, shifted], [target], name=name, axis=0),
    ]


def joined_lookups(network: Network) -> Network:
    """The network with such nodes as one operator each, which keeps the name of the Gather."""
    writers = {name: op for op in network.operators for name in op.outputs}
    operators, between = list[Operator](), set[str]()
    for op in network.operators:
        table, shifted = network.value(op.input(0)), writers.get(op.input(1))
        cast = writers.get(shifted.input(0)) if shifted else None
        first = network.value(shifted.input(1)) if shifted else None
        entries = op.kind == "Gather" and table is not None and table.shape == (ENTRIES,) and table.dtype == np.int8
        if entries and shifted and cast and (shifted.kind, cast.kind) == ("Add", "Cast") and np.all(first == FIRST):
            between |= {shifted.outputs[0], cast.outputs[0]}
            op = replace(op, kind=TABLE, inputs=cast.inputs, attributes={"table": table})
        operators.append(op)
    for _ in ("Add", "Cast"):
        read = {name for op in operators for name in op.inputs} | set(network.outputs)
        operators = [op for op in operators if op.outputs[0] in read or op.outputs[0] not in between]
    return network.with_operators(operators)
