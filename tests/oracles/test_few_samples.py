"""Small float models calibrated on four samples, and one quantized model, against what ONNX Runtime computed.

The files of ``tests/cases/float``: NAME.onnx, NAME.cal.npy (samples), NAME.right.npz (``in_*``: an input that is no
sample; ``out_*``: the runtime's real outputs for it).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from accel.frontends.onnx.reader import read_quantized_onnx
from accel.network.real import dequantize_output, quantize_input
from accel.network.reference import run
from accel.quantizer import quantize

CASES = Path(__file__).resolve().parents[1] / "cases"
NAMES = sorted(path.stem for path in (CASES / "float").glob("*.onnx"))
LEAST_DECIBELS = 30


@pytest.mark.parametrize("mode", ["tflite", "fp32"])
@pytest.mark.parametrize("name", NAMES)
def test_unseen_input_after_four_samples(name: str, mode: str) -> None:
    model, right = (CASES / "float" / f"{name}{ending}" for ending in (".onnx", ".right.npz"))
    graph = quantize(model, np.load(CASES / "float" / f"{name}.cal.npy"), mode=mode)
    with np.load(right) as data:
        x, expected = (next(data[key] for key in data.files if key.startswith(kind)) for kind in ("in_", "out_"))
    computed = dequantize_output(graph, run(graph, quantize_input(graph, x))[graph.outputs[0]]).reshape(expected.shape)
    noise = np.square(expected.astype(np.float64) - computed).sum()
    assert 10 * np.log10(np.square(expected.astype(np.float64)).sum() / noise) >= LEAST_DECIBELS


def test_exact_tie_is_rounded_as_the_integer_kernel_of_onnxruntime_does() -> None:
    """A sum of -3250 at 0.01 steps is a tie; sums of real numbers, rounded before, may fall to its other side."""
    path = CASES / "i_conv1d.onnx"
    graph = read_quantized_onnx(path)
    x = np.random.default_rng(2).normal(size=(200, 8, 16)).astype(np.float32)
    ours, integer, real = [], [], []
    for sample in x[:, None]:
        ours.append(dequantize_output(graph, run(graph, quantize_input(graph, sample))[graph.outputs[0]]).reshape(-1))
        integer.append(runtime(path, sample, "ORT_ENABLE_EXTENDED"))
        real.append(runtime(path, sample, "ORT_DISABLE_ALL"))
    assert np.array_equal(np.stack(ours), np.stack(integer))
    assert 0 < np.count_nonzero(np.stack(ours) != np.stack(real)) < 0.01 * 200 * 56


def runtime(path: Path, x: NDArray[np.float32], level: str) -> NDArray[np.float32]:
    """The output at a level of the runtime's optimizations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0]).reshape(-1)
