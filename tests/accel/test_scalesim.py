"""SCALE-Sim's tables as networks, and figures without values."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import accel
from accel.errors import InputError, ModelError

CONVOLUTIONS = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
Conv1, 11, 10, 3, 3, 8, 8, 1,
DP1, 11, 12, 3, 3, 6, 1, 2,

FC, 1, 1, 1, 1, 20, 12, 1,
"""
GEMMS = "Layer, M, N, K,\nproduct, 9, 20, 33,\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "small.csv"
    path.write_text(CONVOLUTIONS)
    return path


def test_layers_have_the_sizes_of_the_table(table: Path) -> None:
    graph = accel.load_model(table)
    shapes = {name: tensor.shape for name, tensor in graph.tensors.items()}
    assert shapes == {
        "Conv1/in": (1, 11, 10, 8), "Conv1/out": (1, 9, 8, 8), "DP1/in": (1, 11, 12, 6), "DP1/out": (1, 5, 5, 6),
        "FC/in": (1, 1, 1, 20), "FC/out": (1, 1, 1, 12),
    }  # fmt: skip
    assert [node.weight.shape for node in graph.nodes] == [(8, 3, 3, 8), (6, 3, 3, 1), (12, 1, 1, 20)]
    np.testing.assert_array_equal(graph.nodes[0].weight, accel.load_model(table).nodes[0].weight)


def test_gemms_and_the_cycles_of_the_tool(table: Path) -> None:
    """175 and 439: cycles of SCALE-Sim 3.0.0 (docs/timing.md)."""
    rows = {row.name: row for row in accel.estimate(accel.compile(table, "edge")).layers}
    assert rows["Conv1"].scalesim_cycles == 5 * (9 * 8 + 2 * 16 + 16 - 2) - 1
    table.write_text(GEMMS)
    row = accel.estimate(accel.compile(table, "edge")).layers[0]
    assert (row.macs, row.scalesim_cycles) == (9 * 20 * 33, 3 * 2 * (9 + 2 * 16 + 16 - 2) - 1)


def test_estimates_equal_runs(table: Path) -> None:
    program = accel.compile(table, "tiny")
    inputs = {slot.name: np.zeros((3, *slot.shape[1:]), np.int8) for slot in program.inputs}
    estimate, run = accel.estimate(program), accel.run(program, inputs)
    assert estimate.cycles == run.cycles
    assert estimate.layers == run.layers
    assert estimate.stalls["EXEC"]["busy"] == run.simulation.cause("EXEC", "busy")
    assert {sum(causes.values()) for causes in estimate.stalls.values()} == {run.cycles}


def test_samples_on_threads_equal_samples_in_turn(table: Path) -> None:
    program, rng = accel.compile(table, "tiny"), np.random.default_rng(0)
    inputs = {slot.name: rng.integers(-128, 128, (5, *slot.shape[1:]), np.int8) for slot in program.inputs}
    single, threaded = accel.run(program, inputs), accel.run(accel.compile(table, "tiny"), inputs, threads=2)
    for name, values in single.outputs.items():
        np.testing.assert_array_equal(threaded.outputs[name], values)
    np.testing.assert_array_equal(threaded.simulation.memory, single.simulation.memory)
    with pytest.raises(InputError, match=r"threads must be an integer in 1\.\.\d+, the number of cores, got 0"):
        accel.run(program, inputs, threads=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Layer, M, N, K\n", "table must have a layer after its heading, got none"),
        ("Layer, M, N, K\na, 1, 2\n", "line 2 must be a name and the positive integers of a convolution (7) or a GEMM"),
        ("Layer, M, N, K\na, 1, 0, 3\n", "line 2 must be a name and the positive integers"),
        ("Layer, M, N, K\na, 1, 2, 3\na, 1, 2, 3\n", "line 3 must have a name of its own, got 'a' again"),
        ("heading\nc, 2, 8, 3, 3, 4, 4, 1\n", "line 2 must have a filter that fits into its input"),
    ],
)
def test_other_tables_are_refused(table: Path, text: str, message: str) -> None:
    table.write_text(text)
    with pytest.raises(ModelError, match=re.escape(f"{table}: {message}")):
        accel.load_model(table)
