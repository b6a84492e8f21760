"""The network that a quantized file becomes: what its tensors of integers mean, while operators are read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.frontends.onnx.parameters import INTEGER_TYPES, is_same, read_parameters
from accel.quantized.network import Network, Operator, Quantization, TensorInfo

MICROSOFT = "com.microsoft."


@dataclass
class Cell:
    """Parameters that several tensors of integers share, once they are known."""

    quantization: Quantization | None = None


@dataclass
class Stripper:
    """The network in the making."""

    source: Network
    tensors: dict[str, TensorInfo]
    operators: list[Operator] = field(default_factory=list)
    parameters: dict[str, Quantization] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    dequantized: set[str] = field(default_factory=set)
    real: set[str] = field(default_factory=set)
    host: set[str] = field(default_factory=set)

    def holds_integers(self, name: str) -> bool:
        """Whether a name of the file means integers, and not the real numbers that they stand for."""
        while name in self.aliases and name not in self.dequantized:
            name = self.aliases[name]
        return name in self.kinds and name not in self.dequantized

    def name(self, name: str) -> str:
        """The tensor that a name of the file stands for."""
        while name in self.aliases:
            name = self.aliases[name]
        return name

    def value(self, name: str) -> NDArray[Any] | None:
        """A constant of the file."""
        return self.source.value(name)

    def constant(self, op: Operator, name: str) -> NDArray[Any]:
        """The value of a name that must be a constant."""
        value = self.value(self.name(name))
        if value is None:
            raise op.error(f"input {name!r} must be a constant")
        return value

    def read(self, op: Operator, scale: str, zero_point: str, kind: str, axis: int = 0) -> Quantization:
        """Parameters that an operator states; `kind` is the type of the integers without a zero point."""
        points = self.constant(op, zero_point) if zero_point else None
        return read_parameters(op, self.constant(op, scale), points, kind, axis)

    def fresh(self, name: str) -> str:
        """A name that is free."""
        free, number = name, 1
        while free in self.tensors or free in self.parameters:
            free, number = f"{name}_{number}", number + 1
        return free

    def integers(self, op: Operator, name: str, found: Quantization) -> str:
        """The real tensor behind integers that `op` reads under the parameters `found`."""
        source = self.name(name)
        value, quantized = self.value(source), self.parameters.get(source)
        if value is not None:
            return self.known(op, source, value, found)
        if quantized is not None and quantized.integers is not None:
            return self.known(op, source, quantized.integers.astype(quantized.kind), found)
        if source not in self.kinds:
            raise op.error(f"input {name!r} must be integers of 8 bits")
        cell = self.cells[source]
        if cell.quantization is None:
            cell.quantization = found
        if is_same(cell.quantization, found):
            return source
        result = self.fresh(f"{source}_as")
        self.operators.append(Operator(f"{op.name}_reads", "accel.Reinterpret", (source,), (result,), opset=op.opset))
        self.tensors[result] = replace(self.tensors.get(source, TensorInfo(result, ())), name=result)
        self.parameters[result] = found
        return result

    def known(self, op: Operator, name: str, value: NDArray[Any], found: Quantization) -> str:
        """A constant of integers under parameters."""
        if value.dtype.name not in INTEGER_TYPES:
            raise op.error(f"constant {name!r} must be of integers of 32 bits or fewer, got {value.dtype.name}")
        rank = max(value.ndim, 1)
        channels = value.shape[found.axis % rank] if value.ndim else 1
        if {found.scale.size, found.zero_point.size} - {1, channels}:
            raise op.error(f"scales must belong to axis {found.axis} of {value.shape!r}, got {found.scale.size}")
        found = replace(found, kind=value.dtype.name, integers=value.astype(np.int64))
        for taken, other in self.parameters.items():
            if other.integers is not None and taken.startswith(name) and is_same(other, found):
                return taken
        result = self.fresh(f"{name}_real")
        self.parameters[result] = found
        self.tensors[result] = TensorInfo.constant(result, found.real)
        return result

    def emit(self, op: Operator, kind: str, inputs: tuple[str, ...], **attributes: Any) -> None:
        """Add an operator in place of `op`."""
        kept = {k: v for k, v in op.attributes.items() if k not in ("channels_last", "opset")} | attributes
        opset = int(op.attributes.get("opset", 13)) if op.kind.startswith(MICROSOFT) else op.opset
        self.operators.append(Operator(op.name, kind, inputs, op.outputs, kept, opset))

    def define(self, op: Operator, found: Quantization) -> None:
        """Say that the result of `op` is integers."""
        self.share(op.outputs[0], Cell(found), found.kind)

    def share(self, name: str, cell: Cell, kind: str) -> None:
        """Say that a tensor is integers whose parameters are those of a cell."""
        self.cells[name], self.kinds[name] = cell, kind
