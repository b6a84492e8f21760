"""The tensors and operators of a TensorFlow Lite file, with every offset and size checked before it is used.

The flatbuffer is read with the generated classes of the package `tflite`. Vectors are views into the file, so that no
declared length can allocate more than the file's own size; lengths that Python loops over are bounded first.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.machine.weight_words import unpack_int4
from accel.network.windows import Shape

IDENTIFIER = b"TFL3"
MOST_TENSORS = 2**14
MOST_OPERANDS = 2**10
MOST_SUBGRAPHS = 2**4
MOST_AXES = 8
SMALLEST_FILE = 16
DTYPES = {"INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64, "FLOAT32": np.float32}
INTEGER_TYPES = ("INT8", "UINT8")
"""Types of tensors that the machine knows."""
OPTIONS = {
    "CALL_ONCE": "CallOnceOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "DIV": "DivOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "MEAN": "ReducerOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CUMSUM": "CumsumOptions",
    "SOFTMAX": "SoftmaxOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SVDF": "SVDFOptions",
    "SPLIT": "SplitOptions",
    "ONE_HOT": "OneHotOptions",
    "PACK": "PackOptions",
    "UNPACK": "UnpackOptions",
    "VAR_HANDLE": "VarHandleOptions",
    "GATHER": "GatherOptions",
    "GELU": "GeluOptions",
    "MIRROR_PAD": "MirrorPadOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
}
"""The table of options of every operator that has one."""


class UnsupportedError(ModelError):
    """A part of a valid operator that no unit has and that ONNX does not express: LiteRT may compute it on the host."""


@dataclass(frozen=True, eq=False)
class TfliteTensor:
    """A tensor as the file declares it.

    `data` is None unless it is a constant, `axis` that of several scales; a `variable` is the runtime's own memory.
    """

    name: str
    shape: Shape
    type: str
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int
    data: NDArray[np.uint8] | None
    variable: bool = False

    def error(self, problem: str) -> ModelError:
        """A `ModelError` that names this tensor."""
        return ModelError(f"tensor {self.name!r}: {problem}")

    def unsupported(self, problem: str) -> UnsupportedError:
        """An error that names this tensor, of an operator that the host may compute."""
        return UnsupportedError(f"tensor {self.name!r}: {problem}")

    def array(self) -> NDArray[Any]:
        """The constant's values.

        Raises
        ------
        ModelError
            The tensor is no constant, of an unknown type, or its data does not have the size that its shape asks for.
        """
        if self.data is None:
            raise self.unsupported("must be a constant")
        if self.type not in (*DTYPES, "INT4"):
            raise self.error(f"type of a constant must be one of {', '.join(DTYPES)}, INT4, got {self.type}")
        dtype, count = np.dtype(DTYPES.get(self.type, np.int8)), math.prod(self.shape)
        size = -(-count // 2) if self.type == "INT4" else count * dtype.itemsize
        if len(self.data) != size:
            raise self.error(f"data must have {size} bytes for {self.type} {self.shape!r}, got {len(self.data)}")
        if self.type == "INT4":
            return unpack_int4(self.data)[:count].reshape(self.shape)
        return self.data.view(dtype).reshape(self.shape)

    def stored(self) -> NDArray[np.int8]:
        """The constant's values as int8: those of uint8 are shifted by 128."""
        value = self.array()
        return value if value.dtype == np.int8 else (value.astype(np.int16) - 128).astype(np.int8)

    def integers(self) -> list[int]:
        """A short constant of integers, flattened."""
        value = self.array()
        if value.size > MOST_OPERANDS or value.dtype.kind != "i":
            raise self.error(f"must hold at most {MOST_OPERANDS} integers, got {self.type} {self.shape!r}")
        return [int(item) for item in value.reshape(-1)]

    def parameters(self) -> tuple[float, int]:
        """Scale and zero point of an activation as int8: those of uint8 are shifted by 128."""
        if self.type not in ("INT8", "UINT8"):
            raise self.unsupported(
                f"type must be INT8 or UINT8, got {self.type}; convert the model with int8 activations"
            )
        if self.scale.size != 1 or self.zero_point.size != 1:
            raise self.unsupported(
                f"must have one scale and zero point, got {self.scale.size} and {self.zero_point.size}"
            )
        if not np.isfinite(self.scale[0]) or self.scale[0] <= 0:
            raise self.error(f"scale must be a positive number, got {float(self.scale[0])!r}")
        return float(self.scale[0]), int(self.zero_point[0]) - (128 if self.type == "UINT8" else 0)


@dataclass(frozen=True, eq=False)
class TfliteOperator:
    """An operator; inputs and outputs are indices of tensors, -1 for an absent input, `table` is the file's own.

    `custom` is the name that its makers gave to an operator of kind CUSTOM.
    """

    index: int
    builtin: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any
    version: int = 1
    table: Any = None
    custom: str = ""


@dataclass(frozen=True, eq=False)
class TfliteFile:
    """The first subgraph of a file, and the further ones."""

    name: str
    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: tuple[TfliteFile, ...] = ()


def parse(data: bytes) -> TfliteFile:
    """Read the flatbuffer.

    Raises
    ------
    ModelError
        It is no TensorFlow Lite file, or has data elsewhere.
    struct.error, IndexError, TypeError, ValueError
        An offset leads out of the file; the caller reports it.
    """
    import tflite

    if len(data) < SMALLEST_FILE or data[4:8] != IDENTIFIER:
        raise ModelError(f"model must be a TensorFlow Lite flatbuffer with the identifier {IDENTIFIER.decode()!r}")
    model = tflite.Model.GetRootAs(data)
    if model.Version() != 3 or not model.SubgraphsLength():
        raise ModelError(f"model must have version 3 and a subgraph, got {model.Version()}")
    names = {value: key for key, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
    codes = [
        _code(model.OperatorCodes(index), names)
        for index in range(_bounded("operator codes", model.OperatorCodesLength(), MOST_OPERANDS))
    ]
    count = _bounded("subgraphs", model.SubgraphsLength(), MOST_SUBGRAPHS)
    first, *others = (_subgraph(model, model.Subgraphs(index), codes) for index in range(count))
    if min((*first.inputs, *first.outputs), default=-1) < 0:
        raise ModelError(f"model must have inputs and outputs that exist, got {first.inputs!r} and {first.outputs!r}")
    return replace(first, subgraphs=tuple(others))


class Code(NamedTuple):
    """An operator's name, the version of its definition, and the name of a custom one."""

    builtin: str
    version: int
    custom: str


def _subgraph(model: Any, graph: Any, codes: list[Code]) -> TfliteFile:
    count = _bounded("tensors", graph.TensorsLength(), MOST_TENSORS)
    tensors = tuple(_tensor(model, graph.Tensors(index)) for index in range(count))
    count = _bounded("operators", graph.OperatorsLength(), MOST_TENSORS)
    operators = tuple(_operator(index, graph.Operators(index), codes, len(tensors)) for index in range(count))
    inputs, outputs = (_indices(graph, field, len(tensors)) for field in ("Inputs", "Outputs"))
    return TfliteFile(_text(graph.Name()) or "model", tensors, operators, inputs, outputs)


def _bounded(what: str, length: int, limit: int) -> int:
    if length > limit:
        raise ModelError(f"model must have at most {limit} {what}, got {length}")
    return length


def _text(value: bytes | None) -> str:
    return (value or b"")[:256].decode("utf-8", "replace")


def _vector(table: Any, field: str, limit: int) -> NDArray[Any]:
    """A vector of numbers as a view; empty if it is absent."""
    _bounded(f"elements in {field}", getattr(table, f"{field}Length")(), limit)
    value = getattr(table, f"{field}AsNumpy")()
    return value if isinstance(value, np.ndarray) else np.zeros(0, dtype=np.int64)


def _indices(table: Any, field: str, tensors: int) -> tuple[int, ...]:
    values = tuple(int(value) for value in _vector(table, field, MOST_OPERANDS))
    if any(not -1 <= value < tensors for value in values):
        raise ModelError(f"operands must be tensors -1 to {tensors - 1}, got {values!r}")
    return values


def _code(code: Any, names: dict[int, str]) -> Code:
    """A kind of operators; small codes are stored in a second field, for old files in that one alone."""
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    return Code(names.get(number, str(number)), code.Version(), _text(code.CustomCode()))


def _tensor(model: Any, table: Any) -> TfliteTensor:
    import tflite

    types = {value: key for key, value in vars(tflite.TensorType).items() if isinstance(value, int)}
    name = _text(table.Name())
    if table.Sparsity() is not None:
        raise ModelError(f"tensor {name!r} must be dense, got a sparse one")
    quantization = table.Quantization()
    scale = zero_point = np.zeros(0)
    axis = 0
    if quantization is not None:
        scale = _vector(quantization, "Scale", LARGEST_VECTOR)
        zero_point = _vector(quantization, "ZeroPoint", LARGEST_VECTOR)
        axis = quantization.QuantizedDimension()
    return TfliteTensor(
        name=name,
        shape=tuple(int(size) for size in _vector(table, "Shape", MOST_AXES)),
        type=types.get(table.Type(), str(table.Type())),
        scale=scale.astype(np.float32, copy=False),
        zero_point=zero_point.astype(np.int64, copy=False),
        axis=axis,
        data=_buffer(model, table.Buffer(), name),
        variable=bool(table.IsVariable()),
    )


LARGEST_VECTOR = 2**20


def _buffer(model: Any, index: int, name: str) -> NDArray[np.uint8] | None:
    """The bytes of a constant; None for a buffer without data."""
    if index >= model.BuffersLength():
        raise ModelError(f"tensor {name!r} must have a buffer below {model.BuffersLength()}, got {index}")
    buffer = model.Buffers(index)
    if buffer.Offset() or buffer.Size():
        raise ModelError(f"tensor {name!r} must have its data inside the flatbuffer; convert the model below 2 GB")
    data = buffer.DataAsNumpy()
    return data if isinstance(data, np.ndarray) and data.size else None


def _operator(index: int, table: Any, codes: list[Code], tensors: int) -> TfliteOperator:
    if table.OpcodeIndex() >= len(codes):
        raise ModelError(f"operator {index} must have a code below {len(codes)}, got {table.OpcodeIndex()}")
    builtin, version, custom = codes[table.OpcodeIndex()]
    options = None
    if builtin in OPTIONS and (source := table.BuiltinOptions()) is not None:
        kind = importlib.import_module(f"tflite.{OPTIONS[builtin]}")
        declared = getattr(importlib.import_module("tflite.BuiltinOptions").BuiltinOptions, OPTIONS[builtin])
        if table.BuiltinOptionsType() != declared:
            raise ModelError(f"{builtin} {index} must have {OPTIONS[builtin]}, got type {table.BuiltinOptionsType()}")
        options = getattr(kind, OPTIONS[builtin])()
        options.Init(source.Bytes, source.Pos)
    inputs, outputs = (_indices(table, field, tensors) for field in ("Inputs", "Outputs"))
    if min(outputs, default=0) < 0:
        raise ModelError(f"{builtin} {index} must have outputs that exist, got {outputs!r}")
    return TfliteOperator(index, builtin, inputs, outputs, options, version, table, custom)
