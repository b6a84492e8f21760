"""Graph files: exact round trips, equal bytes for equal graphs, and one kind of error for everything malformed."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks.small_graphs import every_operation

from accel.errors import GraphError
from accel.network.graph_file import dump_graph, load_graph, parse_graph, save_graph
from accel.network.reference import run

Header = dict[str, Any]


@pytest.mark.parametrize("mode", ["tflite", "single", "fp32"])
def test_round_trip(tmp_path: Path, mode: str) -> None:
    graph = every_operation(mode)
    save_graph(graph, tmp_path / "net.accel")
    loaded = load_graph(tmp_path / "net.accel")
    assert dump_graph(loaded) == dump_graph(graph) == (tmp_path / "net.accel").read_bytes()
    assert loaded.tensors == graph.tensors
    x = np.random.default_rng(1).integers(-128, 128, (1, 9, 8, 3)).astype(np.int8)
    assert np.array_equal(run(loaded, x)["h"], run(graph, x)["h"])


def rebuilt(change: Callable[[Header, dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The file of a graph after a change of its header or members."""
    with zipfile.ZipFile(io.BytesIO(dump_graph(every_operation()))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members["graph.json"])
    change(header, members)
    members["graph.json"] = json.dumps(header).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def array(value: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value)
    return buffer.getvalue()


def replace_member(name: str, data: bytes) -> Callable[[Header, dict[str, bytes]], None]:
    return lambda header, members: members.update({name: data})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, m: h.update(version=1), "format and version must be 'accel-graph' 4, got 'accel-graph' 1; "),
        (lambda h, m: h.update(extra=2), "description must have exactly the keys "),
        (lambda h, m: h["nodes"][0].update(extra=2), "Conv2d must have exactly the fields "),
        (lambda h, m: h["nodes"][0].pop("bias"), "Conv2d must have exactly the fields "),
        (lambda h, m: h["nodes"][0].update(op="Exec"), "operation must be one of Add, "),
        (lambda h, m: h["nodes"][0].update(stride=[[1], 1]), "Conv2d 'stem': window must be made of "),
        (lambda h, m: h["nodes"][0].update(bias={"array": "no.npy"}), "graph description is malformed: KeyError"),
        (lambda h, m: h["tensors"][0].update(shape=7), "graph description is malformed: TypeError"),
        (lambda h, m: h["tensors"][0].update(extra=7), "graph description is malformed: TypeError"),
        (lambda h, m: h.update(tensors=7), "graph description is malformed: TypeError"),
        (
            replace_member("stray.npy", array(np.zeros(1, np.int8))),
            "every member must belong to a node, got ['stray.npy']",
        ),
        (replace_member("0.bias.npy", b"\x93NUMPY\x01\x00"), "graph description is malformed: ValueError"),
        (replace_member("0.bias.npy", array(np.zeros(6))), "arrays must be one of bool, float32, int8, "),
        (replace_member("0.bias.npy", array(np.zeros(6, ">i4"))), "Conv2d 'stem': bias must be an array of int32 "),
        (replace_member("0.bias.npy", array(np.zeros(6, "O"))), "arrays must be one of bool, float32, int8, "),
        (
            replace_member("0.bias.npy", array(np.zeros(6, np.int32))[:-4]),
            "array of shape (6,) must have 24 bytes, got 20",
        ),
    ],
)
def test_malformed_content_is_refused(change: Callable[[Header, dict[str, bytes]], None], message: str) -> None:
    with pytest.raises(GraphError, match=f"^{re.escape(message)}"):
        parse_graph(rebuilt(change))


def test_declared_size_is_checked_before_allocation() -> None:
    header = array(np.zeros(6, np.int32)).replace(b"(6,), }    ", b"(9999999999,), }")
    with pytest.raises(GraphError, match=r"^graph description is malformed|^array of shape"):
        parse_graph(rebuilt(replace_member("0.bias.npy", header)))


def test_compressed_members_are_refused() -> None:
    data = rebuilt(lambda h, m: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(GraphError, match=r"^members must be stored without compression$"):
        parse_graph(data)


def test_incomplete_files_are_a_sentence_of_ours() -> None:
    data = dump_graph(every_operation())
    for size in (0, 4, len(data) // 2, len(data) - 1):
        with pytest.raises(GraphError, match=r"^graph file must be whole, got a damaged or incomplete one; save the "):
            parse_graph(data[:size])


def test_damaged_bytes_never_raise_anything_else() -> None:
    rng = np.random.default_rng(1)
    data = dump_graph(every_operation())
    refused = 0
    for _ in range(1000):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            parse_graph(bytes(damaged[: rng.integers(len(data))] if rng.random() < 0.2 else damaged))
        except GraphError:
            refused += 1
    assert refused > 900


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"none: must be a readable graph file, got No such file or directory$"):
        load_graph(tmp_path / "none")
