"""Streaming networks: what they leave in resource variables is carried from run to run, as in TensorFlow Lite Micro."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

import accel
from accel.cli.main import main
from accel.errors import InputError, ModelError
from accel.frontends.tflite import svdf
from accel.frontends.tflite.reader import read_tflite
from accel.network import reference
from accel.network.graph_file import dump_graph, parse_graph

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from support.oracles.tflite_models import linear
from support.oracles.tflite_runtime import interpreter, outputs
from support.oracles.tflite_writer import ModelWriter

Samples = NDArray[np.int8]
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


def expected(model: bytes, frames: Samples, count: int) -> list[NDArray[np.int8]]:
    """Outputs of TensorFlow Lite Micro, which is given frame after frame; frames along the first axis."""
    runtime = interpreter(model)
    rows = [outputs(runtime, [frame[None]], count) for frame in frames]
    return [np.concatenate(values) for values in zip(*rows, strict=True)]


def random_frames(count: int) -> Samples:
    return np.random.default_rng(1).integers(-128, 128, (count, 1, 5, 6)).astype(np.int8)


CASES = pytest.mark.parametrize(("fill", "read_again"), [(7, False), (-20, True)])


@CASES
def test_states_are_carried(fill: int, read_again: bool) -> None:
    model, frames = streaming(np.full((1, 3, 5, 6), fill, np.int8), read_again=read_again), random_frames(6)
    graph = read_tflite(model)
    assert len(graph.states) == 1
    names, state, found = [t.name for t in graph.output_tensors], graph.initial_state(), []
    for frame in frames:
        values = reference.run(graph, {graph.input_tensors[0].name: frame[None], **state})
        state = graph.next_state(values)
        found.append([values[name] for name in names])
    for mine, theirs in zip(zip(*found, strict=True), expected(model, frames, len(names)), strict=True):
        np.testing.assert_array_equal(np.concatenate(mine), theirs)


@CASES
def test_programs_run_streams(fill: int, read_again: bool, tmp_path: Path) -> None:
    """Whole, cut in two with the state in between, and after a file; a fresh state for each frame would be wrong."""
    model, frames = streaming(np.full((1, 3, 5, 6), fill, np.int8), read_again=read_again), random_frames(6)
    accel.compile(read_tflite(model), "tiny").save(tmp_path / "a.program")
    program = accel.load_program(tmp_path / "a.program")
    right = expected(model, frames, len(program.outputs))
    whole, first = accel.run(program, frames), accel.run(program, frames[:2])
    second = accel.run(program, frames[2:], state=first.state, engine="stepped")
    forgetful = [accel.run(program, frame[None]) for frame in frames]
    for slot, truth in zip(program.outputs, right, strict=True):
        np.testing.assert_array_equal(whole.outputs[slot.name], truth)
        np.testing.assert_array_equal(np.concatenate([one.outputs[slot.name] for one in (first, second)]), truth)
        assert np.any(np.concatenate([one.outputs[slot.name] for one in forgetful]) != truth)
    assert {name: array.shape for name, array in whole.state.items()} == {program.states[0].input: (1, 3, 5, 6)}
    np.testing.assert_array_equal(next(iter(whole.state.values())), next(iter(second.state.values())))


def test_states_of_other_names_and_shapes_are_refused() -> None:
    program = accel.compile(read_tflite(streaming(np.full((1, 3, 5, 6), 7, np.int8))), "tiny")
    frame, name = random_frames(1), program.states[0].input
    with pytest.raises(InputError, match=rf"^states must be named {name}, got x$"):
        accel.run(program, frame, state={"x": frame})
    with pytest.raises(
        InputError, match=rf"^state '{name}' must be int8 of shape \(1, 3, 5, 6\), got int8 \(1, 1, 5, 6\)$"
    ):
        accel.run(program, frame, state={name: frame})
    with pytest.raises(InputError, match=r"^inputs must be named t1, got t1, t2: t2 is none of them$"):
        accel.run(program, {"t1": frame, "t2": frame})


def test_the_command_line_runs_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model, frames = streaming(np.full((1, 3, 5, 6), 7, np.int8)), random_frames(5)
    Path("a.tflite").write_bytes(model)
    np.save("x.npy", frames)
    result = CliRunner().invoke(main, ["run", "a.tflite", "--config", "tiny", "--input", "x.npy", "-o", "y.npy"])
    assert result.exit_code == 0, result.output
    assert "1 state, carried from each sample to the next" in result.output
    np.testing.assert_array_equal(np.load("y.npy"), expected(model, frames, 1)[0])


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.parametrize("frames", [None, 1, 3])
def test_streams_in_the_verilog(frames: int | None) -> None:
    """Two runs at least, of one power-up."""
    model = streaming(np.full((1, 3, 5, 6), 7, np.int8))
    program = accel.compile(read_tflite(model), "tiny")
    given = None if frames is None else random_frames(frames)
    found = accel.verify(program, given)
    runs = max(2, frames or 0)
    assert (found.samples, found.segments) == (runs, runs * len(program.machine_segments))
    if given is not None:
        stream = given if frames != 1 else np.repeat(given, 2, axis=0)
        np.testing.assert_array_equal(found.outputs[program.outputs[0].name], expected(model, stream, 1)[0][-1:])


def filtering(rng: np.random.Generator) -> bytes:
    """SVDF of INT8 throughout, whose products often leave the range of its state, which has a zero point."""
    writer, (features, units, rank, steps) = ModelWriter(), rng.integers(1, [20, 20, 4, 9]).tolist()
    filters, scale, point = units * rank, float(np.float32(rng.uniform(0.02, 0.1))), int(rng.integers(-128, 128))
    x = writer.tensor((1, features), scale, point)
    first, second = (np.float32(10 ** rng.uniform(-3, -1)) for _ in range(2))
    weights = writer.tensor((filters, features), first, 0, rng.integers(-127, 128, (filters, features)).astype(np.int8))
    times = writer.tensor((filters, steps), second, 0, rng.integers(-127, 128, (filters, steps)).astype(np.int8))
    kept = np.float32(scale * first * 73 * 73 * np.sqrt(features) / rng.uniform(10, 100))
    bias = rng.integers(-5000, 5000, units).astype(np.int32)
    biases = writer.tensor((units,), kept * second, 0, bias)
    zero = int(rng.choice([0, int(rng.integers(-128, 128))]))
    state = writer.tensor((1, filters * steps), kept, zero)
    writer.tensors[state].isVariable = True
    y = writer.tensor((1, units), kept * second * 60 * np.sqrt(rank * steps), int(rng.integers(-128, 128)))
    options = {"rank": rank, "fusedActivationFunction": 1}
    writer.operator("SVDF", [x, weights, times, biases, state], [y], "SVDFOptions", **options)
    return writer.finish([x], [y])


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.marathon)])
def test_filters_with_a_state_of_int8_are_the_machines(count: int) -> None:
    """The runtime limits products before it adds the state's zero point; sums beyond int8 wrap."""
    compared = differing = wrapped = 0
    for index in range(count):
        rng = np.random.default_rng([41, index])
        model = filtering(rng)
        graph = read_tflite(model)
        program = accel.compile(graph, "tiny")
        assert len(program.states) == 1
        assert {operator.op for operator in program.operators if operator.unit == "host"} <= {"Reshape"}
        frames = rng.integers(-128, 128, (10, *graph.input_tensors[0].shape[1:])).astype(np.int8)
        (truth,) = expected(model, frames, 1)
        result = accel.run(program, frames)
        compared, differing = (
            compared + truth.size,
            differing + np.count_nonzero(result.outputs[graph.outputs[0]] != truth),
        )
        wrapped += any(node.op == "Table" and np.any(np.diff(node.table.astype(int)) < 0) for node in graph.nodes)
    print(f"tflite-micro, {count} streams through SVDF of INT8: {differing} of {compared} outputs differ")
    assert (compared > 0, differing, wrapped > 0) == (True, 0, True)


def test_sums_that_do_not_wrap_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svdf, "_moved", lambda point: (np.arange(-128, 128) + point).clip(-128, 127).astype(np.int8))
    off = 0
    for index in range(12):
        rng = np.random.default_rng([41, index])
        model = filtering(rng)
        graph = read_tflite(model)
        frames = rng.integers(-128, 128, (10, *graph.input_tensors[0].shape[1:])).astype(np.int8)
        result = accel.run(accel.compile(graph, "tiny"), frames)
        off += np.count_nonzero(result.outputs[graph.outputs[0]] != expected(model, frames, 1)[0])
    assert off


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


def test_the_first_of_several_subgraphs_is_read(caplog: pytest.LogCaptureFixture) -> None:
    writer = ModelWriter()
    x, y = (writer.tensor((1, 2, 2, 3), *PARAMETERS) for _ in range(2))
    writer.operator("RELU", [x], [y])
    writer.next_subgraph([x], [y])
    x, y = (writer.tensor((1, 5), *PARAMETERS) for _ in range(2))
    writer.operator("ABS", [x], [y])
    with caplog.at_level(logging.WARNING):
        assert read_tflite(writer.finish([x], [y])).input_tensors[0].shape == (1, 2, 2, 3)
    assert caplog.messages == ["the first of 2 subgraphs is read, 'model'"]
