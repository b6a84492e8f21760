"""Writing the flatbuffer of a TensorFlow Lite file, with the generated functions of the package `tflite`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
import tflite
from numpy.typing import NDArray

from accel.frontends.tflite.file import IDENTIFIER, OPTIONS
from accel.machine.weight_words import pack_int4

_ALIGNMENT = 16
"""Of the data of constants, as the schema asks for."""
VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "TRANSPOSE_CONV": 3, "DIV": 2} | dict.fromkeys(
    (
        "ABS", "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "GATHER", "LEAKY_RELU", "LOGISTIC", "LOG_SOFTMAX", "MAXIMUM",
        "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "PADV2", "RELU", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR",
        "SOFTMAX", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE",
    ),
    2,
)  # fmt: skip
"""First version of each operator that knows int8; 1 for the others."""


class _Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    type: str
    buffer: int
    scale: NDArray[np.float32] | None
    zero_point: int
    axis: int


class _Operator(NamedTuple):
    builtin: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]


class FileWriter:
    """Collects tensors and operators of one subgraph; buffer 0 is the empty one that the format asks for."""

    def __init__(self) -> None:
        self.tensors: list[_Tensor] = []
        self.operators: list[_Operator] = []
        self.buffers: list[bytes] = [b""]

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        kind: str = "INT8",
        scale: NDArray[np.float32] | None = None,
        zero_point: int = 0,
        axis: int = 0,
        data: NDArray[Any] | None = None,
    ) -> int:
        """Add a tensor, a constant if it has data, which then tells the type unless that is INT4; returns its index."""
        buffer = 0
        if data is not None:
            kind = kind if kind == "INT4" else data.dtype.name.upper()
            stored = pack_int4(data.reshape(-1, 1)) if kind == "INT4" else np.ascontiguousarray(data)
            self.buffers.append(stored.tobytes())
            buffer = len(self.buffers) - 1
        self.tensors.append(_Tensor(name, tuple(shape), kind, buffer, scale, zero_point, axis))
        return len(self.tensors) - 1

    def scale_count(self, tensor: int) -> int:
        """How many scales a tensor has."""
        scale = self.tensors[tensor].scale
        return 0 if scale is None else scale.size

    def operator(self, builtin: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any) -> None:
        """Add an operator; options have the names of the schema's generated functions."""
        self.operators.append(_Operator(builtin, tuple(inputs), tuple(outputs), options))

    def finish(self, name: str, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The file; equal content gives equal bytes."""
        b = flatbuffers.Builder(1 << 16)
        codes = sorted({operator.builtin for operator in self.operators})
        buffers = [_buffer(b, data) for data in self.buffers]
        tensors = [_tensor(b, tensor) for tensor in self.tensors]
        operators = [_operator(b, operator, codes) for operator in self.operators]
        subgraph = _table(
            b,
            "SubGraph",
            Tensors=_offsets(b, tensors),
            Inputs=_integers(b, inputs),
            Outputs=_integers(b, outputs),
            Operators=_offsets(b, operators),
            Name=b.CreateString(name),
        )
        model = _table(
            b,
            "Model",
            Version=3,
            OperatorCodes=_offsets(b, [_code(b, builtin) for builtin in codes]),
            Subgraphs=_offsets(b, [subgraph]),
            Description=b.CreateString("accel"),
            Buffers=_offsets(b, buffers),
        )
        b.Finish(model, IDENTIFIER)
        return bytes(b.Output())


def _table(b: Any, kind: str, **fields: Any) -> Any:
    """A table of the schema; fields have the names of the generated functions."""
    getattr(tflite, f"{kind}Start")(b)
    for name, value in fields.items():
        getattr(tflite, f"{kind}Add{name}")(b, value)
    return getattr(tflite, f"{kind}End")(b)


def _offsets(b: Any, offsets: Sequence[Any]) -> Any:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()


def _integers(b: Any, values: Sequence[int]) -> Any:
    return b.CreateNumpyVector(np.asarray(values, np.int32))


def _buffer(b: Any, data: bytes) -> Any:
    if not data:
        return _table(b, "Buffer")
    b.StartVector(1, len(data), _ALIGNMENT)
    b.head = b.Head() - len(data)
    b.Bytes[b.Head() : b.Head() + len(data)] = data
    return _table(b, "Buffer", Data=b.EndVector())


def _tensor(b: Any, tensor: _Tensor) -> Any:
    fields = {"Name": b.CreateString(tensor.name), "Shape": _integers(b, tensor.shape)}
    if tensor.scale is not None:
        scale = b.CreateNumpyVector(np.atleast_1d(tensor.scale).astype(np.float32))
        points = b.CreateNumpyVector(np.full(np.size(tensor.scale), tensor.zero_point, np.int64))
        parameters = {"Scale": scale, "ZeroPoint": points, "QuantizedDimension": tensor.axis}
        fields["Quantization"] = _table(b, "QuantizationParameters", **parameters)
    return _table(b, "Tensor", Type=getattr(tflite.TensorType, tensor.type), Buffer=tensor.buffer, **fields)


def _code(b: Any, builtin: str) -> Any:
    code = getattr(tflite.BuiltinOperator, builtin)
    fields = {"DeprecatedBuiltinCode": min(code, 127), "Version": VERSIONS.get(builtin, 1), "BuiltinCode": code}
    return _table(b, "OperatorCode", **fields)


def _operator(b: Any, operator: _Operator, codes: list[str]) -> Any:
    fields = {"OpcodeIndex": codes.index(operator.builtin)}
    fields |= {"Inputs": _integers(b, operator.inputs), "Outputs": _integers(b, operator.outputs)}
    if operator.builtin in OPTIONS:
        kind = OPTIONS[operator.builtin]
        fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, kind)
        fields["BuiltinOptions"] = _table(b, kind, **operator.options)
    return _table(b, "Operator", **fields)
