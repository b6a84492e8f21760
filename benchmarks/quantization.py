"""Observers of the quantizer on real networks, per tensor and per channel, beside ONNX Runtime's three calibrators.

Run: python benchmarks/quantization.py MODELS [--samples N]

MODELS is a folder as `preparation.py` takes it; that one has the rows of equalization, bias correction, AdaRound and
weights of 4 bits. For each network and row: signal to quantization noise against the float network in dB, and top-1, of
the fake-quantized network in ONNX Runtime, on samples that no calibration has seen; seconds to quantize.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import onnxruntime_int8
from preparation import CALIBRATION, Task, tasks

from accel.analysis.decibels import sqnr
from accel.evaluation.metrics import Outputs, shares
from accel.evaluation.runtime import run_network
from accel.frontends.onnx.reader import read_onnx
from accel.quantized.network import Network
from accel.quantizer import make_config, quantize_network
from accel.quantizer.calibrate import checked_arrays
from accel.quantizer.config import CALIBRATE_METHODS
from accel.quantizer.prepare import feeds_of


def lines(task: Task) -> Iterator[str]:
    """The table of one network."""
    network = read_onnx(task.model)
    feeds = feeds_of(network, checked_arrays(network, task.x[CALIBRATION:]))
    labels = task.labels[CALIBRATION:]
    expected = run_network(network, feeds)

    def row(name: str, outputs: Outputs, seconds: float) -> str:
        top = shares(outputs, labels, 1)["top-1"]
        return f"| {name} | {sqnr([expected], [outputs]):.2f} | {top:.1%} | {seconds:.1f} |"

    yield f"\n| {task.model.stem}, {len(feeds):,} samples | SQNR (dB) | top-1 | seconds |\n|---|---|---|---|"
    yield f"| float | - | {shares(expected, labels, 1)['top-1']:.1%} | - |"
    for per_channel in (False, True):
        for method in CALIBRATE_METHODS:
            started = time.perf_counter()
            config = make_config({"mode": "fp32", "calibrate_method": method, "per_channel": per_channel})
            found = quantize_network(network, task.x[:CALIBRATION], config)
            seconds = time.perf_counter() - started
            kind = "channel" if per_channel else "tensor"
            yield row(f"per {kind}, {method}", run_network(found, feeds), seconds)
    for method in onnxruntime_int8.METHODS:
        name = f"ONNX Runtime, per channel, {method}"
        try:
            outputs, seconds = theirs(task, network, method)
        except Exception as error:  # it raises what it likes
            yield f"| {name} | refused: {type(error).__name__} | - | - |"
            continue
        yield row(name, outputs, seconds)


def theirs(task: Task, network: Network, method: str) -> tuple[Outputs, float]:
    """Outputs of ONNX Runtime's own quantization, and the seconds that it took."""
    name, output = network.inputs[0], network.outputs[0]
    samples = {name: task.x.reshape(-1, *network.tensors[name].shape[1:])}
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        target, started = Path(folder) / "quantized.onnx", time.perf_counter()
        onnxruntime_int8.quantize(task.model, {name: samples[name][:CALIBRATION]}, target, method)
        seconds = time.perf_counter() - started
        values = onnxruntime_int8.outputs(target, {name: samples[name][CALIBRATION:]})
    return {output: np.stack([value[0].reshape(-1) for value in values])}, seconds


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--samples", type=int, default=800)
    arguments = parser.parse_args()
    for task in tasks(arguments.models, arguments.samples):
        for line in lines(task):
            print(line, flush=True)


if __name__ == "__main__":
    main()
