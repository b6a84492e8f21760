"""One operator of a TensorFlow Lite file, seen from the graph that is being built."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.frontends.tflite.axes import Piece, graph_shape, keeps_axes
from accel.frontends.tflite.file import TfliteOperator, TfliteTensor, UnsupportedError
from accel.machine.numerics import activation_range
from accel.network.nodes import Node, Table
from accel.network.windows import Shape
from accel.quantized.builder import GraphBuilder, Parameters

ACTIVATIONS = {0: (-np.inf, np.inf), 1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
"""Real bounds of NONE, RELU, RELU_N1_TO_1 and RELU6, by their codes in the file."""


def same_edges(
    kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], sizes: Shape
) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of SAME padding for an image of `sizes`, where the lesser half comes first."""
    totals = [
        max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
    ]
    before = [total // 2 for total in totals]
    return before[0], before[1], totals[0] - before[0], totals[1] - before[1]


@dataclass(frozen=True, eq=False)
class Operation:
    """An operator with access to its tensors.

    `values` maps tensors of the file to those of the graph, `reals` quantized ones to the host's real numbers of them.
    """

    operator: TfliteOperator
    tensors: tuple[TfliteTensor, ...]
    builder: GraphBuilder
    values: dict[int, str]
    reals: dict[int, str] = field(default_factory=dict)

    @property
    def options(self) -> Any:
        """The operator's table of options."""
        if self.operator.options is None:
            raise self.error("must have its options")
        return self.operator.options

    def error(self, problem: str) -> ModelError:
        """A `ModelError` that names this operator."""
        return ModelError(f"{self.operator.builtin} {self.operator.index}: {problem}")

    def unsupported(self, problem: str) -> UnsupportedError:
        """An error that names this operator, which is valid: the host may compute it."""
        return UnsupportedError(f"{self.operator.builtin} {self.operator.index}: {problem}")

    def optional(self, position: int) -> TfliteTensor | None:
        """Input number `position`; None if it is absent."""
        inputs = self.operator.inputs
        return self.tensors[inputs[position]] if position < len(inputs) and inputs[position] >= 0 else None

    def tensor(self, position: int) -> TfliteTensor:
        """Input number `position`."""
        tensor = self.optional(position)
        if tensor is None:
            raise self.error(f"must have input number {position}")
        return tensor

    def result(self, position: int = 0) -> TfliteTensor:
        """Output number `position`."""
        return self.tensors[self.operator.outputs[position]]

    def value(self, position: int, types: tuple[str, ...] = ("INT8", "UINT8")) -> str:
        """The activation, or constant int8 tensor, at input number `position`, under its canonical shape."""
        tensor = self.tensor(position)
        if tensor.type not in types:
            raise self.unsupported(
                f"input {tensor.name!r} must be {' or '.join(types)}, got {tensor.type}; "
                "quantize the whole model to int8"
            )
        index = self.operator.inputs[position]
        if index not in self.values:
            shape = graph_shape(tensor.shape)
            constant = self.builder.constant(tensor.stored().reshape(shape), tensor.parameters(), tensor.name)
            self.values[index] = self.builder.reshape(constant, shape)
        return self.values[index]

    def axis(self, axis: int, rank: int) -> int:
        """An axis of a tensor with `rank` axes that may count from the end."""
        if not -rank <= axis < rank:
            raise self.error(f"axis must lie in [{-rank}, {rank - 1}], got {axis}")
        return axis % rank

    def piece(self, position: int = 0, output: int = 0) -> Piece:
        """Input number `position` under the parameters of an output: operations that move bytes ignore the input's."""
        return Piece(self.as_result(self.value(position), output), self.tensor(position).shape)

    def number(self, position: int) -> int:
        """The only integer of a constant input."""
        values = self.tensor(position).integers()
        if len(values) != 1:
            raise self.error(f"input number {position} must be one integer, got {values}")
        return values[0]

    def finish(self, piece: Piece, position: int = 0) -> None:
        """Make `piece` output number `position`; it must have as many elements as the file says."""
        shape = self.result(position).shape
        if math.prod(piece.shape) != math.prod(shape):
            raise self.error(f"output must have shape {piece.shape!r}, got {shape!r}")
        self.define(piece.value, position)

    def emit(self, kind: type[Node], *inputs: str, **fields: Any) -> None:
        """Add the node that computes output 0."""
        result = self.result()
        if result.type not in ("INT8", "UINT8"):
            raise self.unsupported(
                f"output {result.name!r} must be INT8, got {result.type}; quantize the whole model to int8"
            )
        self.define(self.builder.emit(kind, inputs, result.parameters(), result.name, **fields))

    def define(self, value: str, position: int = 0) -> None:
        """Make `value` output number `position`, under its shape and parameters in the file."""
        result = self.result(position)
        value = self.builder.reshape(value, graph_shape(result.shape))
        self.values[self.operator.outputs[position]] = self.builder.reinterpret(value, result.parameters())

    def as_result(self, value: str, position: int = 0) -> str:
        """The integers of `value` under the parameters of an output: operations that move bytes ignore the input's."""
        return self.builder.reinterpret(value, self.result(position).parameters())

    def clamp(self, code: int) -> dict[str, int]:
        """Fields for the fused activation with this code."""
        if code not in ACTIVATIONS:
            raise self.error(f"fused activation must be one of {sorted(ACTIVATIONS)}, got {code}")
        act_min, act_max = activation_range(*ACTIVATIONS[code], *self.result().parameters())
        if act_min > act_max:
            raise self.error(f"fused activation {code} must leave something of the output's range")
        return {"act_min": act_min, "act_max": act_max}

    def same_padding(
        self, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], sizes: Shape, code: int
    ) -> tuple[int, int, int, int]:
        """Top, left, bottom, right for SAME (0) or VALID (1)."""
        if code not in (0, 1) or min(stride) < 1:
            raise self.error(f"padding must be 0 or 1 and strides positive, got {code} and {stride!r}")
        return same_edges(kernel, stride, dilation, sizes) if code == 0 else (0, 0, 0, 0)

    def image(self, position: int = 0) -> str:
        """An activation that must have four axes."""
        value = self.value(position)
        if len(self.builder.shape(value)) != 4 or not keeps_axes(self.tensor(position).shape):
            raise self.unsupported(
                f"input must have shape (1, height, width, channels), got {self.tensor(position).shape!r}; convert the "
                "model with batch size 1, `accel run` takes several samples"
            )
        return value

    def window(self, kernel: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> dict[str, Any]:
        """Fields for stride and padding of a window over the image at input 0."""
        stride = (self.options.StrideH(), self.options.StrideW())
        sizes = self.builder.shape(self.image())[1:3]
        padding = self.same_padding(kernel, stride, dilation, sizes, self.options.Padding())
        return {"stride": stride, "padding": padding}

    def require_equal_parameters(self, position: int) -> None:
        """Raise `ModelError` unless input number `position` has the output's scale and zero point."""
        tensor, wanted = self.tensor(position), self.result().parameters()
        if (got := tensor.parameters()) != wanted:
            raise self.error(
                f"input {tensor.name!r} must have the output's scale and zero point {wanted!r}, got {got!r}; "
                "the runtime refuses it, too: put QUANTIZE before it"
            )

    def function(self, value: str, table: NDArray[np.int8]) -> str:
        """A function of `value`, under the output's parameters."""
        return self.builder.emit(Table, [value], self.result().parameters(), self.result().name, table=table)

    @property
    def is_unsigned(self) -> bool:
        """Whether the operator is of the old scheme: uint8, weights with a zero point."""
        return self.result().type == "UINT8"

    def weights(self, position: int, axes: int, scale_axis: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Constant weights less their zero point, and their scales, one per index of `scale_axis`."""
        tensor = self.tensor(position)
        if tensor.type not in ("INT8", "UINT8", "INT4") or len(tensor.shape) != axes:
            raise self.unsupported(
                f"weights must be INT8 or INT4 with {axes} axes, got {tensor.type} {tensor.shape!r}; "
                "quantize the whole model to int8"
            )
        channels = tensor.shape[scale_axis]
        if tensor.scale.size not in (1, channels) or (tensor.scale.size > 1 and tensor.axis != scale_axis):
            raise self.error(
                f"weights must have 1 or {channels} scales along axis {scale_axis}, got {tensor.scale.size} "
                f"along {tensor.axis}"
            )
        if np.any(tensor.zero_point != 0) and (tensor.type != "UINT8" or tensor.zero_point.size != 1):
            raise self.error("weights must have zero point 0; quantize the model to int8 with symmetric weights")
        zero_point = int(tensor.zero_point[0]) if tensor.zero_point.size else 0
        return tensor.array().astype(np.int64) - zero_point, np.broadcast_to(tensor.scale, (channels,))

    def bias(self, position: int, channels: int) -> NDArray[np.int32]:
        """A constant bias, or zeros."""
        tensor = self.optional(position)
        if tensor is None:
            return np.zeros(channels, dtype=np.int32)
        if tensor.type != "INT32" or tensor.shape != (channels,):
            raise self.error(f"bias must be INT32 with shape ({channels},), got {tensor.type} {tensor.shape!r}")
        return tensor.array()

    def input_parameters(self, position: int = 0) -> Parameters:
        """Scale and zero point of an activation."""
        return self.builder.parameters(self.value(position))
