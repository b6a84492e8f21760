"""Layout changes at the ends of TensorFlow Lite files cost nothing, and users have the model's own shapes."""

from __future__ import annotations

import numpy as np
import pytest

import accel
from accel.frontends.tflite import ends
from accel.frontends.tflite.reader import read_tflite
from accel.program.samples import join_samples, split_samples

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from support.oracles.tflite_models import linear
from support.oracles.tflite_runtime import interpreter
from support.oracles.tflite_writer import ModelWriter

PARAMETERS = (0.05, 7)
NHWC, NCHW = (1, 8, 9, 3), (1, 3, 8, 9)


def convolution(before: str, after: str) -> bytes:
    """A convolution between changes of layout: flat, or channels first."""
    rng, writer = np.random.default_rng(3), ModelWriter()
    shape = {"": NHWC, "RESHAPE": (1, 216), "TRANSPOSE": NCHW, "SQUEEZE": (8, 9, 3)}[before]
    x = image = writer.tensor(shape, *PARAMETERS)
    if before:
        image = writer.tensor(NHWC, *PARAMETERS)
        constant = writer.integers((0, 2, 3, 1) if before == "TRANSPOSE" else NHWC)
        kind = "TRANSPOSE" if before == "TRANSPOSE" else "RESHAPE"
        writer.operator(kind, [x, constant], [image], "TransposeOptions" if kind == "TRANSPOSE" else "ReshapeOptions")
    weights, bias, scale = linear(rng, writer, (5, 3, 3, 3), 0, PARAMETERS[0], biased=1)
    y = result = writer.tensor((1, 8, 9, 5), scale, -3)
    options = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    writer.operator("CONV_2D", [image, weights, bias], [y], "Conv2DOptions", **options)
    if after:
        result = writer.tensor((1, 5, 8, 9), scale, -3)
        writer.operator("TRANSPOSE", [y, writer.integers((0, 3, 1, 2))], [result], "TransposeOptions")
    return writer.finish([x], [result])


def differences(model: bytes) -> int:
    program, runtime = accel.compile(read_tflite(model), "tiny"), interpreter(model)
    source = program.inputs[0].source
    assert source is not None
    x = np.random.default_rng(5).integers(-128, 128, (2, *source.samples_shape)).astype(np.int8)
    samples = split_samples(program, x)
    found = join_samples(program, [accel.run(program, sample).outputs for sample in samples], None, real=False)
    wrong = 0
    for number, sample in enumerate(x):
        runtime.set_input(sample.reshape(source.shape), 0)
        runtime.invoke()
        truth = runtime.get_output(0)
        mine = next(iter(found.values()))[number]
        assert mine.shape == truth.shape[1:]
        wrong += int(np.count_nonzero(mine != truth[0]))
    return wrong


@pytest.mark.parametrize("after", ["", "TRANSPOSE"])
@pytest.mark.parametrize("before", ["", "RESHAPE", "TRANSPOSE", "SQUEEZE"])
def test_changes_of_layout_cost_nothing(before: str, after: str) -> None:
    model = convolution(before, after)
    graph = read_tflite(model)
    assert [node.op for node in graph.nodes] == ["Conv2d"]
    assert differences(model) == 0
    plain = accel.compile(read_tflite(convolution("", "")), "tiny")
    assert accel.compile(graph, "tiny").code == plain.code


@pytest.mark.parametrize(("before", "after"), [("TRANSPOSE", ""), ("", "TRANSPOSE")])
def test_a_layout_of_another_order_is_noticed(before: str, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "_permuted", lambda tensor, order: tensor.source)
    assert differences(convolution(before, after)) > 0


def test_ends_that_others_read_keep_their_operators() -> None:
    writer = ModelWriter()
    x, y, z = writer.tensor(NCHW, *PARAMETERS), writer.tensor(NHWC, *PARAMETERS), writer.tensor(NCHW, *PARAMETERS)
    writer.operator("TRANSPOSE", [x, writer.integers((0, 2, 3, 1))], [y], "TransposeOptions")
    writer.operator("RELU", [x], [z])
    graph = read_tflite(writer.finish([x], [y, z]))
    assert sorted(node.op for node in graph.nodes) == ["Table", "Transpose"]
