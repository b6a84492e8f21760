"""Compiles what Verilator writes: model files in parallel, Verilator's own runtime once per tool version.

The runtime is the larger half of a small machine's build, and it is the same for all machines.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from accel.errors import ToolError
from rtl.testbench.cache import cache_folder, digest, locked

RUNTIME = ("verilated.cpp", "verilated_cov.cpp", "verilated_threads.cpp")
DEFINES = ("-DVERILATOR=1", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0", "-DVM_TRACE=0")
FAST, SLOW = "-O1", "-O0"
"""Optimization of code that runs every cycle, and of code that runs once: more costs more than whole programs take."""

FLAGS = ("-std=gnu++17", "-fPIC", "-w", *DEFINES)
SMALL_BYTES = 300_000
"""Generated files up to this size are compiled as one, so that the common headers are parsed once."""


def compiler() -> str:
    """The C++ compiler; ToolError if there is none."""
    for name in ("g++", "clang++", "c++"):
        if shutil.which(name):
            return name
    raise ToolError("a C++ compiler (g++ or clang++) must be installed to run the Verilog with Verilator")


def run(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    """Standard output of a tool that must succeed; ToolError with the end of its messages otherwise."""
    try:
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ToolError(f"{command[0]} must be installed to build the Verilog simulator") from None
    if done.returncode:
        raise ToolError(
            f"{Path(command[0]).name} must succeed, got exit code {done.returncode}:\n{done.stderr[-4000:]}"
        )
    return done.stdout


def link_library(folder: Path, main: Path, defines: Sequence[str], root: Path, version: str) -> Path:
    """Compile all C++ files in `folder` and `main` to a shared library in `folder`.

    Parameters
    ----------
    folder : Path
        What Verilator wrote.
    main : Path
        The test bench, compiled with `defines`.
    root, version : Path, str
        Verilator's package folder and its version text.
    """
    includes = [f"-I{folder}", f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]
    jobs = [(main, FAST, [*includes, *defines])]
    for speed, slow in ((FAST, False), (SLOW, True)):
        files = sorted(path for path in folder.glob("V*.cpp") if path.stem.endswith("Slow") is slow)
        small = [path for path in files if path.stat().st_size <= SMALL_BYTES]
        unity = folder / f"unity_{'slow' if slow else 'fast'}.cpp"
        unity.write_text("".join(f'#include "{path.name}"\n' for path in small), encoding="utf-8")
        jobs += [(path, speed, includes) for path in [*files, unity] if path not in small]
    jobs.sort(key=lambda job: -job[0].stat().st_size)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 2)) as pool:
        runtime = pool.submit(_runtime, root, version)
        objects = [pool.submit(_compile, source, folder, speed, extra) for source, speed, extra in jobs]
        inputs = [str(future.result()) for future in objects] + [str(path) for path in runtime.result()]
    library = folder / "testbench.so"
    run([compiler(), "-shared", "-o", str(library), *inputs, "-pthread"], folder)
    return library


def _compile(source: Path, folder: Path, speed: str, extra: Sequence[str]) -> Path:
    target = folder / f"{source.stem}.o"
    run([compiler(), *FLAGS, speed, *extra, "-c", str(source), "-o", str(target)], folder)
    return target


def _runtime(root: Path, version: str) -> list[Path]:
    """Verilator's runtime as object files in the cache."""
    key = digest(version, compiler(), *FLAGS, *RUNTIME)
    targets = [cache_folder() / f"{key}-{Path(name).stem}.o" for name in RUNTIME]
    include = root / "include"
    with locked(cache_folder() / f"{key}.lock"):
        for name, target in zip(RUNTIME, targets, strict=True):
            if not target.is_file():
                temporary = target.with_suffix(f".{os.getpid()}.tmp")
                flags = [*FLAGS, "-O2", f"-I{include}", f"-I{include / 'vltstd'}"]
                run([compiler(), *flags, "-c", str(include / name), "-o", str(temporary)], cache_folder())
                os.replace(temporary, target)
    return targets
