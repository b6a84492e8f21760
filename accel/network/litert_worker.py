"""The process in which LiteRT runs, so that a kernel that a damaged file leads astray ends that process only.

A script of its own, without imports of this package. Requests come on the standard input, answers leave on the standard
output; each is the length of an ``.npz`` archive, 8 bytes, and the archive. A request has `model`, and `run` and the
inputs `0`, `1`, ... of a run from zeroed variables; without `run` the model is tried on zeros, or on ones where it
refuses zeros. An answer has the outputs `0`, `1`, ..., or `error` and its sentence, or `dynamic` and the output whose
size depends on values. Integers of type uint8 are int8 here, less by 128.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

LENGTH_BYTES = 8
LARGEST_ADDRESS_SPACE = 2**33
"""Bytes; LiteRT itself maps about 2**30."""
NO_REFERENCE = "Didn't find op"
"""How LiteRT's sentence begins for an operator without a reference kernel."""
Message = dict[str, NDArray[Any]]


def send(stream: IO[bytes], message: Message) -> None:
    """Write a message."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **message)
    data = buffer.getvalue()
    stream.write(len(data).to_bytes(LENGTH_BYTES, "little") + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Message | None:
    """The next message; None at the end."""
    length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
    data = stream.read(length)
    if not length or len(data) < length:
        return None
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return dict(archive)


def numbered(message: Message) -> list[NDArray[Any]]:
    """The arrays `0`, `1`, ... of a message."""
    return [message[str(number)] for number in range(len(message)) if str(number) in message]


@lru_cache(maxsize=64)
def _interpreter(model: bytes) -> Any:
    """An interpreter with its memory, on one thread, so that equal inputs give equal bits."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    def allocated(kernels: Any) -> Any:
        interpreter = Interpreter(model_content=model, experimental_op_resolver_type=kernels, num_threads=1)
        interpreter.allocate_tensors()
        return interpreter

    try:
        return allocated(OpResolverType.BUILTIN_REF)
    except ValueError as error:
        if NO_REFERENCE not in str(error):
            raise
        return allocated(OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


def _run(interpreter: Any, arrays: Sequence[NDArray[Any]]) -> Message:
    interpreter.reset_all_variables()
    for details, array in zip(interpreter.get_input_details(), arrays, strict=True):
        stored = _shifted(array, np.uint8, 128) if details["dtype"] == np.uint8 and array.dtype == np.int8 else array
        interpreter.set_tensor(details["index"], stored.reshape(details["shape"]))
    interpreter.invoke()
    values = [np.asarray(interpreter.get_tensor(details["index"])) for details in interpreter.get_output_details()]
    signed = (_shifted(value, np.int8, -128) if value.dtype == np.uint8 else value for value in values)
    return {str(number): value for number, value in enumerate(signed)}


def _shifted(value: NDArray[Any], dtype: type[np.generic], by: int) -> NDArray[Any]:
    return (value.astype(np.int16) + by).astype(dtype)


def _try(interpreter: Any) -> Message:
    """A run that tells the shapes of outputs; some kernels look at types only when they run."""
    for details in interpreter.get_output_details():
        try:
            interpreter.get_tensor(details["index"])
        except ValueError:
            return {"dynamic": np.array(details["name"])}
    inputs = interpreter.get_input_details()
    try:
        return _run(interpreter, [np.zeros(details["shape"], details["dtype"]) for details in inputs])
    except RuntimeError:
        return _run(interpreter, [np.ones(details["shape"], details["dtype"]) for details in inputs])


def answer(request: Message) -> Message:
    """What is sent back."""
    try:
        interpreter, arrays = _interpreter(request["model"].tobytes()), numbered(request)
        return _run(interpreter, arrays) if "run" in request else _try(interpreter)
    except (RuntimeError, ValueError, MemoryError) as error:
        lines = str(error).strip().splitlines()
        return {"error": np.array(lines[0] if lines else type(error).__name__)}


def main() -> None:
    """Answer requests until the input ends."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (LARGEST_ADDRESS_SPACE, LARGEST_ADDRESS_SPACE))
    while (request := receive(sys.stdin.buffer)) is not None:
        send(sys.stdout.buffer, answer(request))


if __name__ == "__main__":
    main()
