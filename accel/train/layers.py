"""Layers with weights, whose BatchNormalization is part of them."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from accel.train.fake_quantize import FakeQuantize

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
SMALLEST = 1e-12
"""Weights and factors below this count as zero: nothing is divided by them."""


def output_axis(layer: nn.Module) -> int:
    """The axis of a weight that counts output channels."""
    return 1 if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d) else 0


class QuantizedLayer(nn.Module):
    """A layer with fake-quantized weights, and the BatchNormalization behind it.

    Parameters
    ----------
    layer : Linear, Conv1d, Conv2d, ConvTranspose1d or ConvTranspose2d
    norm : BatchNorm1d or BatchNorm2d, optional

    Attributes
    ----------
    weight_quantizer : FakeQuantize or None
        None until the layer is prepared, and where it stays real.
    source : tuple of FakeQuantize
        The one of the layer's input, which has its own place in the module; empty where `weight_quantizer` is None.

    Notes
    -----
    The weights that are rounded are always those of inference: ``weight * gamma / sqrt(running_var + eps)`` (Jacob et
    al. 2018, section 3.2; Krishnamoorthi 2018, section 3.2.2). While the statistics train, the sums are divided by
    the same factor again, and the layer's own BatchNormalization follows with the batch's statistics; once they are
    frozen, nothing but the folded layer remains.
    """

    def __init__(self, layer: nn.Module, norm: nn.Module | None) -> None:
        super().__init__()
        self.layer, self.norm = layer, norm
        self.weight_quantizer: FakeQuantize | None = None
        self.source: tuple[FakeQuantize, ...] = ()
        self.frozen = False
        self.follows_weights = False

    @property
    def normalizes(self) -> bool:
        """Whether the batch's statistics still have their effect, so that sums are no integers."""
        return self.norm is not None and self.training and not self.frozen

    def factor(self) -> Tensor | None:
        """What BatchNormalization multiplies each output channel by; None without one."""
        if self.norm is None:
            return None
        norm = cast(nn.BatchNorm2d, self.norm)
        assert norm.running_var is not None
        deviation = (norm.running_var + norm.eps).sqrt()
        return norm.weight / deviation if norm.affine else 1 / deviation

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the layer with its BatchNormalization."""
        layer = cast(nn.Conv2d, self.layer)
        factor = self.factor()
        if factor is None:
            return layer.weight, layer.bias
        norm = cast(nn.BatchNorm2d, self.norm)
        assert norm.running_mean is not None
        offset = -norm.running_mean if layer.bias is None else layer.bias - norm.running_mean
        bias = offset * factor + norm.bias if norm.affine else offset * factor
        return layer.weight * self._along_outputs(factor), bias

    def forward(self, values: Tensor) -> Tensor:
        """The layer's result under the rounded weights."""
        weight, bias = self.folded()
        weight = self._quantized(weight)
        factor = self.factor()
        if factor is None or not self.normalizes:
            return self._operation(values, weight, bias)
        safe = torch.where(factor.abs() < SMALLEST, torch.ones_like(factor), factor)
        layer, norm = cast(nn.Conv2d, self.layer), cast(nn.BatchNorm2d, self.norm)
        channels = (1, -1, *(1,) * (values.ndim - 2))
        sums = self._operation(values, weight, None) / safe.reshape(channels)
        return cast(Tensor, norm(sums if layer.bias is None else sums + layer.bias.reshape(channels)))

    def scales(self) -> tuple[Tensor, Tensor]:
        """Those of the input, shape (1,), and of the weights, shape (1,) or (output channels,)."""
        assert self.weight_quantizer is not None
        return self.source[0].scale.detach(), self.weight_quantizer.scale.detach()

    def sum_scale(self) -> Tensor:
        """What 1 stands for in the sums of products: shape (1,) or (output channels,)."""
        source, weights = self.scales()
        return source * weights

    def along_channels(self, values: Tensor, rank: int) -> Tensor:
        """Numbers of output channels in a shape that broadcasts to a result of `rank` axes."""
        axis = rank - 1 if isinstance(self.layer, nn.Linear) else 1
        return values.reshape([-1 if place == axis else 1 for place in range(rank)])

    def train(self, mode: bool = True) -> QuantizedLayer:
        """As usual, but frozen statistics stay frozen."""
        super().train(mode)
        if self.frozen and self.norm is not None:
            self.norm.eval()
        return self

    def plain(self) -> nn.Module:
        """The float layer with its BatchNormalization folded in, for export."""
        result = copy.deepcopy(self.layer)
        weight, bias = (None if part is None else nn.Parameter(part.detach().clone()) for part in self.folded())
        cast(Any, result).weight = weight
        cast(Any, result).bias = bias
        return result

    def _along_outputs(self, factor: Tensor) -> Tensor:
        """`factor` in a shape that broadcasts to the weight."""
        weight, axis = cast(nn.Conv2d, self.layer).weight, output_axis(self.layer)
        if axis == 0:
            return factor.reshape(-1, *(1,) * (weight.ndim - 1))
        groups = cast(nn.ConvTranspose2d, self.layer).groups
        rows = factor.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, weight.shape[1])
        return rows.reshape(weight.shape[0], weight.shape[1], *(1,) * (weight.ndim - 2))

    def _quantized(self, weight: Tensor) -> Tensor:
        quantizer = self.weight_quantizer
        if quantizer is None:
            return weight
        if self.follows_weights and self.training:
            with torch.no_grad():
                quantizer.start.copy_(_largest(weight, quantizer) / quantizer.high)
        return cast(Tensor, quantizer(weight))

    def _operation(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's operation with other weights."""
        layer = cast(Any, self.layer)
        if isinstance(layer, nn.Linear):
            return functional.linear(values, weight, bias)
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            return cast(Tensor, layer._conv_forward(values, weight, bias))
        transposed = functional.conv_transpose1d if weight.ndim == 3 else functional.conv_transpose2d
        window = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
        return transposed(values, weight, bias, *window)


def _largest(weight: Tensor, quantizer: FakeQuantize) -> Tensor:
    """The largest magnitude that shares each scale."""
    if quantizer.axis is None or quantizer.start.numel() == 1:
        return weight.abs().max().reshape(1).clamp(min=SMALLEST)
    rows = weight.movedim(quantizer.axis, 0).flatten(1)
    return rows.abs().amax(dim=1).clamp(min=SMALLEST)


def freeze_batch_norm(module: nn.Module) -> None:
    """Keep the statistics of every BatchNormalization from now on, so that training sees what inference computes."""
    for layer in module.modules():
        if isinstance(layer, QuantizedLayer):
            layer.frozen = True
            layer.train(layer.training)
