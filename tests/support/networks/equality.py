"""Compile, run, compare: what every test of whole compiled graphs does."""

from __future__ import annotations

import re

import numpy as np

import accel
from accel.errors import AccelError
from accel.machine.config import ArchConfig
from accel.network import reference
from accel.network.graph import Graph
from accel.program.program import Program
from compiler import compile_graph
from support.networks.random_graphs import random_inputs


def assert_equal(graph: Graph, config: ArchConfig, rng: np.random.Generator, engines: tuple[str, ...]) -> Program:
    """Compile (which proves the program safe) and run; every output of every engine must equal the reference."""
    program = compile_graph(graph, config)
    inputs = random_inputs(rng, graph)
    expected = reference.run(graph, inputs)
    for engine in engines:
        outputs = accel.run(program, inputs, engine=engine).outputs
        assert tuple(outputs) == graph.outputs
        for name, values in outputs.items():
            np.testing.assert_array_equal(values, expected[name], err_msg=f"{name} ({engine})")
    return program


def fits(program: Program) -> bool:
    """Whether the machine is large enough for all that it has a unit for, and has the modes."""
    return not any(re.search("scratchpad words|it needs '", operator.why) for operator in program.operators)


def is_equal(seed: int, graph: Graph, config: ArchConfig, rng: np.random.Generator, engines: tuple[str, ...]) -> bool:
    """`assert_equal`; False if the host computes what the machine has no room or mode for. Failures name the seed."""
    try:
        return fits(assert_equal(graph, config, rng, engines))
    except (AssertionError, AccelError) as error:
        raise AssertionError(f"seed {seed}: {error}") from error
