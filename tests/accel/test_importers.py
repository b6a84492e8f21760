"""Refusals of the importers, and the choice of the reader by suffix."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.networks.small_graphs import every_operation

from accel.errors import InputError, ModelError
from accel.frontends import load_model, read_quantized_onnx, read_tflite
from accel.network.graph_file import dump_graph, save_graph


def onnx_model(nodes: list[onnx.NodeProto], constants: dict[str, object], *, opset: int = 17) -> bytes:
    """A model from a real input "x" to "y"."""
    image = [1, 2, 3, 3]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, image)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def test_reader_is_chosen_by_suffix(tmp_path: Path) -> None:
    graph = every_operation()
    save_graph(graph, tmp_path / "net.graph")
    assert dump_graph(load_model(tmp_path / "net.graph")) == dump_graph(graph)
    save_graph(graph, tmp_path / "net")
    assert dump_graph(load_model(tmp_path / "net")) == dump_graph(graph)
    (tmp_path / "net.pb").write_text("hello")
    with pytest.raises(
        ModelError, match=r"net\.pb: model must be a graph, \.tflite or quantized \.onnx file, got something else$"
    ):
        load_model(tmp_path / "net.pb")


def test_free_sizes_of_quantized_models(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = onnx.load_model_from_string(onnx_model(nodes, {"s": np.float32(1), "z": np.int8(0)}))
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "W"
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert load_model(path, shapes={"x": (1, 2, 3, 7)}).tensors["x"].shape == (1, 3, 7, 2)
    with pytest.raises(InputError, match=r"^shapes must be given for \.onnx files only; other files have their sizes$"):
        load_model(tmp_path / "m.graph", shapes={"x": (1, 2)})


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_missing_file_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ModelError, match=r"none\..*: model must be a readable file, got No such file or directory$"):
        load_model(tmp_path / f"none.{suffix}")


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 64, b"\xff\xff\xff\x7fTFL3" + b"\0" * 64])
def test_no_flatbuffer_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"^model must be "):
        read_tflite(data)


def test_float_tflite_is_refused(shared_models: Path) -> None:
    message = r"_float\.tflite: model must be quantized to int8, got real numbers; convert it with full integer "
    with pytest.raises(ModelError, match=message):
        load_model(shared_models / "mlperf_tiny" / "resnet8_float.tflite")


@pytest.mark.parametrize(
    ("nodes", "constants", "message"),
    [
        (
            [helper.make_node("Relu", ["x"], ["y"], name="r")],
            {},
            "model must be quantized, got a float model: run `accel quantize` on it first",
        ),
        (
            [
                helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
                helper.make_node("Erf", ["q"], ["y"], name="e"),
            ],
            {"s": np.float32(1), "z": np.int8(0)},
            "Erf 'e': input 'q' must be real numbers, got integers; dequantize it first",
        ),
        (
            [
                helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
                helper.make_node("Post", ["d"], ["y"], name="e", domain="com.microsoft"),
            ],
            {"s": np.float32(1), "z": np.int8(0)},
            "com.microsoft.Post 'e': operator is not supported; docs/operators.md lists those that are",
        ),
        (
            [helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"], name="d")],
            {},
            "DynamicQuantizeLinear 'd': scales that are computed while the model runs are not supported; quantize the "
            "float model with `accel quantize`, or statically",
        ),
        (
            [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], name="q")],
            {"s": np.float32(-1), "z": np.int8(0)},
            "QuantizeLinear 'q': scale must be a positive number, got ",
        ),
        (
            [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], name="q", axis=1)],
            {"s": np.ones(2, np.float32), "z": np.zeros(2, np.int8)},
            "QuantizeLinear 'q': activations must have one scale and one zero point of int8 or uint8, got int8",
        ),
    ],
)
def test_unsupported_onnx_is_refused(nodes: list[onnx.NodeProto], constants: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=f"^{re.escape(message)}"):
        read_quantized_onnx(onnx_model(nodes, constants))


def test_old_opset_is_refused() -> None:
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    model = onnx_model([node], {"s": np.float32(1), "z": np.int8(0)}, opset=9)
    with pytest.raises(
        ModelError,
        match=r"^model must be a valid ONNX file: QuantizeLinear 'y' is no operator of version 9 of ONNX; export ",
    ):
        read_quantized_onnx(model)
