"""Random numbers that the random models of TensorFlow Lite operators share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Rng = np.random.Generator
Parameters = tuple[float, int]
ACTIVATION_CODES = (0, 1, 2, 3)


def random_parameters(rng: Rng, scale: float | None = None) -> Parameters:
    """Scale and zero point; sometimes a scale of 1/8, where ties abound, and an extreme zero point."""
    drawn = scale or rng.choice([0.125, 10 ** rng.uniform(-3, 1)], p=[0.2, 0.8])
    point = rng.choice([-128, 127, int(rng.integers(-128, 128))], p=[0.1, 0.1, 0.8])
    return float(np.float32(drawn)), int(point)


def random_image(rng: Rng, largest: int = 12, channels: int = 12) -> tuple[int, int, int, int]:
    """Shape of an image."""
    height, width = (int(size) for size in rng.integers(1, largest + 1, 2))
    return 1, height, width, int(rng.integers(1, channels + 1))


def code(rng: Rng) -> int:
    """A fused activation."""
    return int(rng.choice(ACTIVATION_CODES))


def any_shape(rng: Rng, most: int = 4) -> tuple[int, ...]:
    """A shape of any rank, often an image, sometimes with a batch."""
    if rng.random() < 0.5:
        return random_image(rng, 6)
    return tuple(int(size) for size in rng.integers(1, 6, int(rng.integers(1, most + 1))))


def with_builtin(make: Callable[[Rng, str], bytes], builtin: str) -> Callable[[Rng], bytes]:
    """`make` for one operator."""
    return lambda rng: make(rng, builtin)
