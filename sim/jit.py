"""Compilation of kernels: a decorator, and a cache on disk of object code, which is called without Numba.

The name of the cache's folder is a digest of everything that is compiled: the sources of the simulator and the machine,
the compilers, and the processor. With NUMBA_DISABLE_JIT=1 everything runs as plain Python.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from types import FunctionType
from typing import Any, TypeVar, cast

import llvmlite
import numpy as np

from accel import machine
from accel.files import write_atomic
from sim.calls import Call, kind, link
from sim.processor import processor

_Function = TypeVar("_Function", bound=Callable[..., Any])
DISABLED = bool(int(os.environ.get("NUMBA_DISABLE_JIT") or 0))
"""Kernels run as plain Python."""


def kernel_sources() -> list[Path]:
    """Files that kernels draw on."""
    folders = (Path(__file__).parent, Path(str(machine.__file__)).parent)
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def _numba_version() -> bytes:
    """Numba's version file: importing Numba takes longer than most runs."""
    spec = find_spec("numba")
    return Path(str(spec and spec.origin)).with_name("_version.py").read_bytes()


def _digest() -> str:
    digest = hashlib.sha256(f"{llvmlite.__version__} {os.environ.get('ACCEL_DOT')} {processor()}".encode())
    digest.update(_numba_version())
    for path in kernel_sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Where compiled kernels are kept: NUMBA_CACHE_DIR, beside the sources, or the user's if that cannot be written."""
    here, named = Path(__file__).parent, os.environ.get("NUMBA_CACHE_DIR")
    if named:
        return Path(named)
    if os.access(here, os.W_OK):
        return here / "__pycache__"
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "accel"


_CACHE = cache_folder() / f"kernels-{_digest()}"
IS_COLD = not DISABLED and not _CACHE.exists()
"""No process has compiled kernels of these sources before."""
_LOCK = Lock()
"""Held while a kernel is compiled or loaded."""


class Kernel:
    """A function that is compiled for the types of its arguments: when Python calls it, or inside of another kernel.

    Python hands over integers, contiguous arrays and named tuples of these, and gets an integer or nothing. Kernels
    allocate nothing and raise nothing.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.dispatcher = function, None
        self._linked = dict[str, Callable[[int], None]]()

    def __call__(self, *arguments: Any) -> int:
        return self.bind(arguments, 0)()

    def bind(self, arguments: tuple[Any, ...], further: int) -> Call:
        """The kernel with its first arguments; `further` integers will follow. The arrays must stay where they are."""
        key = ",".join([*map(kind, arguments), *["i"] * further])
        with _LOCK:
            if key not in self._linked:
                self._linked[key] = self._link(key, (*arguments, *[0] * further))
        return Call(self._linked[key], arguments, further)

    def _link(self, key: str, arguments: tuple[Any, ...]) -> Callable[[int], None]:
        name = f"{self.function.__module__}.{self.function.__qualname__}"
        path = _CACHE / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.o"
        code = _read(path)
        if code is None:
            from sim.compilation import object_code

            code = object_code(self, arguments)
            _write(path, code)
        return link(code)


def _read(path: Path) -> bytes | None:
    """Object code behind its digest; None if there is none that is whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None


def _write(path: Path, code: bytes) -> None:
    """Keep object code for other processes, if the folder can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, hashlib.sha256(code).digest() + code)
    except OSError:
        return


def kernel(function: _Function) -> _Function:
    """Compile `function` when it is first called, or load it from the cache."""
    return function if DISABLED else cast(_Function, Kernel(function))


class Intrinsic:
    """A function that kernels call, in LLVM's code: Numba's `intrinsic` of `function`, once Numba is there."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.compiled = function, None


def intrinsic(function: Callable[..., Any]) -> Any:
    """An `Intrinsic`, which type checkers let kernels call."""
    return Intrinsic(function)


def bind(function: Callable[..., Any], *arguments: Any, further: int) -> Callable[..., Any]:
    """A kernel with its first arguments, which takes `further` integers: for calls that are many."""
    return function.bind(arguments, further) if isinstance(function, Kernel) else partial(function, *arguments)


@kernel
def index(value: Any) -> Any:
    """A place in an array that is not negative: without Numba's test for places from the end, loops vectorize."""
    return np.uint64(value)


def jit_group(*functions: Callable[..., Any]) -> tuple[Any, ...]:
    """Compile plain functions of another module unchanged; later ones may call earlier ones."""
    compiled: dict[str, Any] = {}
    for function in functions:
        if not isinstance(function, FunctionType):
            raise TypeError(f"function must be a plain function, got {function!r}")
        scope = {**function.__globals__, **compiled}
        copy = FunctionType(function.__code__, scope, function.__name__, function.__defaults__)
        copy.__module__ = function.__module__
        copy.__qualname__ = f"{function.__qualname__}_compiled"
        compiled[function.__name__] = kernel(copy)
    return tuple(compiled.values())
