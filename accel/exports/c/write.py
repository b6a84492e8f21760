"""The C files of an integer graph: `weights.h` has its numbers, `network.c` calls `reference.c` once a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.exports.c import text
from accel.exports.inexpressible import InexpressibleError
from accel.network.graph import Graph, Tensor
from accel.network.nodes import Node

STATIC_FILES = ("reference.h", "reference.c", "main.c", "Makefile")
"""Files that are the same for every network."""
ROUNDINGS = {"tflite": "ROUND_TFLITE", "single": "ROUND_SINGLE", "fp32": "ROUND_FP32"}


@dataclass
class CWriting:
    """The files in the making; `buffers` says which C array holds a tensor of the graph."""

    graph: Graph
    definitions: list[str] = field(default_factory=list)
    storage: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    buffers: dict[str, str] = field(default_factory=dict)
    label: str = ""

    @property
    def rounding(self) -> str:
        """The graph's mode in C."""
        return ROUNDINGS[str(self.graph.mode)]

    def tensor(self, name: str) -> Tensor:
        """A tensor of the graph."""
        return self.graph.tensors[name]

    def size(self, name: str) -> int:
        """Elements of a tensor."""
        return math.prod(self.tensor(name).shape)

    def array(self, what: str, values: NDArray[Any]) -> str:
        """Add a constant array of the current layer; returns its name."""
        name = f"{self.label}_{what}"
        self.definitions.append(text.array(name, values))
        return name

    def struct(self, kind: str, fields: Mapping[str, Any], what: str = "layer") -> str:
        """Add a description of the current layer; returns its name."""
        name = f"{self.label}_{what}"
        self.definitions.append(text.struct(kind, name, fields))
        return name

    def call(self, function: str, *arguments: object) -> None:
        """Add a call of a function of `reference.c`."""
        self.calls.append(f"    {function}({', '.join(map(str, arguments))});")

    def source(self, node: Node, position: int = 0) -> str:
        """The C array of an input."""
        return self.buffers[node.inputs[position]]

    def target(self, node: Node) -> str:
        """A C array for the output."""
        return self.store(node.output, f"{self.label}_out")

    def store(self, tensor: str, name: str) -> str:
        """Add a C array for a tensor."""
        self.storage.append(f"static int8_t {name}[{self.size(tensor)}];")
        self.buffers[tensor] = name
        return name


def write(graph: Graph) -> dict[str, bytes]:
    """The content of every file, by name.

    Raises
    ------
    InexpressibleError
        A node has no form in `reference.c`.
    """
    from accel.exports.c.nodes import WRITERS

    w = CWriting(graph)
    offset = 0
    for position, name in enumerate(graph.inputs):
        w.call("memcpy", w.store(name, f"input_{position}"), f"input + {offset}", w.size(name))
        offset += w.size(name)
    for index, node in enumerate(graph.nodes):
        if type(node) not in WRITERS:
            raise InexpressibleError(node, "this operation")
        w.label = f"layer{index}_{text.identifier(node.name)[:40]}"
        heading = f"/* {text.comment(f'{node.op} {node.name}')}: {_shapes(w, node)} */"
        w.definitions.append(heading)
        WRITERS[type(node)].write(w, node)
    offset = 0
    for name in graph.outputs:
        w.call("memcpy", f"output + {offset}", w.buffers[name], w.size(name))
        offset += w.size(name)
    made = {"weights.h": _weights(w), "network.h": _header(w), "network.c": _source(w)}
    folder = files("accel.exports.c")
    static = {name: (folder / name).read_bytes() for name in STATIC_FILES}
    return static | {name: content.encode() for name, content in made.items()}


def _shapes(w: CWriting, node: Node) -> str:
    """Shapes of inputs and output."""
    sources = ", ".join(str(w.tensor(name).shape) for name in node.inputs)
    return f"{sources} -> {w.tensor(node.output).shape}"


def _weights(w: CWriting) -> str:
    guard = ["#ifndef ACCEL_WEIGHTS_H", "#define ACCEL_WEIGHTS_H", '\n#include "reference.h"\n']
    return "\n".join([*guard, *w.definitions, "\n#endif\n"])


def _header(w: CWriting) -> str:
    """Sizes, and what inputs and outputs mean."""
    graph = w.graph
    lines = [f"/* {text.comment(graph.name)}, mode {graph.mode}. real = (integer - zero_point) * scale", ""]
    for kind, names in (("input", graph.inputs), ("output", graph.outputs)):
        for name in names:
            t = w.tensor(name)
            what = f"{kind} {text.comment(name)}: int8 {t.shape}, scale {t.scale!r}, zero point {t.zero_point}"
            lines.append(f"   {what}")
    lines += ["*/", "#ifndef ACCEL_NETWORK_H", "#define ACCEL_NETWORK_H", "\n#include <stdint.h>\n"]
    for kind, names in (("INPUT", graph.inputs), ("OUTPUT", graph.outputs)):
        lines.append(f"#define NETWORK_{kind}_BYTES {sum(map(w.size, names))}")
    lines += ["", "/* One inference: inputs one after the other, outputs likewise. */"]
    return "\n".join([*lines, "void network_run(const int8_t *input, int8_t *output);", "\n#endif\n"])


def _source(w: CWriting) -> str:
    includes = ['#include "network.h"', "\n#include <string.h>", '\n#include "weights.h"\n']
    body = ["", "void network_run(const int8_t *input, int8_t *output) {", *w.calls, "}", ""]
    return "\n".join([*includes, *w.storage, *body])


def as_int32(values: Any) -> NDArray[np.int32]:
    """Numbers as an array of int32."""
    return np.asarray(values, np.int32)
