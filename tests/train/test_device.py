"""Modules keep to the device that they are on. No GPU is needed: PyTorch's device `meta` has no values, but refuses, as
a GPU does, to compute with a tensor of another device."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from support.networks.torch_modules import Gated, Sequence, digits, residual  # noqa: E402

from accel.quantized import recipes  # noqa: E402
from accel.quantizer import QuantizationConfig  # noqa: E402
from accel.train import TrainingConfig, freeze_batch_norm, pipeline, prepare  # noqa: E402
from accel.train.requantize import LayerSums  # noqa: E402


def moved(make, mode: str, monkeypatch: pytest.MonkeyPatch):
    """A prepared module on `meta`, where scales, which leave the device for multipliers and shifts, have no values."""
    config = TrainingConfig(quantization=QuantizationConfig(mode=mode))
    module = prepare(make(), torch.from_numpy(digits(32).inputs), config)

    def fields(self, scale_out: float, mode):
        scales = np.full(self.layer.weight_quantizer.scale.shape, 0.01, np.float32)
        return recipes.weighted(0.01, scales, scale_out, mode)

    monkeypatch.setattr(torch.Tensor, "item", lambda self: 0.01)
    monkeypatch.setattr(LayerSums, "fields", fields)
    return module.to("meta")


def pass_both_ways(module) -> None:
    """Loss and gradients with statistics of the batch, with frozen ones, and in evaluation mode."""
    inputs, labels = torch.empty(4, 1, 8, 8, device="meta"), torch.zeros(4, dtype=torch.long, device="meta")
    for change in (module.train, lambda: freeze_batch_norm(module), module.eval):
        change()
        torch.nn.functional.cross_entropy(module(inputs), labels).backward()
    assert {one.grad.device.type for one in module.parameters() if one.grad is not None} == {"meta"}


CASES = [(residual, "tflite"), (residual, "single"), (residual, "fp32"), (Gated, "tflite"), (Sequence, "tflite")]


@pytest.mark.parametrize(("make", "mode"), CASES)
def test_passes_stay_on_the_device(make, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pass_both_ways(moved(make, mode, monkeypatch))


def test_a_tensor_of_another_device_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = moved(residual, "tflite", monkeypatch)
    monkeypatch.setattr(LayerSums, "step", lambda self, rank: torch.ones(8, 1, 1))
    with pytest.raises(RuntimeError, match="is not on the expected device"):
        pass_both_ways(module)


def test_a_gpu_computes_deterministically_and_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 would round the factors of sums, which the machine adds exactly."""
    called = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode, warn_only=False: called.append(warn_only))
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.backends.cudnn.allow_tf32
    try:
        assert pipeline._device() == "cuda"
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before
    assert called == [True]
