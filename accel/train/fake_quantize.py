"""Fake quantization: real numbers that only take the values which integers stand for, with gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accel.machine.numerics import RequantMode


class FakeQuantize(nn.Module):
    """Rounds a tensor to ``(q - zero_point) * scale`` with `q` an integer in ``[low, high]``.

    Parameters
    ----------
    scale : ndarray of float32, shape (1,) or (size of `axis`,)
    zero_point : int
    low, high : int
        Range of the integers.
    axis : int, optional
        That of several scales.
    learned : bool
        The scale is a parameter of the training (LSQ) instead of a constant.
    mode : RequantMode
        Ties go to even in `fp32`, away from zero otherwise.

    Notes
    -----
    Values inside the range have gradient 1, others 0 (clipped straight-through estimator, Jacob et al. 2018, section
    3). The gradient of a learned scale is that of Esser et al. 2020, Learned Step Size Quantization, equation 3,
    times ``1 / sqrt(count * high)`` (its section 2.2), with `count` the numbers that share a scale: weights, or those
    of one sample's activation. What is trained is the logarithm of the scale's change (Jain et al. 2020, Trained
    Quantization Thresholds, section 3.3), so that it stays positive and an optimizer's step means the same for scales
    of any size.
    """

    start: Tensor

    def __init__(
        self,
        scale: NDArray[np.float32],
        zero_point: int,
        low: int,
        high: int,
        axis: int | None = None,
        *,
        learned: bool = True,
        mode: RequantMode = RequantMode.TFLITE,
    ) -> None:
        super().__init__()
        self.mode = mode
        self.zero_point, self.low, self.high, self.axis = zero_point, low, high, axis
        self.register_buffer("start", torch.tensor(np.asarray(scale, np.float32).reshape(-1)))
        self.growth = nn.Parameter(torch.zeros_like(self.start)) if learned else None
        self.enabled = True

    @property
    def scale(self) -> Tensor:
        """Of float32, shape (1,) or (size of `axis`,)."""
        return self.start if self.growth is None else self.start * self.growth.exp()

    def forward(self, values: Tensor, integers: Tensor | None = None) -> Tensor:
        """`values`, rounded; as they are where fake quantization is switched off.

        Parameters
        ----------
        values : Tensor of float32
        integers : Tensor of float32, optional
            What the machine makes of them, without the zero point; by default they are rounded to the nearest.
        """
        if not self.enabled:
            return values
        scale = self.scale
        if self.axis is not None and scale.numel() > 1:
            scale = scale.reshape([-1 if axis == self.axis else 1 for axis in range(values.ndim)])
        steps = values.detach() / scale.detach()
        found = self.rounded(steps) if integers is None else integers
        bounds = self.low - self.zero_point, self.high - self.zero_point
        apply: Callable[..., Tensor] = _Rounding.apply
        return apply(values, scale, steps, found, bounds, self._gradient_scale(values))

    def rounded(self, steps: Tensor) -> Tensor:
        """Reals to integers as the runtimes of the mode do; see `accel.network.real.round_real`."""
        return steps.round() if self.mode is RequantMode.FP32 else (steps.abs() + 0.5).floor().copysign(steps)

    def _gradient_scale(self, values: Tensor) -> float:
        samples = 1 if self.axis is not None else values.shape[0]
        count = values.numel() / self.start.numel() / samples
        return 1 / math.sqrt(count * max(self.high - self.zero_point, 1))

    def extra_repr(self) -> str:
        """What a printed module shows."""
        return f"[{self.low}, {self.high}], zero_point={self.zero_point}, scales={self.start.numel()}"


class _Rounding(torch.autograd.Function):
    """``clamp(integers) * scale``, with the gradients of the straight-through estimator and of LSQ."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        scale: Tensor,
        steps: Tensor,
        integers: Tensor,
        bounds: tuple[int, int],
        gradient_scale: float,
    ) -> Tensor:
        clamped = integers.clamp(*bounds)
        ctx.save_for_backward(scale, steps, clamped)
        ctx.bounds, ctx.gradient_scale = bounds, gradient_scale
        return clamped * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (scale, steps, clamped) = gradients, ctx.saved_tensors
        inside = (steps >= ctx.bounds[0]) & (steps <= ctx.bounds[1])
        of_values, of_scale = gradient * inside, None
        if ctx.needs_input_grad[1]:
            of_scale = (gradient * clamped - of_values * steps).sum_to_size(scale.shape) * ctx.gradient_scale
        return of_values, of_scale, None, None, None, None
