"""Streaming networks: what they leave in resource variables is carried from run to run, as in TensorFlow Lite Micro."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import accel
from accel.errors import ModelError
from accel.frontends.tflite.reader import read_tflite
from accel.network import reference
from accel.network.graph import Graph
from accel.network.graph_file import dump_graph, parse_graph

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from support.oracles.tflite_models import linear
from support.oracles.tflite_runtime import interpreter, outputs
from support.oracles.tflite_writer import ModelWriter

Samples = dict[str, NDArray[np.int8]]
Engine = Callable[[Graph], Callable[[Samples], Samples]]
PARAMETERS = (0.05, 7)


def streaming(initial: NDArray[np.int8], *, read_again: bool = False) -> bytes:
    """A convolution over the last four frames, of which a variable holds three."""
    rng, writer = np.random.default_rng(3), ModelWriter()
    handle = writer.tensor((), kind="RESOURCE")
    x, old = writer.tensor((1, 1, 5, 6), *PARAMETERS), writer.tensor((1, 3, 5, 6), *PARAMETERS)
    frames, new = writer.tensor((1, 4, 5, 6), *PARAMETERS), writer.tensor((1, 3, 5, 6), *PARAMETERS)
    weights, bias, scale = linear(rng, writer, (8, 4, 3, 6), 0, PARAMETERS[0], biased=1)
    y = writer.tensor((1, 1, 3, 8), scale, -3)
    writer.operator("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
    writer.operator("VAR_HANDLE", [], [handle], "VarHandleOptions", container="", sharedName="frames")
    writer.operator("READ_VARIABLE", [handle], [old], "ReadVariableOptions")
    writer.operator("CONCATENATION", [old, x], [frames], "ConcatenationOptions", axis=1)
    bounds = [writer.integers(numbers) for numbers in ([0, 1, 0, 0], [1, 3, 5, 6])]
    writer.operator("SLICE", [frames, *bounds], [new], "SliceOptions")
    writer.operator("ASSIGN_VARIABLE", [handle, new], [], "AssignVariableOptions")
    options = {"padding": 1, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    writer.operator("CONV_2D", [frames, weights, bias], [y], "Conv2DOptions", **options)
    results = [y]
    if read_again:
        results.append(writer.tensor((1, 3, 5, 6), *PARAMETERS))
        writer.operator("READ_VARIABLE", [handle], [results[-1]], "ReadVariableOptions")
    writer.next_subgraph([x], results)
    handle = writer.tensor((), kind="RESOURCE")
    value = writer.tensor((1, 3, 5, 6), *PARAMETERS, initial)
    writer.operator("VAR_HANDLE", [], [handle], "VarHandleOptions", container="", sharedName="frames")
    writer.operator("ASSIGN_VARIABLE", [handle, value], [], "AssignVariableOptions")
    return writer.finish([], [])


def on_reference(graph: Graph) -> Callable[[Samples], Samples]:
    return lambda sample: reference.run(graph, sample)


def on_machine(graph: Graph) -> Callable[[Samples], Samples]:
    program = accel.compile(graph, "tiny")
    return lambda sample: accel.run(program, sample).outputs


@pytest.mark.parametrize("engine", [on_reference, on_machine])
@pytest.mark.parametrize(("fill", "read_again"), [(7, False), (-20, True)])
def test_states_are_carried(engine: Engine, fill: int, read_again: bool) -> None:
    model = streaming(np.full((1, 3, 5, 6), fill, np.int8), read_again=read_again)
    graph, runtime, rng = read_tflite(model), interpreter(model), np.random.default_rng(1)
    run, state = engine(graph), graph.initial_state()
    count = 1 + read_again
    for _ in range(6):
        frame = rng.integers(-128, 128, (1, 1, 5, 6)).astype(np.int8)
        found = run({graph.inputs[0]: frame, **state})
        for name, expected in zip(graph.outputs[:count], outputs(runtime, [frame], count), strict=True):
            assert np.array_equal(found[name].reshape(-1), expected.reshape(-1))
        state = graph.next_state(found)


def test_graph_file_keeps_states() -> None:
    graph = read_tflite(streaming(np.full((1, 3, 5, 6), 7, np.int8)))
    assert len(graph.states) == 1
    assert parse_graph(dump_graph(graph)).states == graph.states


def test_variable_of_several_numbers_is_refused() -> None:
    message = "^tensor 't1': variable '/frames' must be initialized with one number, got 2$"
    initial = np.zeros((1, 3, 5, 6), np.int8)
    initial[0, 0, 0, 0] = 1
    with pytest.raises(ModelError, match=message):
        read_tflite(streaming(initial))


def test_subgraphs_of_something_else_are_refused() -> None:
    writer = ModelWriter()
    x, y = (writer.tensor((1, 2, 2, 3), *PARAMETERS) for _ in range(2))
    writer.operator("RELU", [x], [y])
    writer.next_subgraph([x], [y])
    message = "^model must have one subgraph, or more for CALL_ONCE only, got 2$"
    with pytest.raises(ModelError, match=message):
        read_tflite(writer.finish([], []))
