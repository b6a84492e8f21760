"""Model files: their bytes, and their names in error messages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from accel.errors import ModelError, brief

ModelSource: TypeAlias = str | os.PathLike[str] | bytes
"""A model's file, or its content."""


def read_model(source: ModelSource) -> bytes:
    """The content; ModelError if the file cannot be read."""
    try:
        return source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise ModelError(f"model must be a readable file, got {error.strerror}") from error


@contextmanager
def naming(source: ModelSource) -> Iterator[None]:
    """Let every `ModelError` about a file begin with its path."""
    try:
        yield
    except ModelError as error:
        if isinstance(source, bytes):
            raise
        raise ModelError(f"{os.fspath(source)}: {brief(error)}") from error
