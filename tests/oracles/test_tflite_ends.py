"""Layout changes at the ends of TensorFlow Lite files cost nothing, and users have the model's own shapes."""

from __future__ import annotations

import numpy as np
import pytest

import accel
from accel.errors import ModelError
from accel.frontends.tflite import ends
from accel.frontends.tflite.reader import read_tflite
from accel.network.reference import run
from accel.program.samples import join_samples, split_samples

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from support.oracles.tflite_models import linear
from support.oracles.tflite_runtime import LiteRt, interpreter, outputs, random_samples
from support.oracles.tflite_unsigned import unsigned
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


def unusual(kind: str) -> bytes:
    """A convolution whose file has an unusual end."""
    rng, writer = np.random.default_rng(3), ModelWriter()
    x = image = writer.tensor(NHWC, *PARAMETERS)
    inputs, extra = [x], list[int]()
    if kind == "an input of 16 bits that nothing reads":
        inputs.append(writer.tensor((1, 3), 0.1, 0, kind="INT16"))
    elif kind == "an input without a scale that nothing reads":
        inputs.append(writer.tensor((1, 3)))
    elif kind == "a constant of integers":
        extra.append(writer.tensor((1, 3), 0.1, 2, np.array([[1, -128, 127]], np.int8)))
    elif kind == "a constant of real numbers":
        extra.append(writer.tensor((2,), data=np.array([0.5, -3], np.float32)))
    elif kind == "stored integers as numbers":
        extra.append(writer.tensor(NHWC, kind="INT32"))
        writer.operator("CAST", [x], extra, "CastOptions", inDataType=9, outDataType=2)
    elif kind == "stored integers as real numbers":
        real, image = writer.tensor(NHWC, kind="FLOAT32"), writer.tensor(NHWC, 0.9, 3)
        writer.operator("CAST", [x], [real], "CastOptions", inDataType=9, outDataType=0)
        writer.operator("QUANTIZE", [real], [image])
    weights, bias, scale = linear(rng, writer, (5, 3, 3, 3), 0, writer.tensors[image].quantization.scale[0], biased=1)
    y = writer.tensor((1, 8, 9, 5), scale, -3)
    options = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    writer.operator("CONV_2D", [image, weights, bias], [y], "Conv2DOptions", **options)
    return writer.finish(inputs, [y, y] if kind == "an output twice" else [y, *extra])


@pytest.mark.parametrize(
    "kind",
    [
        "an input of 16 bits that nothing reads",
        "an input without a scale that nothing reads",
        "a constant of integers",
        "a constant of real numbers",
        "an output twice",
        "stored integers as numbers",
        "stored integers as real numbers",
    ],
)
def test_unusual_ends_equal_litert(kind: str) -> None:
    model = unusual(kind)
    runtime, program = LiteRt(model), accel.compile(read_tflite(model), "tiny")
    rng = np.random.default_rng(5)
    samples = [rng.integers(-128, 128, slot.source.shape).astype(slot.dtype) for slot in program.inputs if slot.source]
    for number, sample in enumerate(samples):
        runtime.set_input(sample, number)
    runtime.invoke()
    named = {slot.name: sample.reshape(slot.shape) for slot, sample in zip(program.inputs, samples, strict=True)}
    found = accel.run(program, named).outputs
    assert len(found) == (1 if "input" in kind else 2 - (kind == "stored integers as real numbers"))
    for number, value in enumerate(found.values()):
        truth = runtime.get_output(number)
        assert np.array_equal(np.asarray(value).reshape(-1), truth.reshape(-1))


def test_images_of_a_batch_equal_litert() -> None:
    writer = ModelWriter()
    x, y = writer.tensor((2, 4, 4, 3), *PARAMETERS), writer.tensor((2, 4, 4, 3), *PARAMETERS)
    options = {"strideH": 1, "strideW": 1, "filterHeight": 1, "filterWidth": 1}
    writer.operator("MAX_POOL_2D", [x], [y], "Pool2DOptions", **options)
    model = writer.finish([x], [y])
    graph, runtime = read_tflite(model), LiteRt(model)
    for sample in random_samples(graph, np.random.default_rng(3), 3):
        found = run(graph, sample[0])[graph.outputs[0]]
        assert np.array_equal(found.reshape(-1), outputs(runtime, sample, 1)[0].reshape(-1))


@pytest.mark.parametrize("real", ["", "DEQUANTIZE"])
@pytest.mark.parametrize("after", ["", "TRANSPOSE"])
def test_outputs_have_the_type_that_the_runtime_gives(after: str, real: str) -> None:
    rng = np.random.default_rng(4)
    model = unsigned(convolution("", after), rng)
    program, runtime = accel.compile(read_tflite(model), "tiny"), LiteRt(model)
    x = rng.integers(0, 256, (3, *NHWC[1:])).astype(np.uint8)
    runs = [accel.run(program, sample).outputs for sample in split_samples(program, x)]
    (found,) = join_samples(program, runs, None, real=bool(real)).values()
    truth = []
    for sample in x:
        runtime.set_input(sample[None], 0)
        runtime.invoke()
        truth.append(runtime.get_output(0)[0])
    if real:
        tensor = program.outputs[0]
        steps = np.stack(truth).astype(np.float32) - np.float32(tensor.zero_point + 128)
        assert np.array_equal(found, steps * np.float32(tensor.scale))
    else:
        assert found.dtype == truth[0].dtype == np.uint8
        assert np.array_equal(found, truth)


def test_operators_that_no_runtime_has_for_integers_say_what_to_do() -> None:
    writer = ModelWriter()
    x, y = writer.tensor(NHWC, *PARAMETERS), writer.tensor(NHWC, *PARAMETERS)
    writer.operator("FLOOR", [x], [y])
    message = "^FLOOR 0: operator is supported on real numbers, got INT8; put DEQUANTIZE before and QUANTIZE after it$"
    with pytest.raises(ModelError, match=message):
        read_tflite(writer.finish([x], [y]))


def test_images_of_an_old_uint8_model_are_its_integers() -> None:
    writer = ModelWriter()
    x, y = (writer.tensor((1, 4, 6, 3), scale, 0, kind="UINT8") for scale in (1 / 255, 1 / 256))
    writer.operator("LOGISTIC", [x], [y])
    model = writer.finish([x], [y])
    graph, image = read_tflite(model), np.random.default_rng(7).integers(0, 256, (1, 4, 6, 3)).astype(np.uint8)
    program, integers = accel.compile(graph, "tiny"), accel.quantize_input(graph, image)
    assert np.array_equal(integers, accel.quantize_input(program, image / np.float32(255)))
    assert np.array_equal(integers, accel.quantize_input(graph, integers))
    (expected,) = outputs(LiteRt(model), [integers], 1)
    (found,) = accel.run(program, integers).outputs.values()
    assert np.array_equal(found.reshape(-1), expected.reshape(-1))
