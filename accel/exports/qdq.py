"""QDQ models: real operators between QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from accel.exports.onnx.raising import raised
from accel.frontends.onnx.write import to_onnx
from accel.network.graph import Graph


def write(graph: Graph) -> bytes:
    """The model's file; `InexpressibleError` as for `raised`."""
    data: bytes = to_onnx(raised(graph)).SerializeToString(deterministic=True)
    return data
