"""Integers that a float model reads or makes, beside ONNX Runtime: images of 8 bits, and types of the host alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from oracles.test_onnx_operators import plain_session
from support.networks.exported import differing_field

import accel
from accel.errors import InputError, ModelError
from accel.exports import FORMATS
from accel.frontends import read_quantized_onnx
from accel.network.graph import Graph
from accel.network.graph_file import dump_graph, parse_graph
from accel.network.nodes import HostOperator
from accel.network.real import dequantize_output, quantize_input
from accel.network.reference import run

HOST_TYPES = ("bool", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
HEAD = '<ir_version: 8, opset_import: ["" : 17]> g ({kind}[{shape}] x) => ({result}[n,c,h,w] y) {{ {nodes} }}'
IMAGES = {
    "as they are": "a = Cast <to = 1> (x) y = Conv <pads = [1,1,1,1]> (a, w)",
    "divided": "a = Cast <to = 1> (x) k = Constant <value = float {255.0}> () b = Div (a, k) y = Conv (b, w)",
    "moved first": "a = Transpose <perm = [0, 1, 3, 2]> (x) b = Cast <to = 1> (a) y = Conv (b, w)",
}


def model(nodes: str, kind: str, shape: str = "1,3,6,6", result: str = "float") -> bytes:
    parsed = onnx.parser.parse_model(HEAD.format(kind=kind, shape=shape, result=result, nodes=nodes))
    weight = np.random.default_rng(3).normal(0, 0.4, (4, 3, 3, 3)).astype(np.float32)
    if "w)" in nodes:
        parsed.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return bytes(parsed.SerializeToString())


def decibels(graph: Graph, data: bytes, x: NDArray[np.generic]) -> float:
    """Signal to noise of a graph beside the runtime; compiled, and from a file, it gives the same integers."""
    (expected,) = plain_session(data).run(None, {"x": x})
    given = quantize_input(graph, x)
    found = run(graph, given)["y"]
    assert np.array_equal(run(parse_graph(dump_graph(graph)), given)["y"], found)
    assert np.array_equal(accel.run(accel.compile(graph, "tiny"), given).outputs["y"], found)
    real = dequantize_output(graph, found)
    assert real.dtype == expected.dtype
    noise = np.linalg.norm(real.astype(np.float64) - expected)
    return float(20 * np.log10(np.linalg.norm(expected.astype(np.float64)) / max(noise, 1e-9)))


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("use", IMAGES)
def test_images_of_8_bits_are_the_machine_s_integers(use: str, kind: str) -> None:
    data = model(IMAGES[use], kind)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    samples = np.random.default_rng(5).integers(low, high, (16, 3, 6, 6), kind, endpoint=True)
    graph = accel.quantize(data, samples, mode="fp32")
    assert not any(isinstance(node, HostOperator) for node in graph.nodes)
    (image,) = graph.input_tensors
    assert (image.scale, image.zero_point, image.unsigned) == (1, -128 if kind == "uint8" else 0, kind == "uint8")
    assert decibels(graph, data, samples[:1]) > 36


@pytest.mark.parametrize("kind", HOST_TYPES)
def test_inputs_of_other_integers_are_the_host_s(kind: str) -> None:
    data = model(IMAGES["as they are"], kind)
    samples = (
        np.random.default_rng(5).integers(0, 1 if kind == "bool" else 200, (16, 3, 6, 6), endpoint=True).astype(kind)
    )
    graph = accel.quantize(data, samples, mode="fp32")
    assert graph.input_tensors[0].dtype == ("int8" if kind == "uint8" else kind)
    assert decibels(graph, data, samples[:1]) > 36


@pytest.mark.parametrize("kind", HOST_TYPES)
def test_results_of_cast(kind: str) -> None:
    code = getattr(TensorProto, kind.upper())
    nodes = f"a = Conv (x, w) b = Abs (a) y = Cast <to = {code}> (b)"
    data, samples = model(nodes, "float", result=kind), np.random.default_rng(5).normal(0, 30, (16, 3, 6, 6))
    graph = accel.quantize(data, samples.astype(np.float32), mode="fp32")
    assert graph.output_tensors[0].dtype == kind
    assert decibels(graph, data, samples[:1].astype(np.float32)) > (15 if kind == "bool" else 28)


def test_accuracy_on_images_of_8_bits(tmp_path: Path) -> None:
    nodes = "a = Cast <to = 1> (x) b = Conv (a, w) y = GlobalAveragePool (b)"
    path = tmp_path / "model.onnx"
    path.write_bytes(model(nodes, "uint8"))
    samples = np.random.default_rng(5).integers(0, 255, (16, 3, 6, 6), np.uint8, endpoint=True)
    rows = accel.evaluate(path, {"x": samples}, np.arange(16) % 4, calibration=samples).rows
    assert [row.network for row in rows] == ["float", "fake-quantized", "simulated"]
    assert all(row.sqnr is None or row.sqnr > 36 for row in rows)


def test_a_result_of_int8_is_refused() -> None:
    message = (
        "Cast 'Cast_1': result 'y' must be of real numbers, bool or integers other than int8, got int8; "
        "cast to int16 or int32 instead"
    )
    data = model("a = Conv (x, w) y = Cast <to = 3> (a)", "float", result="int8")
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        accel.quantize(data, np.ones((2, 3, 6, 6), np.float32))


def test_a_cast_of_integers_in_a_quantized_file_reads_the_numbers() -> None:
    """Cast is no DequantizeLinear: of integers that another scale describes it gives the integers."""
    nodes = """s = Constant <value = float {0.5}> () z = Constant <value = int8 {3}> ()
        q = QuantizeLinear (x, s, z) a = Cast <to = 1> (q) h = Constant <value = float {0.25}> () b = Mul (a, h)
        t = Constant <value = float {0.3}> () r = QuantizeLinear (b, t, z) y = DequantizeLinear (r, t, z)"""
    data, x = model(nodes, "float"), np.random.default_rng(5).normal(0, 30, (1, 3, 6, 6)).astype(np.float32)
    assert decibels(read_quantized_onnx(data), data, x) > 150


@pytest.mark.parametrize("format", ["qdq", "qoperator"])
@pytest.mark.parametrize("use", IMAGES)
def test_exports_take_inputs_of_uint8(use: str, format: str) -> None:
    data = model(IMAGES[use], "uint8")
    samples = np.random.default_rng(5).integers(0, 255, (16, 3, 6, 6), np.uint8, endpoint=True)
    graph = accel.quantize(data, samples, mode="fp32")
    written = FORMATS[format].write(graph, [])[""]
    again = read_quantized_onnx(written)
    assert not differing_field(again, graph)
    assert again.input_tensors == graph.input_tensors
    assert decibels(again, written, samples[:1]) > 150


@pytest.mark.parametrize(
    ("kind", "value", "limits"),
    [
        ("int16", 40000, "-32768..32767 (int16)"),
        ("int16", np.float32(1.5), "-32768..32767 (int16)"),
        ("int64", np.float32("nan"), "-9223372036854775808..9223372036854775807 (int64)"),
        ("bool", 2, "0..1 (bool)"),
        ("uint8", -1, "0..255 (uint8)"),
        ("int8", 128, "-128..127 (int8)"),
    ],
)
def test_numbers_that_an_input_cannot_have(kind: str, value: float, limits: str) -> None:
    data = model(IMAGES["as they are"], kind)
    samples = np.random.default_rng(5).integers(0, 1, (4, 3, 6, 6), endpoint=True).astype(kind)
    graph, wrong = accel.quantize(data, samples), np.full((1, 3, 6, 6), value)
    message = re.escape(f"must be whole numbers in {limits}, got {wrong.flat[0]}")
    with pytest.raises(InputError, match=f"^input 'x' {message}$"):
        quantize_input(graph, wrong)
    with pytest.raises(InputError, match=f"^calibration of 'x' {message}$"):
        accel.quantize(data, wrong)
    if graph.tensors["x"].dtype != "int8" and wrong.dtype.kind == "f":
        with pytest.raises(InputError, match=f"^input 'x' {message}$"):
            accel.run(accel.compile(graph, "tiny"), wrong)
