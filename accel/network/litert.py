"""Evaluating one operator of TensorFlow Lite: the model that a node carries, in LiteRT's reference kernels."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import ToolError, reason
from accel.network import litert_worker
from accel.network.graph import Tensor
from accel.network.litert_worker import Message
from accel.network.nodes import HostOperator
from accel.network.nodes.host import TFLITE_MODEL

MISSING = "needs LiteRT, which is not installed: pip install 'accel[litert]'"


class RefusedError(Exception):
    """LiteRT does not compute the operator; the message says why."""


class DynamicSizeError(RefusedError):
    """An output whose size depends on values; the message is its name."""


def is_installed() -> bool:
    """Whether the package is there."""
    try:
        return find_spec("ai_edge_litert") is not None
    except ValueError:
        return False


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
    if not is_installed():
        raise ToolError(f"{node.op_type} {node.name!r} {MISSING}")
    given = dict(zip(node.inputs, arrays, strict=True))
    inputs = {str(number): given[name] for number, name in enumerate(dict.fromkeys(node.arguments))}
    try:
        values = _ask({"model": node.attributes[TFLITE_MODEL], "run": np.array(True), **inputs})
    except RefusedError as error:
        raise node.error(f"{node.op_type} must have values that LiteRT takes, got: {reason(error)}") from None
    for tensor, value in zip(results, values, strict=True):
        if (value.dtype.name, value.size) != (tensor.dtype, int(np.prod(tensor.shape))):
            raise node.error(
                f"output {tensor.name!r} must be {tensor.dtype} {tensor.shape}, got {value.dtype} {value.shape}"
            )
    return [value.reshape(tensor.shape) for tensor, value in zip(results, values, strict=True)]


def tried(node: HostOperator) -> list[NDArray[Any]]:
    """The outputs for zeros, or for ones where the operator refuses zeros; `RefusedError` if LiteRT has no outputs."""
    return _ask({"model": node.attributes[TFLITE_MODEL]})


def _ask(request: Mapping[str, Any]) -> list[NDArray[Any]]:
    """The outputs in the answer of this process's worker."""
    with _ASKING:
        answer = _worker().answer({name: np.asarray(value) for name, value in request.items()})
    if "error" in answer:
        raise RefusedError(str(answer["error"]))
    if "dynamic" in answer:
        raise DynamicSizeError(str(answer["dynamic"]))
    return litert_worker.numbered(answer)


class _Worker:
    """A process that runs `accel.network.litert_worker`; it starts again if a kernel ended it."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", litert_worker.__file__]
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    @property
    def is_usable(self) -> bool:
        """Whether the process lives and is this one's own, not one from before a fork."""
        return self.owner == os.getpid() and self.process.poll() is None

    def answer(self, request: Message) -> Message:
        """What the process answers; an error if it ends instead."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            litert_worker.send(self.process.stdin, request)
            answer = litert_worker.receive(self.process.stdout)
        except OSError:
            answer = None
        if answer is None:
            self.stop()
            return {"error": np.array("its kernel ended the process")}
        return answer

    def stop(self) -> None:
        """End the process."""
        if self.owner == os.getpid():
            self.process.kill()
            self.process.communicate()


_ASKING = Lock()
_workers: list[_Worker] = []
"""The worker of this process, if one has started."""


def _worker() -> _Worker:
    if not (_workers and _workers[-1].is_usable):
        _workers[:] = [_Worker()]
        atexit.register(_workers[-1].stop)
    return _workers[-1]
