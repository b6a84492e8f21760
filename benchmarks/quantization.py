"""The quantizer on real networks: observers, levers, bits of weights, beside ONNX Runtime's three calibrators.

Run: python benchmarks/quantization.py MODELS [--samples N] [--steps N] [--seeds N] [--only NAME ...]

MODELS is a folder as `preparation.py` takes it. Networks: its keyword spotting and digits; images (372 that are no
calibration; ``mlperf_tiny/resnet8_float.tflite``, ``samples/cifar10_500.npz``); and two that are trained here on the
recorded activities of `small_networks.py` (extra `train`), once for each seed: calibrated on the training subjects,
measured on others. For each row: signal to quantization noise against the float network in dB, and top-1, of the
fake-quantized network in ONNX Runtime, on samples that neither calibration nor any setting has seen; mean and standard
deviation over the seeds where there are several.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime_int8
from preparation import CALIBRATION, ROWS, UNCORRECTED, Task, drawn, tasks

from accel.analysis.decibels import sqnr
from accel.analysis.mixed import quantize_mixed
from accel.evaluation.metrics import Outputs, shares
from accel.evaluation.runtime import run_network
from accel.frontends.onnx.reader import read_onnx
from accel.quantized.network import Network
from accel.quantizer import QuantizationConfig, quantize_network
from accel.quantizer.calibrate import checked_arrays
from accel.quantizer.config import CALIBRATE_METHODS
from accel.quantizer.prepare import feeds_of

OBSERVERS: tuple[tuple[str, Mapping[str, Any]], ...] = tuple(
    (
        f"W8A8 per {'channel' if per_channel else 'tensor'}, {method}",
        {"per_channel": per_channel, "calibrate_method": method},
    )
    for per_channel in (False, True)
    for method in CALIBRATE_METHODS
)
AVERAGE_BITS = 6.0
WIDTH = 16
"""Of the networks that are trained here."""


class Figure(NamedTuple):
    """Of one network, quantized in one way."""

    decibels: float
    top_1: float


class Group(NamedTuple):
    """The same network with the weights of one seed or several."""

    name: str
    tasks: list[Task]


def groups(folder: Path, samples: int, seeds: int, work: Path, only: Sequence[str] | None) -> Iterator[Group]:
    """The networks (all, or some names) and their samples; trained ones are written to the folder `work`."""
    for task in tasks(folder, samples):
        if not only or task.model.stem in only:
            yield Group(task.model.stem, [task])
    if not only or "resnet8_float" in only:
        yield Group("resnet8_float", [_images(folder, samples, work)])
    for network in ("separable", "residual"):
        if not only or f"activity_{network}" in only:
            yield Group(f"activity_{network}", list(_trained(folder, network, samples, seeds, work)))


def _images(folder: Path, samples: int, work: Path) -> Task:
    """MLPerf Tiny's residual network; its inputs are pixels, 0 to 255."""
    import resnet8

    data, path = (folder / "mlperf_tiny" / "resnet8_float.tflite").read_bytes(), work / "resnet8.onnx"
    onnx.save(resnet8.Translator(data).translate(), path)
    with np.load(folder / "samples" / "cifar10_500.npz") as images:
        return drawn(path, images["x"].transpose(0, 3, 1, 2), images["y"], samples)


def _trained(folder: Path, network: str, samples: int, seeds: int, work: Path) -> Iterator[Task]:
    import small_networks
    import torch

    data = small_networks.activity(folder / "samples")
    rng = np.random.default_rng(0)
    seen, others = (rng.permutation(len(part.labels)) for part in (data.train, data.test))
    x = np.concatenate([data.train.inputs[seen[:CALIBRATION]], data.test.inputs[others[:samples]]])
    labels = np.concatenate([data.train.labels[seen[:CALIBRATION]], data.test.labels[others[:samples]]])
    for seed in range(seeds):
        model, path = small_networks.trained(data, network, WIDTH, seed).eval(), work / f"{network}{seed}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model, (torch.from_numpy(x[:1]),), path, input_names=["x"], opset_version=17, dynamo=False
            )
        yield Task(path, x, labels)


def figures(task: Task, steps: int) -> Iterator[tuple[str, Figure | None]]:
    """Name and figure of every row; None where ONNX Runtime refuses the network."""
    network = read_onnx(task.model)
    feeds = feeds_of(network, checked_arrays(network, task.x[CALIBRATION:]))
    labels = task.labels[CALIBRATION:]
    expected = run_network(network, feeds)

    def figure(outputs: Outputs) -> Figure:
        return Figure(sqnr([expected], [outputs]), shares(outputs, labels, 1)["top-1"])

    def ours(settings: Mapping[str, Any]) -> Figure:
        config = QuantizationConfig(mode="fp32", adaround_steps=steps, **{**UNCORRECTED, **settings})
        return figure(run_network(quantize_network(network, task.x[:CALIBRATION], config), feeds))

    yield "float", Figure(np.inf, shares(expected, labels, 1)["top-1"])
    for name, settings in (*OBSERVERS, *ROWS):
        yield name, ours(settings)
    mixed = quantize_mixed(task.model, task.x[:CALIBRATION], average_bits=AVERAGE_BITS, mode="fp32", **UNCORRECTED)
    narrow = [{"layer": re.escape(name), "weight_bits": 4} for name in mixed.narrow]
    yield "4 and 8 bits, 6 on average, per channel", ours({"overrides": narrow})
    yield "the same, AdaRound", ours({"overrides": narrow, "prepare": ("adaround",)})
    for method in onnxruntime_int8.METHODS:
        try:
            outputs = theirs(task, network, method)
        except Exception:  # it raises what it likes
            yield f"ONNX Runtime, per channel, {method}", None
            continue
        yield f"ONNX Runtime, per channel, {method}", figure(outputs)


def theirs(task: Task, network: Network, method: str) -> Outputs:
    """Outputs of ONNX Runtime's own quantization."""
    name, output = network.inputs[0], network.outputs[0]
    samples = {name: task.x.reshape(-1, *network.tensors[name].shape[1:])}
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        target = Path(folder) / "quantized.onnx"
        onnxruntime_int8.quantize(task.model, {name: samples[name][:CALIBRATION]}, target, method)
        values = onnxruntime_int8.outputs(target, {name: samples[name][CALIBRATION:]})
    return {output: np.stack([value[0].reshape(-1) for value in values])}


def lines(group: Group, steps: int) -> Iterator[str]:
    """The table of one network."""
    count = len(group.tasks[0].labels) - CALIBRATION
    yield f"\n| {group.name}, {count:,} samples, {len(group.tasks)} seeds | SQNR (dB) | top-1 (%) |\n|---|---|---|"
    for row in zip(*(figures(task, steps) for task in group.tasks), strict=True):
        found = [figure for _, figure in row if figure is not None]
        name = row[0][0]
        if not found:
            yield f"| {name} | refused | - |"
            continue
        decibels = _spread([figure.decibels for figure in found]) if np.isfinite(found[0].decibels) else "-"
        yield f"| {name} | {decibels} | {_spread([100 * figure.top_1 for figure in found])} |"


def _spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.2f}"


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--samples", type=int, default=800)
    parser.add_argument("--steps", type=int, default=1000, help="of AdaRound for each layer")
    parser.add_argument("--seeds", type=int, default=5, help="of the networks that are trained")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="networks of these names")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        for group in groups(arguments.models, arguments.samples, arguments.seeds, Path(work), arguments.only):
            for line in lines(group, arguments.steps):
                print(line, flush=True)


if __name__ == "__main__":
    main()
