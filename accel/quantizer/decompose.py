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
        full = f"{self.source.name}_{name}"
        self.constants[full] = TensorInfo.constant(full, np.asarray(value, dtype=np.float32))
        return full

    def axes(self, axes: list[int]) -> str:
        """Add a constant of axes."""
        full = f"{self.source.name}_axes"
        self.constants[full] = TensorInfo.constant(full, np.array(axes, dtype=np.int64))
        return full

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add an operator; returns its result."""
        name = f"{self.source.name}_{len(self.operators)}"
        result = output or name
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
        if op.kind not in DECOMPOSED:
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


def _instance_normalization(parts: Parts) -> None:
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias`` over height and width."""
    op, x = parts.source, parts.source.inputs[0]
    rank = len(parts.network.shape(op, x))
    scale, bias = (np.asarray(parts.network.value(name)).reshape(1, -1, *(1,) * (rank - 2)) for name in op.inputs[1:3])
    centred, gain = _normalized(parts, x, list(range(2, rank)), float(op.attributes.get("epsilon", 1e-5)))
    factor = parts.add("Mul", gain, parts.constant("scale", scale))
    parts.add("Add", parts.add("Mul", centred, factor), parts.constant("offset", bias))


def _layer_normalization(parts: Parts) -> None:
    """The same over the last axes."""
    op, x = parts.source, parts.source.inputs[0]
    rank = len(parts.network.shape(op, x))
    axis = int(op.attributes.get("axis", -1)) % rank
    centred, gain = _normalized(parts, x, list(range(axis, rank)), float(op.attributes.get("epsilon", 1e-5)))
    result = parts.add("Mul", centred, gain)
    if op.input(1):
        result = parts.add("Mul", result, op.inputs[1])
    if op.input(2):
        parts.add("Add", result, op.inputs[2])


def _normalized(parts: Parts, x: str, axes: list[int], epsilon: float) -> tuple[str, str]:
    """``x - mean`` and ``1 / sqrt(variance + epsilon)`` over some axes."""
    opset18 = max(parts.source.opset, 13) >= 18
    reduced: dict[str, Any] = {"keepdims": 1} | ({} if opset18 else {"axes": axes})
    extra = (parts.axes(axes),) if opset18 else ()
    centred = parts.add("Sub", x, parts.add("ReduceMean", x, *extra, **reduced))
    variance = parts.add("ReduceMean", parts.add("Mul", centred, centred), *extra, **reduced)
    shifted = parts.add("Add", variance, parts.constant("epsilon", epsilon))
    return centred, parts.add("Pow", shifted, parts.constant("power", -0.5))


DECOMPOSED: dict[str, Callable[[Parts], None]] = {
    "InstanceNormalization": _instance_normalization,
    "LRN": _lrn,
    "LayerNormalization": _layer_normalization,
}
"""How each normalization is taken apart."""
