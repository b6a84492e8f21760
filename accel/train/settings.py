"""What may be chosen when a module is prepared for training."""

from __future__ import annotations

from dataclasses import dataclass, field

from accel.errors import InputError
from accel.quantizer.config import QuantizationConfig

ESTIMATORS = ("lsq", "ste")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of `prepare`.

    Parameters
    ----------
    quantization : QuantizationConfig
        Those of the post-training quantization that the training starts from: bits, symmetry, observers, overrides.
    estimator : str
        "lsq" learns all scales; "ste" keeps those of the activations and lets those of the weights follow the
        largest weight.
    """

    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    estimator: str = "lsq"

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise InputError(f"estimator must be one of {', '.join(ESTIMATORS)}, got {self.estimator!r}")
        if self.quantization.prepare:
            raise InputError(
                f"prepare must be empty for training, which changes the weights itself, got "
                f"{', '.join(self.quantization.prepare)}"
            )
        if self.quantization.mean_correction == "on":
            raise InputError("mean_correction must not be on for training, which changes the biases itself")
