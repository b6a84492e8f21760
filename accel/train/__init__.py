"""Training with fake quantization and distillation, on PyTorch (the extra `train`).

A float `torch.nn.Module` is prepared, trained by any loop, and converted: the integers come out by the same lowering
as those of post-training quantization.
"""

from importlib.util import find_spec

from accel.errors import InputError

if find_spec("torch") is None:
    raise InputError("training must have PyTorch, which is not installed: pip install 'accel[train]'")

from accel.train.convert import convert, quantized_network
from accel.train.distill import distillation_loss
from accel.train.layers import freeze_batch_norm
from accel.train.prepare import PreparedModule, prepare
from accel.train.settings import TrainingConfig

__all__ = [
    "PreparedModule",
    "TrainingConfig",
    "convert",
    "distillation_loss",
    "freeze_batch_norm",
    "prepare",
    "quantized_network",
]
