"""Writing TensorFlow Lite files."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

VERSIONS = {"BROADCAST_TO": 3}
"""Versions of operators that runtimes do not take as 1."""


class ModelWriter:
    """Collects tensors and operators; buffer 0 is the empty one that the format asks for."""

    def __init__(self) -> None:
        self.tensors: list[schema.TensorT] = []
        self.buffers = [schema.BufferT()]
        self.operators: list[schema.OperatorT] = []
        self.codes: list[schema.OperatorCodeT] = []
        self.subgraphs: list[schema.SubGraphT] = []

    def tensor(
        self,
        shape: tuple[int, ...],
        scale: Any = None,
        zero_point: Any = 0,
        data: NDArray[Any] | None = None,
        kind: str = "INT8",
        axis: int = 0,
    ) -> int:
        """Add a tensor, a constant if it has data; returns its index."""
        buffer = 0
        if data is not None:
            self.buffers.append(schema.BufferT(data=np.frombuffer(data.tobytes(), dtype=np.uint8)))
            buffer = len(self.buffers) - 1
            kind = data.dtype.name.upper()
        tensor = schema.TensorT(
            shape=list(shape), type=getattr(schema.TensorType, kind), buffer=buffer, name=f"t{len(self.tensors)}"
        )
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, dtype=np.float32))
            points = np.broadcast_to(np.asarray(zero_point, dtype=np.int64), scales.shape)
            tensor.quantization = schema.QuantizationParametersT(
                scale=scales, zeroPoint=points, quantizedDimension=axis
            )
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def integers(self, values: Any, dtype: Any = np.int32) -> int:
        """Add a constant of integers."""
        data = np.asarray(values, dtype=dtype)
        return self.tensor(data.shape, data=data)

    def operator(
        self, builtin: str, inputs: list[int], outputs: list[int], kind: str = "", *, custom: str = "", **options: Any
    ) -> None:
        """Add an operator; `kind` names its options, `custom` what a CUSTOM one computes."""
        code = getattr(schema.BuiltinOperator, builtin)
        version = VERSIONS.get(builtin, 1)
        code_row = schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version)
        code_row.customCode = custom or None
        self.codes.append(code_row)
        operator = schema.OperatorT(opcodeIndex=len(self.codes) - 1, inputs=inputs, outputs=outputs)
        if kind:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = getattr(schema, f"{kind}T")(**options)
        self.operators.append(operator)

    def next_subgraph(self, inputs: list[int], outputs: list[int]) -> None:
        """End a subgraph; tensors and operators that follow belong to the next one."""
        self.subgraphs.append(
            schema.SubGraphT(tensors=self.tensors, inputs=inputs, outputs=outputs, operators=self.operators)
        )
        self.tensors, self.operators = [], []

    def finish(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The file."""
        self.next_subgraph(inputs, outputs)
        model = schema.ModelT(version=3, operatorCodes=self.codes, subgraphs=self.subgraphs, buffers=self.buffers)
        packer = flatbuffers.Builder(1024)
        packer.Finish(model.Pack(packer), b"TFL3")
        return bytes(packer.Output())
