"""Graphs on disk: one deterministic file, a zip of `graph.json` and one .npy member per array.

The JSON object has the keys `format`, `version`, `name`, `mode`, `inputs`, `outputs`, `states`, `tensors` and `nodes`;
a node lists its fields by name, and an array field names its member. Equal graphs give equal bytes. Nothing in a file
is executed. Members are stored without compression, so that no file can unpack to more than its own size.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import GraphError, brief
from accel.files import write_atomic
from accel.network.array_layout import ArrayLayout
from accel.network.graph import NODE_TYPES, Graph, Node, State, Tensor
from accel.network.nodes.host import ARRAY_DTYPES

FORMAT, VERSION = "accel-graph", 4
_MAGIC = b"PK\x03\x04"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def save_graph(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write `graph` to `path` atomically; equal graphs give equal bytes.

    Raises
    ------
    OSError
        The folder does not exist or is not writable.
    """
    write_atomic(path, dump_graph(graph))


def load_graph(path: str | os.PathLike[str]) -> Graph:
    """Read a file that `save_graph` wrote.

    Raises
    ------
    GraphError
        The file is not readable, damaged, of another version, or describes an invalid graph.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise GraphError(f"{os.fspath(path)}: must be a readable graph file, got {error.strerror}") from error
    try:
        return parse_graph(data)
    except GraphError as error:
        raise GraphError(f"{os.fspath(path)}: {brief(error)}") from error


def is_graph(data: bytes) -> bool:
    """Whether a file's content begins like that of a graph file."""
    return data.startswith(_MAGIC)


def dump_graph(graph: Graph) -> bytes:
    """The bytes of the file."""
    members: dict[str, bytes] = {}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "name": graph.name,
        "mode": str(graph.mode),
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "states": graph.states,
        "tensors": [dataclasses.asdict(graph.tensors[name]) for name in sorted(graph.tensors)],
        "nodes": [_dump_node(index, node, members) for index, node in enumerate(graph.nodes)],
    }
    members = {"graph.json": json.dumps(header, indent=1).encode(), **members}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, date_time=_EPOCH), data)
    return buffer.getvalue()


def _dump_node(index: int, node: Node, members: dict[str, bytes]) -> dict[str, Any]:
    """JSON description of a node; its arrays are added to `members`."""
    description: dict[str, Any] = {"op": node.op}
    for field in dataclasses.fields(node):
        description[field.name] = _dump_value(f"{index}.{field.name}", getattr(node, field.name), members)
    return description


def _dump_value(name: str, value: Any, members: dict[str, bytes]) -> Any:
    """A field's value for JSON; its arrays are added to `members` under names that begin with `name`."""
    if isinstance(value, Mapping):
        items = enumerate(sorted(value.items()))
        return {"mapping": {key: _dump_value(f"{name}.{i}", item, members) for i, (key, item) in items}}
    if not isinstance(value, np.ndarray):
        return value
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, value, version=(1, 0), allow_pickle=False)
    members[f"{name}.npy"] = buffer.getvalue()
    return {"array": f"{name}.npy"}


def parse_graph(data: bytes) -> Graph:
    """The graph in the bytes of a file; `GraphError` as for `load_graph`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise GraphError("members must be stored without compression")
            if (total := sum(info.file_size for info in infos)) > len(data):
                raise GraphError(f"members must hold at most the file's {len(data)} bytes, got {total}")
            names = archive.namelist()
            if len(set(names)) != len(names) or "graph.json" not in names:
                raise GraphError(f"members must be distinct and include 'graph.json', got {names!r}")
            members = {name: archive.read(name) for name in names}
        header = json.loads(members.pop("graph.json"))
        graph = _parse_header(header, members)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise GraphError("graph file must be whole, got a damaged or incomplete one; save the graph again") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, SyntaxError) as error:
        raise GraphError(f"graph description is malformed: {type(error).__name__}: {brief(error)}") from error
    if members:
        raise GraphError(f"every member must belong to a node, got {sorted(members)!r}")
    return graph


def _parse_header(header: dict[str, Any], members: dict[str, bytes]) -> Graph:
    expected = {"format", "version", "name", "mode", "inputs", "outputs", "states", "tensors", "nodes"}
    if not isinstance(header, dict) or set(header) != expected:
        raise GraphError(f"description must have exactly the keys {sorted(expected)!r}")
    if (header["format"], header["version"]) != (FORMAT, VERSION):
        raise GraphError(
            f"format and version must be {FORMAT!r} {VERSION}, got {header['format']!r} {header['version']!r}; "
            "quantize the model again with this version"
        )
    tensors = [
        Tensor(**{**fields, "shape": tuple(fields["shape"]), "source": ArrayLayout.parse(fields["source"])})
        for fields in header["tensors"]
    ]
    return Graph(
        name=header["name"],
        mode=header["mode"],
        tensors={tensor.name: tensor for tensor in tensors},
        nodes=tuple(_parse_node(fields, members) for fields in header["nodes"]),
        inputs=tuple(header["inputs"]),
        outputs=tuple(header["outputs"]),
        states=tuple(State(*state) for state in header["states"]),
    )


def _parse_node(description: dict[str, Any], members: dict[str, bytes]) -> Node:
    """The node of a JSON description; the members it uses are removed from `members`."""
    fields = dict(description)
    kind = NODE_TYPES.get(fields.pop("op"))
    if kind is None:
        raise GraphError(f"operation must be one of {', '.join(NODE_TYPES)}, got {description['op']!r}")
    known = {field.name for field in dataclasses.fields(kind)}
    if set(fields) != known:
        raise GraphError(f"{kind.__name__} must have exactly the fields {sorted(known)!r}, got {sorted(fields)!r}")
    return kind(**{name: _parse_value(value, members) for name, value in fields.items()})


def _parse_value(value: Any, members: dict[str, bytes]) -> Any:
    """The value that `_dump_value` described; the members it uses are removed from `members`."""
    if isinstance(value, dict) and "mapping" in value:
        return {key: _parse_value(item, members) for key, item in value["mapping"].items()}
    if isinstance(value, dict):
        return _parse_array(members.pop(value["array"]))
    return tuple(value) if isinstance(value, list) else value


def _parse_array(data: bytes) -> NDArray[Any]:
    """An array in .npy format whose data is exactly as long as its header says."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise GraphError("arrays must be .npy files of version 1.0")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.name not in ARRAY_DTYPES or fortran_order:
        raise GraphError(f"arrays must be one of {', '.join(ARRAY_DTYPES)} in C order, got {dtype}")
    rest = len(data) - stream.tell()
    if math.prod(shape) * dtype.itemsize != rest:
        raise GraphError(f"array of shape {shape} must have {math.prod(shape) * dtype.itemsize} bytes, got {rest}")
    return np.frombuffer(data, dtype=dtype, offset=stream.tell()).reshape(shape)
