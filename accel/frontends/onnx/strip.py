"""From a file's QuantizeLinear, DequantizeLinear and QLinear operators to parameters of the tensors between them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from accel.frontends.onnx.absorb import absorbed, with_outputs_named
from accel.frontends.onnx.constants import move_constant, moves_constant
from accel.frontends.onnx.fused import ADVICE
from accel.frontends.onnx.parameters import is_same
from accel.frontends.onnx.quantization import STRIPPED
from accel.frontends.onnx.stripper import MICROSOFT, Cell, Stripper
from accel.quantized.network import REAL_TYPES, TABLE, Network, Operator, Quantization, TensorInfo
from accel.quantized.operators import NOT_SUPPORTED, OPERATORS

FLOAT = 1
"""ONNX's code for float32."""
PASSED_THROUGH = ("Identity", "Dropout")
OF_SEVERAL = ("Sum", "Max", "Min", "Mean")
"""They pass an only operand through; if it is dequantized, what reads it stays real: exports mark the host's so."""
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear")


def is_quantized(kind: str) -> bool:
    """Whether an operator belongs to a quantized model."""
    return kind in _QUANTIZED or kind.startswith(("QLinear", "QGemm", "Dynamic")) or kind.endswith("Integer")


def strip(network: Network) -> Network:
    """The network without operators of quantization; a float network stays as it is."""
    stripper = Stripper(network, dict(network.tensors))
    for name in network.inputs:
        if (kind := network.tensors[name].dtype) in ("int8", "uint8"):
            stripper.share(name, Cell(), kind)
    for op in network.operators:
        _strip(stripper, op)
    for name, cell in stripper.cells.items():
        default = Quantization(np.ones(1, np.float32), np.zeros(1, np.int64), stripper.kinds[name])
        found = stripper.parameters.setdefault(name, cell.quantization or default)
        if (table := network.value(name)) is not None:
            stripper.parameters[name] = found = replace(found, integers=table.astype(np.int64))
            stripper.tensors[name] = TensorInfo.constant(name, found.real)
    operators = [replace(op, inputs=tuple(map(stripper.name, op.inputs))) for op in stripper.operators]
    outputs = tuple(map(stripper.name, network.outputs))
    changed: dict[str, Any] = {"tensors": stripper.tensors, "parameters": stripper.parameters}
    host = network.host | stripper.host
    result = replace(network, operators=tuple(operators), outputs=outputs, host=host, **changed)
    return with_outputs_named(absorbed(result), network.outputs)


def _strip(s: Stripper, op: Operator) -> None:
    """Translate one operator."""
    if op.kind.removeprefix(MICROSOFT).startswith("Dynamic"):
        raise op.error(
            "scales that are computed while the model runs are not supported; quantize the float model with "
            "`accel quantize`, or statically"
        )
    if op.kind in STRIPPED:
        STRIPPED[op.kind](s, op)
    elif moves_constant(s, op):
        move_constant(s, op)
    elif _looks_up_integers(s, op):
        s.share(op.inputs[0], Cell(), s.source.tensors[op.inputs[0]].dtype)
        _of_integers(s, op)
    elif _passes_through(op) or (op.kind == "Cast" and _to_real(op) and _is_real(s, op.inputs[0])):
        s.aliases[op.outputs[0]] = op.inputs[0]
        if op.inputs[0] in s.real or (op.kind in OF_SEVERAL and op.inputs[0] in s.dequantized):
            s.real.add(op.outputs[0])
    elif op.kind == TABLE and s.kinds.get(s.name(op.inputs[0])) == "int8":
        s.operators.append(replace(op, inputs=(s.name(op.inputs[0]),)))
        s.share(op.outputs[0], Cell(), "int8")
    elif op.kind == "Cast" and s.holds_integers(op.inputs[0]):
        _cast_of_integers(s, op)
    elif any(s.holds_integers(name) for name in op.inputs if name):
        _of_integers(s, op)
    else:
        attributes = {**op.attributes, "to": FLOAT} if op.kind == "Cast" and _to_real(op) else op.attributes
        s.operators.append(replace(op, inputs=tuple(map(s.name, op.inputs)), attributes=attributes))
        if s.real.intersection(op.inputs):
            s.real.update(op.outputs)
            if op.kind != "Transpose":  # the lowering reads axes in another order instead
                s.host.add(op.name)


def _passes_through(op: Operator) -> bool:
    return op.kind in PASSED_THROUGH or (op.kind in OF_SEVERAL and len(op.inputs) == 1)


def _looks_up_integers(s: Stripper, op: Operator) -> bool:
    """Whether an operator of a quantized model picks elements of a constant of integers, whose parameters follow."""
    table = s.value(op.inputs[0]) if op.kind == "Gather" else None
    of_integers = table is not None and table.dtype.name in ("int8", "uint8") and op.inputs[0] not in s.cells
    return of_integers and any(is_quantized(other.kind.removeprefix(MICROSOFT)) for other in s.source.operators)


def _cast_of_integers(s: Stripper, op: Operator) -> None:
    """A Cast of integers of 8 bits: the numbers themselves, of scale 1, in another type."""
    own = Quantization(np.ones(1, np.float32), np.zeros(1, np.int64), s.kinds[s.name(op.inputs[0])])
    numbers = s.integers(op, op.inputs[0], own)
    if _to_real(op):
        s.aliases[op.outputs[0]] = numbers
        s.dequantized.add(op.outputs[0])
    else:
        s.operators.append(replace(op, inputs=(numbers,)))


def _to_real(op: Operator) -> bool:
    """Whether the result of a Cast is real."""
    from onnx import TensorProto

    return TensorProto.DataType.Name(int(op.attributes.get("to", 0))).lower() in ("float", "double", *REAL_TYPES)


def _is_real(s: Stripper, name: str) -> bool:
    """Whether a tensor of the file holds real numbers, or integer sums, whose scale follows."""
    known = s.source.tensors.get(name)
    sums = any(name in other.outputs and other.kind.endswith("Integer") for other in s.operators)
    return not s.holds_integers(name) and (sums or known is None or known.dtype in REAL_TYPES)


def _of_integers(s: Stripper, op: Operator) -> None:
    """An operator that moves or compares integers: the same on real numbers, whose parameters stay."""
    row = OPERATORS.get(op.kind)
    moves = row is not None and (row.keeps_range or op.kind in ("Concat", "Max", "Min"))
    if not moves:
        if op.kind.startswith(MICROSOFT):
            raise op.error(f"operator of ONNX Runtime on integers is not supported; save the model {ADVICE}")
        if row is None:
            raise op.error(NOT_SUPPORTED)
        raise op.error(f"input {op.inputs[0]!r} must be real numbers, got integers; dequantize it first")
    count = len(op.inputs) if op.kind in ("Concat", "Max", "Min") else 1
    first = s.name(op.inputs[0])
    cell, kind = s.cells.get(first), s.kinds.get(first, "int8")
    if cell is None:
        raise op.error(f"input {op.inputs[0]!r} must be integers like the others")
    for name in map(s.name, op.inputs[1:count]):
        other = s.cells.get(name)
        if other is None:
            raise op.error(f"input {name!r} must be integers like the others")
        cell.quantization = cell.quantization or other.quantization
        other.quantization = other.quantization or cell.quantization
        if cell.quantization and other.quantization and not is_same(cell.quantization, other.quantization):
            found = sorted({cell.quantization.parameters, other.quantization.parameters})
            raise op.error(f"inputs must have equal parameters, got {found!r}")
    s.operators.append(_real_bounds(s, replace(op, inputs=tuple(map(s.name, op.inputs))), cell, kind))
    for output in filter(None, op.outputs):
        s.share(output, cell, kind)


def _real_bounds(s: Stripper, op: Operator, cell: Cell, kind: str) -> Operator:
    """Bounds of Clip and Relu, and the value of Pad, as the real numbers that the integers stand for."""
    places = {"Clip": (1, 2), "Relu": (), "Pad": (2,)}.get(op.kind)
    if places is None or (op.kind == "Pad" and op.attributes.get("mode", "constant") != "constant"):
        return op
    cell.quantization = found = cell.quantization or Quantization(np.ones(1, np.float32), np.zeros(1, np.int64), kind)
    inputs = [*op.inputs, *[""] * (1 + max(places, default=1) - len(op.inputs))]
    for place in places or (1,):
        absent = not inputs[place]
        if absent and op.kind == "Clip":
            continue
        integer = np.zeros(()) if absent else s.constant(op, inputs[place])
        name = s.fresh(f"{op.name}_bound")
        real = (integer.astype(np.float64) - found.zero_point) * found.scale
        s.tensors[name] = TensorInfo.constant(name, np.asarray(real, dtype=np.float32).reshape(()))
        inputs[place] = name
    return replace(op, kind="Clip" if op.kind == "Relu" else op.kind, inputs=tuple(inputs))
