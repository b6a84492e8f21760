"""The products of a layer as one matrix product per group: inputs as rows (im2col), weights as a matrix."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.quantized.network import Network, Operator
from accel.quantized.window import window_of

Matrix = NDArray[np.float32]


class Matrices(NamedTuple):
    """Weights as (groups, outputs, inputs x taps), and how to bring such an array back into the operator's shape."""

    weight: NDArray[Any]
    shape: tuple[int, ...]
    transposed: bool

    def restored(self, matrix: NDArray[np.int64]) -> NDArray[np.int64]:
        """An array like `weight` in the shape of the operator's weights."""
        flat = matrix.reshape(-1, matrix.shape[-1])
        return flat.T.reshape(self.shape) if self.transposed else flat.reshape(self.shape)


def weight_matrices(op: Operator, weight: NDArray[Any]) -> Matrices | None:
    """The weights of a layer as matrices; None for operators whose products are no such product (ConvTranspose)."""
    if op.kind == "Conv":
        groups = int(op.attributes.get("group", 1))
        return Matrices(weight.reshape(groups, len(weight) // groups, -1), weight.shape, False)
    if op.kind not in ("Gemm", "MatMul") or weight.ndim != 2 or op.attributes.get("transA", 0):
        return None
    transposed = not op.attributes.get("transB", 0)
    return Matrices((weight.T if transposed else weight)[None], weight.shape, transposed)


def positions(network: Network, op: Operator, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most `count` random places of a layer's output, sorted, as numbers of the output's pixels or rows."""
    shape = network.shape(op, op.outputs[0])
    pixels = int(np.prod(shape[2:] if op.kind == "Conv" else shape[:-1], dtype=np.int64))
    return np.sort(rng.choice(pixels, min(count, pixels), replace=False))


def rows_of(network: Network, op: Operator, x: NDArray[np.float32], places: NDArray[np.int64]) -> Matrix:
    """The inputs that the layer multiplies at some places of its output: (groups, places, inputs x taps)."""
    if op.kind != "Conv":
        return np.ascontiguousarray(x.reshape(1, -1, x.shape[-1])[:, places])
    weight = network.tensors[op.inputs[1]].shape
    groups = int(op.attributes.get("group", 1))
    window = window_of(op, x.shape, weight[2:])
    image = x.reshape(*x.shape[:2], *((1,) * (4 - x.ndim)), *x.shape[2:])[0]
    top, left, bottom, right = window.padding
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right)))
    extent = [d * (k - 1) + 1 for d, k in zip(window.dilation, window.kernel, strict=True)]
    patches = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=(1, 2))
    patches = patches[:, :: window.stride[0], :: window.stride[1], :: window.dilation[0], :: window.dilation[1]]
    chosen = patches[:, places // window.output[1], places % window.output[1]]
    # (channels, places, taps) -> (groups, places, channels of a group x taps)
    split = chosen.reshape(groups, len(image) // groups, len(places), -1)
    return np.ascontiguousarray(split.transpose(0, 2, 1, 3)).reshape(groups, len(places), -1)
