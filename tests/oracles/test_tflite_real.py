"""Real heads and tails of quantized TensorFlow Lite files, and places of largest elements: the host's, as in LiteRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import accel
from accel.errors import ModelError
from accel.frontends.tflite.reader import read_tflite
from accel.frontends.tflite.real import REAL
from accel.network import reference

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from support.oracles.tflite_runtime import LiteRt, interpreter, outputs
from support.oracles.tflite_writer import ModelWriter

PARAMETERS = (0.04, 5)
SHAPE = (1, 4, 6)
F32 = np.float32
RELATIVE, ABSOLUTE = 2e-6, 1e-6
"""Differences allowed between real numbers."""


def constant(writer: ModelWriter, *values: Any) -> list[int]:
    """Indices of real constants."""
    return [writer.tensor(np.shape(v), data=np.asarray(v, F32)) for v in values]


def random(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(7).normal(0, 1, shape).astype(F32)


Row = tuple[str, list[Any], tuple[int, ...], str, str, dict[str, Any]]


def _unary(kind: str = "", **options: Any) -> Row:
    return "", [], SHAPE, "FLOAT32", kind, options


POSITIVE = "RELU6"
"""What makes all numbers positive before an operator that needs it."""
ROWS: dict[str, Row] = {
    **dict.fromkeys(("ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "HARD_SWISH", "LOGISTIC", "LOG_SOFTMAX"), _unary()),
    **dict.fromkeys(("NEG", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND"), _unary()),
    **dict.fromkeys(("SIGN", "SIN", "SQUARE", "TANH"), _unary()),
    "BROADCAST_TO": ("", [np.int32([3, 4, 6])], (3, 4, 6), "FLOAT32", "", {}),
    "REVERSE_V2": ("", [np.int32([1, 2])], SHAPE, "FLOAT32", "", {}),
    **dict.fromkeys(("LOG", "RSQRT", "SQRT"), (POSITIVE, [], SHAPE, "FLOAT32", "", {})),
    "ADD": ("", [random(6)], SHAPE, "FLOAT32", "AddOptions", {"fusedActivationFunction": 1}),
    "SUB": ("", [random(4, 1)], SHAPE, "FLOAT32", "SubOptions", {"fusedActivationFunction": 2}),
    "MUL": ("", [random(1, 4, 6)], SHAPE, "FLOAT32", "MulOptions", {"fusedActivationFunction": 3}),
    "DIV": ("", [F32(0.3)], SHAPE, "FLOAT32", "DivOptions", {}),
    "FLOOR_DIV": ("", [F32(0.3)], SHAPE, "FLOAT32", "", {}),
    "GATHER_ND": ("", [np.int32([[0, 3], [0, 0], [0, 1]])], (3, 6), "FLOAT32", "", {}),
    "POW": ("", [F32(2)], SHAPE, "FLOAT32", "", {}),
    "MAXIMUM": ("", [random(6)], SHAPE, "FLOAT32", "", {}),
    "MINIMUM": ("", [random(6)], SHAPE, "FLOAT32", "", {}),
    "SQUARED_DIFFERENCE": ("", [random(6)], SHAPE, "FLOAT32", "", {}),
    "PRELU": ("", [random(1, 1, 6)], SHAPE, "FLOAT32", "", {}),
    "LEAKY_RELU": _unary("LeakyReluOptions", alpha=0.3),
    "SOFTMAX": _unary("SoftmaxOptions", beta=0.7),
    "L2_NORMALIZATION": _unary("L2NormOptions"),
    "GREATER": ("", [F32(0.2)], SHAPE, "BOOL", "", {}),
    "GREATER_EQUAL": ("", [F32(0.2)], SHAPE, "BOOL", "", {}),
    "LESS": ("", [F32(0.2)], SHAPE, "BOOL", "", {}),
    "LESS_EQUAL": ("", [F32(0.2)], SHAPE, "BOOL", "", {}),
    "EQUAL": ("", [F32(0.2)], SHAPE, "BOOL", "", {}),
    "NOT_EQUAL": ("", [F32(0.2)], SHAPE, "BOOL", "", {}),
    "CAST": ("", [], SHAPE, "INT32", "CastOptions", {"inDataType": 0, "outDataType": 2}),
    "ARG_MAX": ("", [np.int32(2)], (1, 4), "INT64", "ArgMaxOptions", {"outputType": 4}),
    "ARG_MIN": ("", [np.int32(-2)], (1, 6), "INT32", "ArgMinOptions", {"outputType": 2}),
    "MEAN": ("", [np.int32([1])], (1, 1, 6), "FLOAT32", "ReducerOptions", {"keepDims": True}),
    "SUM": ("", [np.int32([-1, 1])], (1,), "FLOAT32", "ReducerOptions", {}),
    "REDUCE_MAX": ("", [np.int32([2])], (1, 4), "FLOAT32", "ReducerOptions", {}),
    "REDUCE_MIN": ("", [np.int32([2])], (1, 4), "FLOAT32", "ReducerOptions", {}),
    "REDUCE_PROD": ("", [np.int32([1])], (1, 6), "FLOAT32", "ReducerOptions", {}),
    "RESHAPE": ("", [np.int32([2, 12])], (2, 12), "FLOAT32", "ReshapeOptions", {}),
    "EXPAND_DIMS": ("", [np.int32(1)], (1, 1, 4, 6), "FLOAT32", "", {}),
    "SQUEEZE": ("", [], (4, 6), "FLOAT32", "SqueezeOptions", {"squeezeDims": [0]}),
    "TRANSPOSE": ("", [np.int32([2, 0, 1])], (6, 1, 4), "FLOAT32", "", {}),
    "TILE": ("", [np.int32([1, 2, 3])], (1, 8, 18), "FLOAT32", "", {}),
    "SLICE": ("", [np.int32([0, 1, 2]), np.int32([1, 2, -1])], (1, 2, 4), "FLOAT32", "", {}),
    "STRIDED_SLICE": ("", [np.int32([0, 3, 1]), np.int32([1, 0, 6]), np.int32([1, -2, 2])], (2, 3), "FLOAT32",
                      "StridedSliceOptions", {"shrinkAxisMask": 1}),
    "GATHER": ("", [np.int32([3, 0, 0])], (1, 3, 6), "FLOAT32", "GatherOptions", {"axis": 1}),
    "PAD": ("", [np.int32([[0, 0], [1, 0], [0, 2]])], (1, 5, 8), "FLOAT32", "", {}),
    "PADV2": ("", [np.int32([[0, 0], [1, 0], [0, 2]]), F32(-3)], (1, 5, 8), "FLOAT32", "", {}),
    "CONCATENATION": ("", [random(1, 3, 6)], (1, 7, 6), "FLOAT32", "ConcatenationOptions", {"axis": 1}),
    "PACK": ("", [random(1, 4, 6)], (1, 2, 4, 6), "FLOAT32", "PackOptions", {"axis": 1, "valuesCount": 2}),
    "FULLY_CONNECTED": ("", [random(5, 6), random(5)], (4, 5), "FLOAT32", "FullyConnectedOptions", {}),
    "BATCH_MATMUL": ("", [random(1, 5, 6)], (1, 4, 5), "FLOAT32", "BatchMatMulOptions", {"adjY": True}),
}  # fmt: skip


MICRO = ("CEIL", "ELU", "ROUND")
"""Operators that LiteRT's reference kernels lack: TensorFlow Lite Micro has them."""


def tail(builtin: str) -> bytes:
    """A function on the machine, DEQUANTIZE, and one operator on real numbers."""
    before, constants, shape, kind, options, values = ROWS[builtin]
    writer = ModelWriter()
    x, q, r = writer.tensor(SHAPE, *PARAMETERS), writer.tensor(SHAPE, *PARAMETERS), writer.tensor(SHAPE, kind="FLOAT32")
    if before:
        writer.operator(before, [x], [q])
    else:
        writer.operator("LEAKY_RELU", [x], [q], "LeakyReluOptions", alpha=0.5)
    writer.operator("DEQUANTIZE", [q], [r])
    y = writer.tensor(shape, kind=kind)
    given = [writer.tensor(np.shape(v), data=np.asarray(v)) for v in constants]
    writer.operator(builtin, [r, *given], [y], options, **values)
    return writer.finish([x], [y])


def parts(builtin: str) -> bytes:
    """SPLIT, SPLIT_V, UNPACK or TOPK_V2 of real numbers."""
    writer = ModelWriter()
    x, r = writer.tensor(SHAPE, *PARAMETERS), writer.tensor(SHAPE, kind="FLOAT32")
    writer.operator("DEQUANTIZE", [x], [r])
    axis, sizes = writer.integers(2), writer.integers([2, -1])
    if builtin == "TOPK_V2":
        outputs = [writer.tensor((1, 4, 3), kind=kind) for kind in ("FLOAT32", "INT32")]
        writer.operator(builtin, [r, writer.integers(3)], outputs, "TopKV2Options")
        return writer.finish([x], outputs)
    shapes = {"SPLIT": [(1, 4, 3)] * 2, "SPLIT_V": [(1, 4, 2), (1, 4, 4)], "UNPACK": [(1, 6)] * 4}[builtin]
    outputs = [writer.tensor(shape, kind="FLOAT32") for shape in shapes]
    if builtin == "SPLIT":
        writer.operator(builtin, [axis, r], outputs, "SplitOptions", numSplits=2)
    elif builtin == "SPLIT_V":
        writer.operator(builtin, [r, sizes, axis], outputs, "SplitVOptions", numSplits=2)
    else:
        writer.operator(builtin, [r], outputs, "UnpackOptions", num=4, axis=1)
    return writer.finish([x], outputs)


def choice(builtin: str) -> bytes:
    """Real numbers chosen by a comparison of others."""
    writer = ModelWriter()
    x, r = writer.tensor(SHAPE, *PARAMETERS), writer.tensor(SHAPE, kind="FLOAT32")
    masks = [writer.tensor(SHAPE, kind="BOOL") for _ in range(5)]
    y = writer.tensor(SHAPE, kind="FLOAT32")
    writer.operator("DEQUANTIZE", [x], [r])
    low, high = constant(writer, -0.5, 1.0)
    writer.operator("GREATER", [r, low], [masks[0]])
    writer.operator("LESS", [r, high], [masks[1]])
    writer.operator("LOGICAL_AND", masks[:2], [masks[2]])
    writer.operator("LOGICAL_NOT", [masks[2]], [masks[3]])
    writer.operator("LOGICAL_OR", [masks[3], masks[0]], [masks[4]])
    other = high
    if builtin == "SELECT":
        other = writer.tensor(SHAPE, kind="FLOAT32")
        writer.operator("ABS", [r], [other])
    writer.operator(builtin, [masks[4], r, other], [y])
    return writer.finish([x], [y])


def head(builtin: str) -> bytes:
    """Real numbers scaled, clipped and shifted before they are quantized, and a function on the machine behind."""
    writer = ModelWriter()
    x, s, q, y = (writer.tensor(SHAPE, kind="FLOAT32"), writer.tensor(SHAPE, kind="FLOAT32"),
                  writer.tensor(SHAPE, *PARAMETERS), writer.tensor(SHAPE, *PARAMETERS))  # fmt: skip
    writer.operator(builtin, [x, *constant(writer, 0.37)], [s], f"{builtin.capitalize()}Options")
    writer.operator("QUANTIZE", [s], [q])
    writer.operator("LEAKY_RELU", [q], [y], "LeakyReluOptions", alpha=0.5)
    return writer.finish([x], [y])


def compare(model: bytes, *, real_input: bool = False, micro: bool = False) -> None:
    """Every output in its own type and shape; real numbers to a few units in the last place, all else equal."""
    runtime, rng = interpreter(model) if micro else LiteRt(model), np.random.default_rng(3)
    program = accel.compile(read_tflite(model), "tiny")
    for _ in range(5):
        x = rng.normal(0, 2, SHAPE).astype(F32) if real_input else rng.integers(-128, 128, SHAPE).astype(np.int8)
        runtime.set_input(x, 0)
        runtime.invoke()
        found = accel.run(program, x if real_input else x.reshape(program.inputs[0].shape))
        for number, slot in enumerate(program.outputs):
            mine, theirs = found.outputs[slot.name], runtime.get_output(number)
            if theirs.dtype != np.int8:
                assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
            if theirs.dtype == F32:
                np.testing.assert_allclose(mine, theirs, rtol=RELATIVE, atol=ABSOLUTE)
            else:
                np.testing.assert_array_equal(mine.reshape(-1), theirs.reshape(-1))


@pytest.mark.parametrize("builtin", sorted(ROWS))
def test_tails(builtin: str) -> None:
    compare(tail(builtin), micro=builtin in MICRO)


@pytest.mark.parametrize("builtin", ["SPLIT", "SPLIT_V", "TOPK_V2", "UNPACK"])
def test_tails_of_several_outputs(builtin: str) -> None:
    compare(parts(builtin))


@pytest.mark.parametrize("builtin", ["SELECT", "SELECT_V2"])
def test_choices_between_real_numbers(builtin: str) -> None:
    compare(choice(builtin))


def test_numbers_of_the_largest_as_ones() -> None:
    """ARG_MAX and ONE_HOT."""
    writer = ModelWriter()
    x, places = writer.tensor(SHAPE, *PARAMETERS), writer.tensor((1, 4), kind="INT32")
    writer.operator("ARG_MAX", [x, writer.integers(2)], [places], "ArgMaxOptions", outputType=2)
    y = writer.tensor((1, 4, 6), kind="FLOAT32")
    writer.operator("ONE_HOT", [places, writer.integers(6), *constant(writer, 0.5, -2)], [y], "OneHotOptions", axis=-1)
    compare(writer.finish([x], [y]))


@pytest.mark.parametrize("builtin", ["ADD", "SUB", "MUL", "DIV"])
def test_heads(builtin: str) -> None:
    compare(head(builtin), real_input=True)


@pytest.mark.parametrize(("builtin", "wrong"), [("SUB", "MUL"), ("ARG_MAX", "ARG_MIN"), ("SOFTMAX", "LOG_SOFTMAX")])
def test_mutants_are_caught(builtin: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REAL, builtin, REAL[wrong])
    with pytest.raises(AssertionError):
        compare(tail(builtin))


def test_quantized_again_through_real_numbers() -> None:
    """DEQUANTIZE and QUANTIZE under other parameters are no reinterpretation of the integers."""
    writer = ModelWriter()
    x, y = writer.tensor(SHAPE, *PARAMETERS), writer.tensor(SHAPE, 0.05, -20)
    r = writer.tensor(SHAPE, kind="FLOAT32")
    writer.operator("DEQUANTIZE", [x], [r])
    writer.operator("QUANTIZE", [r], [y])
    compare(writer.finish([x], [y]))


def test_real_numbers_only_are_refused() -> None:
    writer = ModelWriter()
    x, y = (writer.tensor(SHAPE, kind="FLOAT32") for _ in range(2))
    writer.operator("TANH", [x], [y])
    message = "^model must be quantized to int8, got real numbers; convert it with full integer quantization$"
    with pytest.raises(ModelError, match=message):
        read_tflite(writer.finish([x], [y]))


def test_every_operator_of_the_host_has_a_model() -> None:
    logical = {"LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "SELECT", "SELECT_V2"}
    assert set(REAL) == {*ROWS, *logical, "ONE_HOT", "SPLIT", "SPLIT_V", "TOPK_V2", "UNPACK"}


def keypoints() -> bytes:
    """An image of numbers, the place of the largest in every row, and what another image holds at half that place."""
    writer = ModelWriter()
    x, r, q = writer.tensor(SHAPE, kind="UINT8"), writer.tensor(SHAPE, kind="FLOAT32"), writer.tensor(SHAPE, 0.7, -128)
    writer.operator("CAST", [x], [r], "CastOptions", inDataType=3, outDataType=0)
    writer.operator("QUANTIZE", [r], [q])
    places, halves, negated = (writer.tensor((1, 4), kind="INT32") for _ in range(3))
    columns, both = writer.tensor((4, 1), kind="INT32"), writer.tensor((4, 3), kind="INT32")
    writer.operator("ARG_MAX", [q, writer.integers(2)], [places], "ArgMaxOptions", outputType=2)
    writer.operator("SUB", [places, writer.integers([[7]])], [negated], "SubOptions")
    writer.operator("FLOOR_DIV", [negated, writer.integers([[2]])], [halves], "FloorDivOptions")
    whole = writer.tensor((1, 4), kind="INT32")
    writer.operator("ADD", [halves, writer.integers([[4]])], [whole], "AddOptions")
    writer.operator("RESHAPE", [whole, writer.integers([4, 1])], [columns], "ReshapeOptions", newShape=[4, 1])
    first, second = writer.integers([[0]] * 4), writer.integers([[0], [1], [2], [3]])
    writer.operator("CONCATENATION", [first, second, columns], [both], "ConcatenationOptions", axis=1)
    y = writer.tensor((4,), 0.7, -128)
    writer.operator("GATHER_ND", [q, both], [y], "GatherNdOptions")
    return writer.finish([x], [y, halves])


def test_places_that_the_host_computes() -> None:
    model = keypoints()
    graph, rng = read_tflite(model), np.random.default_rng(3)
    assert (graph.input_tensors[0].parameters, graph.input_tensors[0].unsigned) == ((1.0, -128), True)
    for _ in range(20):
        sample = rng.integers(-128, 128, SHAPE).astype(np.int8)
        values = reference.run(graph, sample.reshape(graph.input_tensors[0].shape))
        for name, expected in zip(graph.outputs, outputs(LiteRt(model), [sample], 2), strict=True):
            assert np.array_equal(values[name].reshape(-1), expected.reshape(-1))


def attention(rng: np.random.Generator) -> bytes:
    """A convolution, the product of its rows with themselves by way of the host, GELU, and a convolution of that."""
    writer = ModelWriter()
    x, image = writer.tensor((1, 4, 6, 3), *PARAMETERS), writer.tensor((1, 4, 6, 8), *PARAMETERS)
    kernel = writer.tensor((8, 3, 3, 3), 0.02, 0, rng.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8))
    options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    biases = [writer.tensor((count,), scale, 0, np.zeros(count, np.int32)) for count, scale in ((8, 8e-4), (4, 1.2e-3))]
    writer.operator("CONV_2D", [x, kernel, biases[0]], [image], "Conv2DOptions", **options)
    rows, product = writer.tensor((1, 24, 8), *PARAMETERS), writer.tensor((1, 24, 24), 0.1, -3)
    writer.operator("RESHAPE", [image, writer.integers([1, 24, 8])], [rows], "ReshapeOptions", newShape=[1, 24, 8])
    writer.operator("BATCH_MATMUL", [rows, rows], [product], "BatchMatMulOptions", adjY=True)
    bent, square = writer.tensor((1, 24, 24), 0.06, -100), writer.tensor((1, 24, 24, 1), 0.06, -100)
    writer.operator("GELU", [product], [bent], "GeluOptions", approximate=False)
    shape = [1, 24, 24, 1]
    writer.operator("RESHAPE", [bent, writer.integers(shape)], [square], "ReshapeOptions", newShape=shape)
    last = writer.tensor((4, 3, 3, 1), 0.02, 0, rng.integers(-127, 128, (4, 3, 3, 1)).astype(np.int8))
    y = writer.tensor((1, 24, 24, 4), 0.2, 7)
    writer.operator("CONV_2D", [square, last, biases[1]], [y], "Conv2DOptions", **options)
    return writer.finish([x], [y])


def test_a_product_of_two_tensors_between_convolutions() -> None:
    rng = np.random.default_rng(11)
    model = attention(rng)
    graph, runtime = read_tflite(model), LiteRt(model)
    program = accel.compile(graph, "tiny")
    assert [segment.unit for segment in program.segments] == ["machine", "host", "machine"]
    for _ in range(3):
        sample = rng.integers(-128, 128, (1, 4, 6, 3)).astype(np.int8)
        found = accel.run(program, sample).outputs[graph.outputs[0]]
        assert np.array_equal(found, outputs(runtime, [sample], 1)[0])
