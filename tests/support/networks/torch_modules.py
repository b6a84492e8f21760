"""Small float modules for the tests of training."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from accel.train.loop import Samples


class Residual(nn.Module):
    """Convolution, depthwise convolution, an addition, a concatenation, pools, a linear layer."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.relu6 = nn.ReLU6()
        self.pointwise = nn.Conv2d(width, width, 1)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape (samples, 10)."""
        start = self.stem(images)
        joined = torch.relu(start + self.pointwise(self.relu6(self.norm(self.depthwise(start)))))
        pooled = torch.cat([nn.functional.max_pool2d(joined, 2), nn.functional.avg_pool2d(start, 2)], dim=1)
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(pooled, 1), 1))


class Gated(nn.Module):
    """Products of two tensors, averages of all and of a part, a table, a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.gate = nn.Conv2d(6, 6, 1)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.head = nn.Linear(4, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape (samples, 5)."""
        start = nn.functional.hardswish(self.stem(images))
        gated = start * torch.sigmoid(self.gate(start.mean((2, 3), keepdim=True)))
        return self.head(nn.functional.avg_pool2d(self.up(gated), 2).mean((2, 3)))


class Sequence(nn.Module):
    """Convolutions of one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 8, 5, stride=2, padding=2)
        self.depthwise = nn.Conv1d(8, 8, 3, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape (samples, 5)."""
        deep = self.depthwise(nn.functional.relu6(self.stem(images.flatten(2))))
        return self.head(nn.functional.adaptive_avg_pool1d(deep, 1).flatten(1))


def residual(seed: int = 0) -> Residual:
    """With statistics of BatchNormalization that are not those of a new module."""
    torch.manual_seed(seed)
    module = Residual()
    with torch.no_grad():
        for _ in range(8):
            module.train()(torch.rand(16, 1, 8, 8))
    return module.eval()


def digits(count: int = 512) -> Samples:
    """Images of shape (samples, 1, 8, 8) in 0..1, and labels."""
    data = load_digits()
    return Samples((data.images[:count, None] / 16).astype(np.float32), data.target[:count].astype(np.int64))
