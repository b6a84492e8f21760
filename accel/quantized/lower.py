"""From a quantized network to an integer graph in one requantization mode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from accel.errors import ModelError
from accel.machine.numerics import RequantMode
from accel.network.array_layout import ArrayLayout
from accel.network.graph import Graph, Tensor
from accel.quantized import recipes
from accel.quantized.builder import LARGEST_TENSOR, GraphBuilder, Port
from accel.quantized.host import MICROSOFT, known_to_host, on_host
from accel.quantized.lowering import Lowering, NeedsHostError, graph_shape, usual_order
from accel.quantized.network import Network, Operator
from accel.quantized.operators import NOT_SUPPORTED, OPERATORS, Layout
from accel.quantized.values import Integers, Known, OfOne, OnHost, Real, Value
from accel.quantized.view import View

Order = tuple[int, ...]


def lower(network: Network, mode: RequantMode) -> Graph:
    """The graph of a quantized network.

    Parameters
    ----------
    network : Network
        With parameters for every tensor that cannot stay real: inputs, results of sums that something else than a
        clip reads, outputs.
    mode : RequantMode

    Returns
    -------
    Graph
        Tensors and nodes are named as in the network; what an operator needs beside its own node has numbers.

    Raises
    ------
    ModelError
        An operator, or a combination of its attributes, has no integer form; the message names it.
    """
    hosted: dict[str, ModelError] = {}
    while True:
        try:
            return _lower(network, mode, hosted)
        except NeedsHostError as need:
            if need.operator in hosted or not need.operator:
                raise hosted.get(need.operator, need.cause) from need
            hosted[need.operator] = need.cause


def _lower(network: Network, mode: RequantMode, hosted: Mapping[str, ModelError]) -> Graph:
    """The graph of a network some of whose operators are the host's."""
    low = Lowering(network, GraphBuilder(mode))
    readers = network.readers()
    inputs = [_input(low, name, readers) for name in network.inputs]
    for operator in network.operators:
        _translate(low, operator, hosted.get(operator.name))
    outputs = [_output(low, tensor)._replace(name=name) for name, tensor in network.results.items()]
    return low.builder.finish(network.name, inputs, outputs)


def _translate(low: Lowering, operator: Operator, on_machine: ModelError | None) -> None:
    """Lower one operator, or leave it to the host; `on_machine` says why the machine cannot, if that is known."""
    low.builder.operator = operator.name
    result: Value | Sequence[Value] = []
    if operator.kind not in OPERATORS:
        on_machine = operator.error(NOT_SUPPORTED)
    elif operator.name in low.network.host:
        on_machine = operator.error("operator is kept real")
    if on_machine is None:
        try:
            result = OPERATORS[operator.kind].lower(low, operator)
        except recipes.UndefinedError as error:
            raise _named(operator, error) from error
        except ModelError as error:
            if isinstance(error, NeedsHostError) and error.operator != operator.name:
                raise
            on_machine = _named(operator, error)
    if on_machine is not None:
        try:
            result = on_host(low, operator)
        except NeedsHostError:
            raise
        except ModelError as error:
            hosted = operator.kind not in OPERATORS and _is_onnx(operator)
            raise (error if hosted else on_machine) from error
    values = [result] if isinstance(result, Value) else result
    for name, value in zip(operator.outputs, values, strict=False):
        if isinstance(value, Real | OfOne) and not value.operator:
            value = replace(value, operator=operator.name)
        if name:
            low.settle(operator, name, value)


def _is_onnx(operator: Operator) -> bool:
    """Whether ONNX, or the model itself, defines an operator: the host knows it."""
    return operator.kind.rpartition(".")[0] != MICROSOFT


def _named(operator: Operator, error: ModelError) -> ModelError:
    """An error that names the operator."""
    return error if str(error).startswith(f"{operator.kind} ") else operator.error(str(error))


def _input(low: Lowering, name: str, readers: dict[str, list[Operator]]) -> Port:
    """Declare an input of the graph in the order in memory that its readers want."""
    info, found = low.network.tensors[name], low.network.parameters.get(name)
    if math.prod(info.shape) > LARGEST_TENSOR:
        raise ModelError(f"tensor {name!r} must have at most {LARGEST_TENSOR} elements, got shape {info.shape!r}")
    if found is None:
        low.builder.tensors[name] = Tensor(name, info.shape, 1.0, 0, dtype=info.dtype)
        low.values[name] = OnHost(name, info.shape, info.dtype)
        return Port(name, name, ArrayLayout.row_major(info.shape))
    order = _wanted_order(low.network, name, readers) or usual_order(info.shape)
    try:
        parameters = found.parameters
    except ModelError as error:
        raise ModelError(f"model input {name!r}: {error}") from error
    declared = low.builder.declare(name, graph_shape(info.shape, order), parameters, unsigned=info.dtype == "uint8")
    low.values[name] = Integers(declared, View.of(info.shape, order))
    return Port(declared, name, ArrayLayout(info.shape, order))


def _wanted_order(network: Network, name: str, readers: dict[str, list[Operator]]) -> Order | None:
    """The order of the axes of a tensor that the first operators that care about it read; None if none does."""
    rank = len(network.tensors[name].shape)
    for operator in readers.get(name, []):
        row = OPERATORS.get(operator.kind)
        if row is None or (operator.inputs[0] != name and row.layout is not Layout.ANY):
            continue
        if row.layout is Layout.CHANNELS_LAST and rank in (3, 4):
            return (0, *range(2, rank), 1)
        if row.layout is Layout.ROW_MAJOR:
            return tuple(range(rank))
        output = operator.outputs[0]
        if output not in network.tensors or len(network.tensors[output].shape) != rank:
            continue
        after = _wanted_order(network, output, readers)
        if after is not None and operator.kind == "Transpose":
            order = tuple(operator.attributes.get("perm", range(rank)[::-1]))
            return tuple(int(order[axis]) for axis in after)
        if after is not None:
            return after
    return None


def _output(low: Lowering, name: str) -> Port:
    """The graph's tensor for an output of the network, in the order in which memory has it."""
    value = low.values.get(name) or low.known(name)
    if isinstance(value, Known):
        value = low.embedded(value, name) if value.integers is not None else known_to_host(low, value, name)
    problem = ModelError(f"model output {name!r} must be quantized, or come from DequantizeLinear or the host")
    if isinstance(value, OfOne):
        value = low.of_same_steps(value, name, problem)
    if isinstance(value, OnHost):
        return Port(value.name, name, ArrayLayout.row_major(value.shape))
    if isinstance(value, Real):
        raise NeedsHostError(value.operator, problem)
    if not isinstance(value, Integers):
        raise problem
    order = value.view.axes
    if order is None:
        order = usual_order(value.shape)
        value = low.arranged(value, value.view.order_of(order))
    value = Integers(low.builder.reshape(value.name, graph_shape(value.shape, order)), value.view)
    found = low.network.parameters.get(name)
    return Port(value.name, name, ArrayLayout(value.shape, order), found is not None and found.kind == "uint8")
