"""A float network as a short list of layers: what the ONNX reader makes and the quantizer reads.

Tensors are named as in the ONNX model and have its layout, NCHW or (N, features), with ``N = 1``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from accel.network.windows import Shape

FloatArray = NDArray[np.float32]
Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """One operation; `operator` is the ONNX name for messages."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    output: str

    keeps_range: ClassVar[bool] = False
    """The output holds values of the input only (or means of them), and takes over its quantization."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Clipped(Layer):
    """A layer into which a following clip can be fused: outputs are limited to ``[low, high]``."""

    low: float = -np.inf
    high: float = np.inf


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Clipped):
    """A layer with weights, output channel first, and a bias per output channel."""

    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Convolution(Linear):
    """Weights (oc, ic, kh, kw); padding is (top, left, bottom, right)."""

    stride: Pair
    padding: Padding
    dilation: Pair


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Linear):
    """Weights (out, in)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ChannelAffine(Layer):
    """``x * scale + bias`` per channel (axis 1): batch normalization or the addition of a constant; must fold away."""

    scale: FloatArray
    bias: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Sum(Clipped):
    """Elementwise sum of two tensors of one shape."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Clip(Layer):
    """Values limited to ``[low, high]``."""

    low: float
    high: float

    keeps_range = True


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Layer):
    """Window maximum or, if `average`, mean of the taps inside the image."""

    average: bool
    kernel: Pair
    stride: Pair
    padding: Padding

    keeps_range = True


@dataclass(frozen=True, eq=False, kw_only=True)
class Flatten(Layer):
    """The same elements in another shape."""

    keeps_range = True


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftmaxLayer(Layer):
    """Softmax over the features of a (1, features) tensor."""


@dataclass(frozen=True, eq=False)
class Network:
    """A float network.

    Parameters
    ----------
    name : str
    model : bytes
        The ONNX model with batch size 1, for running it.
    layers : list of Layer
        In execution order.
    inputs, outputs : tuple of str
    shapes : dict of str to tuple of int
        Of every tensor, batch included.
    """

    name: str
    model: bytes
    layers: list[Layer]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: dict[str, Shape] = field(repr=False)
