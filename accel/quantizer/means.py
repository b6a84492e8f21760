"""Mean correction: the mean error that rounded weights make, by the float network's mean inputs, leaves biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import RequantMode
from accel.quantized.network import Network, Operator
from accel.quantized.window import window_of
from accel.quantizer.attach import has_integer_weights
from accel.quantizer.parameters import BLOCK
from accel.quantizer.placement import quantized_tensors
from accel.quantizer.reconstruct import is_integer_layer
from accel.quantizer.rows import weight_matrices
from accel.quantizer.shift import with_shifted_bias

FloatArray = NDArray[np.float64]


class MeanInputs:
    """What each weight of a layer multiplies on average over samples and positions; every second sample apart.

    Parameters
    ----------
    network : Network
        Float, as calibration runs it.

    Notes
    -----
    Sums of products are linear: the mean of a layer's output is its weights times these. Two numbers per weight of one
    output channel are all that is kept. ConvTranspose has no such means here.
    """

    def __init__(self, network: Network) -> None:
        integers = quantized_tensors(network)
        self._readers: dict[str, list[Operator]] = {}
        for op in network.operators:
            weight = network.value(op.input(1)) if has_integer_weights(network, op, integers) else None
            if weight is not None and weight_matrices(op, weight) is not None:
                self._readers.setdefault(op.inputs[0], []).append(op)
        self._network, self._counts = network, [0, 0]
        self._sums: dict[str, list[FloatArray]] = {}

    def update(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Take samples into account: rows of tensors by name, shape (samples, values of a sample)."""
        seen = sum(self._counts)
        halves = [slice((half - seen) % 2, None, 2) for half in range(2)]
        for source, readers in self._readers.items():
            shape = self._network.tensors[source].shape
            totals = [values[source][half].sum(axis=0, dtype=np.float32).reshape(shape) for half in halves]
            for op in readers:
                kernel = self._network.tensors[op.inputs[1]].shape[2:]
                rows = [_mean_row(op, total, kernel) for total in totals]
                old = self._sums.get(op.name, [np.zeros_like(row) for row in rows])
                self._sums[op.name] = [a + b for a, b in zip(old, rows, strict=True)]
        size = len(next(iter(values.values())))
        self._counts = [count + len(range(size)[half]) for count, half in zip(self._counts, halves, strict=True)]

    def errors(self, network: Network) -> dict[str, Halves]:
        """The mean error of each output channel of every layer with integer weights, by its name.

        Parameters
        ----------
        network : Network
            With parameters.
        """
        found = {}
        for op in network.operators:
            if op.name in self._sums and all(self._counts) and is_integer_layer(network, op):
                rows = [total / count for total, count in zip(self._sums[op.name], self._counts, strict=True)]
                first, second = _rounding_errors(network, op, np.stack(rows))
                found[op.name] = Halves(first, second)
        return found


class Halves(NamedTuple):
    """Mean errors of a layer's output channels, from each half of the samples."""

    first: FloatArray
    second: FloatArray

    def best(self, half: int | None = None) -> FloatArray:
        """What to correct by, shape (output channels,): the mean of both, or one of them, as far as they agree.

        Parameters
        ----------
        half : int, optional
            0 or 1: this half's errors alone. How far they agree is one factor for the layer, from both.

        Notes
        -----
        Where they differ is chance. Their product over the square of their mean is the share of the mean that serves
        other samples best: least squares, each half predicted by the other.
        """
        mean = (self.first + self.second) / 2
        share = max(float(self.first @ self.second) / max(float(mean @ mean), 1e-300), 0.0)
        return np.asarray(share * (mean if half is None else self[half]))


def correct_means(
    network: Network, errors: Mapping[str, Halves], mode: RequantMode, half: int | None = None
) -> Network:
    """The quantized network with biases less the mean errors of its layers' rounded weights.

    Parameters
    ----------
    network : Network
    errors : mapping of str to Halves
        `MeanInputs.errors` of the network.
    mode : RequantMode
        Rounding of the biases.
    half : int, optional
        As the samples of this half alone say.

    Notes
    -----
    ``b' = b - (W' - W) mean(x)``: Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias
    Correction, section 4.2, with the mean inputs that calibration has seen.
    """
    for op in network.operators:
        if op.name in errors and np.any(shift := -errors[op.name].best(half)):
            network = with_shifted_bias(network, op, shift, mode)
    return network


def _rounding_errors(network: Network, op: Operator, rows: FloatArray) -> FloatArray:
    """Products of the errors of a layer's weights with rows (halves, groups, inputs x taps): (halves, channels)."""
    found, real = network.parameters[op.inputs[1]], network.value(op.inputs[1])
    assert real is not None
    exact, integers = weight_matrices(op, real), weight_matrices(op, found.centred)
    assert exact is not None
    assert integers is not None
    groups, channels, size = exact.weight.shape
    scales = np.broadcast_to(found.scale.astype(np.float64).reshape(-1), (groups * channels,)).reshape(groups, -1)
    result, step = np.zeros((len(rows), groups, channels)), max(BLOCK // size, 1)
    for group in range(groups):
        for start in range(0, channels, step):
            block = slice(start, start + step)
            error = integers.weight[group, block] * scales[group, block, None] - exact.weight[group, block]
            for half, row in enumerate(rows[:, group]):
                result[half, group, block] = np.einsum("oi,i->o", error, row)
    return result.reshape(len(rows), -1) * float(op.attributes.get("alpha", 1.0))


def _mean_row(op: Operator, x: NDArray[np.float32], kernel: tuple[int, ...]) -> FloatArray:
    """The mean over a layer's output of the inputs that it multiplies: (groups, inputs x taps).

    Parameters
    ----------
    op : Operator
        Conv, Gemm or MatMul.
    x : ndarray
        Its input, or the sum of several.
    kernel : tuple of int
        Taps of a Conv.
    """
    if op.kind != "Conv":
        return np.asarray(x.reshape(1, -1, x.shape[-1]).mean(axis=1, dtype=np.float64))
    window = window_of(op, x.shape, kernel)
    sums = x.reshape(x.shape[1], *((1,) * (4 - x.ndim)), *x.shape[2:])
    for axis in range(2):  # (channels, height, width) -> (channels, width, rows) -> (channels, rows, columns) of taps
        sums = _tap_sums(
            sums, window.kernel[axis], window.stride[axis], window.dilation[axis], window.padding[axis],
            window.output[axis],
        )  # fmt: skip
    pixels = window.output[0] * window.output[1]
    return np.asarray(sums.reshape(int(op.attributes.get("group", 1)), -1).astype(np.float64) / pixels)


def _tap_sums(
    x: NDArray[np.float32], taps: int, stride: int, dilation: int, before: int, outputs: int
) -> NDArray[np.float32]:
    """Sums along axis 1 of what each tap meets at all outputs, as the last axis: zeros of the border add nothing."""
    sums = []
    for tap in range(taps):
        first = tap * dilation - before
        start = first if first >= 0 else first % stride
        sums.append(x[:, start : max(first + (outputs - 1) * stride + 1, 0) : stride].sum(axis=1))
    return np.stack(sums, axis=-1)
