"""Imported quantized ONNX models equal ONNX Runtime: random operators and QDQ groups, the onnx package's own cases."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from support.oracles import onnx_models
from support.oracles.on_machine import compiled, simulated
from support.oracles.ort_session import as_graph, random_samples, session

from accel.frontends.onnx.reader import read_quantized_onnx
from accel.machine.numerics import RequantMode
from accel.network import reference
from accel.network.graph import Graph
from accel.network.real import quantize_input
from accel.quantized import recipes, resize, weighted
from accel.quantized.network import Quantization

FEW, MANY = 5, 250


def differences(graph: Graph, samples: list[dict[str, NDArray[Any]]], expected: list[NDArray[Any]]) -> NDArray[Any]:
    """Absolute differences of all output elements."""
    result = []
    for sample, value in zip(samples, expected, strict=True):
        inputs = {name: as_graph(x, graph.tensors[name]) for name, x in sample.items()}
        output = reference.run(graph, inputs)[graph.outputs[0]]
        wanted = as_graph(value, graph.tensors[graph.outputs[0]])
        result.append(np.abs(output.astype(np.int64) - wanted).reshape(-1))
    return np.concatenate(result)


def compare(make: Callable[[np.random.Generator], bytes], count: int, seed: int = 7) -> NDArray[Any]:
    """Absolute differences of `count` random models with three inputs each, of which one holds extremes only."""
    result = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        model = make(rng)
        runtime = session(model)
        samples = random_samples(runtime, rng)
        expected = [runtime.run(None, sample)[0] for sample in samples]
        result.append(differences(read_quantized_onnx(model), samples, expected))
    return np.concatenate(result)


@pytest.mark.parametrize("operator", onnx_models.EXACT)
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.marathon)])
def test_operator_equals_onnxruntime(operator: str, count: int) -> None:
    found = compare(onnx_models.EXACT[operator], count)
    print(f"onnxruntime, {count} models of {operator}: {np.count_nonzero(found)} of {found.size} outputs differ")
    assert (found.size > 0, np.count_nonzero(found)) == (True, 0)


@pytest.mark.parametrize("operator", [*onnx_models.NEAR, *onnx_models.COARSE])
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.marathon)])
def test_operator_is_at_most_one_step_from_onnxruntime(operator: str, count: int) -> None:
    found = compare((onnx_models.NEAR | onnx_models.COARSE)[operator], count)
    rate = np.count_nonzero(found) / found.size
    print(f"onnxruntime, {count} models of {operator}: {rate:.2e} of {found.size} outputs differ by one step")
    assert found.max() <= 1
    assert rate < (0.1 if operator in onnx_models.COARSE else 1e-3)


def truncated(x: NDArray[Any], parameters: tuple[float, int], mode: RequantMode) -> NDArray[np.int8]:
    """Towards minus infinity."""
    steps = np.floor(x.astype(np.float32) / np.float32(parameters[0]))
    return np.asarray(np.clip(steps + parameters[1], -128, 127), dtype=np.int8)


def off_by_one(weight: Quantization) -> NDArray[np.int64]:
    """Weights of uint8 around 129 instead of 128."""
    assert weight.integers is not None
    return np.clip(weight.integers - 129 * (weight.zero_point.max() > 0), -128, 127)


def without_padding(op: Any, shape: Any, kernel: Any) -> Any:
    """The size stays that of the padded image."""
    return RIGHT_WINDOW(op, shape, kernel)._replace(padding=(0, 0, 0, 0), dilation=(1, 1))


MUTANTS: dict[str, tuple[Any, str, Any, tuple[str, ...]]] = {
    "zero point": (Quantization, "centred", property(off_by_one), ("QLinearConv", "QLinearMatMul")),
    "padding": (weighted, "window_of", without_padding, ("QLinearConv", "QDQ Conv")),
    "rounding": (recipes, "quantize", truncated, ("QLinearLeakyRelu",)),
    "divisor": (
        recipes,
        "multiplier_fp32",
        lambda scale: RIGHT_MULTIPLIER(np.float32(scale * 1.01)),
        ("QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearMul"),
    ),
    "nearest": (
        resize,
        "nearest",
        lambda op, source, target, factor: tuple(i * source // target for i in range(target)),
        ("QDQ Resize",),
    ),
}
RIGHT_WINDOW, RIGHT_MULTIPLIER = weighted.window_of, recipes.multiplier_fp32


@pytest.mark.parametrize("mutant", MUTANTS)
def test_suite_catches(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, name, wrong, suites = MUTANTS[mutant]
    monkeypatch.setattr(where, name, wrong)
    models = onnx_models.EXACT | onnx_models.NEAR
    for operator in suites:
        try:
            found = compare(models[operator], 12)
        except AssertionError:  # the mutant changes the output's shape
            continue
        assert np.count_nonzero(found) > found.size / 1000, operator


BACKEND_MODULES = (
    "convinteger",
    "dequantizelinear",
    "matmulinteger",
    "qlinearconv",
    "qlinearmatmul",
    "quantizelinear",
)
BACKEND_CASES = (
    "test_convinteger_without_padding",
    "test_convinteger_with_padding",
    "test_dequantizelinear",
    "test_matmulinteger",
    "test_qlinearconv",
    "test_qlinearmatmul_2D_int8_float16",
    "test_qlinearmatmul_2D_int8_float32",
    "test_qlinearmatmul_2D_uint8_float16",
    "test_qlinearmatmul_2D_uint8_float32",
    "test_quantizelinear",
)
"""The onnx package's backend cases in scope: activations of 8 bits, one scale each, one batch, constant weights."""


@pytest.fixture(scope="module")
def backend_cases() -> dict[str, Any]:
    """The cases of the operators in scope; importing one operator's module collects its cases, all take a minute."""
    from onnx.backend.test.case import node

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in BACKEND_MODULES:
            importlib.import_module(f"onnx.backend.test.case.node.{name}")
    return {case.name: case for case in node._NodeTestCases}


@pytest.mark.parametrize("name", BACKEND_CASES)
def test_backend_case(name: str, backend_cases: dict[str, Any]) -> None:
    case = backend_cases[name]
    model = case.model
    (arrays, (expected, *_)) = case.data_sets[0]
    first = model.graph.input[0].name
    constants = [
        numpy_helper.from_array(np.asarray(array), value.name)
        for value, array in list(zip(model.graph.input, arrays, strict=True))[1:]
    ]
    del model.graph.input[1:]
    model.graph.initializer.extend(constants)
    if expected.dtype == np.int32:
        expected = quantized_sums(model, expected)
    graph = read_quantized_onnx(model.SerializeToString())
    x = np.asarray(arrays[0])
    shape = graph.tensors[graph.inputs[0]].shape
    integers = (
        quantize_input(graph, x.reshape(shape))
        if x.dtype == np.float32
        else as_graph(x, graph.tensors[graph.inputs[0]])
    )
    result = reference.run(graph, {first: integers})[graph.outputs[0]]
    (computed,) = simulated(compiled(graph, "edge"), [integers])
    assert np.array_equal(computed, result)
    if expected.dtype == np.float32:
        tensor = graph.tensors[graph.outputs[0]]
        real = (result.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
        assert np.array_equal(real.reshape(expected.shape), expected)
    else:
        assert np.array_equal(result, as_graph(expected, graph.tensors[graph.outputs[0]]))


def quantized_sums(model: onnx.ModelProto, sums: NDArray[np.int32]) -> NDArray[np.int8]:
    """Let a model of int32 sums quantize them, at a scale that loses nothing; the values that it must give."""
    output = model.graph.output[0]
    numbers = {"one": np.float32(1), "step": np.float32(0.5), "zero": np.int8(-128)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items())
    model.graph.node.extend(
        [
            helper.make_node("Cast", [output.name], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["cast", "one"], ["scaled"]),
            helper.make_node("QuantizeLinear", ["scaled", "step", "zero"], ["quantized"]),
        ]
    )
    output.name, output.type.tensor_type.elem_type = "quantized", TensorProto.INT8
    return np.clip(2 * sums - 128, -128, 127).astype(np.int8)


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("activation", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_network_quantized_by_onnxruntime(form: str, activation: str, per_channel: bool, tmp_path: Path) -> None:
    """A small residual network that ONNX Runtime's own tool has quantized."""
    quantization = pytest.importorskip("onnxruntime.quantization", reason="needs the tools of onnxruntime")
    rng = np.random.default_rng(5)
    source, target = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    source.write_bytes(onnx_models.float_network(rng))

    class Reader(quantization.CalibrationDataReader):
        samples = iter([{"x": rng.normal(0, 1, (1, 3, 12, 12)).astype(np.float32)} for _ in range(8)])

        def get_next(self) -> Any:
            return next(self.samples, None)

    quantization.quantize_static(
        source,
        target,
        Reader(),
        quant_format=quantization.QuantFormat[form],
        activation_type=quantization.QuantType[activation],
        weight_type=quantization.QuantType.QInt8,
        per_channel=per_channel,
    )
    graph = read_quantized_onnx(target)
    runtime, differing, compared = session(target.read_bytes()), 0, 0
    for _ in range(20):
        x = rng.normal(0, 1, (1, 3, 12, 12)).astype(np.float32)
        (expected,) = runtime.run(None, {"x": x})
        values = reference.run(graph, quantize_input(graph, x))
        tensor = graph.tensors[graph.outputs[0]]
        steps = np.rint(expected / tensor.scale) + tensor.zero_point - values[tensor.name]
        compared += steps.size
        differing += np.count_nonzero(steps)
        assert np.abs(steps).max() <= 1
    print(f"{form} {activation} per channel {per_channel}: {differing} of {compared} differ by one step")
    assert differing <= compared // 100
