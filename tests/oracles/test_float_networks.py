"""Small float networks of every kind: quantized, compiled, run, and beside ONNX Runtime's own quantizer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from support.networks.float_networks import NETWORKS, model_of, samples_of
from support.oracles.on_machine import simulated

import accel
from accel.frontends.onnx.reader import read_onnx, read_quantized_onnx
from accel.frontends.onnx.write import to_onnx
from accel.machine.numerics import RequantMode
from accel.network.graph_file import dump_graph
from accel.network.real import dequantize_output, quantize_input
from accel.network.reference import run
from accel.quantized.lower import lower
from accel.quantizer import QuantizationConfig, quantize, quantize_network

KINDS = {make.__name__: make for make in NETWORKS}


SHARES = ("alexnet", "resnet", "shufflenet", "squeezenet", "googlenet", "densenet")
"""Kinds that end with a Softmax among the light models of the `onnx` package."""
LEFT_REAL = {"speech": ("elu5",)}
"""Operators that the runtime's quantizer leaves real: ours does so, too, for the comparison."""


def real_outputs(model: bytes, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The runtime's outputs, one sample after the other."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": x[None]})[0].reshape(1, -1) for x in samples])


def decibels(expected: NDArray[Any], computed: NDArray[Any]) -> float:
    """Signal to quantization noise."""
    return float(20 * np.log10(np.linalg.norm(expected) / np.linalg.norm(expected - computed)))


@pytest.mark.parametrize("mode", ["tflite", "fp32"])
@pytest.mark.parametrize("kind", KINDS)
def test_network_follows_its_float_model(kind: str, mode: str) -> None:
    shape, rank, least = NETWORKS[KINDS[kind]]
    model, samples = model_of(KINDS[kind], shape, rank), samples_of(shape, 16)
    graph = quantize(model, samples, mode=mode)
    computed = []
    for x in samples:
        values = run(graph, quantize_input(graph, x[None]))
        computed.append(dequantize_output(graph, values["y"]).reshape(-1))
    found = decibels(real_outputs(model, samples), np.stack(computed))
    print(f"{kind} in mode {mode}: {found:.1f} dB")
    assert found > least
    (simulated_output,) = simulated(accel.compile(graph, "edge"), [quantize_input(graph, samples[-1:])])
    assert np.array_equal(simulated_output, values["y"])


@pytest.mark.parametrize("kind", KINDS)
def test_quantized_network_is_written_and_read_back(kind: str) -> None:
    """A QDQ model of the quantized network gives the same graph, names included."""
    shape, rank, _ = NETWORKS[KINDS[kind]]
    network = read_onnx(model_of(KINDS[kind], shape, rank))
    quantized = quantize_network(network, samples_of(shape, 4), QuantizationConfig(mode="fp32"))
    data = to_onnx(quantized).SerializeToString()
    assert dump_graph(read_quantized_onnx(data)) == dump_graph(lower(quantized, RequantMode.FP32))


BESIDE = [
    *((kind, "fp32", False) for kind in KINDS),
    *((kind, "fp32", True) for kind in SHARES),
    *((kind, "tflite", False) for kind in ("shufflenet", "squeezenet", "speech", "efficientnet")),
]
"""Kind, mode, and whether a Softmax ends the network."""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "mode", "shares"), BESIDE)
def test_noise_beside_the_quantizer_of_onnxruntime(kind: str, mode: str, shares: bool, tmp_path: Path) -> None:
    """Calibrated on the same 16 samples, measured on 256 others; weights of four seeds, as one may be lucky."""
    shape, rank, _ = NETWORKS[KINDS[kind]]
    gains = []
    for seed in range(4):
        model, samples = model_of(KINDS[kind], shape, rank, seed), samples_of(shape, 16, seed=2 * seed + 1)
        model = with_shares(model) if shares else model
        others = samples_of(shape, 256, seed=2 * seed + 2)
        expected = real_outputs(model, others)
        config = QuantizationConfig(mode=mode, nodes_to_exclude=LEFT_REAL.get(kind, ()))
        ours_model = to_onnx(quantize_network(read_onnx(model), samples, config))
        ours = decibels(expected, real_outputs(ours_model.SerializeToString(), others))
        theirs = decibels(expected, real_outputs(quantized_by_onnxruntime(model, samples, tmp_path), others))
        print(f"{kind}, {mode}, seed {seed}: {ours:.2f} dB, ONNX Runtime {theirs:.2f} dB")
        gains.append(ours - theirs)
    print(f"{kind}, {mode}{', Softmax' if shares else ''}: {np.mean(gains):+.2f} dB")
    assert np.mean(gains) > -0.2


def with_shares(model: bytes) -> bytes:
    """The model with a Softmax behind its output, as the light models of the `onnx` package have one."""
    proto = onnx.load_from_string(model)
    (output,) = proto.graph.output
    proto.graph.node.append(onnx.helper.make_node("Softmax", [output.name], ["shares"], name="softmax"))
    output.name = "shares"
    return bytes(proto.SerializeToString())


def quantized_by_onnxruntime(model: bytes, samples: NDArray[np.float32], folder: Path) -> bytes:
    """The model as its `quantize_static` makes it: per channel, int8, ranges of all values."""
    quantization = pytest.importorskip("onnxruntime.quantization", reason="needs the tools of onnxruntime")

    class Reader(quantization.CalibrationDataReader):
        inputs = iter([{"x": x[None]} for x in samples])

        def get_next(self) -> Any:
            return next(self.inputs, None)

    source, prepared, target = (folder / f"{name}.onnx" for name in ("float", "prepared", "quantized"))
    source.write_bytes(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared, target, Reader(), per_channel=True, weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QInt8,
        )  # fmt: skip
    return target.read_bytes()
