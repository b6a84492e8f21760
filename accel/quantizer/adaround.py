"""AdaRound: weights are rounded up or down so that each layer's output, not each weight, comes nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.quantized.network import Network, Operator, Quantization
from accel.quantizer.parameters import largest_weight
from accel.quantizer.reconstruct import LayerInputs, Stage, improve_layers, silent
from accel.quantizer.rounding import Problem, Schedule, learn_rounding
from accel.quantizer.rows import positions, rows_of, weight_matrices
from accel.quantizer.runner import Values, in_parallel

ROW_BYTES = 2**28
"""The rows of one layer's inputs take at most this."""
MOST_ROWS = 2**14
"""Rows of a layer that are learned from, drawn evenly from all samples."""


class Limits(NamedTuple):
    """What clips the sums of a layer before they become integers."""

    low: float = -np.inf
    high: float = np.inf


def adaround(
    network: Network, samples: Sequence[Values], schedule: Schedule | None = None, stage: Stage = silent
) -> Network:
    """The network with learned rounding of its weights.

    Parameters
    ----------
    network, samples, stage
        As `improve_layers` takes them.
    schedule : Schedule, optional

    Returns
    -------
    Network
        Every integer of a weight is the one below or above ``w / scale``; scales and everything else stay.

    Notes
    -----
    Layer by layer, the target is the float layer's output on the float network's values, and the input is what the
    quantized layers before give (asymmetric reconstruction), clipped as the layer's result is. ConvTranspose keeps its
    nearest integers.
    Nagel et al. 2020, Up or Down? Adaptive Rounding for Post-Training Quantization, sections 3.3 and 4.
    """
    plan = schedule or Schedule()

    def improve(network: Network, op: Operator, inputs: LayerInputs) -> Network:
        return _rounded(network, op, inputs, plan)

    return improve_layers(network, samples, improve, "AdaRound", stage)


def _rounded(network: Network, op: Operator, inputs: LayerInputs, schedule: Schedule) -> Network:
    weight, found = network.value(op.inputs[1]), network.parameters[op.inputs[1]]
    matrices = None if weight is None else weight_matrices(op, weight)
    if matrices is None or found.integers is None:
        return network
    largest = largest_weight(int(found.kind.removeprefix("int")))
    scales = _per_row(found, matrices.weight.shape)
    real, quantized = _rows(network, op, inputs, matrices.weight.shape, schedule.seed)
    bias = network.value(op.input(2)) if op.input(2) else np.zeros(1, np.float32)
    assert bias is not None
    offset = np.broadcast_to(bias.reshape(-1), (scales.size,)).reshape(scales.shape[0], 1, -1)
    limits = _limits(network, op)
    target = np.clip(real @ matrices.weight.transpose(0, 2, 1) + offset, *limits).astype(np.float32)
    problem = Problem(matrices.weight, scales, largest, quantized, target, offset.astype(np.float32), *limits)
    integers = matrices.restored(learn_rounding(problem, schedule))
    parameters = {**network.parameters, op.inputs[1]: replace(found, integers=integers)}
    return replace(network, parameters=parameters)


def _per_row(found: Quantization, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Scales as (groups, outputs, 1)."""
    return np.ascontiguousarray(np.broadcast_to(found.scale.reshape(-1), (shape[0] * shape[1],))).reshape(*shape[:2], 1)


def _rows(
    network: Network, op: Operator, inputs: LayerInputs, shape: tuple[int, ...], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows of the float and of the quantized inputs at the same random places of all samples."""
    rng = np.random.default_rng(seed)
    most = min(MOST_ROWS, ROW_BYTES // (4 * shape[0] * shape[2]))
    places = [positions(network, op, max(1, most // len(inputs.real)), rng) for _ in inputs.real]

    def gather(item: tuple[NDArray[np.float32], NDArray[np.int64]]) -> NDArray[np.float32]:
        return rows_of(network, op, *item)

    real, quantized = (
        np.concatenate(in_parallel(gather, zip(values, places, strict=True)), axis=1) for values in inputs
    )
    return real, quantized


def _limits(network: Network, op: Operator) -> Limits:
    """The bounds of a Relu or Clip that is part of the layer, because the layer's own result has no parameters."""
    name = op.outputs[0]
    readers = [other for other in network.operators if name in other.inputs]
    if name in network.parameters or len(readers) != 1:
        return Limits()
    if readers[0].kind == "Relu":
        return Limits(low=0.0)
    if readers[0].kind != "Clip":
        return Limits()
    bounds = [network.value(readers[0].input(place)) if readers[0].input(place) else None for place in (1, 2)]
    low, high = (
        float(readers[0].attributes.get(key, default)) if value is None else float(value.reshape(-1)[0])
        for value, key, default in zip(bounds, ("min", "max"), Limits(), strict=True)
    )
    return Limits(low, high)
