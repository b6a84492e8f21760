"""Normalizations of whole tensors as sums, products and functions, so that each part gets a range of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.frontends.onnx.write import with_shapes
from accel.quantized.network import Network, Operator, TensorInfo


@dataclass
class Parts:
    """The operators that stand for one."""

    network: Network
    source: Operator
    operators: list[Operator] = field(default_factory=list)
    constants: dict[str, TensorInfo] = field(default_factory=dict)

    def constant(self, name: str, value: NDArray[Any] | float) -> str:
        """Add a constant."""
        full = self.network.free(f"{self.source.name}_{name}")
        self.constants[full] = TensorInfo.constant(full, np.asarray(value, dtype=np.float32))
        return full

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add an operator; returns its result."""
        name = f"{self.source.name}_{len(self.operators)}"
        result = output or self.network.free(name)
        opset = max(self.source.opset, 13)
        self.operators.append(Operator(name, kind, inputs, (result,), attributes, opset))
        return result


def decompose(network: Network) -> Network:
    """The network without the operators of `DECOMPOSED`.

    Parameters
    ----------
    network : Network
        Float.
    """
    if not any(op.kind in DECOMPOSED for op in network.operators):
        return network
    operators: list[Operator] = []
    constants: dict[str, TensorInfo] = {}
    for op in network.operators:
        if op.kind not in DECOMPOSED or op.name in network.host:
            operators.append(op)
            continue
        parts = Parts(network, op)
        DECOMPOSED[op.kind](parts)
        last = replace(parts.operators[-1], name=op.name, outputs=op.outputs)
        operators += [*parts.operators[:-1], last]
        constants |= parts.constants
    return with_shapes(replace(network, operators=tuple(operators), tensors={**network.tensors, **constants}))


def _lrn(parts: Parts) -> None:
    """``x / (bias + alpha / size * sum of squares of neighbouring channels) ** beta``; the sum is a convolution."""
    op, x = parts.source, parts.source.inputs[0]
    channels, size = parts.network.shape(op, x)[1], int(op.attributes["size"])
    alpha, beta, bias = (float(op.attributes.get(k, d)) for k, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    place = np.arange(channels)
    distance = place[None] - place[:, None]
    band = ((distance >= -((size - 1) // 2)) & (distance <= size // 2)).astype(np.float32)
    square = parts.add("Mul", x, x)
    total = parts.add("Conv", square, parts.constant("band", band[:, :, None, None] * alpha / size))
    shifted = parts.add("Add", total, parts.constant("bias", bias))
    parts.add("Mul", x, parts.add("Pow", shifted, parts.constant("beta", -beta)))


DECOMPOSED: dict[str, Callable[[Parts], None]] = {"LRN": _lrn}
"""How each normalization is taken apart; those that center are the host's: their parts need more bits."""
