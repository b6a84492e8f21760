"""Training with fake quantization and distillation beside post-training quantization, on small tasks and networks.

Run: python benchmarks/training.py [--quick] [--tasks NAMES] [--widths NUMBERS] [--samples FOLDER] [--results FILE.json]

Rows: float, post-training quantization (PTQ), training with fake quantization (QAT), and QAT with the float network as
teacher; 8-bit and 4-bit weights per output channel, 4-bit weights per tensor; 8-bit activations. Each number is the
mean of the top-1 on test samples over the seeds, and its standard error; losses are those of each seed against its own
float network. A second table compares the module with fake quantization and the simulator on 10,000 inputs. With
`--results`, finished runs are kept there, and an interrupted benchmark goes on. `--quick` takes one task, one width,
two seeds. Needs the extras `train` and `bench`. Settings were chosen on validation samples.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from small_networks import NETWORKS, SAMPLES, TASKS, MissingDataError, Task, trained
from torch import nn

from accel.files import write_atomic
from accel.quantizer import QuantizationConfig
from accel.train import PreparedModule, TrainingConfig, convert, prepare
from accel.train.loop import Distillation, Samples, Schedule, fit, logits
from accel.train.pipeline import simulate

WIDTHS = {"activity": (4, 8), "digits": (4, 8), "keywords": (8,)}
SEEDS, CALIBRATION = 5, 256
SCHEDULE = Schedule(epochs=5, learning_rate=5e-3, frozen_share=0.4)
LONG = {"keywords": 25}
"""Epochs of tasks with few samples."""
QUANTIZATIONS = {
    "W8A8 per channel": QuantizationConfig(),
    "W4A8 per channel": QuantizationConfig(weight_bits=4),
    "W4A8 per tensor": QuantizationConfig(weight_bits=4, per_channel=False),
}
INPUTS = 10_000
"""Of the comparison with the simulator."""


class Case(NamedTuple):
    """A network to train: names of `TASKS` and `NETWORKS`, and its width."""

    task: str
    network: str
    width: int


class Estimate(NamedTuple):
    """A mean over seeds and its standard error, in points."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Estimate:
        """From one value for each seed."""
        return cls(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.error:.1f}"


def top1(model: nn.Module, data: Samples) -> float:
    """In percent."""
    return float(100 * np.mean(logits(model, data.inputs).argmax(axis=1) == data.labels))


def prepared(task: Task, model: nn.Module, quantization: QuantizationConfig) -> PreparedModule:
    """A float network with fake quantization, by PTQ."""
    samples = torch.from_numpy(task.train.inputs[:CALIBRATION])
    return prepare(model, samples, TrainingConfig(quantization=quantization)).eval()


def quantization_aware(
    task: Task, model: nn.Module, quantization: QuantizationConfig, seed: int, *, distilled: bool
) -> PreparedModule:
    """A float network, trained on with fake quantization."""
    schedule = Schedule(**{**vars(SCHEDULE), "epochs": LONG.get(task.name, SCHEDULE.epochs)})
    result = prepared(task, model, quantization)
    fit(result, task.train, schedule, seed=seed, distillation=Distillation(model) if distilled else None)
    return result


def run(task: Task, case: Case, seed: int) -> dict[str, float]:
    """Top-1 on test samples of every row, for one seed."""
    model = trained(task, case.network, case.width, seed)
    found = {"float": top1(model, task.test)}
    for name, quantization in QUANTIZATIONS.items():
        found[f"{name}, PTQ"] = top1(prepared(task, model, quantization), task.test)
        for kind, distilled in (("QAT", False), ("QAT + distillation", True)):
            result = quantization_aware(task, model, quantization, seed, distilled=distilled)
            found[f"{name}, {kind}"] = top1(result, task.test)
    return found


def lines(case: Case, runs: list[Mapping[str, float]]) -> Iterator[str]:
    """The table of one network."""
    columns = {name: np.array([run[name] for run in runs]) for name in runs[0]}
    title = f"{case.task}, {case.network}, width {case.width}"
    yield f"\n| {title}: {len(runs)} seeds | top-1 (%) | loss (points) | in errors | recovered |"
    yield "|---|---|---|---|---|"
    yield f"| float | {Estimate.of(columns['float'])} | - | - | - |"
    for name, values in columns.items():
        if name == "float":
            continue
        loss, before = (Estimate.of(columns["float"] - other) for other in (values, _ptq(columns, name)))
        significant = loss.mean / loss.error if loss.error else np.inf * np.sign(loss.mean)
        worth = before.mean >= 3 * before.error > 0 and not name.endswith("PTQ")
        recovered = f"{(before.mean - loss.mean) / before.mean:.0%}" if worth else "-"
        yield f"| {name} | {Estimate.of(values)} | {loss} | {significant:.1f} | {recovered} |"


def _ptq(columns: Mapping[str, NDArray[np.float64]], name: str) -> NDArray[np.float64]:
    """The values of PTQ under the settings of a row."""
    return columns[f"{name.split(', ')[0]}, PTQ"]


def augmented(data: Samples, count: int) -> NDArray[np.float32]:
    """Training inputs, then the same ones moved by up to two places and with noise, until there are `count`."""
    rng, parts = np.random.default_rng(0), [data.inputs]
    while sum(map(len, parts)) < count:
        moved = np.roll(data.inputs, int(rng.integers(-2, 3)), axis=2)
        parts.append((moved + rng.normal(0, 0.1, moved.shape) * moved.std()).astype(np.float32))
    return np.concatenate(parts)[:count]


def agreement(task: Task, case: Case, mode: str, inputs: int) -> str:
    """The row of a trained network of 4-bit weights: its module with fake quantization beside the simulator."""
    model = trained(task, case.network, case.width, 0)
    quantization = QuantizationConfig(weight_bits=4, per_channel=False, mode=mode)
    result = quantization_aware(task, model, quantization, 0, distilled=False)
    x = augmented(task.train, inputs)
    fake, graph = logits(result, x), convert(result)
    simulated, output = simulate(graph, "edge", x), graph.output_tensors[0]
    bytes_ = np.rint(fake / output.scale) + output.zero_point
    same = float(np.mean(fake.argmax(axis=1) == simulated.argmax(axis=1)))
    name = f"{case.task}, {case.network}, width {case.width}, mode {mode}"
    return f"| {name} | {len(x):,} | {same:.3%} | {np.mean(bytes_ != simulated):.4%} |"


def main() -> None:
    """Print a table for each network, and the comparison with the simulator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tasks", nargs="+", choices=WIDTHS, default=list(WIDTHS))
    parser.add_argument("--widths", nargs="+", type=int, help="of the networks; by default those of each task")
    parser.add_argument("--samples", type=Path, default=SAMPLES)
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds, inputs = (2, 500) if arguments.quick else (SEEDS, INPUTS)
    compared = []
    for name in ["digits"] if arguments.quick else arguments.tasks:
        try:
            task = TASKS[name](arguments.samples)
        except MissingDataError as error:
            print(f"\n{name}: left out. {error}")
            continue
        widths = arguments.widths or WIDTHS[name]
        for width in widths[:1] if arguments.quick else widths:
            for network in NETWORKS:
                case = Case(name, network, width)
                runs = [remembered(arguments.results, task, case, seed) for seed in range(seeds)]
                print("\n".join(lines(case, runs)), flush=True)
        cases = [Case(name, network, widths[0]) for network in NETWORKS] if name != "keywords" else []
        compared += [agreement(task, case, mode, inputs) for case in cases for mode in ("tflite", "fp32")]
    print("\n| QAT, W4A8 per tensor | inputs | same class | output bytes that differ |\n|---|---|---|---|")
    print("\n".join(compared))


def remembered(path: Path | None, task: Task, case: Case, seed: int) -> dict[str, float]:
    """`run`, or its result from a file of results."""
    known: dict[str, Any] = json.loads(path.read_text()) if path is not None and path.exists() else {}
    key = f"{'/'.join(map(str, case))}/{seed}"
    if key not in known:
        known[key] = run(task, case, seed)
        if path is not None:
            write_atomic(path, json.dumps(known, indent=1).encode())
    return dict(known[key])


if __name__ == "__main__":
    main()
