"""Writing the flatbuffer of a TensorFlow Lite file, with the generated functions of the package `tflite`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
import tflite
from numpy.typing import NDArray

from accel.frontends.tflite.file import IDENTIFIER, OPTIONS
from accel.frontends.tflite.litert import AlignedBuffer
from accel.machine.weight_words import pack_int4

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
    zero_point: int | NDArray[np.int64]
    axis: int
    variable: bool = False


class _Operator(NamedTuple):
    builtin: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]
    version: int
    source: Any = None


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

    def copied(self, tensor: Any, name: str, data: bytes) -> int:
        """Add a tensor of another file, which the schema's class describes, with its data; returns its index."""
        kinds = {value: kind for kind, value in vars(tflite.TensorType).items()}
        self.buffers += [data] if data else []
        buffer = len(self.buffers) - 1 if data else 0
        shape = () if tensor.shape is None else tuple(int(size) for size in tensor.shape)
        parameters = _parameters(tensor)
        self.tensors.append(_Tensor(name, shape, kinds[tensor.type], buffer, *parameters, tensor.isVariable))
        return len(self.tensors) - 1

    def describe(self, index: int, tensor: Any) -> None:
        """Give a tensor that has no parameters those of a tensor of another file."""
        if self.tensors[index].scale is None:
            scale, points, axis = _parameters(tensor)
            self.tensors[index] = self.tensors[index]._replace(scale=scale, zero_point=points, axis=axis)

    def copied_operator(self, builtin: str, version: int, source: Any) -> None:
        """Add an operator of another file, which the schema's class describes, on tensors of this one."""
        self.operators.append(_Operator(builtin, (), (), {}, version, source))

    def scale_count(self, tensor: int) -> int:
        """How many scales a tensor has."""
        scale = self.tensors[tensor].scale
        return 0 if scale is None else scale.size

    def operator(self, builtin: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any) -> None:
        """Add an operator; options have the names of the schema's generated functions."""
        version = VERSIONS.get(builtin, 1)
        self.operators.append(_Operator(builtin, tuple(inputs), tuple(outputs), options, version))

    def finish(self, name: str, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The file; equal content gives equal bytes."""
        b = flatbuffers.Builder(1 << 16)
        codes = sorted({(operator.builtin, operator.version) for operator in self.operators})
        buffers = [AlignedBuffer(data).Pack(b) for data in self.buffers]
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
            OperatorCodes=_offsets(b, [_code(b, *code) for code in codes]),
            Subgraphs=_offsets(b, [subgraph]),
            Description=b.CreateString("accel"),
            Buffers=_offsets(b, buffers),
        )
        b.Finish(model, IDENTIFIER)
        return bytes(b.Output())


def _parameters(tensor: Any) -> tuple[NDArray[np.float32] | None, NDArray[np.int64], int]:
    """Scales, zero points and their axis of a tensor that the schema's class describes."""
    found = tensor.quantization
    if found is None or found.scale is None:
        return None, np.zeros(0, np.int64), 0
    return np.asarray(found.scale), np.asarray(found.zeroPoint), found.quantizedDimension


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


def _tensor(b: Any, tensor: _Tensor) -> Any:
    fields = {"Name": b.CreateString(tensor.name), "Shape": _integers(b, tensor.shape)}
    if tensor.scale is not None:
        scale = b.CreateNumpyVector(np.atleast_1d(tensor.scale).astype(np.float32))
        points = np.broadcast_to(np.asarray(tensor.zero_point, np.int64), np.shape(np.atleast_1d(tensor.scale)))
        points = b.CreateNumpyVector(np.ascontiguousarray(points))
        parameters = {"Scale": scale, "ZeroPoint": points, "QuantizedDimension": tensor.axis}
        fields["Quantization"] = _table(b, "QuantizationParameters", **parameters)
    fields |= {"IsVariable": True} if tensor.variable else {}
    return _table(b, "Tensor", Type=getattr(tflite.TensorType, tensor.type), Buffer=tensor.buffer, **fields)


def _code(b: Any, builtin: str, version: int) -> Any:
    code = getattr(tflite.BuiltinOperator, builtin)
    fields = {"DeprecatedBuiltinCode": min(code, 127), "Version": version, "BuiltinCode": code}
    return _table(b, "OperatorCode", **fields)


def _operator(b: Any, operator: _Operator, codes: list[tuple[str, int]]) -> Any:
    number = codes.index((operator.builtin, operator.version))
    if operator.source is not None:
        operator.source.opcodeIndex = number
        return operator.source.Pack(b)
    fields = {"OpcodeIndex": number}
    fields |= {"Inputs": _integers(b, operator.inputs), "Outputs": _integers(b, operator.outputs)}
    if operator.builtin in OPTIONS:
        kind = OPTIONS[operator.builtin]
        fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, kind)
        fields["BuiltinOptions"] = _table(b, kind, **operator.options)
    return _table(b, "Operator", **fields)
