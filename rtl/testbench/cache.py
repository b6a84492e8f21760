"""The user's cache of emitted Verilog and built simulators."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import rtl
from accel import machine
from accel.files import write_atomic
from accel.machine.config import ArchConfig
from rtl.verilog import emit


def cache_folder() -> Path:
    """`$ACCEL_CACHE_DIR`, `$XDG_CACHE_HOME/accel` or `~/.cache/accel`; created if it does not exist."""
    chosen = os.environ.get("ACCEL_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(chosen) if chosen else Path(base) / "accel"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(*parts: str | bytes) -> str:
    """A name for content: 32 hexadecimal digits of SHA-256 over the parts and their lengths."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()[:32]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` (created next to what it protects), so that only one process builds."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def machine_sources() -> list[Path]:
    """Files of Python and Verilog that the Verilog of a machine depends on."""
    folders = (Path(rtl.__file__).parent, Path(machine.__file__).parent)
    return [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in (".py", ".v")]


def verilog_path(config: ArchConfig) -> Path:
    """Where the cache has the Verilog of a machine, if it has it."""
    sources = (path.read_bytes() for path in machine_sources())
    return cache_folder() / f"{digest(config.to_toml(), metadata.version('amaranth'), *sources)}.v"


def cached_verilog(config: ArchConfig) -> str:
    """`emit(config, verification=True)`, kept in the cache until a source file of the machine changes."""
    path = verilog_path(config)
    if not path.is_file():
        write_atomic(path, emit(config, verification=True).encode())
    return path.read_text(encoding="utf-8")
