"""Arrays and JSON for hardware people: every number of every layer, readable with NumPy alone.

The JSON object has `mode`, `inputs`, `outputs`, `states`, `tensors` (shape, scale, zero point, type by name) and
`layers`. A layer has its operation, inputs, outputs and all fields of `accel.network.nodes`; an array is
``{"array": NAME}``, where NAME is its name in the .npz file.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from accel.exports.scales import weight_scales
from accel.network.graph import Graph
from accel.network.nodes import Node, Weighted

Arrays = dict[str, Any]
"""Arrays by name; NumPy's `savez` would take a type of theirs for that of its own arguments."""


def write(graph: Graph) -> tuple[bytes, bytes]:
    """The .npz file and the JSON text of a graph; equal graphs give equal bytes."""
    arrays: Arrays = {}
    description = {
        "name": graph.name,
        "mode": str(graph.mode),
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "states": [state._asdict() for state in graph.states],
        "tensors": {
            name: {"shape": t.shape, "type": t.dtype, "scale": t.scale, "zero_point": t.zero_point}
            for name, t in graph.tensors.items()
        },
        "layers": [_layer(graph, index, node, arrays) for index, node in enumerate(graph.nodes)],
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue(), json.dumps(description, indent=1).encode()


def _layer(graph: Graph, index: int, node: Node, arrays: Arrays) -> dict[str, Any]:
    """The description of a node; its arrays are added to `arrays`."""
    fields = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    kept = {name: value for name, value in fields.items() if name not in ("name", "inputs", "output", "more_outputs")}
    if isinstance(node, Weighted):
        scales = weight_scales(graph, node)
        kept |= {} if scales is None else {"weight_scale": scales}
    prefix = f"layer{index:04}"
    described = {name: _value(f"{prefix}_{name}", value, arrays) for name, value in kept.items()}
    return {"name": node.name, "operation": node.op, "inputs": node.inputs, "outputs": node.outputs, **described}


def _value(name: str, value: Any, arrays: Arrays) -> Any:
    """A field for JSON; its arrays are added under names that begin with `name`."""
    if isinstance(value, Mapping):
        return {key: _value(f"{name}_{i}", item, arrays) for i, (key, item) in enumerate(sorted(value.items()))}
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"array": name}
    return value
