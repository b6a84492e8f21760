"""Operators that stay on the host because all that they read comes from it, and all that they give goes to it."""

from __future__ import annotations

from dataclasses import replace

from accel.quantized.functions import BINARY, FUNCTIONS
from accel.quantized.network import Network, Operator
from accel.quantized.operators import OPERATORS

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
MOVEMENTS = (
    "Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
)  # fmt: skip
LIGHT = frozenset({*FUNCTIONS, *BINARY, *MOVEMENTS, "Relu", "Clip", "PRelu", "Softmax"})
"""Operators without multiplications of their own: on the machine they would cost two conversions."""


def with_islands(network: Network) -> Network:
    """The network with the light operators between those of the host left to the host, in real numbers.

    Products of two results are among those of the host. What the host alone reads of the network's inputs stays real.
    """
    readers = network.readers()
    hosted = {op.name for op in network.operators if op.kind not in OPERATORS or _multiplies_results(network, op)}
    hosted |= network.host
    real = set(network.inputs)
    for op in network.operators:
        sources = [name for name in op.inputs if name and network.value(name) is None]
        if op.name in hosted or (op.kind in LIGHT and real.issuperset(sources)):
            real.update(filter(None, op.outputs))
    for op in reversed(network.operators):
        found = [reader for name in op.outputs for reader in readers.get(name, [])]
        inner = op.kind in LIGHT and op.outputs[0] in real and found and not set(op.outputs) & set(network.outputs)
        if inner and hosted.issuperset(reader.name for reader in found):
            hosted.add(op.name)
    return replace(network, host=frozenset(hosted))


def _multiplies_results(network: Network, op: Operator) -> bool:
    """Whether an operator is a product without constant weights."""
    return op.kind in PRODUCTS and network.value(op.input(1)) is None
