"""Compilation with Numba: one decorator, cached on disk under a key that covers everything that is compiled.

Numba freezes the globals of other modules into cached code without noticing when those change, so the cache folder
carries a digest of all sources that kernels draw on: the simulator and the machine. With NUMBA_DISABLE_JIT=1
everything runs as plain Python.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

import numba
import numpy as np

from accel import machine
from sim.fast.vectors import DOT

_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel_sources() -> list[Path]:
    """Files that kernels draw on."""
    folders = (Path(__file__).parent, Path(str(machine.__file__)).parent)
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def _digest() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {DOT}".encode())
    for path in kernel_sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


_CACHE = str(Path(numba.config.CACHE_DIR or Path(__file__).parent / "__pycache__") / f"numba-{_digest()}")
DISABLED = bool(numba.config.DISABLE_JIT)
"""Kernels run as plain Python."""
IS_COLD = not DISABLED and not Path(_CACHE).exists()
"""No process has compiled kernels of these sources before."""


def _cache_folder() -> str:
    """The folder for compiled code, or "" (Numba's own choice) if it cannot be written."""
    try:
        Path(_CACHE).mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return _CACHE


def jit(function: _Function) -> _Function:
    """Compile `function` at its first call, or load it from the cache."""
    return _compile(function, entry=True)


def kernel(function: _Function) -> _Function:
    """`jit` without the wrappers for Python, in less time; Python must not call the result, that would crash."""
    return _compile(function, entry=False)


def _compile(function: _Function, entry: bool) -> _Function:
    if DISABLED:
        return function
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = _cache_folder()
    try:
        compiled: _Function = numba.njit(
            function,
            cache=True,
            error_model="numpy",
            nogil=True,
            no_cfunc_wrapper=True,
            no_cpython_wrapper=not entry,
            forceinline=not entry,
        )
    finally:
        numba.config.CACHE_DIR = before
    return compiled


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
        compiled[function.__name__] = jit(copy)
    return tuple(compiled.values())
