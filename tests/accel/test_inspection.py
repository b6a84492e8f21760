"""Summaries of graphs and programs: numbers from worked examples, totals, tables that fit 120 columns."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console
from support.networks.int4 import with_int4
from support.networks.small_graphs import every_operation
from support.networks.small_networks import add, conv, every_compiled_operation, fully_connected, network

import accel
from accel.cli.inspection_tables import program_facts, summarize
from accel.cli.tables import to_json
from accel.network.graph import Graph, Tensor
from accel.network.nodes import TransposeConv2d
from accel.report.inspection import GraphSummary, ProgramSummary, inspect_graph, inspect_program
from accel.report.placement import operator_lines


def rendered(summary: GraphSummary | ProgramSummary) -> list[str]:
    console = Console(width=120, file=(out := io.StringIO()), markup=False, emoji=False, highlight=False)
    console.print(summarize(summary, "net", wide=True)[0])
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_graph_by_hand() -> None:
    graph = network((1, 4, 5, 3), conv(6, (2, 2)), add(), fully_connected(4))
    narrow = inspect_graph(with_int4(graph, np.random.default_rng(0), share=1.0))
    assert [row.weight_bytes for row in narrow.operators] == [6 * 2 * 2 * 3 // 2 + 6 * 4, 0, 4 * 72 // 2 + 4 * 4]
    summary = inspect_graph(graph)
    convolution, total, dense = summary.operators
    assert (convolution.inputs, convolution.output) == ((graph.tensors["t0"],), graph.tensors["t1"])
    assert (convolution.weight_bytes, convolution.macs) == (6 * 2 * 2 * 3 + 6 * 4, 3 * 4 * 6 * 2 * 2 * 3)
    assert [[array.shape for array in pair] for pair in convolution.multipliers] == [[(6,), (6,)]]
    assert (len(total.inputs), len(total.multipliers), total.weight_bytes, total.macs) == (2, 3, 0, 0)
    assert (dense.weight_bytes, dense.macs) == (4 * 72 + 4 * 4, 4 * 72)
    assert summary.macs == convolution.macs + dense.macs
    assert summary.weight_bytes == convolution.weight_bytes + dense.weight_bytes


def test_transposed_convolutions_multiply_every_input() -> None:
    ones = np.ones(5, np.int32)
    node = TransposeConv2d(
        name="up", inputs=("x",), output="y", weight=np.ones((5, 3, 2, 4), np.int8), bias=ones,
        multiplier=ones << 30, shift=ones.astype(np.int8), stride=(2, 2), padding=(0, 0), size=(9, 8),
    )  # fmt: skip
    tensors = {name: Tensor(name, shape, 1.0, 0) for name, shape in (("x", (1, 4, 4, 4)), ("y", (1, 9, 8, 5)))}
    (row,) = inspect_graph(Graph("up", "tflite", tensors, (node,), ("x",), ("y",))).operators
    assert row.macs == 4 * 4 * (5 * 3 * 2 * 4)


def test_table_of_a_graph() -> None:
    graph = network((1, 4, 5, 3), conv(6, (2, 2)), add())
    lines = rendered(inspect_graph(graph))
    cells = [line.split() for line in lines]
    tensor = graph.tensors["t0"]
    assert cells[4] == ["t0", "input", "4x5x3", f"{tensor.scale:.5g}", str(tensor.zero_point)]
    multiplier = graph.nodes[0].multipliers()[0][0]
    assert cells[5][:4] == ["n0", "Conv2d", "4x5x3", "3x4x6"]
    low, high = multiplier.min() / 2**31, multiplier.max() / 2**31
    assert cells[5][6] == (f"{low:.4f}..{high:.4f}" if low < high else f"{low:.4f}")
    assert cells[5][-2:] == ["96", "864"]
    assert cells[-2] == ["total", "96", "864"]


@pytest.mark.parametrize("graph", [every_operation(), every_compiled_operation()])
def test_every_operation_fits(graph: Graph) -> None:
    summary = inspect_graph(graph)
    lines = rendered(summary)
    assert all(len(line) <= 120 and "…" not in line for line in lines)
    for row in summary.operators:
        assert any(line.split()[:2] == [row.name, row.op] for line in lines)
    facts = json.loads(to_json(summary))
    assert [row["op"] for row in facts["operators"]] == [node.op for node in graph.nodes]
    assert facts["operators"][0]["output"]["shape"] == list(summary.operators[0].output.shape)


def test_program() -> None:
    program = accel.compile(every_compiled_operation(), "tiny")
    summary = inspect_program(program)
    assert sum(sum(row.instructions.values()) for row in summary.layers) == program.instruction_count
    assert summary.code_bytes == 64 * summary.instructions
    result = accel.run(program, np.zeros((1, 9, 8, 3), np.int8)).simulation
    assert sum(row.read_bytes for row in summary.layers) == result.load_bytes
    assert sum(row.written_bytes for row in summary.layers) == result.store_bytes
    assert summary.macs == sum(row.macs for row in inspect_graph(every_compiled_operation()).operators)
    first = summary.layers[0]
    assert first.macs == math.prod((first.m, first.k, first.n))
    on_host = [operator.name for operator in summary.operators if operator.unit == "host"]
    assert on_host == [node.name for node in program.host.nodes] if program.host else []
    hosted = [line.split(": ")[1] for line in program_facts(summary) if line.startswith("host, ")]
    assert ", ".join(hosted).split(", ") == on_host
    named = ", ".join(line.split(": ")[-1] for line in operator_lines(program.operators)).split(", ")
    assert sorted(named) == sorted(node.name for node in every_compiled_operation().nodes)
    lines = rendered(summary)
    assert all(len(line) <= 120 for line in lines)
    assert lines[-2].split()[0] == "total"
    assert json.loads(to_json(summary))["inputs"][0]["name"] == "t0"
