"""What a TensorFlow Lite file says beyond its operators: shapes computed from shapes, custom ends, what is refused."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tflite

from accel.errors import ModelError
from accel.frontends.tflite import listing
from accel.frontends.tflite.folding import FOLDERS
from accel.frontends.tflite.litert import REFUSED
from accel.frontends.tflite.reader import TRANSLATORS, read_tflite
from accel.frontends.tflite.real import REAL
from accel.network import reference
from accel.network.fixed_point import leading_zeros
from accel.network.nodes import Div

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from ai_edge_litert.interpreter import Interpreter, OpResolverType
from support.oracles import tflite_models
from support.oracles.tflite_runtime import LiteRt, interpreter, outputs
from support.oracles.tflite_writer import ModelWriter


@pytest.mark.parametrize("builtin", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_blocks_around_a_convolution_are_its_dilation(builtin: str) -> None:
    for seed in range(20):
        model = tflite_models.MODELS[f"{builtin}, dilated by blocks"](np.random.default_rng(seed))
        nodes = [node.op for node in read_tflite(model).nodes]
        assert nodes in (["Conv2d"], ["StridedSlice", "Conv2d"]), seed


def test_page_lists_every_operator() -> None:
    """All of the schema, each with who computes it or why nobody does; what is listed as the machine's or ONNX's is."""
    rows = {row.builtin: row for row in listing.listed()}
    assert set(rows) == {name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
    assert {*TRANSLATORS, *FOLDERS, *REAL, *listing.NOTES, *listing.REAL_ONLY, *REFUSED} <= set(rows)
    assert all(row.notes for row in rows.values() if row.others == listing.NOBODY)
    assert {name for name, row in rows.items() if row.integers in (listing.MACHINE, listing.HOST)} == {*TRANSLATORS}
    assert {name for name, row in rows.items() if row.others == listing.ONNX} == {*REAL}


def test_operators_without_a_kernel_of_litert() -> None:
    """LiteRT has a kernel for all that are listed as its own, and none for the others, apart from other reasons."""
    for row in listing.listed():
        writer = ModelWriter()
        x, y = writer.tensor((1, 6), 0.05, 0), writer.tensor((1, 6), 0.05, 0)
        writer.operator(row.builtin, [x], [y])
        try:
            Interpreter(
                model_content=writer.finish([x], [y]),
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            found = True
        except ValueError as error:
            found = "Didn't find op" not in str(error)
        if REFUSED.get(row.builtin) == "LiteRT has no kernel for it":
            assert not found, row.builtin
        elif row.builtin not in REFUSED:
            assert found, row.builtin


def integers(writer: ModelWriter, shape: tuple[int, ...]) -> int:
    return writer.tensor(shape, kind="INT32")


def flattening(writer: ModelWriter) -> tuple[int, int]:
    """A RESHAPE to (first axis, product of the others) as exporters write it; input and output."""
    x, y = writer.tensor((1, 4, 5, 3), 0.03, 5), writer.tensor((1, 60), 0.03, 5)
    shape, first, rest, product, target = (integers(writer, s) for s in ((4,), (), (3,), (), (2,)))
    writer.operator("SHAPE", [x], [shape], "ShapeOptions", outType=2)
    bounds = [writer.integers([n]) for n in (0, 1, 1)]
    writer.operator("STRIDED_SLICE", [shape, *bounds], [first], "StridedSliceOptions", shrinkAxisMask=1)
    bounds = [writer.integers([n]) for n in (1, 4, 1)]
    writer.operator("STRIDED_SLICE", [shape, *bounds], [rest], "StridedSliceOptions")
    writer.operator("REDUCE_PROD", [rest, writer.integers([0])], [product], "ReducerOptions")
    writer.operator("PACK", [first, product], [target], "PackOptions", valuesCount=2, axis=0)
    writer.operator("RESHAPE", [x, target], [y], "ReshapeOptions")
    return x, y


def test_shapes_of_shapes_are_folded() -> None:
    writer = ModelWriter()
    x, y = flattening(writer)
    padded = writer.tensor((1, 66), 0.03, 5)
    target, sizes = integers(writer, (2,)), integers(writer, (2, 2))
    writer.operator("SHAPE", [x], [integers(writer, (4,))], "ShapeOptions", outType=2)
    shape = len(writer.tensors) - 1
    writer.operator("GATHER", [shape, writer.integers([0, 2])], [target], "GatherOptions", axis=0)
    zero = writer.integers([0, 1])
    scaled = integers(writer, (2,))
    writer.operator("MUL", [target, zero], [scaled], "MulOptions")
    writer.operator("PACK", [writer.integers([0, 0]), scaled], [sizes], "PackOptions", valuesCount=2, axis=0)
    one = writer.tensor((2, 2), kind="INT32")
    writer.operator("ADD", [sizes, writer.integers([[0, 0], [1, 0]])], [one], "AddOptions")
    writer.operator("PAD", [y, one], [padded], "PadOptions")
    model = writer.finish([x], [padded])
    graph = read_tflite(model)
    assert {node.op for node in graph.nodes} <= {"Reshape", "Pad"}
    sample = np.random.default_rng(1).integers(-128, 128, (1, 4, 5, 3)).astype(np.int8)
    (expected,) = outputs(LiteRt(model), [sample], 1)
    given = sample.reshape(graph.input_tensors[0].shape)
    assert np.array_equal(reference.run(graph, given)[graph.outputs[0]], expected)


def test_ranks_and_broadcast_shapes_are_folded() -> None:
    """TILE to a shape that BROADCAST_ARGS makes, with the rank of the input, 3, modulo 2 as one number."""
    writer = ModelWriter()
    x, y = writer.tensor((1, 4, 1), 0.03, 5), writer.tensor((3, 4, 1), 0.03, 5)
    rank, odd, shape = integers(writer, ()), integers(writer, ()), integers(writer, (3,))
    first = integers(writer, (1,))
    writer.operator("RANK", [x], [rank])
    writer.operator("FLOOR_MOD", [rank, writer.integers(2)], [odd])
    writer.operator("RESHAPE", [odd, writer.integers([1])], [first], "ReshapeOptions", newShape=[1])
    writer.operator("BROADCAST_ARGS", [first, writer.integers([3, 4, 1])], [shape])
    writer.operator("BROADCAST_TO", [x, shape], [y])
    model = writer.finish([x], [y])
    graph = read_tflite(model)
    sample = np.random.default_rng(1).integers(-128, 128, graph.input_tensors[0].shape).astype(np.int8)
    (expected,) = outputs(LiteRt(model), [sample], 1)
    found = reference.run(graph, sample)[graph.outputs[0]]
    assert np.array_equal(found.reshape(-1), expected.reshape(-1))


def custom_end() -> bytes:
    """RELU, then an operator that nobody knows on its result, a second input, and a constant."""
    writer = ModelWriter()
    x, extra = writer.tensor((1, 4, 5, 3), 0.03, 5), writer.tensor((1, 6), 0.5, 0)
    y, boxes, scores = (writer.tensor(shape, 0.03, -128) for shape in ((1, 4, 5, 3), (1, 7), (1, 7)))
    writer.operator("RELU", [x], [y])
    anchors = writer.tensor((2,), None, 0, np.array([1, 2], np.float32))
    writer.operator("CUSTOM", [y, extra, anchors], [boxes, scores], custom="Boxes")
    return writer.finish([x, extra], [boxes, scores])


def test_custom_end_becomes_outputs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        graph = read_tflite(custom_end())
    assert [graph.tensors[name].shape for name in graph.outputs] == [(1, 4, 5, 3), (1, 6)]
    assert caplog.messages == ["CUSTOM 1, 'Boxes', is left to you: the outputs are what it reads, 't2', 't1'"]


def test_custom_operator_inside_is_refused() -> None:
    writer = ModelWriter()
    x, y, z = (writer.tensor((1, 4, 5, 3), 0.03, 5) for _ in range(3))
    writer.operator("CUSTOM", [x], [y], custom="Window")
    writer.operator("RELU", [y], [z])
    message = (
        "^CUSTOM 0: custom operator 'Window' is not supported before others; docs/importing.md lists those that are$"
    )
    with pytest.raises(ModelError, match=message):
        read_tflite(writer.finish([x], [z]))


@pytest.mark.parametrize("last", [True, False])
def test_files_that_vela_has_compiled_are_named(last: bool) -> None:
    writer = ModelWriter()
    x, y, z = (writer.tensor((1, 4, 5, 3), 0.03, 5) for _ in range(3))
    writer.operator("CUSTOM", [x], [y], custom="ethos-u")
    if not last:
        writer.operator("RELU", [y], [z])
    with pytest.raises(
        ModelError, match=r"^CUSTOM 0: operator 'ethos-u' holds commands of an Arm Ethos-U, which Vela has "
    ):
        read_tflite(writer.finish([x], [y if last else z]))


def test_incomplete_files_are_a_sentence_of_ours() -> None:
    data = custom_end()
    message = "^model must be a whole flatbuffer, got a damaged or incomplete one; convert it again$"
    for size in (100, len(data) // 2, len(data) - 60):
        with pytest.raises(ModelError, match=message):
            read_tflite(data[:size])


def test_recurrent_operators_are_sent_to_onnx() -> None:
    writer = ModelWriter()
    x, y = (writer.tensor((1, 4, 3), 0.03, 5) for _ in range(2))
    writer.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", [x], [y])
    message = (
        "^UNIDIRECTIONAL_SEQUENCE_LSTM 0: operator is not supported; export the float network to ONNX, "
        "where it is the host's$"
    )
    with pytest.raises(ModelError, match=message):
        read_tflite(writer.finish([x], [y]))


def test_activations_of_16_bits_are_refused() -> None:
    writer = ModelWriter()
    x, y = (writer.tensor((1, 4, 5, 3), 0.03, 0, kind="INT16") for _ in range(2))
    writer.operator("RELU", [x], [y])
    message = "^tensor 't0': type must be INT8 or UINT8, got INT16; convert the model with int8 activations$"
    with pytest.raises(ModelError, match=message):
        read_tflite(writer.finish([x], [y]))


@pytest.mark.parametrize(("scale", "zero_point"), [(0.06, 5), (0.03, 4)])
def test_concatenation_of_unequal_parameters_is_refused(scale: float, zero_point: int) -> None:
    writer = ModelWriter()
    x0, x1 = writer.tensor((1, 2, 2, 3), 0.03, 5), writer.tensor((1, 2, 2, 3), scale, zero_point)
    y = writer.tensor((1, 2, 2, 6), 0.03, 5)
    writer.operator("CONCATENATION", [x0, x1], [y], "ConcatenationOptions", axis=3)
    message = "^CONCATENATION 0: input 't1' must have the output's scale and zero point .*put QUANTIZE before it$"
    with pytest.raises(ModelError, match=message):
        read_tflite(writer.finish([x0, x1], [y]))


@pytest.mark.parametrize("builtin", ["MUL", "DIV", "ADD", "SUM", "RELU", "QUANTIZE"])
@pytest.mark.parametrize(("scale", "fits"), [(2.0**29, True), (2.0**32, False)])
def test_ratio_beyond_the_runtime_is_refused(builtin: str, scale: float, fits: bool) -> None:
    factor = 2.0**19 if builtin == "ADD" else 1.0
    if builtin == "DIV" and fits:
        factor = 2.0**-8
    writer = ModelWriter()
    x0, x1 = writer.tensor((1, 2, 2, 3), scale * factor, 5), writer.tensor((1, 2, 2, 3), 1.0, 0)
    y = writer.tensor((1, 1, 2, 3) if builtin == "SUM" else (1, 2, 2, 3), 1.0, 0)
    if builtin in ("RELU", "QUANTIZE"):
        writer.operator(builtin, [x0], [y])
    elif builtin == "SUM":
        writer.operator("SUM", [x0, writer.integers([1])], [y], "ReducerOptions", keepDims=True)
    else:
        writer.operator(builtin, [x0, x1], [y], f"{builtin.capitalize()}Options")
    model = writer.finish([x0, x1] if builtin in ("MUL", "DIV", "ADD") else [x0], [y])
    if fits:
        read_tflite(model)
    else:
        with pytest.raises(ModelError, match=rf"^{builtin} 0: ratio of the scales must be below 2\*\*30, got "):
            read_tflite(model)


def test_quotients_differ_only_where_the_runtime_shifts_too_far() -> None:
    """Steps of the output from 2**-6 to 2**16 of the quotient's: C leaves shifts by 32 bits and more undefined."""
    far = 0
    for seed in range(60):
        rng, writer, shape = np.random.default_rng(seed), ModelWriter(), (1, 4, 5, 3)
        scales = 2 ** rng.uniform(-9, 3, 2)
        points = rng.integers(-127, 128, 3)
        x0, x1 = (writer.tensor(shape, scales[i], points[i]) for i in range(2))
        y = writer.tensor(shape, scales[0] / scales[1] * 2 ** rng.uniform(-6, 16), points[2])
        writer.operator("DIV", [x0, x1], [y], "DivOptions")
        model = writer.finish([x0, x1], [y])
        graph, runtime = read_tflite(model), interpreter(model)
        a, b = rng.integers(-128, 128, (2, *shape)).astype(np.int8)
        b[b == points[1]] -= 1
        (node,) = (node for node in graph.nodes if isinstance(node, Div))
        x, divisor = a.astype(int) - points[0], b.astype(int) - points[1]
        x, divisor = np.where(divisor < 0, -x, x), abs(divisor)
        headroom = leading_zeros(np.where(x < 0, -x - 1, x)) - 1
        defined = 31 - leading_zeros(divisor) + headroom - node.shift < 32
        mine = reference.run(graph, dict(zip(graph.inputs, (a, b), strict=True)))[graph.outputs[0]]
        (theirs,) = outputs(runtime, [a, b], 1)
        np.testing.assert_array_equal(mine[defined], theirs[defined])
        far += int(np.count_nonzero(mine[~defined] != theirs[~defined]))
    assert far > 0
