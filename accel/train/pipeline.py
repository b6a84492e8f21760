"""The whole path: float training, quantization, training with fake quantization where needed, validation."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from accel import api
from accel.errors import ExportError, InputError
from accel.exports import export
from accel.files import write_atomic
from accel.network.graph import Graph
from accel.network.graph_file import save_graph
from accel.train.checkpoint import save_checkpoint
from accel.train.convert import convert
from accel.train.loop import Distillation, Samples, Schedule, fit, logits
from accel.train.prepare import PreparedModule, prepare
from accel.train.recipe import Recipe

BATCH = 64
"""Samples that the simulator gets at a time, between which progress is shown."""
Stage = Callable[[str, int], Callable[[], None]]
"""Announces a stage with its number of steps; gives what to call after each."""


@dataclass(frozen=True)
class Accuracy:
    """One row of the result: top-1 in percent.

    Parameters
    ----------
    stage : str
        "PTQ" or "QAT".
    fake, simulated : float
        Of the module with fake quantization, and of the program in the simulator.
    same_class : float
        Percent of the test samples for which both predict the same class.
    """

    stage: str
    fake: float
    simulated: float
    same_class: float


@dataclass(frozen=True)
class Outcome:
    """What a recipe gave.

    Parameters
    ----------
    float_accuracy : float
        Top-1 in percent.
    rows : tuple of Accuracy
        Post-training quantization first.
    files : tuple of str
        Written: graph, program, and a QDQ model where that can express the network.
    notes : tuple of str
        Where the QDQ model's runtime may differ, or why there is none.
    """

    float_accuracy: float
    rows: tuple[Accuracy, ...]
    files: tuple[str, ...]
    notes: tuple[str, ...]


def run_recipe(recipe: Recipe, folder: Path, stage: Stage) -> Outcome:
    """Follow a recipe; a run that was interrupted goes on where it was.

    Parameters
    ----------
    recipe : Recipe
    folder : Path
        Where checkpoints and results are written; made if it does not exist.
    stage : callable
        Shows progress.

    Raises
    ------
    InputError
        The folder holds the run of another recipe, or a function of the recipe gives something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder / "recipe.sha256", recipe.fingerprint)
    torch.set_num_threads(recipe.threads)
    device = _device()
    data = recipe.make_data()
    model = recipe.make_model().to(device)
    train = _Trainer(recipe, folder, data.train, stage)
    train("float training", model, recipe.float_training, "float")
    save_checkpoint(folder / "float.safetensors", model, None, {})
    accuracy = _top1(logits(model, data.test.inputs), data.test.labels)
    prepared = prepare(model, torch.from_numpy(data.train.inputs[: recipe.calibration]), recipe.training_config())
    rows = [_measured("PTQ", prepared.eval(), data.test, recipe, stage)]
    if accuracy - rows[0].simulated > recipe.max_drop:
        teacher = recipe.make_teacher() or copy.deepcopy(model)
        settings = recipe.distillation
        distillation = (
            None if settings is None else Distillation(teacher.to(device).eval(), settings.alpha, settings.temperature)
        )
        train("quantization-aware training", prepared, recipe.training, "trained", distillation)
        rows.append(_measured("QAT", prepared, data.test, recipe, stage))
    outcome = Outcome(accuracy, tuple(rows), *_export(prepared, recipe, folder))
    write_atomic(folder / "result.json", json.dumps(asdict(outcome), indent=1).encode())
    return outcome


@dataclass(frozen=True)
class _Trainer:
    recipe: Recipe
    folder: Path
    data: Samples
    stage: Stage

    def __call__(
        self, title: str, model: nn.Module, schedule: Schedule, name: str, distillation: Distillation | None = None
    ) -> None:
        advance = self.stage(title, schedule.epochs)
        fit(
            model, self.data, schedule, seed=self.recipe.seed, distillation=distillation,
            checkpoint=self.folder / f"{name}.checkpoint", report=lambda epoch, epochs, loss: advance(),
        )  # fmt: skip


def _device() -> str:
    """The GPU where PyTorch finds one; operations are set to give the same result each time, or to warn there."""
    if not torch.cuda.is_available():
        torch.use_deterministic_algorithms(True)
        return "cpu"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses to be deterministic
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False  # it would round the factors of sums, which the machine adds exactly
    return "cuda"


def _claim(path: Path, fingerprint: str) -> None:
    """Refuse a folder in which another recipe ran."""
    if path.exists() and path.read_text() != fingerprint:
        raise InputError(f"{path.parent}: must be a new folder or that of the same recipe, got another recipe's run")
    write_atomic(path, fingerprint.encode())


def _measured(title: str, prepared: PreparedModule, data: Samples, recipe: Recipe, stage: Stage) -> Accuracy:
    """Accuracy of a module with fake quantization, and of its program in the simulator."""
    fake = logits(prepared, data.inputs)
    simulated = simulate(convert(prepared), recipe.config, data.inputs, stage(f"{title}: simulation", len(data.inputs)))
    same = float(100 * np.mean(fake.argmax(axis=1) == simulated.argmax(axis=1)))
    return Accuracy(title, _top1(fake, data.labels), _top1(simulated, data.labels), same)


def simulate(
    graph: Graph, config: str, inputs: NDArray[np.float32], advance: Callable[[], None] = lambda: None
) -> NDArray[np.int8]:
    """The first output of a graph for samples, in the simulator, flattened: shape (samples, classes)."""
    program = api.compile(graph, config)
    results = list[NDArray[np.int8]]()
    for start in range(0, len(inputs), BATCH):
        part = inputs[start : start + BATCH]
        outputs = api.run(program, part).outputs
        results.append(next(iter(outputs.values())).reshape(len(part), -1))
        for _ in part:
            advance()
    return np.concatenate(results)


def _export(prepared: PreparedModule, recipe: Recipe, folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the files written, and notes on them."""
    graph = convert(prepared)
    files = ("model.graph", "model.program")
    save_graph(graph, folder / files[0])
    api.compile(graph, recipe.config).save(folder / files[1])
    try:
        exported = export(graph, folder / "model_qdq.onnx", format="qdq")
    except ExportError as error:
        return files, (str(error),)
    return (*files, *(path.name for path in exported.files)), exported.notes


def _top1(scores: NDArray[np.generic], labels: NDArray[np.int64]) -> float:
    return float(100 * np.mean(scores.argmax(axis=1) == labels))
