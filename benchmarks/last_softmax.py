"""Light networks in ONNX Runtime: noise before and behind their last Softmax, by its own quantization and by ours.

Run: python benchmarks/last_softmax.py NAME ... [--samples 24]

Behind a Softmax of random logits few samples hold all noise, so that figures of a few samples are those of the draw.
Here only ranges and weights are compared, on samples that calibration has not seen: the network without its last
Softmax, quantized by `quantize_static` (as in `float_networks.py`) and by `accel` (whose ranges are those of the
network with its Softmax), both as QDQ models in ONNX Runtime; the Softmax is computed in float64. Names are those of
`light_networks.py`, or paths of models beside which lie their data, as `make_float_networks.py` writes them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import light_networks
import numpy as np
import onnx
import onnxruntime_int8
from numpy.typing import NDArray

from accel.frontends.onnx.reader import read_onnx
from accel.quantizer import QuantizationConfig, quantize_network
from accel.quantizer.choose import Choice
from accel.quantizer.runner import Runner

MODES = ("fp32", "tflite")
FloatArray = NDArray[np.float64]


def without_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the Softmax that ends it."""
    last = model.graph.node[-1]
    if last.op_type == "Softmax":
        del model.graph.node[-1]
        value = onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None)
        model.graph.output[0].CopyFrom(value)
    return model


def of_accel(path: Path, calibration: dict[str, NDArray[np.float32]], mode: str, chosen: list[Choice]) -> Runner:
    """The quantized network, without a Softmax that ends it, in ONNX Runtime."""
    config = QuantizationConfig(mode=mode)
    network = quantize_network(read_onnx(path), calibration, config, report=chosen.append)
    last = network.operators[-1]
    if last.kind == "Softmax":
        network = replace(network.with_outputs(last.inputs[:1]), operators=network.operators[:-1])
    return Runner(network)


def decibels(exact: FloatArray, found: FloatArray) -> str:
    """Signal to quantization noise over all samples, and its median over the samples."""
    signal, noise = np.square(exact).sum(axis=1), np.square(exact - found).sum(axis=1)
    return f"{10 * np.log10(signal.sum() / noise.sum()):.2f} ({np.median(10 * np.log10(signal / noise)):.2f})"


def shares(logits: FloatArray) -> FloatArray:
    """Softmax."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def rows(path: Path, count: int) -> Iterator[str]:
    """A line of the table for each way to quantize one network."""
    with np.load(path.with_suffix(".cal.npz")) as data:
        calibration = {name: data[name] for name in data.files}
    with np.load(path.with_suffix(".eval.npz")) as data:
        ((name, images),) = [(name, data[name]) for name in data.files]
    if count > len(images):
        if images.ndim != 4:
            raise SystemExit(f"{path}: --samples must be at most {len(images)}, got {count}: only images can be made")
        images = np.concatenate([images, light_networks.images(count - len(images), images.shape[1:], 102)])
    samples = {name: images[:count]}
    with tempfile.TemporaryDirectory() as folder:
        cut, target = Path(folder) / "cut.onnx", Path(folder) / "quantized.onnx"
        onnx.save(without_softmax(onnx.load(path)), cut)
        exact = _flat(onnxruntime_int8.outputs(cut, samples))
        onnxruntime_int8.quantize(cut, calibration, target)
        found = {"ONNX Runtime": (_flat(onnxruntime_int8.outputs(target, samples)), "MinMax")}
    for mode in MODES:
        chosen: list[Choice] = []
        runner = of_accel(path, calibration, mode, chosen)
        values = [list(runner(sample).values()) for sample in onnxruntime_int8.split(samples)]
        found[mode] = _flat(values), chosen[0].method
    for label, (values, method) in found.items():
        start = f"| {path.stem} | {count} | {label}, {method} | {decibels(exact, values)} |"
        yield f"{start} {decibels(shares(exact), shares(values))} |"


def _flat(outputs: list[list[NDArray[np.float32]]]) -> FloatArray:
    """All outputs of each sample in a row."""
    return np.stack([np.concatenate([value.ravel() for value in sample]) for sample in outputs]).astype(np.float64)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--samples", type=int, default=24)
    options = parser.parse_args()
    print("| network | samples | by | dB before (median) | dB behind (median) |\n|---|---|---|---|---|")
    for name in options.names:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(name)
            if path.suffix != ".onnx":
                path = Path(folder) / f"{name}.onnx"
                light_networks.write_light_network(name, Path(folder))
            for line in rows(path, options.samples):
                print(line, flush=True)


if __name__ == "__main__":
    main()
