"""Models that ONNX Runtime's optimizer has saved give what the runtime gives for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from support.oracles import onnx_models
from support.oracles.ort_session import session

from accel.errors import ModelError
from accel.frontends.onnx import fused
from accel.frontends.onnx.reader import read_onnx, read_quantized_onnx
from accel.frontends.onnx.write import to_onnx
from accel.network import reference
from accel.network.real import dequantize_output, quantize_input
from accel.quantizer import quantize

X = "float[1,4,6,6] x"
ROWS = "float[1,5,8] x"
CASES = {
    "FusedConv Relu": (X, 'y = com.microsoft.FusedConv <activation = "Relu", pads = [1, 1, 1, 1]> (x, w3, b4)'),
    "FusedConv Clip": (X, 'y = com.microsoft.FusedConv <activation = "Clip", activation_params = [-0.5, 0.7]> (x, w3)'),
    "FusedConv sum": (
        X,
        'z = Conv (x, w3, b4) y = com.microsoft.FusedConv <activation = "LeakyRelu", activation_params = [0.25]> '
        "(x, w3, b4, z)",
    ),
    "FusedConv HardSigmoid": (
        X,
        'y = com.microsoft.FusedConv <activation = "HardSigmoid", activation_params = [0.3, 0.4]> (x, w3, b4)',
    ),
    "FusedGemm": (
        "float[1,8] x",
        'y = com.microsoft.FusedGemm <transB = 1, alpha = 0.5, activation = "LeakyRelu", activation_alpha = 0.2> '
        "(x, m, b8)",
    ),
    "FusedMatMul": (ROWS, "y = com.microsoft.FusedMatMul <alpha = 0.3, transB = 1> (x, m)"),
    "FusedMatMul of tensors": (ROWS, "z = Relu (x) y = com.microsoft.FusedMatMul <alpha = 0.3, transB = 1> (x, z)"),
    "BiasGelu": (ROWS, "y = com.microsoft.BiasGelu (x, b8)"),
    "FastGelu": (ROWS, "y = com.microsoft.FastGelu (x, b8)"),
    "FastGelu without bias": (ROWS, "y = com.microsoft.FastGelu (x)"),
    "SkipLayerNormalization": (
        ROWS,
        "z = Relu (x) y, , , s = com.microsoft.SkipLayerNormalization <epsilon = 0.01> (x, z, b8, b8, b8) "
        "y2 = Mul (s, s)",
    ),
    "SkipLayerNormalization without beta": (
        ROWS,
        "z = Relu (x) y = com.microsoft.SkipLayerNormalization <epsilon = 0.01> (x, z, b8)",
    ),
}
"""Inputs and nodes of float models with one fused operator each."""


def model(inputs: str, body: str, opset: int = 17) -> bytes:
    """A model of float operators, with constants for them."""
    rng, rank = np.random.default_rng(3), inputs.count(",") + 1
    outputs = ", ".join(f"float[{', '.join('abcd'[:rank])}] {name}" for name in ("y", "y2") if f"{name} = " in body)
    outputs = outputs or f"float[{', '.join('abcd'[:rank])}] y, float[{', '.join('abcd'[:rank])}] y2"
    imports = f'"" : {opset}, "com.microsoft" : 1'
    proto = onnx.parser.parse_model(
        f"<ir_version: 8, opset_import: [{imports}]> g ({inputs}) => ({outputs}) {{ {body} }}"
    )
    shapes = {"w3": (4, 4, 3, 3), "b4": (4,), "b8": (8,), "m": (8, 8)}
    for name, shape in shapes.items():
        proto.graph.initializer.append(numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name))
    return proto.SerializeToString()


def differences(data: bytes) -> float:
    """The largest difference of a model's outputs from those of the network that is read from it."""
    whole = session(data, optimized=False)
    x = np.random.default_rng(1).normal(0, 1, whole.get_inputs()[0].shape).astype(np.float32)
    divided = session(to_onnx(read_onnx(data)).SerializeToString(), optimized=False)
    pairs = zip(divided.run(None, {"x": x}), whole.run(None, {"x": x}), strict=True)
    return max(float(np.abs(found - wanted).max()) for found, wanted in pairs)


@pytest.mark.parametrize("case", CASES)
def test_fused_operator_is_its_parts(case: str) -> None:
    data = model(*CASES[case])
    assert differences(data) < 2e-6
    left = [op.kind for op in read_onnx(data).operators if "Fused" in op.kind or "Bias" in op.kind]
    assert left == (["com.microsoft.FusedMatMul"] if case == "FusedMatMul of tensors" else [])


def test_suite_catches_a_forgotten_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_activated", lambda parts, x, kind, numbers: None)
    assert all(differences(model(*CASES[case])) > 1e-3 for case in CASES if "Conv" in case or "Gemm" in case)


def test_bounds_of_an_old_clip_are_attributes() -> None:
    data = model(*CASES["FusedConv Clip"], opset=10)
    (clip,) = (op for op in read_onnx(data).operators if op.kind == "Clip")
    assert (clip.attributes, len(clip.inputs)) == ({"min": -0.5, "max": pytest.approx(0.7)}, 1)


def quantized(tmp_path: Path, form: str, activation: str) -> Path:
    """A small network, by ONNX Runtime's own tool."""
    tools = pytest.importorskip("onnxruntime.quantization", reason="needs the tools of onnxruntime")
    source, target = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    rng = np.random.default_rng(5)
    source.write_bytes(onnx_models.float_network(rng))

    class Reader(tools.CalibrationDataReader):
        samples = iter([{"x": rng.normal(0, 1, (1, 3, 12, 12)).astype(np.float32)} for _ in range(4)])

        def get_next(self) -> Any:
            return next(self.samples, None)

    kinds = {"activation_type": tools.QuantType[activation], "weight_type": tools.QuantType.QInt8}
    tools.quantize_static(source, target, Reader(), quant_format=tools.QuantFormat[form], **kinds)
    return target


def saved(source: Path, level: str) -> Path:
    """The model as the runtime optimizes it."""
    options, target = onnxruntime.SessionOptions(), source.with_suffix(f".{level}.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.__members__[f"ORT_ENABLE_{level}"]
    options.optimized_model_filepath, options.log_severity_level = str(target), 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return target


def steps(path: Path, count: int = 6) -> NDArray[np.float64]:
    """By how many steps the outputs of a quantized model differ from the runtime's for the same file."""
    rng, runtime, graph = (
        np.random.default_rng(8),
        session(path.read_bytes(), optimized=False),
        read_quantized_onnx(path),
    )
    tensor, found = graph.tensors[graph.outputs[0]], []
    for _ in range(count):
        x = rng.normal(0, 1, (1, 3, 12, 12)).astype(np.float32)
        values = reference.run(graph, quantize_input(graph, x))[tensor.name]
        found.append(np.rint(runtime.run(None, {"x": x})[0] / tensor.scale) + tensor.zero_point - values)
    return np.concatenate(found)


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("activation", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("level", ["BASIC", "EXTENDED", "ALL"])
def test_quantized_network_saved_by_the_optimizer(level: str, activation: str, form: str, tmp_path: Path) -> None:
    """Channels-last operators among them, at level ALL."""
    path = saved(quantized(tmp_path, form, activation), level)
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert "NhwcMaxPool" in kinds or level != "ALL"
    assert np.count_nonzero(steps(path)) == 0


def test_suite_catches_rows_taken_for_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mirrored(parts: Any) -> bool:
        x = parts.add("Transpose", [parts.input(0)], perm=[0, 3, 2, 1])
        fields = {name: value for name, value in parts.fields.items() if name != "channels_last"}
        y = parts.add("QLinearConv", [x, *list(parts.node.input)[1:]], **fields)
        parts.add("Transpose", [y], perm=[0, 2, 3, 1])
        return True

    path = saved(quantized(tmp_path, "QOperator", "QUInt8"), "ALL")
    monkeypatch.setitem(fused._FUSED, "QLinearConv", mirrored)
    assert np.count_nonzero(steps(path)) > 0


def test_float_network_saved_by_the_optimizer(tmp_path: Path) -> None:
    source = tmp_path / "float.onnx"
    source.write_bytes(onnx_models.float_network(np.random.default_rng(5)))
    extended = read_onnx(saved(source, "EXTENDED"))
    assert {op.kind for op in extended.operators} == {op.kind for op in read_onnx(source).operators}
    expected = "model was optimized by ONNX Runtime for one processor; save it with graph_optimization_level"
    with pytest.raises(ModelError, match=f"^.*Conv .*: {expected} ORT_ENABLE_BASIC, or give the model before it$"):
        read_onnx(saved(source, "ALL"))


def quantized_attention() -> bytes:
    """Attention that the runtime's tools for transformers quantize."""
    names = ["q", "w", "b", "s", "s", "", "z", "z"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QAttention", names, ["y"], name="a", domain="com.microsoft", num_heads=2),
    ]
    values = {"w": np.zeros((4, 12), np.uint8), "b": np.zeros(12, np.float32), "s": np.float32(1), "z": np.uint8(0)}
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4]) for name in "xy"]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], constants)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def dynamic_lstm() -> bytes:
    """What quantize_dynamic makes of an LSTM."""
    names = ["x", "w", "r", "", "", "", "", "", "s", "z", "s", "z"]
    node = helper.make_node("DynamicQuantizeLSTM", names, ["y"], name="a", domain="com.microsoft", hidden_size=2)
    values = {"w": np.zeros((1, 4, 8), np.int8), "r": np.zeros((1, 2, 8), np.int8)}
    values |= {"s": np.ones(1, np.float32), "z": np.zeros(1, np.int8)}
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 1, 1, 2])
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "g", [x], [y], constants)
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def normalization() -> bytes:
    """SimplifiedLayerNormalization, which no version of ONNX has."""
    return model(ROWS, "y = SimplifiedLayerNormalization (x, b8)", opset=13)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "QAttention": (
        quantized_attention,
        "com.microsoft.QAttention 'a': operator of ONNX Runtime on integers is not supported; save the model with "
        "graph_optimization_level ORT_ENABLE_BASIC, or give the model before it",
    ),
    "SimplifiedLayerNormalization": (
        normalization,
        "model must be a valid ONNX file: SimplifiedLayerNormalization 'y' is no operator of version 13 of ONNX; "
        "export the model in a version that has it, or as operators that this one has; "
        "if ONNX Runtime saved the model, save it with graph_optimization_level ORT_ENABLE_BASIC, or give the model "
        "before it",
    ),
    "DynamicQuantizeLSTM": (
        dynamic_lstm,
        "com.microsoft.DynamicQuantizeLSTM 'a': scales that are computed while the model runs are not supported; "
        "quantize the float model with `accel quantize`, or statically",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_operator_says_what_to_do(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ModelError) as error:
        read_onnx(make())
    assert str(error.value) == message


def test_embeddings_are_the_hosts() -> None:
    """EmbedLayerNormalization has a second result, of int32, whose type ONNX does not know."""
    body = """n, mask = com.microsoft.EmbedLayerNormalization (ids, none, words, places, none, b8, b8)
        y = MatMul (n, m)"""
    text = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (int32[1,5] ids) => (float[a,b,c] y)'
    proto = onnx.parser.parse_model(f"{text} {{ {body} }}")
    proto.graph.node[0].input[:] = ["" if name == "none" else name for name in proto.graph.node[0].input]
    rng = np.random.default_rng(3)
    for name, shape in {"words": (30, 8), "places": (5, 8), "b8": (8,), "m": (8, 8)}.items():
        proto.graph.initializer.append(numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name))
    ids = rng.integers(0, 30, (16, 5)).astype(np.int32)
    graph = quantize(proto.SerializeToString(), ids)
    whole = session(proto.SerializeToString(), optimized=False)
    wanted = np.stack([whole.run(None, {"ids": row[None]})[0] for row in ids])
    found = np.stack([reference.run(graph, {"ids": row[None]})[graph.outputs[0]] for row in ids])
    real = dequantize_output(graph, found.reshape(-1, *graph.output_tensors[0].shape[1:]))
    noise = np.square(real.reshape(wanted.shape) - wanted).mean() / np.square(wanted).mean()
    assert -10 * np.log10(noise) > 35
