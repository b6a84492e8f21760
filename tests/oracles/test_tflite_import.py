"""Imported TensorFlow Lite models equal TensorFlow Lite Micro: random models of every operator, and real networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from accel import fixed_point, reference
from accel.graph import Graph
from accel.importers import load_model, tables, tflite_arithmetic, tflite_movement
from accel.importers.tflite import read_tflite
from accel.importers.tflite_operation import Operation
from accel.quantizer import dequantize_output, quantize_input

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

import tflite_models as models
import tflite_writer
from tflite_micro import runtime

ARENA_BYTES = 2**24
FEW, MANY = 5, 250


def outputs(interpreter: Any, inputs: list[NDArray[np.int8]], count: int) -> list[NDArray[Any]]:
    """The runtime's outputs for int8 inputs; uint8 ends are shifted by 128."""
    for index, value in enumerate(inputs):
        details = interpreter.get_input_details(index)
        shifted = (value.astype(np.int16) + 128).astype(np.uint8) if details["dtype"] == np.uint8 else value
        interpreter.set_input(shifted.reshape(details["shape"]), index)
    interpreter.invoke()
    values = [interpreter.get_output(index) for index in range(count)]
    return [(v.astype(np.int16) - 128).astype(np.int8) if v.dtype == np.uint8 else v for v in values]


def differences(model: bytes, samples: list[list[NDArray[np.int8]]]) -> tuple[int, int]:
    """Output elements compared, and how many of them differ."""
    graph = read_tflite(model)
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=ARENA_BYTES)
    compared = differing = 0
    for sample in samples:
        values = reference.run(graph, dict(zip(graph.inputs, sample, strict=True)))
        for name, expected in zip(graph.outputs, outputs(interpreter, sample, len(graph.outputs)), strict=True):
            assert values[name].size == expected.size
            compared += expected.size
            differing += np.count_nonzero(values[name].reshape(-1) != expected.reshape(-1))
    return compared, differing


def random_samples(graph: Graph, rng: np.random.Generator, count: int) -> list[list[NDArray[np.int8]]]:
    """Random inputs; the last sample holds extremes only."""
    samples = []
    for index in range(count):
        values = [-128, 127] if index == count - 1 else range(-128, 128)
        samples.append([rng.choice(values, graph.tensors[name].shape).astype(np.int8) for name in graph.inputs])
    return samples


def count_differences(builtin: str, count: int, seed: int = 7) -> tuple[int, int]:
    """Elements compared and differing in `count` random models of one operator."""
    compared = differing = 0
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        model = models.MODELS[builtin](rng)
        found = differences(model, random_samples(read_tflite(model), rng, 3))
        compared, differing = compared + found[0], differing + found[1]
    return compared, differing


@pytest.mark.parametrize("builtin", models.MODELS)
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.marathon)])
def test_operator_equals_tflite_micro(builtin: str, count: int) -> None:
    compared, differing = count_differences(builtin, count)
    print(f"tflite-micro, {count} models of {builtin}: {differing} of {compared} outputs differ")
    assert (compared > 0, differing) == (True, 0)


def swapped_padding(op: Operation, *arguments: Any) -> tuple[int, int, int, int]:
    top, left, bottom, right = RIGHT_PADDING(op, *arguments)
    return bottom, right, top, left


RIGHT_PADDING = Operation.same_padding


def shifted_slice(op: Operation, bounds: list[tuple[int, int, int]], output: int, source: int) -> None:
    """Slices begin one later where that leaves as many elements."""
    shifted = [(begin + ((end - 1 - begin) % stride > 0), end, stride) for begin, end, stride in bounds]
    RIGHT_SLICE(op, shifted, output, source)


RIGHT_SLICE = tflite_movement._slice


def less(function: Callable[..., Any], amount: int) -> Callable[..., Any]:
    """`function` whose (first) result is smaller by `amount`."""

    def wrong(*arguments: Any) -> Any:
        result = function(*arguments)
        return (result[0] - amount, *result[1:]) if isinstance(result, tuple) else result - amount

    return wrong


MUTANTS: dict[str, tuple[Any, str, Any, tuple[str, ...]]] = {
    "padding": (Operation, "same_padding", swapped_padding, ("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D")),
    "multiplier": (
        tflite_arithmetic,
        "quantize_multiplier",
        less(tflite_arithmetic.quantize_multiplier, -(2**22)),
        ("ADD", "SUB", "MUL", "MEAN"),
    ),
    "reciprocal": (
        fixed_point,
        "reciprocal_of_half_plus",
        less(fixed_point.reciprocal_of_half_plus, 2**18),
        ("LOGISTIC", "TANH"),
    ),
    "multiply16": (tables, "_multiply16", lambda a, b: a * b >> 15, ("HARD_SWISH",)),
    "rescale": (
        tables,
        "requantize",
        lambda x, q, e, mode: reference.requantize(x, q, e, "single"),
        ("QUANTIZE", "RELU", "LEAKY_RELU"),
    ),
    "nearest": (
        tflite_movement,
        "_nearest",
        lambda source, target, aligned, half: tuple(i * source // target for i in range(target)),
        ("RESIZE_NEAREST_NEIGHBOR",),
    ),
    "bilinear": (tflite_movement, "INTERPOLATION_ONE", 1022, ("RESIZE_BILINEAR",)),
    "slice": (tflite_movement, "_slice", shifted_slice, ("STRIDED_SLICE",)),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_suite_catches(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, name, wrong, suites = MUTANTS[mutant]
    monkeypatch.setattr(where, name, wrong)
    for builtin in suites:
        assert count_differences(builtin, 20)[1] > 0, builtin


def test_real_inputs_and_outputs() -> None:
    writer = tflite_writer.ModelWriter()
    x = writer.tensor((1, 4, 5, 3), kind="FLOAT32")
    a, b = writer.tensor((1, 4, 5, 3), 0.03, 5), writer.tensor((1, 4, 5, 3), 0.02, -9)
    y = writer.tensor((1, 4, 5, 3), kind="FLOAT32")
    writer.operator("QUANTIZE", [x], [a], "QuantizeOptions")
    writer.operator("RELU", [a], [b])
    writer.operator("DEQUANTIZE", [b], [y], "DequantizeOptions")
    model = writer.finish([x], [y])
    real = np.random.default_rng(1).normal(0, 2, (1, 4, 5, 3)).astype(np.float32)
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=ARENA_BYTES)
    interpreter.set_input(real, 0)
    interpreter.invoke()
    graph = read_tflite(model)
    assert (graph.inputs, [node.op for node in graph.nodes]) == (("t0",), ["Table"])
    values = reference.run(graph, quantize_input(graph, real, layout="NHWC"))
    result = dequantize_output(graph, values[graph.outputs[0]], layout="NHWC")
    assert np.array_equal(result, interpreter.get_output(0))


EGYPTIAN_CAT = 286
REAL_MODELS = {
    "mlperf_tiny/resnet8_int8.tflite": "cifar10_500.npz",
    "mlperf_tiny/dscnn_kws_int8.tflite": "kws_1000.npz",
    "imagenet/mobilenet_v2_int8.tflite": "",
}


def real_samples(folder: Path, name: str) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Real int8 inputs and their labels."""
    if not REAL_MODELS[name]:
        return photo(folder)[None], np.array([EGYPTIAN_CAT])
    with np.load(folder / "samples" / REAL_MODELS[name]) as archive:
        x, y = archive["x"], archive["y"]
    x = (x.astype(np.int16) - 128).astype(np.int8) if x.dtype == np.uint8 else x
    return x, y.astype(np.int64)


def photo(folder: Path) -> NDArray[np.int8]:
    """The middle of a 24-bit bitmap, every few pixels, as 224 x 224 int8 pixels."""
    data = (folder / "imagenet" / "cat.bmp").read_bytes()
    offset, width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (10, 18, 22))
    row_bytes = (width * 3 + 3) // 4 * 4
    rows = np.frombuffer(data, np.uint8, row_bytes * abs(height), offset).reshape(abs(height), row_bytes)
    pixels = rows[:: -1 if height > 0 else 1, : width * 3].reshape(abs(height), width, 3)[:, :, ::-1]
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    index = np.arange(224) * side // 224
    square = pixels[top : top + side, left : left + side][index][:, index]
    return (square.astype(np.int16) - 128).astype(np.int8)


@pytest.mark.parametrize("name", REAL_MODELS)
@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.marathon)])
def test_real_network_equals_tflite_micro(shared_models: Path, name: str, many: bool) -> None:
    graph = load_model(shared_models / name)
    x, labels = real_samples(shared_models, name)
    x, labels = (x, labels) if many else (x[:2], labels[:2])
    rng = np.random.default_rng(1)
    interpreter = runtime.Interpreter.from_bytes((shared_models / name).read_bytes(), arena_size=ARENA_BYTES)
    right = [0, 0]
    randoms = random_samples(graph, rng, 200 if many else 1)
    samples = [[sample[None]] for sample in x] + randoms
    for index, sample in enumerate(samples):
        result = reference.run(graph, sample[0])[graph.outputs[0]]
        (expected,) = outputs(interpreter, sample, 1)
        assert np.array_equal(result, expected), f"sample {index}"
        if index < len(x):
            right[0] += int(result.argmax() == labels[index])
            right[1] += int(expected.argmax() == labels[index])
    print(f"{name}: {right[0]} of {len(x)} right, tflite-micro {right[1]}; {len(samples)} samples equal")
