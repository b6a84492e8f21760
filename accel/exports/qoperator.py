"""QOperator models: operators on integers, with scales and zero points as inputs.

What ONNX Runtime has no integer operator for stands between DequantizeLinear and QuantizeLinear, as in a QDQ model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.exports.onnx.raising import raised
from accel.exports.onnx.unsigned import take_unsigned_inputs
from accel.frontends.onnx.lookups import lookup_nodes
from accel.frontends.onnx.stripper import MICROSOFT
from accel.frontends.onnx.write import PRODUCER, suffixed
from accel.network.graph import Graph
from accel.network.nodes.host import FUNCTION_BODY, FUNCTION_DOMAIN
from accel.quantized.network import TABLE, Network, Operator, Quantization

if TYPE_CHECKING:
    import onnx


def write(graph: Graph, notes: list[str]) -> bytes:
    """The model's file; notes and `InexpressibleError` as for `raised`."""
    network = raised(graph, notes)
    writer = _Writer(network)
    for name in network.inputs:
        if name in network.parameters:
            writer.quantize(name, network.parameters[name])
    for operator in network.operators:
        writer.operator(operator)
    model = writer.model()
    take_unsigned_inputs(model, graph)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Writer:
    """Collects nodes and constants; integers of the tensor x are called x_quantized."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.readers = network.readers()
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}
        self.functions: list[onnx.FunctionProto] = []
        self.real: set[str] = set()
        self.joined: set[str] = set()

    def model(self) -> onnx.ModelProto:
        """The model: inputs and outputs are real numbers where the network has parameters for them."""
        from onnx import helper, numpy_helper

        network = self.network
        given = {name: self.as_real(name) for name in network.outputs if name in network.parameters}
        used = {name for node in self.nodes for name in node.input}
        plain = {
            name: info.value
            for name, info in network.tensors.items()
            if info.value is not None and name in used and name not in network.parameters
        }
        constants = [numpy_helper.from_array(np.asarray(v), n) for n, v in {**plain, **self.constants}.items()]

        def declared(name: str, own: str) -> onnx.ValueInfoProto:
            info = network.tensors[name]
            return helper.make_tensor_value_info(own, _code(info.dtype), info.shape)

        ends = [[declared(n, n) for n in network.inputs], [declared(n, given.get(n, n)) for n in network.outputs]]
        graph = helper.make_graph(self.nodes, network.name, *ends, constants, value_info=self.infos())
        opset = max((op.opset for op in network.operators), default=17)
        domains = sorted({node.domain for node in self.nodes} - {""})
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        return helper.make_model(
            graph,
            opset_imports=imports,
            functions=self.functions,
            producer_name=PRODUCER,
            ir_version=8 if opset < 21 else 10,
        )

    def infos(self) -> list[onnx.ValueInfoProto]:
        """Types and shapes of integers, which ONNX does not infer behind the runtime's own operators."""
        from onnx import helper

        made = {name for node in self.nodes for name in node.output}
        known = {self.named(name, "quantized"): (found.kind, name) for name, found in self.network.parameters.items()}
        return [
            helper.make_tensor_value_info(integers, _code(kind), self.network.tensors[name].shape)
            for integers, (kind, name) in known.items()
            if integers in made
        ]

    def named(self, name: str, what: str) -> str:
        """A name for what belongs to a tensor or operator, which no tensor of the network has."""
        return suffixed(name, what, self.network.tensors)

    def operator(self, op: Operator) -> None:
        """Add an operator on integers, or one on real numbers between conversions."""
        output = op.outputs[0]
        if output in self.joined:
            return
        target = self._target(op)
        row = INTEGER.get(op.kind)
        on_integers = row and target in self.network.parameters and op.inputs[0] in self.network.parameters
        known = self.network.parameters.__contains__ if op.kind in ("Add", "Mul") else self._is_known
        if row is None or not on_integers or not all(known(name) for name in op.inputs):
            self._on_reals(op)
            return
        limit = next(iter(self.readers[output])) if target != output else None
        middle = self.named(output, "sums") if limit else self.named(target, "quantized")
        row(self, op, target, middle)
        if limit:
            self.joined.add(target)
            _limited(self, limit, self.network.parameters[target], middle)

    def _target(self, op: Operator) -> str:
        """The tensor whose parameters the sums of an operator get: the result, or what a Relu or Clip makes of it."""
        output = op.outputs[0]
        readers = self.readers.get(output, [])
        limits = output not in self.network.parameters and len(readers) == 1 and readers[0].kind in ("Relu", "Clip")
        return readers[0].outputs[0] if limits else output

    def _is_known(self, name: str) -> bool:
        """Whether an input is integers, a constant, or absent."""
        return not name or name in self.network.parameters or self.network.value(name) is not None

    def _on_reals(self, op: Operator) -> None:
        from onnx import FunctionProto

        domain, _, kind = op.kind.rpartition(".")
        inputs = [self.as_real(name) if name in self.network.parameters else name for name in op.inputs]
        outputs = [self.named(name, "before") if name in self.network.parameters else name for name in op.outputs]
        attributes = op.attributes
        if domain == FUNCTION_DOMAIN:
            self.functions.append(FunctionProto.FromString(attributes[FUNCTION_BODY].tobytes()))
            attributes = {}
        self.node(kind, inputs, outputs, op.name, domain, **attributes)
        for name, before in zip(op.outputs, outputs, strict=True):
            if name in self.network.parameters:
                self.quantize(name, self.network.parameters[name], before)

    def as_real(self, name: str) -> str:
        """The real form of a tensor or constant with parameters: what its integers stand for."""
        found = self.network.parameters[name]
        real = self.named(name, "dequantized") if name in self.network.inputs else name
        if name not in self.real:
            self.real.add(name)
            axis: dict[str, Any] = {"axis": found.axis} if found.scale.size > 1 else {}
            self.node("DequantizeLinear", [self.integers(name), *self.pair(name)], [real], f"{name}_Dequantize", **axis)
        return real

    def quantize(self, name: str, found: Quantization, source: str = "") -> None:
        """Make the integers of a tensor from real numbers."""
        inputs = [source or name, *self.pair(name)]
        self.node("QuantizeLinear", inputs, [self.named(name, "quantized")], f"{name}_Quantize")

    def integers(self, name: str) -> str:
        """The name of the integers of a tensor; those of a constant are stored."""
        found = self.network.parameters.get(name)
        if found is not None and found.integers is not None:
            self.constants[self.named(name, "quantized")] = found.integers.astype(_stored(found.kind))
        return self.named(name, "quantized") if found is not None else name

    def pair(self, name: str) -> list[str]:
        """Names of the scale and the zero point of a tensor."""
        found = self.network.parameters[name]
        shape = found.scale.shape if found.scale.size > 1 else ()
        names = [self.named(name, "scale"), self.named(name, "zero_point")]
        self.constants[names[0]] = found.scale.reshape(shape)
        self.constants[names[1]] = found.zero_point.astype(_stored(found.kind)).reshape(shape)
        return names

    def triple(self, name: str) -> list[str]:
        """Names of the integers, the scale and the zero point of a tensor."""
        return [self.integers(name), *self.pair(name)]

    def node(
        self, kind: str, inputs: list[str], outputs: list[str], name: str, domain: str = "", **attributes: Any
    ) -> None:
        """Add a node."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes))


def _stored(kind: str) -> str:
    """The type of integers in the file: the runtime's operators have no weights of 4 bits."""
    return "int8" if kind == "int4" else kind


def _code(dtype: str) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


Write = Callable[[_Writer, Operator, str, str], None]
"""From the writer, an operator, the tensor whose parameters the result gets, and the name of the result."""
_DOMAIN = MICROSOFT.rstrip(".")


def _conv(w: _Writer, op: Operator, target: str, output: str) -> None:
    bias = [w.integers(op.inputs[2])] if op.input(2) else []
    inputs = [*w.triple(op.inputs[0]), *w.triple(op.inputs[1]), *w.pair(target), *bias]
    w.node("QLinearConv", inputs, [output], op.name, **op.attributes)


def _gemm(w: _Writer, op: Operator, target: str, output: str) -> None:
    bias = w.integers(op.inputs[2]) if op.input(2) else ""
    inputs = [*w.triple(op.inputs[0]), *w.triple(op.inputs[1]), bias, *w.pair(target)]
    w.node("QGemm", inputs, [output], op.name, _DOMAIN, **op.attributes)


def _binary(kind: str) -> Write:
    def write(w: _Writer, op: Operator, target: str, output: str) -> None:
        inputs = [*w.triple(op.inputs[0]), *w.triple(op.inputs[1]), *w.pair(target)]
        w.node(kind, inputs, [output], op.name, _DOMAIN, **op.attributes)

    return write


def _unary(kind: str) -> Write:
    def write(w: _Writer, op: Operator, target: str, output: str) -> None:
        w.node(kind, [*w.triple(op.inputs[0]), *w.pair(target)], [output], op.name, _DOMAIN, **op.attributes)

    return write


def _moved(w: _Writer, op: Operator, target: str, output: str) -> None:
    """A movement: the same operator on integers."""
    w.node(op.kind, [w.integers(name) for name in op.inputs], [output], op.name, **op.attributes)


def _table(w: _Writer, op: Operator, target: str, output: str) -> None:
    """A lookup of integers."""

    def constant(what: str, value: Any) -> str:
        w.constants[name := w.named(op.name, what)] = value
        return name

    w.nodes += lookup_nodes(op.attributes["table"], w.integers(op.inputs[0]), output, op.name, constant)


def _padded(w: _Writer, op: Operator, target: str, output: str) -> None:
    """Pad with the integer that stands for the real border."""
    border, found = w.named(op.name, "border"), w.network.parameters[target]
    value = np.rint(np.asarray(w.network.value(op.inputs[2])) / found.scale) + found.zero_point
    w.constants[border] = value.astype(found.kind).reshape(())
    w.node("Pad", [w.integers(op.inputs[0]), op.inputs[1], border], [output], op.name, **op.attributes)


def _limited(w: _Writer, op: Operator, found: Quantization, source: str) -> None:
    """Relu or Clip of integers."""
    names = [w.named(op.name, "low"), w.named(op.name, "high")]
    real = [0.0, np.inf] if op.kind == "Relu" else [float(np.asarray(w.network.value(name))) for name in op.inputs[1:]]
    for name, bound in zip(names, real, strict=True):
        steps = np.clip(np.rint(np.float32(bound) / found.scale) + found.zero_point, -128, 127)
        w.constants[name] = steps.astype(found.kind).reshape(())
    w.node("Clip", [source, *names], [w.named(op.outputs[0], "quantized")], op.name)


INTEGER: Mapping[str, Write] = MappingProxyType(
    {
        "Add": _binary("QLinearAdd"),
        "AveragePool": _unary("QLinearAveragePool"),
        "Conv": _conv,
        "Gemm": _gemm,
        "GlobalAveragePool": _unary("QLinearGlobalAveragePool"),
        "LeakyRelu": _unary("QLinearLeakyRelu"),
        "Mul": _binary("QLinearMul"),
        "Pad": _padded,
        "Sigmoid": _unary("QLinearSigmoid"),
        TABLE: _table,
        **dict.fromkeys(("Concat", "Expand", "Gather", "MaxPool", "Reshape", "Slice", "Transpose"), _moved),
    }
)
"""Operators that ONNX Runtime computes with integers."""
