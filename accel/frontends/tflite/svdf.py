"""SVDF whose state is int8: a matrix product, a delay line that the user carries, and a convolution over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from accel.frontends.tflite.file import TfliteOperator, TfliteTensor
from accel.frontends.tflite.operation import Operation
from accel.machine.numerics import INT8_MAX, INT8_MIN, RequantMode
from accel.network.nodes import Concat, Conv2d, FullyConnected, StridedSlice, Table
from accel.quantized import recipes
from accel.quantized.tables import STORED
from accel.quantized.wide_weights import bits_of

STATE = 4
"""The input that holds the state."""


def delay_line(tensors: Sequence[TfliteTensor], operator: TfliteOperator) -> tuple[int, int, int, int] | None:
    """The shape (1, steps, 1, filters) of the state of an SVDF that the machine computes; None for other operators."""
    if operator.builtin != "SVDF" or len(operator.inputs) <= STATE or min(operator.inputs[:3]) < 0:
        return None
    given, _, times, _, state = (tensors[index] for index in operator.inputs[: STATE + 1])
    integers = (given.type, times.type, state.type) == ("INT8",) * 3
    if not integers or not state.variable or given.shape[:1] != (1,) or len(times.shape) != 2:
        return None
    filters, steps = times.shape
    plain = state.shape == (1, filters * steps) and state.scale.size == 1
    return (1, steps, 1, filters) if plain and min(filters, steps) > 0 else None


def svdf(op: Operation) -> None:
    """SVDF, as TensorFlow Lite Micro has it: products of scales are formed in float32."""
    line = op.tensor(STATE).shape
    if len(op.operator.outputs) < 2:
        raise op.unsupported(f"state must be INT8 of one sample, got {op.tensor(STATE).type} of shape {line!r}")
    weight, scales = op.weights(1, axes=2, scale_axis=0)
    _, steps, _, filters = line
    units, rank = op.result().shape[-1], op.options.Rank()
    if rank < 1 or units * rank != filters or weight.shape[0] != filters:
        raise op.error(f"{filters} filters must be {rank} for each of {units} units, got weights {weight.shape!r}")
    times, (time_weights, time_scales) = op.tensor(2), op.weights(2, axes=2, scale_axis=0)
    if op.tensor(1).scale.size != 1 or times.scale.size != 1:
        raise op.error("weights must have one scale")
    state = np.float32(op.tensor(STATE).parameters()[0])
    first = np.float32(op.input_parameters()[0]) * scales / state
    second = np.broadcast_to(state * time_scales[:1] / np.float32(op.result().parameters()[0]), (units,))
    latest = op.builder.emit(
        FullyConnected,
        [op.value(0)],
        (float(state), 0),
        f"{op.result().name}_latest",
        weight=weight.astype(np.int8),
        weight_bits=bits_of(op.tensor(1).type.lower(), weight),
        bias=np.zeros(filters, np.int32),
        act_min=INT8_MIN,
        act_max=INT8_MAX,
        **recipes.weighted(1.0, first, 1.0, RequantMode.TFLITE),
    )
    parameters = op.tensor(STATE).parameters()
    if parameters[1]:
        latest = op.builder.emit(Table, [latest], parameters, f"{op.result().name}_stored", table=_moved(parameters[1]))
    parts = [op.builder.reshape(latest, (1, 1, 1, filters))]
    if steps > 1:
        bounds = {"begin": (0, 1, 0, 0), "end": line, "stride": (1, 1, 1, 1)}
        kept = op.builder.emit(StridedSlice, [op.value(STATE)], parameters, f"{latest}_kept", **bounds)
        parts = [op.builder.emit(Concat, [kept, *parts], parameters, f"{latest}_line", axis=1)]
    op.define(parts[0], 1)
    kernels = time_weights.reshape(units, rank, steps).transpose(0, 2, 1)[:, :, None]
    op.emit(
        Conv2d,
        parts[0],
        weight=np.ascontiguousarray(kernels).astype(np.int8),
        weight_bits=bits_of(times.type.lower(), kernels),
        bias=op.bias(3, units),
        groups=units,
        **recipes.weighted(1.0, second, 1.0, RequantMode.TFLITE),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        dilation=(1, 1),
    )


def _moved(zero_point: int) -> NDArray[np.int8]:
    """Integers plus a zero point as the runtime stores them: they are limited before it is added, and wrap after it."""
    return (STORED.astype(np.int64) + zero_point).astype(np.int8)


FILTERS: dict[str, Callable[[Operation], None]] = {"SVDF": svdf}
"""How an operator that remembers what it has seen is translated."""
