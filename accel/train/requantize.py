"""The machine's own rounding of sums, inside a module that trains: the integers are those of the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from accel.machine.numerics import RequantMode, requantize_single, requantize_tflite, scale_fp32
from accel.quantized import recipes
from accel.train.fake_quantize import FakeQuantize
from accel.train.layers import QuantizedLayer


class Sums(Protocol):
    """Sums of integers, from which one rounding makes the integers of a result."""

    def step(self, rank: int) -> Tensor:
        """The real number that 1 stands for, of float32, in a shape that broadcasts to a tensor of `rank` axes."""
        ...

    def fields(self, scale_out: float, mode: RequantMode) -> recipes.Fields:
        """Multiplier and shift to a result's scale, as the lowering makes them."""
        ...


@dataclass(frozen=True, eq=False)
class LayerSums:
    """Products of a layer's inputs and weights, with its bias."""

    layer: QuantizedLayer

    def step(self, rank: int) -> Tensor:
        """See `Sums`."""
        return self.layer.along_channels(self.layer.sum_scale(), rank)

    def fields(self, scale_out: float, mode: RequantMode) -> recipes.Fields:
        """See `Sums`."""
        source, weights = self.layer.scales()
        return recipes.weighted(source.item(), weights.cpu().numpy(), scale_out, mode)


@dataclass(frozen=True, eq=False)
class MeanSums:
    """Values of a window, of which `count` make one mean."""

    source: FakeQuantize
    count: int

    def step(self, rank: int) -> Tensor:
        """See `Sums`."""
        return self.source.scale / self.count

    def fields(self, scale_out: float, mode: RequantMode) -> recipes.Fields:
        """See `Sums`."""
        return recipes.mean(self.source.scale.item(), scale_out, self.count, mode)


@dataclass(frozen=True, eq=False)
class ProductSums:
    """Products of two tensors."""

    first: FakeQuantize
    second: FakeQuantize

    def step(self, rank: int) -> Tensor:
        """See `Sums`."""
        return self.first.scale * self.second.scale

    def fields(self, scale_out: float, mode: RequantMode) -> recipes.Fields:
        """See `Sums`."""
        return recipes.product([self.first.scale.item(), self.second.scale.item()], scale_out, mode)


class Requantize(nn.Module):
    """The integers, without their zero point, that the machine makes of sums; no gradient flows through them.

    Parameters
    ----------
    sums : Sums
    target : FakeQuantize
        That of the result.
    limits : (float, float)
        Real bounds of the result, from a Relu or Clip behind the sums.
    """

    def __init__(self, sums: Sums, target: FakeQuantize, limits: recipes.Limits) -> None:
        super().__init__()
        self.limits = limits
        self.parts = sums, target  # a tuple, because these modules have their places elsewhere

    @torch.no_grad()
    def forward(self, values: Tensor) -> Tensor:
        """Integers in float32 of real sums, of the same shape; the sums as they are where rounding is switched off."""
        sums, target = self.parts
        if not target.enabled:
            return values
        if isinstance(sums, LayerSums) and sums.layer.normalizes:
            return target.rounded(values / target.scale)
        fields = sums.fields(target.scale.item(), target.mode)
        q, e = (torch.as_tensor(fields[name], dtype=torch.int64).reshape(-1) for name in ("multiplier", "shift"))
        counts = (values / sums.step(values.ndim)).round()
        bounds = torch.tensor(self.limits, device=values.device) / target.scale
        low, high = target.rounded(bounds.clamp(-recipes.BEYOND, recipes.BEYOND))
        return self._requantized(counts, q, e).to(values.dtype).clamp(low, high)

    def _requantized(self, counts: Tensor, q: Tensor, e: Tensor) -> Tensor:
        sums, target = self.parts

        def placed(field: Any) -> Tensor:
            found = torch.as_tensor(field, device=counts.device)
            return sums.layer.along_channels(found, counts.ndim) if isinstance(sums, LayerSums) else found

        if target.mode is RequantMode.FP32:
            return (counts * placed(scale_fp32(q.numpy(), e.numpy()))).round()
        kernel = requantize_tflite if target.mode is RequantMode.TFLITE else requantize_single
        result: Tensor = kernel(counts.long(), placed(q), placed(e))
        return result

    def extra_repr(self) -> str:
        """What a printed module shows."""
        return f"{type(self.parts[0]).__name__}, limits={self.limits}"
