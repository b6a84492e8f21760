"""Levers of the quantizer on real networks: equalization, bias correction, AdaRound, weights of 8 and 4 bits.

Run: python benchmarks/preparation.py MODELS [--samples N] [--steps N]

MODELS is a folder with ``onnx/dscnn_kws_float.onnx``, ``onnx/mnist_float.onnx``, ``samples/`` and, for the scale of
stored samples, ``mlperf_tiny/dscnn_kws_int8.tflite``. For each network and row: signal to quantization noise against
the float network in dB, and top-1, of the fake-quantized network in ONNX Runtime, on samples that neither calibration
nor any setting has seen; seconds to quantize.
"""

from __future__ import annotations

import argparse
import gzip
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import accel
from accel.analysis.decibels import sqnr
from accel.evaluation.metrics import shares
from accel.evaluation.runtime import run_network
from accel.frontends.onnx.reader import read_onnx
from accel.quantizer import QuantizationConfig, quantize_network
from accel.quantizer.calibrate import checked_arrays
from accel.quantizer.prepare import feeds_of

CALIBRATION = 128
ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("W8A8 per channel", {}),
    ("W8A8 per channel, mean correction", {"mean_correction": "auto"}),
    ("W8A8 per channel, equalization", {"prepare": ("equalize",)}),
    ("W8A8 per channel, bias correction", {"prepare": ("bias_correction",)}),
    ("W8A8 per channel, AdaRound", {"prepare": ("adaround",)}),
    ("W8A8 per tensor", {"per_channel": False}),
    ("W8A8 per tensor, mean correction", {"per_channel": False, "mean_correction": "auto"}),
    ("W8A8 per tensor, equalization", {"per_channel": False, "prepare": ("equalize",)}),
    (
        "W8A8 per tensor, equalization, bias correction",
        {"per_channel": False, "prepare": ("equalize", "bias_correction")},
    ),
    ("W4A8 per channel", {"weight_bits": 4}),
    ("W4A8 per channel, mean correction", {"weight_bits": 4, "mean_correction": "auto"}),
    ("W4A8 per channel, bias correction", {"weight_bits": 4, "prepare": ("bias_correction",)}),
    ("W4A8 per channel, AdaRound", {"weight_bits": 4, "prepare": ("adaround",)}),
    ("W4A8 per channel, AdaRound, bias correction", {"weight_bits": 4, "prepare": ("adaround", "bias_correction")}),
    ("W4A8 per tensor", {"weight_bits": 4, "per_channel": False}),
    ("W4A8 per tensor, AdaRound", {"weight_bits": 4, "per_channel": False, "prepare": ("adaround",)}),
    (
        "W4A8 per tensor, equalization, AdaRound",
        {"weight_bits": 4, "per_channel": False, "prepare": ("equalize", "adaround")},
    ),
)
"""Name and settings of each row; without another word, mean errors of weights stay (`UNCORRECTED`)."""
UNCORRECTED: dict[str, Any] = {"mean_correction": "off"}


class Task(NamedTuple):
    """A float network with real samples, calibration first."""

    model: Path
    x: NDArray[np.float32]
    labels: NDArray[np.int64]


def tasks(folder: Path, samples: int) -> Iterator[Task]:
    """Keyword spotting and digits, in an order that a seed draws."""
    with np.load(folder / "samples" / "kws_1000.npz") as data:
        x, y = data["x"], data["y"]
    stored = accel.load_model(folder / "mlperf_tiny" / "dscnn_kws_int8.tflite").input_tensors[0]
    yield drawn(
        folder / "onnx" / "dscnn_kws_float.onnx", (x - np.float32(stored.zero_point)) * stored.scale, y, samples
    )
    images, labels = (
        np.frombuffer(gzip.decompress((folder / "samples" / f"t10k-{name}-ubyte.gz").read_bytes())[skip:], np.uint8)
        for name, skip in (("images-idx3", 16), ("labels-idx1", 8))
    )
    yield drawn(folder / "onnx" / "mnist_float.onnx", images.reshape(-1, 1, 28, 28) / 255, labels, samples)


def drawn(model: Path, x: NDArray[Any], labels: NDArray[Any], samples: int) -> Task:
    """A network with samples in an order that a seed draws: those of calibration, and at most so many others."""
    order = np.random.default_rng(0).permutation(len(x))[: CALIBRATION + samples]
    return Task(model, x[order].astype(np.float32), labels[order].astype(np.int64))


def lines(task: Task, steps: int) -> Iterator[str]:
    """The table of one network."""
    network = read_onnx(task.model)
    feeds = feeds_of(network, checked_arrays(network, task.x[CALIBRATION:]))
    labels = task.labels[CALIBRATION:]
    expected = run_network(network, feeds)
    yield f"\n| {task.model.stem}, {len(feeds):,} samples | SQNR (dB) | top-1 | seconds |\n|---|---|---|---|"
    yield f"| float | - | {shares(expected, labels, 1)['top-1']:.1%} | - |"
    for name, settings in ROWS:
        started = time.perf_counter()
        config = QuantizationConfig(adaround_steps=steps, **(UNCORRECTED | settings))
        found = quantize_network(network, task.x[:CALIBRATION], config)
        seconds = time.perf_counter() - started
        outputs = run_network(found, feeds)
        top = shares(outputs, labels, 1)["top-1"]
        yield f"| {name} | {sqnr([expected], [outputs]):.2f} | {top:.1%} | {seconds:.1f} |"


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--steps", type=int, default=1000, help="of AdaRound for each layer")
    arguments = parser.parse_args()
    for task in tasks(arguments.models, arguments.samples):
        for line in lines(task, arguments.steps):
            print(line, flush=True)


if __name__ == "__main__":
    main()
