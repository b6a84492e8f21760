"""Running networks, and parts of them, in ONNX Runtime on many samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray

from accel.errors import ModelError, reason
from accel.frontends.onnx.write import without_weights
from accel.quantized.network import Network, Operator, TensorInfo

if TYPE_CHECKING:
    import onnx

MICROSOFT = "com.microsoft"

Values = Mapping[str, NDArray[Any]]
"""Tensors by name, in the network's shapes."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class Runner:
    """A network in ONNX Runtime, without optimizations and on one thread, so that equal inputs give equal bits.

    Parameters
    ----------
    network : Network
        Quantized tensors pass through QuantizeLinear and DequantizeLinear: their values are those of integers.
    outputs : sequence of str, optional
        Tensors to give; the network's outputs by default.
    batches : bool
        Inputs may hold several samples along their first axis, if the operators let samples alone.

    Raises
    ------
    ModelError
        The runtime refuses the network.
    """

    def __init__(self, network: Network, outputs: Sequence[str] | None = None, *, batches: bool = False) -> None:
        import onnxruntime

        self.inputs = network.inputs
        self.outputs = tuple(dict.fromkeys(network.outputs if outputs is None else outputs))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        options.enable_cpu_mem_arena = False  # it would keep the most that any operator needed
        # Weights are fed, so that neither the model nor the session holds a copy.
        real = with_real_constants(network.with_outputs(self.outputs))
        model, self._weights = without_weights(real, parameters=real.parameters)
        if batches:
            _free_first_sizes(model, self.inputs)
        try:
            self._session = onnxruntime.InferenceSession(
                _of_any_opset(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ModelError(f"model must run in ONNX Runtime: {reason(error)}") from error

    def __call__(self, values: Values) -> dict[str, NDArray[Any]]:
        """The outputs for one sample, or for a batch."""
        try:
            found = self._session.run(None, {name: values[name] for name in self.inputs} | self._weights)
        except Exception as error:
            raise ModelError(f"model must run in ONNX Runtime: {reason(error)}") from error
        return dict(zip(self.outputs, found, strict=True))


def with_real_constants(network: Network) -> Network:
    """The network with constants as the real numbers that their integers stand for, so that no run converts them."""
    found = {name: q.real for name, q in network.parameters.items() if q.integers is not None}
    tensors = {**network.tensors, **{name: TensorInfo.constant(name, value) for name, value in found.items()}}
    parameters = {name: q for name, q in network.parameters.items() if name not in found}
    return replace(network, tensors=tensors, parameters=parameters)


def _free_first_sizes(model: onnx.ModelProto, inputs: Sequence[str]) -> None:
    """Let the first axis of the inputs have any size where it is 1."""
    for value in model.graph.input:
        sizes = value.type.tensor_type.shape.dim
        if value.name in inputs and len(sizes) > 1 and sizes[0].dim_value == 1:
            sizes[0].dim_param = "batch"


def _of_any_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the runtime's own QuantizeLinear and DequantizeLinear, which networks before opset 10 may use."""
    from onnx import helper

    found = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in found:
        node.domain = MICROSOFT
    if found and all(entry.domain != MICROSOFT for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return model


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The results for all items, in order; on as many threads as cores, since the runtime releases Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


def part(network: Network, operators: Sequence[Operator], needed: Sequence[str]) -> Network:
    """Some consecutive operators as a network of their own.

    Parameters
    ----------
    network : Network
    operators : sequence of Operator
    needed : sequence of str
        What others read, besides the operators themselves; those that the operators write are the outputs.
    """
    written = {name for op in operators for name in op.outputs if name}
    read = dict.fromkeys(name for op in operators for name in op.inputs if name)
    inputs = tuple(name for name in read if name not in written and network.value(name) is None)
    outputs = tuple(name for name in dict.fromkeys(needed) if name in written)
    return replace(network.with_outputs(outputs), operators=tuple(operators), inputs=inputs)


class Prefix:
    """All values that the rest of a network needs, advanced operator by operator over all samples.

    Parameters
    ----------
    samples : sequence of mapping of str to ndarray
        The inputs.

    Attributes
    ----------
    states : list of dict of str to ndarray
        For each sample, the tensors that operators from `place` on read, and the outputs so far.
    place : int
        How many operators have run.
    """

    def __init__(self, samples: Sequence[Values]) -> None:
        self.place = 0
        self.states: list[dict[str, NDArray[Any]]] = [dict(sample) for sample in samples]

    def advance(self, network: Network, place: int) -> None:
        """Run the operators before `place` that have not run, as `network` has them now."""
        if place == self.place:
            return
        live = live_tensors(network, place)
        step = part(network, network.operators[self.place : place], live)
        if step.outputs:
            runner = Runner(step)
            self.states = in_parallel(lambda state: _kept({**state, **runner(state)}, live), self.states)
        self.place = place


def live_tensors(network: Network, place: int) -> tuple[str, ...]:
    """Names that the operators from number `place` on read, and outputs; whoever writes them."""
    read = (name for op in network.operators[place:] for name in op.inputs if name)
    return tuple(dict.fromkeys([*read, *network.outputs]))


def _kept(values: dict[str, NDArray[Any]], names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    return {name: values[name] for name in names if name in values}
