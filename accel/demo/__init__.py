"""The demo network: a small residual CNN for 8x8 handwritten digits, trained by `examples/train_demo.py`.

The images are the test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (UCI machine
learning repository, 1998, CC BY 4.0), as scikit-learn ships it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["DemoData", "load"]


@dataclass(frozen=True, eq=False)
class DemoData:
    """The float model and its data.

    Parameters
    ----------
    model_path : Path
        ONNX model with input `image` (N, 1, 8, 8) and output `logits` (N, 10).
    calibration : ndarray of float32, shape (256, 1, 8, 8)
        Training images, in [0, 1].
    test_images : ndarray of float32, shape (360, 1, 8, 8)
    test_labels : ndarray of uint8, shape (360,)
    """

    model_path: Path
    calibration: NDArray[np.float32]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.uint8]


def load() -> DemoData:
    """Read the model and the images from the package."""
    folder = Path(__file__).parent
    with np.load(folder / "digits.npz", allow_pickle=False) as data:
        return DemoData(
            model_path=folder / "digits.onnx",
            calibration=data["calibration"].astype(np.float32) / 16,
            test_images=data["test_images"].astype(np.float32) / 16,
            test_labels=data["test_labels"],
        )
