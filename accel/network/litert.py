"""Evaluating one operator of TensorFlow Lite: the model that a node carries, in LiteRT's reference kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.errors import ToolError
from accel.network.graph import Tensor
from accel.network.nodes import HostOperator
from accel.network.nodes.host import TFLITE_MODEL

MISSING = "needs LiteRT, which is not installed: pip install 'accel[litert]'"
NO_REFERENCE = "Didn't find op"
"""How LiteRT's sentence begins for an operator without a reference kernel."""
_RUNNING = Lock()
"""An interpreter holds one run's tensors."""


class DynamicSizeError(ValueError):
    """An output whose size depends on values."""


class Port(NamedTuple):
    """An input or output of an interpreter."""

    place: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Session(NamedTuple):
    """An interpreter with its memory, and its ports."""

    interpreter: Any
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def evaluate(node: HostOperator, results: Sequence[Tensor], arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The outputs of a node of `TFLITE_DOMAIN`, in the shapes of `results`; variables of the operator start from zero.

    Parameters
    ----------
    node : HostOperator
    results : sequence of Tensor
        Its outputs.
    arrays : sequence of ndarray
        The values of `node.inputs`, in the graph's shapes; int8 where the operator has uint8, less by 128.

    Raises
    ------
    GraphError
        LiteRT refuses the model or the values, or an output has another type or size than its tensor.
    ToolError
        LiteRT is not installed.
    """
    given = dict(zip(node.inputs, arrays, strict=True))
    try:
        with _RUNNING:
            values = _run(session(node), [given[name] for name in dict.fromkeys(node.arguments)])
    except (RuntimeError, ValueError) as error:
        raise node.error(f"{node.op_type} must be an operator that LiteRT evaluates, got: {_brief(error)}") from None
    for tensor, value in zip(results, values, strict=True):
        if (value.dtype.name, value.size) != (tensor.dtype, int(np.prod(tensor.shape))):
            raise node.error(
                f"output {tensor.name!r} must be {tensor.dtype} {tensor.shape}, got {value.dtype} {value.shape}"
            )
    return [value.reshape(tensor.shape) for tensor, value in zip(results, values, strict=True)]


def _run(session: Session, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    interpreter = session.interpreter
    interpreter.reset_all_variables()
    for port, array in zip(session.inputs, arrays, strict=True):
        stored = _shifted(array, np.uint8, 128) if port.dtype == np.uint8 and array.dtype == np.int8 else array
        interpreter.set_tensor(port.place, stored.reshape(port.shape))
    interpreter.invoke()
    values = [np.asarray(interpreter.get_tensor(port.place)) for port in session.outputs]
    return [_shifted(value, np.int8, -128) if value.dtype == np.uint8 else value for value in values]


def _shifted(value: NDArray[Any], dtype: type[np.generic], by: int) -> NDArray[Any]:
    return (value.astype(np.int16) + by).astype(dtype)


def _brief(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@lru_cache(maxsize=256)
def session(node: HostOperator) -> Session:
    """An interpreter for the operator, on one thread, so that equal inputs give equal bits.

    Raises
    ------
    RuntimeError, ValueError
        LiteRT refuses the model; `DynamicSizeError` if an output has no size before values are known.
    ToolError
        LiteRT is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        raise ToolError(f"{node.op_type} {node.name!r} {MISSING}") from None

    def allocated(kernels: Any) -> Any:
        model = np.asarray(node.attributes[TFLITE_MODEL]).tobytes()
        interpreter = Interpreter(model_content=model, experimental_op_resolver_type=kernels, num_threads=1)
        interpreter.allocate_tensors()
        return interpreter

    try:
        interpreter = allocated(OpResolverType.BUILTIN_REF)
    except ValueError as error:
        if NO_REFERENCE not in str(error):
            raise
        interpreter = allocated(OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    ports = (tuple(map(_port, ports)) for ports in (interpreter.get_input_details(), interpreter.get_output_details()))
    return Session(interpreter, *ports)


def check(node: HostOperator) -> tuple[tuple[int, ...], ...]:
    """The shapes of the outputs, after a run on zeros, or on ones where zeros are refused; raises as `session`.

    Some kernels look at types only when they run.
    """
    made = session(node)
    for details in made.interpreter.get_output_details():
        try:
            made.interpreter.get_tensor(details["index"])
        except ValueError:
            raise DynamicSizeError(f"output {details['name']!r} has a size that depends on values") from None
    with _RUNNING:
        try:
            _run(made, [np.zeros(port.shape, port.dtype) for port in made.inputs])
        except RuntimeError:
            _run(made, [np.ones(port.shape, port.dtype) for port in made.inputs])
    return tuple(port.shape for port in made.outputs)


def _port(details: Mapping[str, Any]) -> Port:
    return Port(details["index"], tuple(int(size) for size in details["shape"]), np.dtype(details["dtype"]))
