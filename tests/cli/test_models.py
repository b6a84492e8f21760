"""Commands take programs, graphs, .tflite and quantized .onnx files alike; inputs are int8, uint8 or real numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.cli.invoke import error, success
from support.cli.verification import verification
from support.networks.small_networks import conv, network

import accel
from accel.network import reference


def onnx_pool(kind: int, size: int = 5) -> bytes:
    """A quantized 2x2 maximum of a real or an integer image (1, 3, 4, size)."""
    numbers = {"s": np.float32(0.05), "z": np.uint8(100) if kind == TensorProto.UINT8 else np.int8(-28)}
    is_real = kind == TensorProto.FLOAT
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])] if is_real else []
    nodes += [
        helper.make_node("DequantizeLinear", ["q" if is_real else "x", "s", "z"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2]),
        helper.make_node("QuantizeLinear", ["m", "s", "z"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", kind, [1, 3, 4, size])
    y = helper.make_tensor_value_info("y", TensorProto.INT8 if is_real else kind, [1, 3, 3, size - 1])
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()]
    graph = helper.make_graph(nodes, "pool", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def expected_output(model: str, inputs: Any) -> Any:
    """The reference's integers; those of ONNX images in ONNX's order of axes."""
    graph = accel.load_model(model)
    outputs = np.concatenate([reference.run(graph, sample[None])[graph.outputs[0]] for sample in inputs])
    return outputs.transpose(0, 3, 1, 2) if model.endswith(".onnx") else outputs


def test_graphs_are_compiled_on_the_way(files: Path) -> None:
    assert success("disassemble", "a.graph", "--config", "tiny") == success("disassemble", "a.program")
    facts = success("check", "a.graph", "--config", "tiny", "--json")
    assert json.loads(facts) == json.loads(success("check", "a.program", "--json"))
    success("run", "a.graph", "--config", "tiny", "--input", "x.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), expected_output("a.graph", np.load("x.npy")))
    assert " on edge: " in success("run", "a.graph", "--input", "x.npy")
    assert " on tiny: " in success("run", "a.program", "--config", "tiny", "--input", "x.npy")


def test_a_program_compiles_to_itself(files: Path) -> None:
    success("compile", "a.program", "-o", "b.program")
    assert Path("b.program").read_bytes() == Path("a.program").read_bytes()


def test_verify_compiles_too(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[accel.Program] = []

    def same(program: accel.Program, inputs: Any, **options: Any) -> accel.Verification:
        seen.append(program)
        return verification(1234, 5, 4096)

    monkeypatch.setattr("accel.coverify.verify", same)
    success("verify", "a.graph", "--config", "tiny")
    assert seen[0].to_bytes() == Path("a.program").read_bytes()


def test_tflite(files: Path, shared_models: Path) -> None:
    model = str(shared_models / "mlperf_tiny" / "dscnn_kws_int8.tflite")
    with np.load(shared_models / "samples" / "kws_1000.npz") as data:
        x = data["x"][:2]
    np.save("words.npy", x)
    success("run", model, "--input", "words.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), expected_output(model, x))


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.UINT8])
def test_integers_of_onnx(files: Path, kind: int) -> None:
    Path("pool.onnx").write_bytes(onnx_pool(kind))
    integers = np.random.default_rng(1).integers(-128, 128, (2, 4, 5, 3)).astype(np.int8)
    np.save("i.npy", integers)
    np.save("u.npy", (integers.astype(np.int16) + 128).astype(np.uint8))
    success("run", "pool.onnx", "--config", "tiny", "--input", "i.npy", "-o", "y.npy")
    offset = 128 if kind == TensorProto.UINT8 else 0
    np.testing.assert_array_equal(np.load("y.npy"), expected_output("pool.onnx", integers).astype(np.int16) + offset)
    np.save("own.npy", integers.transpose(0, 3, 1, 2))
    success("run", "pool.onnx", "--config", "tiny", "--input", "own.npy", "-o", "z.npy")
    assert Path("z.npy").read_bytes() == Path("y.npy").read_bytes()
    unsigned = ["--config", "tiny", "--input", "u.npy", "-o", "z.npy"]
    if kind == TensorProto.UINT8:
        success("run", "pool.onnx", *unsigned)
        assert Path("z.npy").read_bytes() == Path("y.npy").read_bytes()
        success("compile", "pool.onnx", "--config", "tiny", "-o", "pool.program")
        success("run", "pool.program", *unsigned)
        assert Path("z.npy").read_bytes() == Path("y.npy").read_bytes()
    else:
        assert error("run", "pool.onnx", *unsigned) == (
            "Error: u.npy: input 'x' must be int8 or float32 of shape (samples, 3, 4, 5), got uint8 (2, 4, 5, 3)"
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_real_inputs_in_both_orders(files: Path, dtype: Any) -> None:
    Path("pool.onnx").write_bytes(onnx_pool(TensorProto.FLOAT))
    graph = accel.load_model("pool.onnx")
    real = np.random.default_rng(1).normal(0, 3, (2, 3, 4, 5)).astype(dtype)
    integers = np.concatenate([accel.quantize_input(graph, sample[None]) for sample in real])
    np.save("nchw.npy", real)
    np.save("nhwc.npy", real.transpose(0, 2, 3, 1))
    for name in ("nchw", "nhwc"):
        success("run", "pool.onnx", "--config", "tiny", "--input", f"{name}.npy", "-o", "y.npy")
        np.testing.assert_array_equal(np.load("y.npy"), expected_output("pool.onnx", integers))
    assert error("run", "pool.onnx", "--config", "tiny", "--input", "nchw.npy", "--layout", "NHWC") == (
        f"Error: nchw.npy: input 'x' must be int8 or float32 of shape (samples, 4, 5, 3), "
        f"got {np.dtype(dtype)} (2, 3, 4, 5)"
    )


def test_ties_of_real_inputs_round_as_the_network_does(files: Path) -> None:
    model = onnx.load_model_from_string(onnx_pool(TensorProto.FLOAT))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.asarray(np.float32(1)), "s"))
    onnx.save(model, "pool.onnx")
    np.save("half.npy", np.full((1, 3, 4, 5), 0.5, np.float32))
    success("run", "pool.onnx", "--config", "tiny", "--input", "half.npy", "-o", "y.npy")
    assert set(np.load("y.npy").flat) == {-28}  # fp32: to even
    tensor = accel.load_graph("a.graph").tensors["t0"]
    np.save("half.npy", np.full((1, 4, 5, 3), tensor.scale / 2, np.float32))
    np.save("next.npy", np.full((1, 4, 5, 3), tensor.zero_point + 1, np.int8))
    for name in ("half", "next"):
        success("run", "a.program", "--input", f"{name}.npy", "-o", f"{name}.out.npy")
    assert Path("half.out.npy").read_bytes() == Path("next.out.npy").read_bytes()  # tflite: away from zero


def test_images_that_fit_in_both_orders_have_the_models_own(files: Path) -> None:
    model = onnx.load_model_from_string(onnx_pool(TensorProto.FLOAT, 3))
    for value, size in ((model.graph.input[0], 3), (model.graph.output[0], 2)):
        value.type.tensor_type.shape.dim[2].dim_value = size
    onnx.save(model, "square.onnx")
    real = np.random.default_rng(1).normal(0, 3, (1, 3, 3, 3)).astype(np.float32)
    np.save("r.npy", real)
    arguments = ["run", "square.onnx", "--config", "tiny", "--input", "r.npy"]
    graph = accel.load_model("square.onnx")
    for layout in ("NCHW", "NHWC"):
        success(*arguments, "--layout", layout, "-o", "y.npy")
        integers = accel.quantize_input(graph, real, layout=layout)
        expected = expected_output("square.onnx", integers)
        np.testing.assert_array_equal(
            np.load("y.npy"), expected.transpose(0, 2, 3, 1) if layout == "NHWC" else expected
        )
    success(*arguments, "-o", "y.npy")
    np.testing.assert_array_equal(
        np.load("y.npy"), expected_output("square.onnx", real_to_int8(graph, real.transpose(0, 2, 3, 1)))
    )


def real_to_int8(graph: accel.Graph, nhwc: Any) -> Any:
    """The integers of a real image in the graph's order, of mode fp32."""
    tensor = graph.tensors[graph.inputs[0]]
    return np.clip(np.rint(nhwc / np.float32(tensor.scale)) + tensor.zero_point, -128, 127).astype(np.int8)


def test_images_that_fit_in_both_orders_need_the_option_where_no_model_says(files: Path) -> None:
    graph = network((1, 3, 3, 3), conv(2, (1, 1)))
    accel.save_graph(graph, "b.graph")
    real = np.random.default_rng(1).normal(0, 3, (1, 3, 3, 3)).astype(np.float32)
    np.save("r.npy", real)
    arguments = ["run", "b.graph", "--config", "tiny", "--input", "r.npy"]
    assert error(*arguments) == "Error: r.npy: input 't0' of shape (3, 3, 3) may be NCHW or NHWC: give the layout"
    for layout in ("NCHW", "NHWC"):
        success(*arguments, "--layout", layout, "-o", "y.npy")
        integers = accel.quantize_input(graph, real, layout=layout)
        expected = expected_output("b.graph", integers)
        np.testing.assert_array_equal(
            np.load("y.npy"), expected.transpose(0, 3, 1, 2) if layout == "NCHW" else expected
        )
    np.save("i.npy", integers)
    success("run", "b.graph", "--config", "tiny", "--input", "i.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), expected)


def test_compile_of_the_api_reads_files(files: Path) -> None:
    assert accel.compile("a.graph", "tiny").to_bytes() == Path("a.program").read_bytes()
    Path("pool.onnx").write_bytes(onnx_pool(TensorProto.FLOAT))
    assert accel.compile(files / "pool.onnx").config == accel.preset("edge")


COMMANDS = {
    "inspect": [],
    "compile": ["-o", "p.program"],
    "run": ["--input", "x.npy", "-o", "y.npy"],
    "verify": ["--input", "x.npy"],
    "check": [],
    "disassemble": [],
    "disassemble --steps": [],
}


@pytest.fixture
def free_sizes(files: Path) -> Path:
    """A model whose image has no sizes, and an input for it."""
    model = onnx.load_model_from_string(onnx_pool(TensorProto.FLOAT))
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "n"
    del model.graph.output[0].type.tensor_type.shape.dim[2:]
    onnx.save(model, "free.onnx")
    np.save("x.npy", np.random.default_rng(1).normal(0, 3, (2, 3, 4, 6)).astype(np.float32))
    return files


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_sizes_of_inputs(
    free_sizes: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accel.coverify.verify", lambda *args, **options: verification(9, 5, 64))
    rest = [*command.split()[1:], *COMMANDS[command]]
    message = error(command.split()[0], "free.onnx", *rest)
    assert "give them: --shape x=1,3,N,N, or shapes={'x': (...)}" in message
    success(command.split()[0], "free.onnx", "--shape", "x=1,3,4,6", *rest)
    if command == "run":
        assert np.load("y.npy").shape == (2, 3, 3, 5)
    message = error(command.split()[0], "a.program", "--shape", "x=1,3,4,6", *rest)
    assert message == "Error: shapes must be given for .onnx files only; other files have their sizes"


WRONG_SIZES = {
    "--shape must be NAME=SIZE,SIZE,... with positive integers, got 'x=1,3,0,6'": ["x=1,3,0,6"],
    "--shape must be NAME=SIZE,SIZE,... with positive integers, got 'x=1,3,-4,6'": ["x=1,3,-4,6"],
    "--shape must be NAME=SIZE,SIZE,... with positive integers, got 'x=1,3,n,6'": ["x=1,3,n,6"],
    "--shape must be NAME=SIZE,SIZE,... with positive integers, got 'x=1,,4,6'": ["x=1,,4,6"],
    "--shape must be NAME=SIZE,SIZE,... with positive integers, got '1,3,4,6'": ["1,3,4,6"],
    "--shape must be given once for each input, got 'x' twice": ["x=1,3,4,6", "x=1,3,4,7"],
    "shape must be of an input of the model ('x'), got 'y'": ["y=1,3,4,6"],
    "shape of 'x' must have 4 sizes, got (3, 4, 6)": ["x=3,4,6"],
    "shape of 'x' must fit (1, 3, 0, 0) with 0 for free, got (1, 2, 4, 6)": ["x=1,2,4,6"],
}


@pytest.mark.parametrize("message", WRONG_SIZES)
def test_wrong_sizes_of_inputs(free_sizes: Path, message: str) -> None:
    options = [word for text in WRONG_SIZES[message] for word in ("--shape", text)]
    assert error("check", "free.onnx", *options) == f"Error: {message}"


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.UINT8])
def test_outputs_know_the_type_of_the_models_file(files: Path, kind: int) -> None:
    Path("pool.onnx").write_bytes(onnx_pool(kind))
    (output,) = accel.load_model("pool.onnx").output_tensors
    assert output.unsigned == (kind == TensorProto.UINT8)
