"""From outside models to outputs: compiled programs in the simulator equal TensorFlow Lite Micro and ONNX Runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.oracles import onnx_models
from support.oracles.on_machine import compiled, simulated
from support.oracles.ort_session import as_graph, random_samples, session

import accel
from accel.frontends import read_quantized_onnx, read_tflite

pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from support.oracles import tflite_litert_models, tflite_models, tflite_runtime
from support.oracles.tflite_models import HOSTED
from support.oracles.tflite_runtime import REAL_MODELS
from support.oracles.tflite_unsigned import WEIGHTED

FEW, MANY = 4, 200
ENOUGH = 40
"""Models of an operator of which a share of the outputs may differ: fewer do not tell a share of 1 in 1,000."""
CONFIGS = ("tiny", "tiny", "tiny", "edge")


def tflite_difference(name: str, rng: np.random.Generator, config: str) -> Any:
    """Absolute differences of the outputs of one random model on three inputs."""
    model = (tflite_models.MODELS | tflite_models.UNSIGNED)[name](rng)
    graph = read_tflite(model)
    program, runtime = compiled(graph, config, hosted=name in HOSTED), tflite_runtime.interpreter(model, name)
    found = []
    for sample in tflite_runtime.random_samples(graph, rng, 3):
        expected = tflite_runtime.outputs(runtime, sample, len(graph.outputs))
        values = dict(zip(program.output_names, simulated(program, sample), strict=True))
        for name, wanted in zip(graph.outputs, expected, strict=True):
            found.append(values[name].reshape(-1).astype(np.int64) - wanted.reshape(-1))
    return np.abs(np.concatenate(found))


def onnx_difference(name: str, rng: np.random.Generator, config: str) -> Any:
    """Absolute differences of the outputs of one random model on three inputs."""
    model = (onnx_models.EXACT | onnx_models.NEAR)[name](rng)
    graph = read_quantized_onnx(model)
    program, runtime = compiled(graph, config), session(model)
    found = []
    for sample in random_samples(runtime, rng):
        inputs = [as_graph(sample[name], graph.tensors[name]) for name in graph.inputs]
        (result,) = simulated(program, inputs)
        wanted = as_graph(runtime.run(None, sample)[0], graph.tensors[graph.outputs[0]])
        found.append(result.reshape(-1).astype(np.int64) - wanted.reshape(-1))
    return np.abs(np.concatenate(found))


UNSIGNED = tuple(f"uint8 {name}" for name in (*WEIGHTED, "AVERAGE_POOL_2D", "CONCATENATION"))
"""Operators whose uint8 form has nodes of its own."""

SUITES: dict[str, tuple[Callable[[str, np.random.Generator, str], Any], str]] = {
    **{f"tflite {name}": (tflite_difference, name) for name in (*tflite_models.MODELS, *UNSIGNED)},
    **{f"onnx {name}": (onnx_difference, name) for name in onnx_models.EXACT | onnx_models.NEAR},
}


def compare(suite: str, count: int, seed: int = 11) -> NDArray[np.int64]:
    """Absolute differences of all outputs of `count` random models."""
    difference, name = SUITES[suite]
    found = []
    for index in range(count):
        config = CONFIGS[index % len(CONFIGS)] if difference is tflite_difference else "edge"
        found.append(difference(name, np.random.default_rng([seed, index]), config))
    return np.concatenate(found)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.marathon)])
def test_operator_on_the_machine(suite: str, count: int) -> None:
    near = suite.removeprefix("onnx ") in onnx_models.NEAR
    if count == FEW and suite.removeprefix("tflite ") in tflite_litert_models.MODELS:
        count = 1  # the program is as for every other operator of the host
    found = compare(suite, max(count, ENOUGH) if near else count)
    print(f"{suite}: {np.count_nonzero(found)} of {found.size} outputs of compiled models differ")
    if near:
        assert found.max() <= 1
        assert np.count_nonzero(found) <= found.size / 1000
    else:
        assert (found.size > 0, np.count_nonzero(found)) == (True, 0)


def test_suite_catches_a_wrong_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """One output byte of a run that is wrong by one is seen, in every suite."""
    right = accel.api.run

    def wrong(program: accel.Program, inputs: Any, **options: Any) -> accel.RunResult:
        result = right(program, inputs, **options)
        name = program.output_names[-1]
        result.outputs[name].reshape(-1)[-1] ^= 1
        return result

    monkeypatch.setattr(accel.api, "run", wrong)
    for suite in ("tflite CONV_2D", "tflite MEAN", "onnx QLinearConv", "onnx QDQ MaxPool"):
        assert np.count_nonzero(compare(suite, 1)) == 3


@pytest.mark.parametrize(
    "suite", ["tflite CONV_2D", "tflite MEAN", "tflite AVERAGE_POOL_2D", "tflite RESIZE_BILINEAR", "onnx QLinearConv"]
)
def test_suite_catches_a_wrong_compiler(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer's zero point is off by one."""
    module = import_module("compiler.lower.network")
    right = module.lower

    def wrong(*arguments: Any) -> Any:
        network = right(*arguments)
        layers = (dataclasses.replace(layer, zero_point=layer.zero_point ^ 1) for layer in network.layers)
        return dataclasses.replace(network, layers=tuple(layers))

    monkeypatch.setattr(module, "lower", wrong)
    assert np.count_nonzero(compare(suite, 2)) > 0


@pytest.mark.parametrize(
    ("name", "random"),
    [
        *((name, 1) for name in REAL_MODELS if not name.startswith("imagenet")),
        *(pytest.param(name, 20 if "imagenet" in name else MANY, marks=pytest.mark.slow) for name in REAL_MODELS),
        *(pytest.param(name, MANY, marks=pytest.mark.marathon) for name in REAL_MODELS if "imagenet" in name),
    ],
)
def test_real_network_on_the_machine(
    shared_models: Path, name: str, random: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every output byte of real samples and of random inputs; accuracy beside the runtime's."""
    program = accel.compile(shared_models / name, "edge")
    graph = accel.load_model(shared_models / name)
    runtime = tflite_runtime.interpreter((shared_models / name).read_bytes())
    x, labels = tflite_runtime.real_samples(shared_models, name)
    many = random > 1
    x, labels = (x, labels) if many else (x[:2], labels[:2])
    samples = [[sample[None]] for sample in x]
    samples += tflite_runtime.random_samples(graph, np.random.default_rng(2), random)
    right = np.zeros(2, np.int64)
    for index, sample in enumerate(samples):
        (result,) = simulated(program, sample)
        (expected,) = tflite_runtime.outputs(runtime, sample, 1)
        assert np.array_equal(result, expected), f"sample {index}"
        if index < len(x):
            right += [int(values.argmax() == labels[index]) for values in (result, expected)]
    if many:
        ours, theirs = (f"{count / len(x):.1%}" for count in right)
        with capsys.disabled():
            print(f"\n{name}: {ours} of {len(x)} real samples right, tflite-micro {theirs};", end=" ")
            print(f"outputs of {len(samples)} inputs equal in every byte")
