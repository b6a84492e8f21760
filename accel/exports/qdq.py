"""QDQ models: real operators between QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from accel.exports.onnx.raising import raised
from accel.exports.onnx.unsigned import take_unsigned_inputs
from accel.frontends.onnx.write import PRODUCER, to_onnx
from accel.network.graph import Graph


def write(graph: Graph, notes: list[str]) -> bytes:
    """The model's file; notes and `InexpressibleError` as for `raised`."""
    model = to_onnx(raised(graph, notes))
    model.producer_name = PRODUCER
    take_unsigned_inputs(model, graph)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
