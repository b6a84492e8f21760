"""Operators of TensorFlow Lite that LiteRT computes on the host, in the middle of networks, and what it does not."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import flatbuffers
import numpy as np
import pytest

import accel
from accel.errors import ExportError, ModelError
from accel.frontends.tflite.litert import REFUSED
from accel.frontends.tflite.reader import read_tflite
from accel.network import litert, litert_worker
from accel.network.graph_file import dump_graph, parse_graph
from accel.network.nodes import HostOperator
from accel.network.reference import run

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from ai_edge_litert import schema_py_generated as schema
from support.oracles.tflite_litert_models import MODELS
from support.oracles.tflite_models import linear
from support.oracles.tflite_runtime import LiteRt, interpreter, outputs, random_samples
from support.oracles.tflite_writer import ModelWriter

SHAPE = (1, 4, 6, 8)


def convolved(writer: ModelWriter, rng: np.random.Generator, source: int, scale: float) -> int:
    """A 3x3 convolution of 8 channels; its output."""
    weights, bias, scale_out = linear(rng, writer, (8, 3, 3, 8), 0, scale, biased=1)
    y = writer.tensor(SHAPE, scale_out, 3)
    options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    writer.operator("CONV_2D", [source, weights, bias], [y], "Conv2DOptions", **options)
    return y


def normalized_between_convolutions() -> bytes:
    rng, writer = np.random.default_rng(4), ModelWriter()
    x, middle = writer.tensor(SHAPE, 0.04, 5), writer.tensor(SHAPE, 1 / 128, 0)
    writer.operator("L2_NORMALIZATION", [convolved(writer, rng, x, 0.04)], [middle], "L2NormOptions")
    return writer.finish([x], [convolved(writer, rng, middle, 1 / 128)])


def test_machine_goes_on_behind_an_operator_of_litert() -> None:
    model = normalized_between_convolutions()
    program = accel.compile(read_tflite(model), "tiny")
    assert [segment.unit for segment in program.segments] == ["machine", "host", "machine"]
    (row,) = (row for row in program.operators if row.unit == "host")
    assert (row.op, row.why, row.macs) == ("L2_NORMALIZATION", "no unit computes L2_NORMALIZATION", 0)
    runtime, graph = interpreter(model), read_tflite(model)
    for sample in random_samples(graph, np.random.default_rng(3), 5):
        found = accel.run(program, sample[0]).outputs[graph.outputs[0]]
        assert np.array_equal(found, outputs(runtime, sample, 1)[0])


@pytest.mark.rtl
@pytest.mark.slow
def test_segments_around_an_operator_of_litert_equal_the_verilog() -> None:
    graph = read_tflite(normalized_between_convolutions())
    program = accel.compile(graph, "tiny")
    (sample,) = random_samples(graph, np.random.default_rng(5), 1)[0]
    found = accel.verify(program, sample)
    assert found.outputs[graph.outputs[0]].tolist() == run(graph, sample)[graph.outputs[0]].tolist()


def test_graph_file_and_program_file_keep_the_operator() -> None:
    graph = read_tflite(normalized_between_convolutions())
    again = parse_graph(dump_graph(graph))
    assert dump_graph(again) == dump_graph(graph)
    (sample,) = random_samples(graph, np.random.default_rng(6), 1)[0]
    assert np.array_equal(run(again, sample)[graph.outputs[0]], run(graph, sample)[graph.outputs[0]])


def one(builtin: str, kinds: tuple[str, str], kind: str = "", *others: int, **options: object) -> bytes:
    """A file of an input of 8 bits and one operator on a tensor of another type."""
    writer = ModelWriter()
    x, y = writer.tensor((1, 6), 0.05, 0), writer.tensor((1, 6), kind=kinds[1])
    value = x
    if kinds[0] != "INT8":
        value = writer.tensor((1, 6), kind=kinds[0])
        writer.operator("DEQUANTIZE", [x], [value], "DequantizeOptions")
    writer.operator(builtin, [value, *others], [y], kind, **options)
    return writer.finish([x], [y])


def test_without_litert_a_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    message = (
        "^L2_NORMALIZATION 1: operator is supported on real numbers, got INT8; put DEQUANTIZE before and QUANTIZE "
        r"after it; LiteRT computes it on the host: pip install 'accel\[litert\]'$"
    )
    with pytest.raises(ModelError, match=message):
        read_tflite(normalized_between_convolutions())


def test_sizes_that_depend_on_values_are_refused() -> None:
    """The value of ones is computed; so are the places of WHERE."""
    writer = ModelWriter()
    x, largest = writer.tensor((1, 6), 0.05, 0), writer.tensor((1,), kind="INT32")
    writer.operator("ARG_MAX", [x, writer.integers(1)], [largest], "ArgMaxOptions", outputType=2)
    y = writer.tensor((3,), 0.05, 0)
    writer.operator("FILL", [largest, writer.tensor((), 0.05, 0, np.int8(1))], [y])
    message = "^FILL 1: output 't2' must have the same size in every run, which depends on values$"
    with pytest.raises(ModelError, match=message.replace("t2", "t[0-9]")):
        read_tflite(writer.finish([x], [y]))


def test_a_size_that_the_file_hides_is_refused() -> None:
    writer = ModelWriter()
    x, y, z = writer.tensor((1, 6), 0.05, 0), writer.tensor((3,), 0.05, 0), writer.tensor((1, 6), 0.05, 0)
    writer.operator("RELU", [x], [z])
    writer.operator("FILL", [writer.integers([1 << 30]), writer.tensor((), 0.05, 0, np.int8(1))], [y])
    message = r"^FILL 1: output must have the sizes \[1073741824\] that input 't3' tells, got \[3\]$"
    with pytest.raises(ModelError, match=message):
        read_tflite(writer.finish([x], [y, z]))


@pytest.mark.parametrize("builtin", ["RANDOM_UNIFORM", "WHERE", "IF"])
def test_operators_that_the_host_cannot_have_are_refused(builtin: str) -> None:
    assert builtin in REFUSED
    message = f"^{builtin} 1: operator is not supported: {REFUSED[builtin]}; docs/importing.md lists those that are$"
    with pytest.raises(ModelError, match=message):
        read_tflite(one(builtin, ("FLOAT32", "FLOAT32")))


def test_what_litert_refuses_keeps_its_sentence() -> None:
    message = "^CEIL 0: operator is supported on real numbers, got INT8; put DEQUANTIZE before and QUANTIZE after it$"
    with pytest.raises(ModelError, match=message):
        read_tflite(one("CEIL", ("INT8", "INT8")))


def test_what_litert_says_of_an_operator_that_only_it_has() -> None:
    writer = ModelWriter()
    x, y = writer.tensor((1, 4, 6, 8), kind="FLOAT32"), writer.tensor((1, 4, 6, 8), kind="FLOAT32")
    q = writer.tensor((1, 4, 6, 8), 0.1, 0)
    writer.operator("L2_POOL_2D", [x], [y], "Pool2DOptions", strideH=0, strideW=1, filterHeight=1, filterWidth=1)
    writer.operator("QUANTIZE", [y], [q])
    with pytest.raises(ModelError, match=r"^L2_POOL_2D 0: must be what LiteRT computes, which says: .*height > 0"):
        read_tflite(writer.finish([x], [q]))


def test_results_of_a_type_that_the_runtime_does_not_make_are_refused() -> None:
    writer = ModelWriter()
    q, x, y = writer.tensor((1, 8), 0.1, 0), writer.tensor((1, 8), kind="FLOAT32"), writer.tensor((1, 8), kind="INT32")
    writer.operator("DEQUANTIZE", [q], [x], "DequantizeOptions")
    writer.operator("L2_NORMALIZATION", [x], [y], "L2NormOptions")
    with pytest.raises(ModelError, match=r"^L2_NORMALIZATION 1: output 't2' must be FLOAT32, got INT32$"):
        read_tflite(writer.finish([q], [y]))


def test_integers_of_16_bits_between_integers_of_8() -> None:
    writer = ModelWriter()
    x, y = writer.tensor(SHAPE, 0.04, 5), writer.tensor(SHAPE, 0.03, -3)
    a, b = (writer.tensor(SHAPE, scale, 0, kind="INT16") for scale in (2**-10, 2**-15))
    writer.operator("QUANTIZE", [x], [a], "QuantizeOptions")
    writer.operator("TANH", [a], [b])
    writer.operator("QUANTIZE", [b], [y], "QuantizeOptions")
    model = writer.finish([x], [y])
    graph = read_tflite(model)
    assert [node.label for node in graph.nodes if isinstance(node, HostOperator)] == ["QUANTIZE", "TANH", "QUANTIZE"]
    for sample in random_samples(graph, np.random.default_rng(3), 3):
        assert np.array_equal(run(graph, sample[0])[graph.outputs[0]], outputs(interpreter(model), sample, 1)[0])


@pytest.mark.parametrize(
    ("format", "what"),
    [
        ("qdq", "L2_NORMALIZATION of TensorFlow Lite"),
        ("qoperator", "L2_NORMALIZATION of TensorFlow Lite"),
        ("c", "this operation"),
    ],
)
def test_other_formats_have_no_form_for_an_operator_of_litert(format: str, what: str, tmp_path: Path) -> None:
    graph = read_tflite(normalized_between_convolutions())
    with pytest.raises(ExportError, match=f"^HostOperator 'l2_normalization': format {format} cannot express {what}; "):
        accel.export(graph, tmp_path / "model", format=format)


def test_a_line_tells_that_a_state_starts_from_zero(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read_tflite(MODELS["SVDF"](np.random.default_rng(1)))
    (message,) = caplog.messages
    assert message.startswith("SVDF 1: the state starts from zero in every inference, as after reset_all_variables; ")


def test_a_kernel_that_ends_its_process_is_a_refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "worker.py"
    broken.write_text("import os\nos.abort()\n")
    model = normalized_between_convolutions()
    monkeypatch.setattr(litert, "_workers", [])
    with monkeypatch.context() as patched:
        patched.setattr(litert_worker, "__file__", str(broken))
        with pytest.raises(ModelError, match=r"^L2_NORMALIZATION 1: operator is supported on real numbers, got "):
            read_tflite(model)
    read_tflite(model)


def test_a_state_that_litert_reads_wrongly_is_refused() -> None:
    model = MODELS["SVDF"](np.random.default_rng(1))
    code = schema.ModelT.InitFromPackedBuf(model, 0)
    (state,) = (tensor for tensor in code.subgraphs[0].tensors if tensor.isVariable)
    state.type = schema.TensorType.INT8
    packer = flatbuffers.Builder(1024)
    packer.Finish(code.Pack(packer), b"TFL3")
    with pytest.raises(ModelError, match=r"^SVDF 1: state must be INT16, got INT8, which LiteRT reads "):
        read_tflite(bytes(packer.Output()))


def test_inputs_of_texts_are_refused() -> None:
    writer = ModelWriter()
    texts = writer.tensor((1, 6), kind="STRING")
    x, y = (writer.tensor((1, 6), 0.1, 0) for _ in range(2))
    writer.operator("RELU", [x], [y])
    found = writer.tensor((1, 6), kind="BOOL")
    writer.operator("EQUAL", [texts, texts], [found])
    message = "^tensor 't0': type of an input must be one of INT8, UINT8, FLOAT32, .*, got STRING$"
    with pytest.raises(ModelError, match=message):
        read_tflite(writer.finish([texts, x], [y, found]))


def of_uint8() -> bytes:
    writer = ModelWriter()
    x, y = writer.tensor((1, 4, 6), 0.1, 130, kind="UINT8"), writer.tensor((1, 4, 6), 1 / 128, 128, kind="UINT8")
    writer.operator("L2_NORMALIZATION", [x], [y], "L2NormOptions")
    return writer.finish([x], [y])


def transposed_batch() -> bytes:
    rng, writer = np.random.default_rng(2), ModelWriter()
    x, y = writer.tensor((2, 4, 6, 3), 0.1, 3), writer.tensor((2, 8, 12, 5), 0.3, -3)
    weights = writer.tensor((5, 2, 2, 3), 0.01, 0, rng.integers(-127, 128, (5, 2, 2, 3)).astype(np.int8))
    options = {"padding": 0, "strideH": 2, "strideW": 2}
    inputs = [writer.integers([2, 8, 12, 5]), weights, x]
    writer.operator("TRANSPOSE_CONV", inputs, [y], "TransposeConvOptions", **options)
    return writer.finish([x], [y])


@pytest.mark.parametrize(
    ("model", "macs", "why"),
    [
        (of_uint8(), 0, "no unit computes L2_NORMALIZATION"),
        (
            transposed_batch(),
            2 * 4 * 6 * 3 * 5 * 2 * 2,
            "no unit computes TRANSPOSE_CONV: input must have shape (1, height, width, channels), got (2, 4, 6, 3)",
        ),
    ],
    ids=["uint8", "a batch"],
)
def test_reports_tell_products_and_reasons(model: bytes, macs: int, why: str) -> None:
    graph, runtime = read_tflite(model), LiteRt(model)
    program = accel.compile(graph, "tiny")
    assert [(row.macs, row.why) for row in program.operators if row.op in why] == [(macs, why)]
    for sample in random_samples(graph, np.random.default_rng(1), 3):
        found = run(graph, sample[0])[graph.outputs[0]]
        assert np.array_equal(found.reshape(-1), outputs(runtime, sample, 1)[0].reshape(-1))
