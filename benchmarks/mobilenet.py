"""AdaRound on MobileNetV2 with its real ImageNet weights, run to its end: seconds, noise, and the class it predicts.

Run: python benchmarks/mobilenet.py MODELS [--calibration N] [--samples N] [--steps N]

MODELS is a folder with ``imagenet/mobilenet_v2_int8.tflite`` and ``samples/cifar10_500.npz``. The float network is that
of the file's integers as real numbers, without its Softmax; ranges that end at 6 become the Relu6 that made them. Its
images are CIFAR's, enlarged to 224x224. The weights have been integers of 8 bits before, so 8 bits lose little here;
4 bits lose as usual. For each row: seconds of the clock and of the processor (one thread), signal to quantization noise
of the logits in dB, and the share of images for which the network predicts the class that the float one does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import accel
from accel.analysis.decibels import sqnr
from accel.evaluation.runtime import run_network
from accel.frontends.onnx.reader import read_onnx
from accel.quantized.network import Network, Operator
from accel.quantizer import QuantizationConfig, quantize_network
from accel.quantizer.prepare import feeds_of
from accel.quantizer.runner import with_real_constants

SIZE = 224
ROWS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("W8A8", {"mean_correction": "off"}),
    ("W8A8, mean correction", {}),
    ("W8A8, AdaRound", {"prepare": ("adaround",)}),
    ("W4A8", {"weight_bits": 4, "mean_correction": "off"}),
    ("W4A8, mean correction", {"weight_bits": 4}),
    ("W4A8, AdaRound", {"weight_bits": 4, "prepare": ("adaround",)}),
)


def floating(path: Path) -> Network:
    """The network whose integers a file holds, in real numbers."""
    with TemporaryDirectory() as folder:
        accel.export(path, target := Path(folder) / "qdq.onnx", format="qdq")
        network = with_real_constants(read_onnx(target))
    operators, tensors = list[Operator](), dict(network.tensors)
    for op in network.operators:
        if op.kind == "Softmax":
            continue
        operators.append(op)
        scale, zero_point = network.parameters[op.outputs[0]].parameters
        if op.kind == "Conv" and zero_point == -128 and np.isclose(scale * 255, 6, rtol=1e-3):
            sums = f"{op.name}_sums"
            tensors[sums] = replace(tensors[op.outputs[0]], name=sums)
            operators[-1] = replace(op, outputs=(sums,))
            operators.append(Operator(f"{op.name}_relu6", "Clip", (sums, "zero", "six"), op.outputs, opset=op.opset))
    limits = {name: np.array(value, np.float32) for name, value in (("zero", 0), ("six", 6))}
    tensors |= {name: replace(tensors[name], dtype="float32") for name in network.inputs}
    result = replace(network, tensors=tensors, outputs=operators[-1].outputs, parameters={})
    return result.with_operators(operators, **limits)


def images(path: Path, count: int) -> NDArray[np.float32]:
    """CIFAR's images in an order that a seed draws, enlarged, -1 .. 1, NHWC."""
    with np.load(path) as data:
        pixels = data["x"][np.random.default_rng(0).permutation(len(data["x"]))[:count]]
    enlarged = [np.asarray(Image.fromarray(one).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for one in pixels]
    return np.asarray(enlarged, np.float32) / np.float32(127.5) - 1


def lines(network: Network, seen: NDArray[np.float32], others: NDArray[np.float32], steps: int) -> Iterator[str]:
    """The table."""
    feeds = feeds_of(network, {network.inputs[0]: others})
    expected = run_network(network, feeds)
    (name,) = network.outputs
    yield "| MobileNetV2, per channel | seconds | CPU seconds | SQNR (dB) | same class |\n|---|---|---|---|---|"
    for row, settings in ROWS:
        started = time.perf_counter(), time.process_time()
        found = quantize_network(network, seen, QuantizationConfig(adaround_steps=steps, mode="fp32", **settings))
        seconds, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
        outputs = run_network(found, feeds)
        same = np.mean(outputs[name].argmax(axis=-1) == expected[name].argmax(axis=-1))
        yield f"| {row} | {seconds:.0f} | {cpu:.0f} | {sqnr([expected], [outputs]):.2f} | {same:.1%} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--calibration", type=int, default=64, help="images to quantize with")
    parser.add_argument("--samples", type=int, default=200, help="other images to measure on")
    parser.add_argument("--steps", type=int, default=1000, help="of AdaRound for each layer")
    arguments = parser.parse_args()
    network = floating(arguments.models / "imagenet" / "mobilenet_v2_int8.tflite")
    x = images(arguments.models / "samples" / "cifar10_500.npz", arguments.calibration + arguments.samples)
    for line in lines(network, x[: arguments.calibration], x[arguments.calibration :], arguments.steps):
        print(line, flush=True)


if __name__ == "__main__":
    main()
