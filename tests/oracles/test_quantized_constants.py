"""Constants of integers that a file moves, limits or looks up before a layer reads them; products of activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from oracles.test_onnx_operators import plain_session

from accel.frontends.onnx.constants import _after_move
from accel.frontends.onnx.reader import read_onnx, read_quantized_onnx
from accel.network.graph import Graph
from accel.network.nodes import Conv2d, FullyConnected
from accel.network.real import dequantize_output, quantize_input
from accel.network.reference import run
from accel.quantized.network import Quantization

HEAD = "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)"
TAIL = "p = QuantizeLinear (r, t, z) y = DequantizeLinear (p, t, z)"
CHANNELS = np.linspace(0.002, 0.2, 4).astype(np.float32)
RNG = np.random.default_rng(4)
CONSTANTS: dict[str, Any] = {
    "s": np.float32(0.02),
    "t": np.float32(0.11),
    "z": np.uint8(128),
    "c": CHANNELS,
    "zc": np.zeros(4, np.int8),
    "w": RNG.integers(-127, 128, (4, 6)).astype(np.int8),
    "wr": RNG.normal(0, 1, (4, 6)).astype(np.float32),
    "k": RNG.integers(-127, 128, (3, 3, 4, 1)).astype(np.int8),
    "k4": np.array([3, 3, 1, 4]),
    "table": RNG.integers(0, 256, (9, 6)).astype(np.uint8),
    "one": np.array(1),
    "last": np.array([1]),
    "low": np.int8(-7),
    "high": np.int8(7),
    "rows": np.array([2, 0, 1, 3]),
    "half": np.array([2, 2]),
    "flat": np.array([24]),
}
MATRIX = ("x", (1, 6), (1, 4))
FACTOR = "e = DequantizeLinear <axis = 0> (w, c, zc)"
MODELS: dict[str, tuple[str, tuple[str, tuple[int, ...], tuple[int, ...]]]] = {
    "transposed matrix, a scale per channel": (
        f"{HEAD} {FACTOR} f = Transpose (e) r = MatMul (d, f) {TAIL}", MATRIX,
    ),
    "transposed matrix that the file quantizes": (
        f"{HEAD} v = QuantizeLinear <axis = 0> (wr, c, zc) e = DequantizeLinear <axis = 0> (v, c, zc) "
        f"f = Transpose (e) r = MatMul (d, f) {TAIL}", MATRIX,
    ),
    "integers in 4 bits by Clip": (
        f"{HEAD} v = QuantizeLinear <axis = 0> (wr, c, zc) u = Clip (v, low, high) "
        f"e = DequantizeLinear <axis = 0> (u, c, zc) r = Gemm <transB = 1> (d, e) {TAIL}", MATRIX,
    ),
    "depthwise kernel of TensorFlow": (
        f"{HEAD} e = DequantizeLinear <axis = 2> (k, c, zc) f = Reshape (e, k4) "
        f"g = Transpose <perm = [3, 2, 0, 1]> (f) r = Conv <group = 4> (d, g) {TAIL}",
        ("x", (1, 4, 5, 5), (1, 4, 3, 3)),
    ),
    "picked and split rows": (
        f"{HEAD} {FACTOR} f = Gather (e, rows) g, i = Split (f, half) r = Gemm <transB = 1> (d, g) {TAIL}",
        ("x", (1, 6), (1, 2)),
    ),
    "one channel": (
        f"{HEAD} {FACTOR} f = Gather (e, one) g = Unsqueeze (f, last) r = MatMul (d, g) {TAIL}", ("x", (1, 6), (1, 1)),
    ),
    "channels along no axis any more": (
        f"{HEAD} {FACTOR} f = Reshape (e, flat) r = Mul (d, f) {TAIL}", ("x", (1, 24), (1, 24)),
    ),
}  # fmt: skip


def model_of(body: str, inputs: str, outputs: str, used: dict[str, Any] | None = None) -> bytes:
    """A model in ONNX's text, with the constants that it names."""
    text = f'<ir_version: 10, opset_import: ["" : 18, "com.microsoft" : 1]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    named = {name for node in model.graph.node for name in node.input}
    constants = CONSTANTS | (used or {})
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(constants[name]), name) for name in sorted(named & constants.keys())
    )
    return bytes(model.SerializeToString())


def differences(model: bytes, samples: list[dict[str, NDArray[Any]]]) -> tuple[Graph, int]:
    """The graph of a model, and how many of its outputs differ from the runtime's."""
    graph, session, count = read_quantized_onnx(model), plain_session(model), 0
    for sample in samples:
        (name,) = graph.outputs
        ours = dequantize_output(graph, run(graph, quantize_input(graph, sample))[name], name)
        (expected,) = session.run(None, sample)
        assert ours.shape == expected.shape
        count += int(np.sum(ours != expected))
    return graph, count


@pytest.mark.parametrize("name", MODELS)
def test_moved_constants_keep_their_integers(name: str) -> None:
    body, (x, shape, result) = MODELS[name]
    model = model_of(body, f"float{list(shape)} {x}", f"float{list(result)} y")
    samples = [{x: np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)} for seed in range(20)]
    graph, count = differences(model, samples)
    assert count == 0
    assert not [node for node in graph.nodes if type(node).__name__ in ("HostOperator", "Dequantize")]
    assert name.startswith("channels") or any(isinstance(node, Conv2d | FullyConnected) for node in graph.nodes)
    if "4 bits" in name:
        assert {abs(int(v)) <= 7 for node in graph.nodes for v in np.ravel(getattr(node, "weight", 0))} == {True}


def test_scales_in_another_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def mutant(found: Quantization, channels: NDArray[Any]) -> Quantization | None:
        return _after_move(found, np.flip(channels))

    monkeypatch.setattr("accel.frontends.onnx.constants._after_move", mutant)
    body, _ = MODELS["transposed matrix, a scale per channel"]
    model = model_of(body, "float[1,6] x", "float[1,4] y")
    sample = {"x": np.random.default_rng(0).normal(0, 1, (1, 6)).astype(np.float32)}
    assert differences(model, [sample])[1] > 0


PRODUCTS = {
    "QLinearMatMul": (
        "a = QuantizeLinear (x, s, z) b = QuantizeLinear (v, s, z) "
        "p = QLinearMatMul (a, s, z, b, s, z, t, z) y = DequantizeLinear (p, t, z)"
    ),
    "QGemm": (
        "a = QuantizeLinear (x, s, z) b = QuantizeLinear (v, s, z) "
        "p = com.microsoft.QGemm <transB = 0> (a, s, z, b, s, z, , t, z) y = DequantizeLinear (p, t, z)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_two_activations_are_the_hosts(name: str) -> None:
    model = model_of(PRODUCTS[name], "float[5,6] x, float[6,4] v", "float[5,4] y")
    rng = np.random.default_rng(1)
    samples = [
        {"x": rng.normal(0, 1, (5, 6)).astype(np.float32), "v": rng.normal(0, 1, (6, 4)).astype(np.float32)}
        for _ in range(20)
    ]
    graph, count = differences(model, samples)
    assert count == 0
    assert {"MatMul", "Gemm"} & {getattr(node, "op_type", "") for node in graph.nodes}


def test_tables_of_integers_are_looked_up_by_the_host() -> None:
    body = f"g = Gather (table, x) d = DequantizeLinear (g, s, z) r = MatMul (d, f) {TAIL}"
    body = f"e = DequantizeLinear <axis = 0> (w, c, zc) f = Transpose (e) {body}"
    model = model_of(body, "int64[1,5] x", "float[1,5,4] y")
    _, count = differences(model, [{"x": np.random.default_rng(s).integers(0, 9, (1, 5))} for s in range(5)])
    assert count == 0
    plain = model_of("g = Gather (table, x) y = Cast <to = 1> (g)", "int64[1,5] x", "float[1,5,6] y")
    assert not read_onnx(plain).is_quantized


def test_chosen_integers_are_the_hosts() -> None:
    body = (
        "m = Less (x, s) a = QuantizeLinear (x, s, z) "
        "p = com.microsoft.QLinearWhere (m, a, s, z, k8, t, z, t, z) y = DequantizeLinear (p, t, z)"
    )
    model = model_of(body, "float[1,6] x", "float[1,6] y", {"k8": np.uint8(140)})
    samples = [{"x": np.random.default_rng(seed).normal(0, 1, (1, 6)).astype(np.float32)} for seed in range(20)]
    assert differences(model, samples)[1] == 0
