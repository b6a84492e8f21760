"""A training loop for classifiers: deterministic, interruptible, resumable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from accel.errors import InputError
from accel.train.checkpoint import load_checkpoint, save_checkpoint
from accel.train.distill import distillation_loss
from accel.train.layers import freeze_batch_norm

Report = Callable[[int, int, float], None]
"""Called after each epoch with its number from 1, the number of epochs, and the mean loss."""


class Samples(NamedTuple):
    """Labelled samples.

    Parameters
    ----------
    inputs : ndarray of float32, shape (samples, ...)
    labels : ndarray of int64, shape (samples,)
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train.

    Parameters
    ----------
    epochs, batch : int
    learning_rate : float
        Of Adam; it falls to zero along half a cosine.
    frozen_share : float
        Share of the epochs, at the end, in which the statistics of BatchNormalization are frozen.
    """

    epochs: int = 10
    batch: int = 64
    learning_rate: float = 1e-3
    frozen_share: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 2:
            raise InputError(f"epochs must be at least 0 and batch at least 2, got {self.epochs} and {self.batch}")
        if not 0 < self.learning_rate < 10 or not 0 <= self.frozen_share <= 1:
            raise InputError(
                f"learning_rate must be in (0, 10) and frozen_share in [0, 1], got {self.learning_rate} and "
                f"{self.frozen_share}"
            )


class Distillation(NamedTuple):
    """A teacher and how much it counts; see `distillation_loss`."""

    teacher: nn.Module
    alpha: float = 0.5
    temperature: float = 4.0


def fit(
    model: nn.Module,
    data: Samples,
    schedule: Schedule,
    *,
    seed: int = 0,
    distillation: Distillation | None = None,
    checkpoint: Path | None = None,
    report: Report = lambda epoch, epochs, loss: None,
) -> nn.Module:
    """Train a classifier with cross entropy, or with a teacher.

    Parameters
    ----------
    model : nn.Module
        Changed in place, and left in evaluation mode.
    data : Samples
    schedule : Schedule
    seed : int
        Of the order of the samples and of what the model draws.
    distillation : Distillation, optional
    checkpoint : Path, optional
        Written after every epoch; if it exists, training goes on from there with the same result.
    report : callable

    Raises
    ------
    InputError
        The checkpoint is damaged or of another model.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(model.parameters(), schedule.learning_rate, fused=True)
    done = 0
    if checkpoint is not None and checkpoint.exists():
        done = int(load_checkpoint(checkpoint, model, optimizer)["epochs"])
    inputs, labels = torch.from_numpy(data.inputs), torch.from_numpy(data.labels)
    frozen_from = round(schedule.epochs * (1 - schedule.frozen_share))
    for epoch in range(done, schedule.epochs):
        model.train()
        if epoch >= frozen_from:
            freeze_batch_norm(model)
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * 0.5 * (1 + np.cos(np.pi * epoch / schedule.epochs))
        torch.manual_seed(seed * 1_000_003 + epoch)
        losses = list[float]()
        for chosen in torch.split(torch.randperm(len(inputs)), schedule.batch):
            if len(chosen) < 2:
                continue
            loss = _loss(model, inputs[chosen].to(device), labels[chosen].to(device), distillation)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            losses.append(loss.item())
        if checkpoint is not None:
            save_checkpoint(checkpoint, model, optimizer, {"epochs": epoch + 1})
        report(epoch + 1, schedule.epochs, float(np.mean(losses)))
    freeze_batch_norm(model)
    return model.eval()


def _loss(model: nn.Module, inputs: Tensor, labels: Tensor, distillation: Distillation | None) -> Tensor:
    logits = model(inputs)
    if distillation is None:
        return functional.cross_entropy(logits, labels)
    with torch.no_grad():
        soft = distillation.teacher(inputs)
    return distillation_loss(logits, soft, labels, distillation.alpha, distillation.temperature)


def logits(model: nn.Module, inputs: NDArray[np.float32], batch: int = 256) -> NDArray[np.float32]:
    """What a model gives for samples, shape (samples, classes)."""
    device = next(model.parameters()).device
    with torch.no_grad():
        parts = [model(part.to(device)).cpu() for part in torch.split(torch.from_numpy(inputs), batch)]
    return np.asarray(torch.cat(parts).numpy())
