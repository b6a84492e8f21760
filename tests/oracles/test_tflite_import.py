"""Imported TensorFlow Lite models equal TensorFlow Lite Micro: random models of every operator, and real networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from accel.frontends import load_model
from accel.frontends.tflite import blocks as tflite_blocks
from accel.frontends.tflite import choosing, host_products, litert
from accel.frontends.tflite import elementwise as tflite_elementwise
from accel.frontends.tflite import movement as tflite_movement
from accel.frontends.tflite import resize as tflite_resize
from accel.frontends.tflite import windows as tflite_windows
from accel.frontends.tflite.axes import Pick, Piece
from accel.frontends.tflite.operation import Operation
from accel.frontends.tflite.reader import read_tflite
from accel.network import fixed_point, reference
from accel.network.nodes import AveragePool2d
from accel.network.real import dequantize_output, quantize_input
from accel.quantized import recipes, tables
from accel.quantized.builder import GraphBuilder

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from support.oracles import tflite_litert_models, tflite_writer
from support.oracles import tflite_models as models
from support.oracles.tflite_runtime import REAL_MODELS, interpreter, outputs, random_samples, real_samples

FEW, MANY = 8, 250


def differences(model: bytes, samples: list[list[NDArray[np.int8]]], name: str) -> tuple[int, int]:
    """Output elements compared, and how many of them differ."""
    graph = read_tflite(model)
    runtime = interpreter(model, name)
    compared = differing = 0
    for sample in samples:
        values = reference.run(graph, dict(zip(graph.inputs, sample, strict=True)))
        for name, expected in zip(graph.outputs, outputs(runtime, sample, len(graph.outputs)), strict=True):
            assert values[name].size == expected.size
            compared += expected.size
            differing += np.count_nonzero(values[name].reshape(-1) != expected.reshape(-1))
    return compared, differing


def count_differences(builtin: str, count: int, seed: int = 7) -> tuple[int, int]:
    """Elements compared and differing in `count` random models of one operator."""
    compared = differing = 0
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        model = (models.MODELS | models.UNSIGNED)[builtin](rng)
        found = differences(model, random_samples(read_tflite(model), rng, 3), builtin)
        compared, differing = compared + found[0], differing + found[1]
    return compared, differing


@pytest.mark.parametrize("builtin", models.MODELS)
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.marathon)])
def test_operator_equals_tflite_micro(builtin: str, count: int) -> None:
    if count == FEW and builtin in tflite_litert_models.MODELS:
        count //= 2
    compared, differing = count_differences(builtin, count)
    print(f"tflite-micro, {count} models of {builtin}: {differing} of {compared} outputs differ")
    assert (compared > 0, differing) == (True, 0)


@pytest.mark.parametrize("builtin", models.UNSIGNED)
@pytest.mark.parametrize("count", [FEW // 2, pytest.param(MANY, marks=pytest.mark.marathon)])
def test_unsigned_operator_equals_litert(builtin: str, count: int) -> None:
    compared, differing = count_differences(builtin, count)
    print(f"LiteRT, {count} models of {builtin}: {differing} of {compared} outputs differ")
    assert (compared > 0, differing) == (True, 0)


def swapped_padding(op: Operation, *arguments: Any) -> tuple[int, int, int, int]:
    top, left, bottom, right = RIGHT_PADDING(op, *arguments)
    return bottom, right, top, left


RIGHT_PADDING = Operation.same_padding


def shifted_select(piece: Piece, builder: GraphBuilder, picks: list[Pick], name: str) -> Piece:
    """What is selected begins one later where that leaves as many elements."""
    shifted = [
        range(pick.start + 1, pick.stop, pick.step) if isinstance(pick, range) and pick.step > 1 else pick
        for pick in picks
    ]
    moved = [after if len(after) == len(pick) else pick for pick, after in zip(picks, shifted, strict=True)]
    return RIGHT_SELECT(piece, builder, moved, name)


RIGHT_SELECT = Piece.select


def swapped_blocks(op: Operation, value: str, sizes: tuple[int, ...], permutation: tuple[int, ...]) -> None:
    """Rows and columns of a block are mistaken for each other."""
    swapped = tuple({3: 4, 4: 3}.get(axis, axis) for axis in permutation)
    RIGHT_REARRANGE(op, value, sizes, swapped if len(sizes) == 6 else permutation)


RIGHT_REARRANGE = tflite_blocks.rearrange


def swapped_choice(op: Operation, kind: str, arguments: list[Any], *rest: Any, **attributes: Any) -> str:
    """What is chosen is mistaken for what is not."""
    swapped = [arguments[0], *arguments[:0:-1]] if kind == "Where" else arguments
    return RIGHT_EMIT(op, kind, swapped, *rest, **attributes)


RIGHT_EMIT, RIGHT_EMIT_SEVERAL = choosing.emit, choosing.emit_several


def shifted_points(schema: Any, tensor: Any, buffer: int) -> Any:
    """Zero points of the model of one operator are off by one."""
    declared = RIGHT_DECLARED(schema, tensor, buffer)
    if declared.quantization is not None and tensor.type == "INT8" and not tensor.variable:
        declared.quantization.zeroPoint = tensor.zero_point ^ 1
    return declared


RIGHT_DECLARED = litert._declared


def less(function: Callable[..., Any], amount: int) -> Callable[..., Any]:
    """`function` whose (first) result is smaller by `amount`."""

    def wrong(*arguments: Any) -> Any:
        result = function(*arguments)
        return (result[0] - amount, *result[1:]) if isinstance(result, tuple) else result - amount

    return wrong


MUTANTS: dict[str, tuple[Any, str, Any, tuple[str, ...]]] = {
    "padding": (Operation, "same_padding", swapped_padding, ("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D")),
    "multiplier": (
        recipes,
        "quantize_multiplier",
        less(recipes.quantize_multiplier, -(2**22)),
        (
            *("ADD", "SUB", "MUL", "MEAN", "SUM", "SQUARED_DIFFERENCE", "DIV", "PRELU"),
            *("BATCH_MATMUL, of two tensors", "ADD_N", "CUMSUM"),
        ),
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
        ("QUANTIZE", "RELU", "LEAKY_RELU", "ABS"),
    ),
    "real": (tables, "round_half_away", np.floor, ("ELU", "EXP", "GELU", "LOG")),
    "root, rounded": (tables, "root", lambda source, target: tables.real(source, target, np.sqrt), ("SQRT",)),
    "reversed": (tflite_movement, "reverse_picks", lambda op: [*map(range, op.tensor(0).shape)], ("REVERSE_V2",)),
    "comparison": (choosing, "requantize", lambda x, *_: x, ("GREATER", "EQUAL", "SELECT_V2")),
    "choice": (choosing, "emit", swapped_choice, ("SELECT_V2",)),
    "nudge": (host_products, "emit", swapped_choice, ("BATCH_MATMUL, of two tensors",)),
    "largest": (
        choosing,
        "emit_several",
        lambda op, kind, arguments, made: RIGHT_EMIT_SEVERAL(op, kind, arguments, made, largest=0),
        ("TOPK_V2",),
    ),
    "root": (fixed_point, "_ROOT_HALF", 1518500250 - 2**22, ("RSQRT", "LOG_SOFTMAX")),
    "mirror": (tflite_movement, "REFLECT", -1, ("MIRROR_PAD",)),
    "complement": (tflite_elementwise, "COMPLEMENT", np.arange(-128, 128, dtype=np.int8), ("MINIMUM",)),
    "unsigned": (tflite_windows, "UnsignedAveragePool2d", AveragePool2d, ("uint8 AVERAGE_POOL_2D",)),
    "nearest": (
        tflite_resize,
        "nearest",
        lambda source, target, aligned, half: tuple(i * source // target for i in range(target)),
        ("RESIZE_NEAREST_NEIGHBOR",),
    ),
    "bilinear": (tflite_resize, "INTERPOLATION_ONE", 1022, ("RESIZE_BILINEAR",)),
    "one operator": (litert, "_declared", shifted_points, ("FULLY_CONNECTED, of computed weights", "SVDF")),
    "slice": (Piece, "select", shifted_select, ("STRIDED_SLICE", "STRIDED_SLICE, all masks")),
    "blocks": (tflite_blocks, "rearrange", swapped_blocks, ("DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "SPACE_TO_BATCH_ND")),
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
    runtime = interpreter(model)
    runtime.set_input(real, 0)
    runtime.invoke()
    graph = read_tflite(model)
    assert (graph.inputs, [node.op for node in graph.nodes]) == (("t0",), ["Table"])
    values = reference.run(graph, quantize_input(graph, real, layout="NHWC"))
    result = dequantize_output(graph, values[graph.outputs[0]], layout="NHWC")
    assert np.array_equal(result, runtime.get_output(0))


@pytest.mark.parametrize("name", REAL_MODELS)
@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.marathon)])
def test_real_network_equals_tflite_micro(shared_models: Path, name: str, many: bool) -> None:
    graph = load_model(shared_models / name)
    x, labels = real_samples(shared_models, name)
    x, labels = (x, labels) if many else (x[:2], labels[:2])
    rng = np.random.default_rng(1)
    runtime = interpreter((shared_models / name).read_bytes())
    right = [0, 0]
    randoms = random_samples(graph, rng, 200 if many else 1)
    samples = [[sample[None]] for sample in x] + randoms
    for index, sample in enumerate(samples):
        result = reference.run(graph, sample[0])[graph.outputs[0]]
        (expected,) = outputs(runtime, sample, 1)
        assert np.array_equal(result, expected), f"sample {index}"
        if index < len(x):
            right[0] += int(result.argmax() == labels[index])
            right[1] += int(expected.argmax() == labels[index])
    print(f"{name}: {right[0]} of {len(x)} right, tflite-micro {right[1]}; {len(samples)} samples equal")
