"""The parts of a network or a program, operator by operator."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from accel.machine import isa
from accel.network.graph import Graph, Tensor
from accel.network.nodes import Node, Weighted
from accel.program.program import LayerInfo, OperatorInfo, Program, TensorSlot
from accel.report.layers import traffic
from accel.report.placement import HostShare, host_share

_NO_WEIGHTS = ("multiplier", "shift")


@dataclass(frozen=True, eq=False)
class OperatorRow:
    """One operator of a graph.

    Parameters
    ----------
    inputs : tuple of Tensor
        With shapes, scales and zero points.
    output : Tensor
    multipliers : tuple of (ndarray of int32, ndarray of int8)
        Multipliers and shifts of everything that the operator rescales, one or one per channel.
    weight_bytes : int
        Its arrays of constants: weights (two of 4 bits in a byte), biases, tables.
    macs : int
        Products of a weight and an input, padding included; 0 for operators without weights.
    """

    name: str
    op: str
    inputs: tuple[Tensor, ...]
    output: Tensor
    multipliers: tuple[tuple[NDArray[np.int32], NDArray[np.int8]], ...]
    weight_bytes: int
    macs: int


@dataclass(frozen=True, eq=False)
class GraphSummary:
    """A network: its inputs, operators, and sums over them."""

    name: str
    mode: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: tuple[OperatorRow, ...]
    weight_bytes: int
    macs: int


@dataclass(frozen=True)
class ProgramLayerRow:
    """One layer of a program: its matrix product (m, k) @ (k, n), instructions by unit, and external traffic."""

    name: str
    op: str
    macs: int
    m: int
    k: int
    n: int
    instructions: dict[str, int]
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class ProgramSummary:
    """A program: its machine, sizes and layers; for every operator of its network what computes it, and why.

    Cycles, layers and `macs` are those of the machine; `host` says what the host computes.
    """

    config: str
    fingerprint: str
    instructions: int
    code_bytes: int
    constant_bytes: int
    memory_bytes: int
    macs: int
    inputs: tuple[TensorSlot, ...]
    outputs: tuple[TensorSlot, ...]
    layers: tuple[ProgramLayerRow, ...]
    operators: tuple[OperatorInfo, ...]
    host: HostShare


def inspect_graph(graph: Graph) -> GraphSummary:
    """Every operator of a graph, in order."""
    rows = tuple(_operator(graph, node) for node in graph.nodes)
    return GraphSummary(
        graph.name,
        str(graph.mode),
        tuple(graph.tensors[name] for name in graph.inputs),
        tuple(graph.tensors[name] for name in graph.outputs),
        rows,
        sum(row.weight_bytes for row in rows),
        sum(row.macs for row in rows),
    )


def _operator(graph: Graph, node: Node) -> OperatorRow:
    inputs, output = tuple(graph.tensors[name] for name in node.inputs), graph.tensors[node.output]
    arrays = {field.name: getattr(node, field.name) for field in fields(node)}
    stored = sum(a.nbytes for name, a in arrays.items() if isinstance(a, np.ndarray) and name not in _NO_WEIGHTS)
    if isinstance(node, Weighted):
        stored += node.weight_bytes - node.weight.nbytes
    return OperatorRow(node.name, node.label, inputs, output, node.multipliers(), stored, graph.macs(node))


def inspect_program(program: Program) -> ProgramSummary:
    """Every layer of a program, in order."""
    read, written = traffic(program)
    owner, opcodes = np.array(program.instruction_layers, np.int64), isa.decode_table(program.code)[:, 0]
    rows = []
    for i, layer in enumerate(program.layers):
        mine = owner == i
        counts = {opcode.name: int(np.count_nonzero(mine & (opcodes == opcode))) for opcode in isa.Opcode}
        rows.append(_layer(layer, counts, int(read[mine].sum()), int(written[mine].sum())))
    return ProgramSummary(
        config=program.config.name,
        fingerprint=program.config.fingerprint(),
        instructions=program.instruction_count,
        code_bytes=len(program.code),
        constant_bytes=len(program.constants),
        memory_bytes=program.memory_bytes,
        macs=sum(layer.macs for layer in program.layers),
        inputs=program.inputs,
        outputs=program.outputs,
        layers=tuple(rows),
        operators=program.operators,
        host=host_share(program.operators),
    )


def _layer(layer: LayerInfo, counts: dict[str, int], read: int, written: int) -> ProgramLayerRow:
    return ProgramLayerRow(layer.name, layer.op, layer.macs, layer.m, layer.k, layer.n, counts, read, written)
