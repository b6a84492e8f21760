"""Graphs compiled and run in the simulator."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

import accel
from accel.network.graph import Clamp, Graph


def on_machine(graph: Graph) -> Graph:
    """A graph of which the machine computes something: a first layer that changes nothing, if the host does it all."""
    source = graph.tensors[graph.inputs[0]]
    given = dataclasses.replace(source, name="given")
    first = Clamp(name="first", inputs=("given",), output=source.name)
    tensors = {**graph.tensors, "given": given}
    return Graph(graph.name, graph.mode, tensors, (first, *graph.nodes), ("given", *graph.inputs[1:]), graph.outputs)


def left_to_host(program: accel.Program) -> set[str]:
    """Operators that the host computes though the machine could; constants that only the host reads are its own."""
    host = {node.op for node in program.host.nodes} if program.host else set()
    return host - {"Constant", "Div", "LogSoftmax", "Reshape", "Softmax", "SquaredDifference"}


HOSTS = {"Dequantize", "HostOperator", "Quantize", "Table"}
"""What an operator of the host consists of; a table brings integers under other parameters."""


def compiled(graph: Graph, config: str, *, hosted: bool = False) -> accel.Program:
    """The program of a model of one operator, which leaves to the host only what the host is for.

    If the operator is `hosted`, it is the host's.
    """
    program = accel.compile(graph, config)
    if not program.machine_segments:
        program = accel.compile(on_machine(graph), config)
    left = left_to_host(program)
    assert (left <= HOSTS and "HostOperator" in left) if hosted else not left
    return program


def simulated(program: accel.Program, inputs: list[NDArray[np.int8]]) -> list[NDArray[np.int8]]:
    """The program's outputs, in order."""
    sample = dict(zip((slot.name for slot in program.inputs), inputs, strict=True))
    outputs = accel.run(program, sample).outputs
    return [outputs[name] for name in program.output_names]
