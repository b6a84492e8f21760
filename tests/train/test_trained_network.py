"""A network trained with weights of 4 and 8 bits: in the Verilog, and in the runtimes of its exports."""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from support.networks.torch_modules import Residual, digits  # noqa: E402

import accel  # noqa: E402
from accel.network.reference import run  # noqa: E402
from accel.quantizer import QuantizationConfig  # noqa: E402
from accel.train import PreparedModule, TrainingConfig, convert, prepare  # noqa: E402
from accel.train.loop import Schedule, fit, logits  # noqa: E402
from accel.train.pipeline import simulate  # noqa: E402

pytestmark = pytest.mark.slow
SAMPLES = digits(32).inputs


class Pooled(Residual):
    """Without the average of a part of the image, which TensorFlow Lite cannot express under a Concat's parameters."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        start = self.stem(images)
        joined = torch.relu(start + self.pointwise(self.relu6(self.norm(self.depthwise(start)))))
        pooled = torch.nn.functional.max_pool2d(torch.cat([joined, start], dim=1), 2)
        return self.head(torch.flatten(torch.nn.functional.adaptive_avg_pool2d(pooled, 1), 1))


@lru_cache
def module(mode: str, epochs: int = 2) -> PreparedModule:
    """Weights of 4 bits but for the last layer's, one scale a layer."""
    quantization = QuantizationConfig(
        mode=mode, weight_bits=4, per_channel=False, overrides=({"layer": "head", "weight_bits": 8},)
    )
    torch.manual_seed(0)
    prepared = prepare(Pooled(), torch.from_numpy(digits(64).inputs), TrainingConfig(quantization=quantization))
    fit(prepared, digits(512), Schedule(epochs=epochs, learning_rate=5e-3, frozen_share=0.5))
    return prepared.eval()


@lru_cache
def trained(mode: str, epochs: int = 2) -> accel.Graph:
    """The integers of the trained module."""
    graph = convert(module(mode, epochs))
    bits = [node.weight_bits for node in graph.nodes if hasattr(node, "weight_bits")]
    assert bits == [4, 4, 4, 8]
    return graph


def expected(graph: accel.Graph) -> np.ndarray:
    """The graph's bytes, a row per sample."""
    rows = [run(graph, accel.quantize_input(graph, one[None]))[graph.outputs[0]].reshape(-1) for one in SAMPLES]
    return np.stack(rows)


@pytest.mark.parametrize("mode", ["tflite", "fp32"])
def test_module_and_simulator_agree_on_ten_thousand_inputs(mode: str) -> None:
    """Training samples, and the same moved and with noise; the share of differing bytes is printed."""
    rng, inputs = np.random.default_rng(0), digits(512).inputs
    noise = [
        np.roll(inputs, rng.integers(-2, 3, 2), axis=(2, 3)) + rng.normal(0, 0.1, inputs.shape).astype(np.float32)
        for _ in range(19)
    ]
    inputs = np.concatenate([inputs, *noise])
    graph, fake = trained(mode), logits(module(mode), inputs)
    simulated, output = simulate(graph, "edge", inputs), graph.output_tensors[0]
    bytes_ = np.rint(fake / np.float32(output.scale)) + output.zero_point
    different = np.mean(bytes_ != simulated)
    print(f"mode {mode}: {len(inputs):,} inputs, {different:.4%} of {simulated.size:,} output bytes differ")
    assert len(inputs) > 10_000
    assert np.mean(fake.argmax(axis=1) == simulated.argmax(axis=1)) >= 0.999
    assert different < 1e-3


@pytest.mark.parametrize("mode", ["tflite", "fp32"])
def test_the_verilog_computes_its_bytes_in_its_cycles(mode: str) -> None:
    """0 differing bytes, cycles and stamps: `accel.verify` raises at the first."""
    graph = trained(mode)
    program = accel.compile(graph, "edge")
    inputs = [accel.quantize_input(graph, one[None]) for one in SAMPLES[:4]]
    found = accel.verify(program, inputs)
    assert found.cycles == sum(accel.run(program, one).cycles for one in inputs)
    assert (found.differing_bytes, found.differing_cycles, found.differing_stamps) == (0, 0, 0)
    np.testing.assert_array_equal(next(iter(found.outputs.values())).reshape(-1), expected(graph)[3])


def of_onnx(graph: accel.Graph, folder: Path, format: str) -> np.ndarray:
    """The bytes of ONNX Runtime."""
    from support.oracles.onnx_layers import session

    accel.export(graph, folder / "model.onnx", format=format)
    runtime, output = session((folder / "model.onnx").read_bytes(), optimized=True), graph.output_tensors[0]
    rows = [runtime.run(None, {graph.inputs[0]: one[None]})[0].reshape(-1) for one in SAMPLES]
    return np.clip(np.rint(np.stack(rows) / np.float32(output.scale)) + output.zero_point, -128, 127)


def of_tflite(graph: accel.Graph, folder: Path) -> np.ndarray:
    """The bytes of TensorFlow Lite Micro."""
    pytest.importorskip("tflite_micro", reason="needs the package tflite-micro")
    from support.oracles.tflite_runtime import interpreter, outputs

    accel.export(graph, folder / "model.tflite", format="tflite")
    runtime = interpreter((folder / "model.tflite").read_bytes())
    rows = [outputs(runtime, [accel.quantize_input(graph, one[None])], 1)[0].reshape(-1) for one in SAMPLES]
    return np.stack(rows)


def of_c(graph: accel.Graph, folder: Path) -> np.ndarray:
    """The bytes of the exported C program."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    accel.export(graph, folder / "c", format="c")
    subprocess.run(["make", "-s", "-C", str(folder / "c"), "CC=gcc"], check=True)
    (folder / "in").write_bytes(b"".join(accel.quantize_input(graph, one[None]).tobytes() for one in SAMPLES))
    subprocess.run([folder / "c" / "network", folder / "in", folder / "out"], check=True)
    return np.frombuffer((folder / "out").read_bytes(), np.int8).reshape(len(SAMPLES), -1)


def exported(format: str, graph: accel.Graph, folder: Path) -> np.ndarray:
    """The bytes of a format's runtime."""
    if format in ("qdq", "qoperator"):
        return of_onnx(graph, folder, format)
    return of_tflite(graph, folder) if format == "tflite" else of_c(graph, folder)


@pytest.mark.parametrize(
    ("format", "mode"), [("qdq", "fp32"), ("qoperator", "fp32"), ("tflite", "tflite"), ("c", "tflite"), ("c", "fp32")]
)
def test_exports_equal_their_runtimes(format: str, mode: str, tmp_path: Path) -> None:
    graph = trained(mode)
    found = exported(format, graph, tmp_path)
    np.testing.assert_array_equal(found, expected(graph))
    assert np.mean(found != expected(trained(mode, epochs=0))) > 0.2, "the network before its training would be seen"
