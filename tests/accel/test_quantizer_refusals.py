"""Models and calibration data that the quantizer reads in other forms, or refuses in one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.networks.float_models import Node, load, onnx_model
from support.networks.quantizer_models import IMAGE, MODELS, W, conv, normal

from accel.errors import AccelError, InputError, ModelError
from accel.network.graph_file import dump_graph
from accel.quantizer import quantize


@pytest.mark.parametrize(
    ("node", "constants", "message"),
    [
        (
            ("Relu", ["x"], "y", {"domain": "com.microsoft"}),
            {},
            "model must run in ONNX Runtime for calibration: ",
        ),
        (conv(["x", "w"], "y"), {"w": W["w"] * np.nan}, "Conv 'Y': constant 'w' must be finite"),
        (("MatMul", ["x", "x"], "y", {}), {}, "model must have consistent shapes: "),
    ],
)
def test_unsupported_model_is_refused(node: Node, constants: dict[str, Any], message: str) -> None:
    model = onnx_model([node], constants, IMAGE)
    with pytest.raises(ModelError, match=f"^{re.escape(message)}"):
        quantize(model, normal(2, 4, 6, 9))


def test_external_data_must_lie_in_the_folder_of_the_model(tmp_path: Path) -> None:
    model, samples = onnx_model([conv(["x", "w"], "y")], W, IMAGE), normal(2, 4, 6, 9)
    path = tmp_path / "inside" / "m.onnx"
    path.parent.mkdir()
    onnx.save(load(model), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    assert dump_graph(quantize(path, samples)) == dump_graph(quantize(model, samples))
    with pytest.raises(ModelError, match=r"^model must be one file, got external data for 'w'; give its path$"):
        quantize(path.read_bytes(), samples)
    (path.parent / "m.bin").rename(tmp_path / "m.bin")
    with pytest.raises(ModelError, match=r"data of 'w' must be a file in the model's folder, got 'm\.bin'$"):
        quantize(path, samples)
    (path.parent / "m.bin").symlink_to(tmp_path / "m.bin")
    with pytest.raises(ModelError, match=r"data of 'w' must be a file in the model's folder, got 'm\.bin'$"):
        quantize(path, samples)


def test_unreadable_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: model must be a readable file, got No such file or directory$"):
        quantize(tmp_path / "none.onnx", normal(2, 4))
    for data in (b"", b"not a model", onnx_model([conv(["x", "w"], "y")], W, IMAGE)[:-50]):
        with pytest.raises(ModelError, match=r"^model must be (a valid|an) ONNX file(: |, got a damaged file )"):
            quantize(data, normal(2, 4))


def test_damaged_models_never_raise_anything_else() -> None:
    nodes, constants = MODELS["flatten and Gemm"]
    data = onnx_model(nodes, constants, IMAGE)
    rng, samples = np.random.default_rng(5), normal(1, 4, 6, 9)
    for _ in range(150):
        damaged = bytearray(data)
        damaged[rng.choice([rng.integers(len(data)), rng.integers(400)])] = rng.integers(256)
        try:
            quantize(bytes(damaged), samples)
        except AccelError:
            continue


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            ("N", 4, "H", 9),
            "model input 'x' must have known sizes, of which only the first may be free, got (0, 4, 0, 9) with 0 for "
            "free; give them: --shape x=1,4,N,9, or shapes={'x': (...)}",
        ),
        (
            (2, 4, 6, 9),
            "model input 'x' must have batch size 1, which MaxPool 'Y' wants, got shape (2, 4, 6, 9); export "
            "the model with 1 or with a free first size: samples run one after the other",
        ),
    ],
)
def test_unknown_sizes_are_refused(shape: tuple[int | str, ...], message: str) -> None:
    model = onnx_model([("MaxPool", ["x"], "y", {"kernel_shape": [2, 2]})], {}, shape)
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        quantize(model, normal(2, 4, 6, 9))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_weights_of_other_precisions(kind: int) -> None:
    """Stored in half or double precision, cast where they are used."""
    weight = np.round(W["w"] * 32) / np.float32(32)
    nodes: list[Node] = [("Cast", ["h"], "w", {"to": TensorProto.FLOAT}), conv(["x", "w"], "y")]
    model = load(onnx_model(nodes, {"h": weight}, IMAGE))
    (stored,) = model.graph.initializer
    stored.CopyFrom(helper.make_tensor("h", kind, weight.shape, weight.reshape(-1).tolist()))
    samples = normal(4, 4, 6, 9)
    expected = quantize(onnx_model([conv(["x", "w"], "y")], {"w": weight}, IMAGE), samples)
    assert dump_graph(quantize(model.SerializeToString(), samples)) == dump_graph(expected)


def test_arithmetic_on_shapes_is_folded() -> None:
    """What exporters write for a flattening: sizes read from the tensor, at a free batch."""
    nodes: list[Node] = [
        ("Shape", ["x"], "s", {}),
        ("Gather", ["s", "first"], "n", {"axis": 0}),
        ("Unsqueeze", ["n", "axis"], "u", {}),
        ("Concat", ["u", "rest"], "t", {"axis": 0}),
        ("Reshape", ["x", "t"], "f", {}),
        ("Gemm", ["f", "m"], "y", {}),
    ]
    constants = {"first": np.int64(0), "axis": np.array([0]), "rest": np.array([-1]), "m": normal(4 * 6 * 9, 5)}
    samples = normal(4, 4, 6, 9)
    graph = quantize(onnx_model(nodes, constants, IMAGE), samples)
    plain = onnx_model([("Flatten", ["x"], "f", {}), nodes[-1]], {"m": constants["m"]}, IMAGE)
    assert dump_graph(graph) == dump_graph(quantize(plain, samples))


def test_free_sizes_are_fixed_by_an_option() -> None:
    nodes, constants = MODELS["conv with bias, stride and padding"]
    fixed, free = (onnx_model(nodes, constants, shape) for shape in (IMAGE, ("N", 4, "H", "W")))
    samples = normal(2, 4, 6, 9)
    graph = quantize(free, samples, shapes={"x": (1, 4, 6, 9)})
    assert dump_graph(graph) == dump_graph(quantize(fixed, samples))
    for shapes, message in (
        ({"z": (1, 4, 6, 9)}, "shape must be of an input of the model ('x'), got 'z'"),
        ({"x": (4, 6, 9)}, "shape of 'x' must have 4 sizes, got (4, 6, 9)"),
        ({"x": (1, 3, 6, 9)}, "shape of 'x' must fit (0, 4, 0, 0) with 0 for free, got (1, 3, 6, 9)"),
    ):
        with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
            quantize(free, samples, shapes=shapes)


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        (normal(2, 4, 6, 8), {}, "calibration of 'x' must have shape (samples, 4, 6, 9), got (2, 4, 6, 8)"),
        (normal(0, 4, 6, 9), {}, "calibration of 'x' must have shape (samples, 4, 6, 9), got (0, 4, 6, 9)"),
        (normal(2, 4, 6, 9) * np.nan, {}, "calibration of 'x' must be finite"),
        (np.full((2, 4, 6, 9), 1e300), {}, "calibration of 'x' must be finite"),
        (np.full((2, 4, 6, 9), "1"), {}, "calibration of 'x' must be real numbers, got <U1"),
        (np.full((2, 4, 6, 9), 1j), {}, "calibration of 'x' must be real numbers, got complex128"),
        (
            {"x": normal(2, 4, 6, 9), "z": normal(2, 4, 6, 9)},
            {},
            "calibration must have the inputs ('x',), got ('x', 'z'): name the arrays so",
        ),
        (
            normal(2, 4, 6, 9),
            {"calibrate_method": "mean"},
            "calibrate_method must be one of auto, expected, minmax, moving_average, percentile, kl, mse, got 'mean'",
        ),
        (
            normal(2, 4, 6, 9),
            {"calibrate_method": "percentile", "percentile": 0.99},
            "percentile must be in (50, 100], got 0.99",
        ),
        (
            normal(2, 4, 6, 9),
            {"mode": "exact"},
            "mode must be one of tflite, single, fp32, got 'exact'",
        ),
    ],
)
def test_calibration_that_does_not_fit_is_refused(samples: Any, options: dict[str, Any], message: str) -> None:
    model = onnx_model([conv(["x", "w"], "y")], W, IMAGE)
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        quantize(model, samples, **options)
