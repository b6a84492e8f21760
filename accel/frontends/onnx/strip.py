"""From a file's QuantizeLinear, DequantizeLinear and QLinear operators to parameters of the tensors between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.frontends.onnx.parameters import INTEGER_TYPES, is_same, quantize_constant, read_parameters
from accel.quantized.network import Network, Operator, Quantization, TensorInfo
from accel.quantized.operators import NOT_SUPPORTED, OPERATORS

MICROSOFT = "com.microsoft."
_ONE_SCALE = "activations must have one scale and one zero point of int8 or uint8, got {}"
PASSED_THROUGH = ("Identity", "Dropout", "Cast")
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeMatMul")


def is_quantized(kind: str) -> bool:
    """Whether an operator belongs to a quantized model."""
    return kind in _QUANTIZED or kind.startswith(("QLinear", "QGemm")) or kind.endswith("Integer")


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
        value = self.value(source)
        if value is not None:
            return self.known(op, source, value, found)
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
        stripper.parameters.setdefault(name, cell.quantization or default)
    operators = [replace(op, inputs=tuple(map(stripper.name, op.inputs))) for op in stripper.operators]
    outputs = tuple(map(stripper.name, network.outputs))
    result = replace(
        network, operators=tuple(operators), tensors=stripper.tensors, outputs=outputs, parameters=stripper.parameters
    )
    return _with_outputs_named(_absorbed(result), network.outputs)


def _strip(s: Stripper, op: Operator) -> None:
    """Translate one operator."""
    if op.kind.startswith("Dynamic") or op.kind == f"{MICROSOFT}DynamicQuantizeMatMul":
        raise op.error(
            "scales that are computed while the model runs are not supported; quantize the float model with "
            "`accel quantize`, or statically"
        )
    if op.kind in STRIPPED:
        STRIPPED[op.kind](s, op)
    elif op.kind in PASSED_THROUGH and (op.kind != "Cast" or not s.holds_integers(op.inputs[0])):
        s.aliases[op.outputs[0]] = op.inputs[0]
    elif any(s.holds_integers(name) for name in op.inputs if name):
        _of_integers(s, op)
    else:
        s.operators.append(replace(op, inputs=tuple(map(s.name, op.inputs))))


def _of_integers(s: Stripper, op: Operator) -> None:
    """An operator that moves or compares integers: the same on real numbers, whose parameters stay."""
    row = OPERATORS.get(op.kind)
    moves = row is not None and (row.keeps_range or op.kind in ("Concat", "Max", "Min"))
    if not moves:
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


def _quantize_linear(s: Stripper, op: Operator) -> None:
    from onnx import TensorProto

    code = int(op.attributes.get("output_dtype", 0))
    kind = TensorProto.DataType.Name(code).lower() if code else ""
    axis = int(op.attributes.get("axis", 1))
    found = s.read(op, op.inputs[1], op.input(2), kind or "uint8", axis)
    if kind and found.kind != kind:
        raise op.error(f"output_dtype must be the type of the zero point, {found.kind}, got {kind}")
    source = s.name(op.inputs[0])
    value = s.value(source)
    if value is not None:
        found = replace(found, integers=quantize_constant(op, value, found))
        s.parameters[op.outputs[0]], s.tensors[op.outputs[0]] = found, TensorInfo.constant(op.outputs[0], found.real)
        return
    if s.holds_integers(op.inputs[0]):
        raise op.error(f"input {op.inputs[0]!r} must be real numbers, got integers")
    if found.scale.size != 1:
        raise op.error(_ONE_SCALE.format(found.kind))
    try:
        _ = found.parameters
    except ModelError as error:
        raise op.error(str(error)) from error
    s.operators.append(Operator(op.name, "Identity", (source,), op.outputs, opset=op.opset))
    s.define(op, found)


def _dequantize_linear(s: Stripper, op: Operator) -> None:
    source, axis = s.name(op.inputs[0]), int(op.attributes.get("axis", 1))
    known = s.parameters.get(source)
    value = s.value(source)
    kind = value.dtype.name if value is not None else known.kind if known else s.kinds.get(source, "uint8")
    found = s.read(op, op.inputs[1], op.input(2), kind, axis)
    if op.input(2) and found.kind != kind:
        raise op.error(f"zero point must have the type of the integers, {kind}, got {found.kind}")
    if known is not None and known.integers is not None:
        found = replace(found, kind=known.kind, integers=known.integers)
        s.parameters[op.outputs[0]], s.tensors[op.outputs[0]] = found, TensorInfo.constant(op.outputs[0], found.real)
    elif value is not None:
        s.aliases[op.outputs[0]] = s.known(op, source, value, found)
        s.dequantized.add(op.outputs[0])
    else:
        if found.scale.size != 1:
            raise op.error(_ONE_SCALE.format(found.kind))
        s.aliases[op.outputs[0]] = s.integers(op, source, found)
        s.dequantized.add(op.outputs[0])


def _weights(s: Stripper, op: Operator, position: int, axis: int, scale: str, zero_point: str) -> str:
    """Constant weights of 8 bits."""
    value = s.constant(op, op.inputs[position])
    if value.dtype not in (np.int8, np.uint8):
        raise op.error(f"weights must be int8 or uint8, got {value.dtype}")
    found = s.read(op, scale, zero_point, value.dtype.name, axis)
    return s.known(op, op.inputs[position], value, found)


def _bias(s: Stripper, op: Operator, name: str, x: Quantization, weight: str, factor: float = 1.0) -> str:
    """A constant bias at the scale of the sums."""
    if not name:
        return ""
    value = s.constant(op, name).astype(np.int32).reshape(-1)
    scale = np.float32(factor) * np.float32(x.scale.reshape(())) * s.parameters[weight].scale.reshape(-1)
    return s.known(op, name, value, Quantization(scale.astype(np.float32), np.zeros(1, np.int64), "int32"))


def _q_linear(kind: str, axis: int) -> Callable[[Stripper, Operator], None]:
    """QLinearConv and QLinearMatMul."""

    def translate(s: Stripper, op: Operator) -> None:
        x = s.read(op, op.inputs[1], op.inputs[2], "uint8")
        weight = _weights(s, op, 3, axis, op.inputs[4], op.inputs[5])
        bias = _bias(s, op, op.input(8), x, weight)
        inputs = (s.integers(op, op.inputs[0], x), weight, *([bias] if bias else []))
        s.emit(op, kind, inputs)
        s.define(op, s.read(op, op.inputs[6], op.inputs[7], "uint8"))

    return translate


def _q_gemm(s: Stripper, op: Operator) -> None:
    if not op.input(7):
        raise op.error("output must be quantized")
    x = s.read(op, op.inputs[1], op.inputs[2], "uint8")
    transposed = int(op.attributes.get("transB", 0))
    weight = _weights(s, op, 3, 0 if transposed else 1, op.inputs[4], op.inputs[5])
    bias = _bias(s, op, op.input(6), x, weight, float(op.attributes.get("alpha", 1.0)))
    s.emit(op, "Gemm", (s.integers(op, op.inputs[0], x), weight, *([bias] if bias else [])))
    s.define(op, s.read(op, op.inputs[7], op.input(8), x.kind))


def _of_integers_only(axis: int) -> Callable[[Stripper, Operator], None]:
    """ConvInteger and MatMulInteger: sums whose scale comes later."""

    def translate(s: Stripper, op: Operator) -> None:
        weight_kind = s.constant(op, op.inputs[1]).dtype.name
        one = s.fresh(f"{op.name}_one")
        s.source = replace(
            s.source, tensors={**s.source.tensors, one: TensorInfo.constant(one, np.ones(1, np.float32))}
        )
        weight = _weights(s, op, 1, axis, one, op.input(3))
        points = s.constant(op, op.input(2)).reshape(-1) if op.input(2) else np.zeros(1, np.int64)
        source = s.name(op.inputs[0])
        kind = s.kinds.get(source, weight_kind)
        known = s.cells[source].quantization if source in s.cells else None
        scale = np.ones(1, np.float32) if known is None else known.scale
        x = s.integers(op, source, Quantization(scale, points.astype(np.int64), kind))
        s.emit(op, op.kind, (x, weight))

    return translate


def _q_elementwise(kind: str) -> Callable[[Stripper, Operator], None]:
    """QLinearAdd and QLinearMul."""

    def translate(s: Stripper, op: Operator) -> None:
        found = [s.read(op, op.inputs[i + 1], op.input(i + 2), "uint8") for i in (0, 3, 6)[:2]]
        inputs = tuple(s.integers(op, op.inputs[i], f) for i, f in zip((0, 3), found, strict=True))
        s.emit(op, kind, inputs)
        s.define(op, s.read(op, op.inputs[6], op.input(7), found[0].kind))

    return translate


def _q_function(kind: str) -> Callable[[Stripper, Operator], None]:
    """Operators with inputs X, its parameters and those of the output."""

    def translate(s: Stripper, op: Operator) -> None:
        op.require("channels_last", 0, 0)
        x = s.read(op, op.inputs[1], op.input(2), "uint8")
        s.emit(op, kind, (s.integers(op, op.inputs[0], x),))
        s.define(op, s.read(op, op.inputs[3], op.input(4), x.kind))

    return translate


def _q_concat(s: Stripper, op: Operator) -> None:
    """QLinearConcat: the output's parameters, then triples."""
    inputs = []
    for start in range(2, len(op.inputs), 3):
        found = s.read(op, op.inputs[start + 1], op.inputs[start + 2], "uint8")
        inputs.append(s.integers(op, op.inputs[start], found))
    s.emit(op, "Concat", tuple(inputs))
    s.define(op, s.read(op, op.inputs[0], op.inputs[1], "uint8"))


STRIPPED: dict[str, Callable[[Stripper, Operator], None]] = {
    "ConvInteger": _of_integers_only(0),
    "DequantizeLinear": _dequantize_linear,
    "MatMulInteger": _of_integers_only(1),
    "QLinearConv": _q_linear("Conv", 0),
    "QLinearMatMul": _q_linear("MatMul", 1),
    "QuantizeLinear": _quantize_linear,
    f"{MICROSOFT}DequantizeLinear": _dequantize_linear,
    f"{MICROSOFT}QGemm": _q_gemm,
    f"{MICROSOFT}QLinearAdd": _q_elementwise("Add"),
    f"{MICROSOFT}QLinearAveragePool": _q_function("AveragePool"),
    f"{MICROSOFT}QLinearConcat": _q_concat,
    f"{MICROSOFT}QLinearGlobalAveragePool": _q_function("GlobalAveragePool"),
    f"{MICROSOFT}QLinearLeakyRelu": _q_function("LeakyRelu"),
    f"{MICROSOFT}QLinearMul": _q_elementwise("Mul"),
    f"{MICROSOFT}QLinearSigmoid": _q_function("Sigmoid"),
    f"{MICROSOFT}QLinearSoftmax": _q_function("Softmax"),
    f"{MICROSOFT}QuantizeLinear": _quantize_linear,
}
"""How each operator of quantization is translated."""


def _absorbed(network: Network) -> Network:
    """Tensors that are quantized as they stand get the parameters; what quantizes them again is left out."""
    parameters, aliases, kept = dict(network.parameters), dict[str, str](), []

    def resolved(name: str) -> str:
        while name in aliases:
            name = aliases[name]
        return name

    for op in network.operators:
        op = replace(op, inputs=tuple(map(resolved, op.inputs)))
        if op.kind != "Identity" or op.outputs[0] not in parameters:
            kept.append(op)
            continue
        source, wanted = op.inputs[0], parameters[op.outputs[0]]
        if source in network.inputs and not is_same(parameters.setdefault(source, wanted), wanted):
            raise op.error(f"model input {source!r} must be quantized in one way only")
        if is_same(parameters.setdefault(source, wanted), wanted):
            aliases[op.outputs[0]] = source
        else:
            kept.append(op)
    outputs = tuple(map(resolved, network.outputs))
    for op in reversed(kept):
        _quantize_before(network, op, kept, parameters)
    return replace(network, operators=tuple(kept), outputs=outputs, parameters=parameters)


def _quantize_before(
    network: Network, op: Operator, operators: list[Operator], parameters: dict[str, Quantization]
) -> None:
    """Let a movement whose result is quantized move integers: an input of the network is quantized first."""
    row, found = OPERATORS.get(op.kind), parameters.get(op.outputs[0])
    source = op.inputs[0] if op.inputs else ""
    if row is None or not row.keeps_range or found is None or source in parameters or network.value(source) is not None:
        return
    readers = [other for other in operators if source in other.inputs]
    results = [parameters.get(other.outputs[0]) for other in readers]
    moves = all(OPERATORS[other.kind].keeps_range for other in readers if other.kind in OPERATORS)
    if moves and "linear" not in {other.attributes.get("mode") for other in readers}:
        same = [result for result in results if result is not None and is_same(result, found)]
        if len(same) == len(results) and (source in network.inputs or op.kind not in ("Clip", "Relu")):
            parameters[source] = found


def _with_outputs_named(network: Network, names: tuple[str, ...]) -> Network:
    """Outputs under the names that the file gives them, unless an input or another output has the tensor too."""
    renamed: dict[str, str] = {}
    for tensor, name in zip(network.outputs, names, strict=True):
        if tensor not in network.inputs and network.value(tensor) is None:
            renamed.setdefault(tensor, name)
    rename = {old: new for old, new in renamed.items() if old != new}
    taken = {new: old for old, new in rename.items()}

    def after(name: str) -> str:
        return rename.get(name, f"{name}_inner" if name in taken else name)

    operators = tuple(
        replace(op, inputs=tuple(map(after, op.inputs)), outputs=tuple(map(after, op.outputs)))
        for op in network.operators
    )
    tensors = {after(name): replace(info, name=after(name)) for name, info in network.tensors.items()}
    parameters = {after(name): found for name, found in network.parameters.items()}
    outputs = tuple(map(after, network.outputs))
    return replace(network, operators=operators, tensors=tensors, outputs=outputs, parameters=parameters)
