"""Writing networks as ONNX models: float ones for running them, quantized ones as QDQ."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.frontends.onnx.folding import infer
from accel.frontends.onnx.lookups import lookup_nodes
from accel.network.graph import DTYPES
from accel.network.nodes.host import FUNCTION_BODY, FUNCTION_DOMAIN
from accel.quantized.host import MICROSOFT
from accel.quantized.network import TABLE, Network, Operator, Quantization, TensorInfo

if TYPE_CHECKING:
    import onnx

CHANNEL_SCALES_OPSET = 13
"""The first version whose QuantizeLinear and DequantizeLinear have scales per channel."""
PRODUCER = "accel"
"""Who wrote a QDQ model of a graph: what has no integers in it needs none, for all of it is the host's."""
_UNDECLARED_ELEMENTS = 64
"""Constants with more elements are declared without their values when shapes are inferred."""
_AS_REAL = {"ConvInteger": "Conv", "MatMulInteger": "MatMul", "accel.Reinterpret": "Identity", TABLE: "Identity"}


def with_shapes(network: Network) -> Network:
    """The network with the shapes of all results that can be inferred."""
    model, _ = without_weights(network)
    found = infer(model, strict=True)
    tensors = {name: TensorInfo(name, *known) for name, known in found.items()}
    tensors |= _measured(network, tensors)
    tensors |= {name: info for name, info in network.tensors.items() if info.value is not None}
    tensors |= {name: network.tensors[name] for name in network.inputs}
    return replace(network, tensors=tensors)


def _measured(network: Network, known: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Shapes that ONNX cannot infer, those of functions and of the runtime's own operators, from a run with zeros."""
    unknown = [name for op in network.operators for name in op.outputs if name and name not in known]
    if not unknown or not any(_hides_shapes(op) for op in network.operators):
        return {}
    import onnxruntime

    feeds = {name: np.zeros(network.tensors[name].shape, network.tensors[name].dtype) for name in network.inputs}
    feeds = {name: x.astype(np.float32) if name in network.parameters else x for name, x in feeds.items()}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        model = to_onnx(replace(network, parameters={}), tuple(unknown))
        for output in model.graph.output:
            output.ClearField("type")  # the runtime knows it
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        values = session.run(None, feeds)
    except Exception:
        # The runtime raises a dozen types; the operators that it refuses are named where they are lowered.
        return {}
    sized = [(name, value) for name, value in zip(unknown, values, strict=True) if isinstance(value, np.ndarray)]
    return {name: TensorInfo(name, value.shape, value.dtype.name) for name, value in sized}


def _hides_shapes(op: Operator) -> bool:
    """Whether an operator is a function, or the runtime's own: ONNX infers no shapes of some."""
    from onnx import defs

    domain, _, kind = op.kind.rpartition(".")
    if domain in (FUNCTION_DOMAIN, MICROSOFT):
        return True
    known = not domain and defs.has(kind)
    schema = defs.get_schema(kind, op.opset) if known else None
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def without_weights(
    network: Network,
    outputs: tuple[str, ...] | None = None,
    parameters: Mapping[str, Quantization] | None = None,
) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """A model that takes large real constants as further inputs, and those constants, of which it holds no copy.

    Activations have no parameters but those in `parameters`.
    """
    from onnx import TensorProto, helper

    tensors = network.tensors
    large = {
        name: tensor.value
        for name, tensor in tensors.items()
        if tensor.value is not None and tensor.value.size > _UNDECLARED_ELEMENTS and tensor.dtype == "float32"
    }
    small = {name: tensor for name, tensor in tensors.items() if name not in large}
    model = to_onnx(replace(network, tensors=small, parameters=parameters or {}), outputs)
    for name, value in large.items():
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
    return model, large


def to_onnx(network: Network, outputs: tuple[str, ...] | None = None) -> onnx.ModelProto:
    """A model that computes a network.

    Parameters
    ----------
    network : Network
        A float network becomes a float model, a quantized one a QDQ model: every activation with parameters passes
        through QuantizeLinear and DequantizeLinear, every constant with parameters is stored as its integers.
    outputs : tuple of str, optional
        Tensors to give; by default the network's outputs under the source's names. An input with parameters is given as
        what its integers stand for, under another name.

    Returns
    -------
    onnx.ModelProto
        Names of tensors and operators are the network's. Before opset 13, whose QuantizeLinear has no scales per
        channel, that of ONNX Runtime's own domain is used.
    """
    from onnx import helper, numpy_helper

    writer = _Writer(network)
    for name in network.inputs:
        writer.activation(name)
    for operator in network.operators:
        writer.operator(operator)
    inputs = [_declared(network, name, name) for name in network.inputs]
    wanted = network.results if outputs is None else {name: name for name in outputs}
    results = [_declared(network, tensor, writer.result(tensor, name)) for name, tensor in wanted.items()]
    used = {*wanted, *(name for node in writer.nodes for name in node.input)}
    constants = [
        numpy_helper.from_array(np.asarray(info.value), name)
        for name, info in network.tensors.items()
        if info.value is not None and name in used and name not in writer.written
    ]
    graph = helper.make_graph(writer.nodes, network.name, inputs, results, constants + writer.constants)
    versions = _versions(network) | ({writer.domain: 1} if writer.domain else {})
    imports = [helper.make_opsetid(domain, version) for domain, version in sorted(versions.items())]
    ir_version = 8 if versions[""] < 21 else 10
    return helper.make_model(graph, opset_imports=imports, functions=writer.functions, ir_version=ir_version)


def _declared(network: Network, tensor: str, name: str) -> onnx.ValueInfoProto:
    """The declaration of a tensor, under a name, as an input or output of a model."""
    from onnx import helper

    shape = network.tensors[tensor].shape if tensor in network.tensors else None
    return helper.make_tensor_value_info(name, _kind(network, tensor), shape)


def _versions(network: Network) -> dict[str, int]:
    """The newest version of every domain."""
    versions: dict[str, int] = {}
    for op in network.operators:
        domain = _AS_REAL.get(op.kind, op.kind).rpartition(".")[0]
        versions[domain] = max(versions.get(domain, 1), op.opset)
    return {"": 21, **versions} | ({MICROSOFT: 1} if MICROSOFT in versions else {})


def _kind(network: Network, name: str) -> int:
    """ONNX's code for the type of a tensor; inputs of 8 bits are real numbers with parameters."""
    from onnx import TensorProto, helper

    dtype = network.tensors[name].dtype if name in network.tensors else "float32"
    real = dtype == "int8" or (dtype == "uint8" and name in network.inputs)
    known = dtype in DTYPES and not real
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) if known else TensorProto.FLOAT)


def suffixed(name: str, what: str, taken: Collection[str]) -> str:
    """``name_what``, with underscores behind it if that is taken: always the same name for the same network."""
    made = f"{name}_{what}"
    while made in taken:
        made += "_"
    return made


class _Writer:
    """Collects nodes and constants."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self.written: set[str] = set()
        self.names: dict[str, str] = {}
        self.domain = MICROSOFT if network.parameters and _versions(network)[""] < CHANNEL_SCALES_OPSET else ""

    def operator(self, op: Operator) -> None:
        """Add an operator and what its constants and results need."""
        from onnx import FunctionProto, helper

        for name in op.inputs:
            found = self.network.parameters.get(name)
            if found is not None and found.integers is not None and name not in self.written:
                self._constant(name, found)
        if op.kind == TABLE and op.outputs[0] in self.network.parameters:
            self._table(op)
            return
        domain, _, kind = _AS_REAL.get(op.kind, op.kind).rpartition(".")
        inputs = [self.names.get(name, name) for name in op.inputs]
        outputs = [self._raw(name) for name in op.outputs]
        attributes = {} if op.kind == TABLE else op.attributes
        if domain == FUNCTION_DOMAIN:
            self.functions.append(FunctionProto.FromString(attributes[FUNCTION_BODY].tobytes()))
            attributes = {}
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=op.name, domain=domain, **attributes))
        for name in op.outputs:
            self.activation(name)

    def _table(self, op: Operator) -> None:
        """Add the lookup of a table: between the integers of its input and those of its result."""
        (x,), (y,) = op.inputs, op.outputs

        def constant(what: str, value: Any) -> str:
            self._add(name := self._named(y, what), value)
            return name

        constants = self.network.parameters[x].integers is not None
        source, target = self._named(x, "integers" if constants else "quantized"), self._named(y, "quantized")
        self.nodes += lookup_nodes(op.attributes["table"], source, target, op.name, constant)
        self._dequantized(y, self.network.parameters[y], target)

    def _named(self, name: str, what: str) -> str:
        """A name for what belongs to a tensor, which no tensor of the network has."""
        return suffixed(name, what, self.network.tensors)

    def _raw(self, name: str) -> str:
        """The name of a result before it is quantized: its own, unless an output of the model has that."""
        return self._named(name, "real") if name in self.network.parameters and self._is_output(name) else name

    def _is_output(self, name: str) -> bool:
        return name in self.network.outputs and name not in self.network.inputs

    def activation(self, name: str) -> None:
        """Let a tensor with parameters pass through QuantizeLinear and DequantizeLinear."""
        found = self.network.parameters.get(name)
        if found is None:
            return
        integers = self._named(name, "quantized")
        self._node("QuantizeLinear", [self._raw(name), *self._parameters(name, found)], integers)
        self._dequantized(name, found, integers)

    def _dequantized(self, name: str, found: Quantization, integers: str) -> None:
        """Let readers of a tensor have what its integers stand for."""
        target = name if self._is_output(name) else self._named(name, "dequantized")
        self._node("DequantizeLinear", [integers, *self._parameters(name, found)], target)
        if target != name:
            self.names[name] = target

    def result(self, tensor: str, name: str) -> str:
        """The name of an output in the model; one that shares its tensor with others is a copy."""
        if name == tensor:
            return self.names.get(name, name)
        self._node("Identity", [self.names.get(tensor, tensor)], name)
        return name

    def _constant(self, name: str, found: Quantization) -> None:
        """A constant as integers and their DequantizeLinear."""
        if found.integers is None:
            raise ModelError(f"constant {name!r} must have integers")
        integers = self._named(name, "integers")
        self._add(integers, found.integers.astype(_numpy_type(found.kind)))
        axis = {"axis": found.axis} if found.scale.size > 1 else {}
        self._node("DequantizeLinear", [integers, *self._parameters(name, found)], name, **axis)
        self.written.add(name)

    def _parameters(self, name: str, found: Quantization) -> list[str]:
        """Names of the scale and zero point."""
        names = [self._named(name, "scale"), self._named(name, "zero_point")]
        several = found.scale.size > 1
        points = np.broadcast_to(found.zero_point, found.scale.shape).astype(_numpy_type(found.kind))
        self._add(names[0], found.scale if several else found.scale.reshape(()))
        self._add(names[1], points if several else points.reshape(()))
        return names

    def _add(self, name: str, value: Any) -> None:
        """Store a constant, once."""
        from onnx import numpy_helper

        if name not in self.written:
            self.written.add(name)
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        name = f"{output}_{kind}"
        domain = "" if kind == "Identity" else self.domain
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, domain=domain, **attributes))


def _numpy_type(kind: str) -> Any:
    """NumPy's type for integers of ONNX."""
    from ml_dtypes import int4, uint4

    return {"int4": int4, "uint4": uint4}.get(kind) or np.dtype(kind)
