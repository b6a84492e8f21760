"""Reading and writing arrays for the command line: .npy holds one, .npz several by name."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError, unreadable_arrays
from accel.files import write_atomic

Arrays: TypeAlias = NDArray[Any] | dict[str, NDArray[Any]]


def read_arrays(path: Path) -> Arrays:
    """The array of a .npy file; those of a .npz file by name.

    Raises
    ------
    InputError
        The file is missing, or is something else.
    """
    try:
        with path.open("rb") as file:  # NumPy leaves a damaged file open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:
        raise unreadable_arrays(path, error) from None


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Problems with arrays name the file that they come from."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_array(path: Path) -> NDArray[Any]:
    """The only array of a file, under any name; InputError unless it holds one."""
    found = read_arrays(path)
    if not isinstance(found, dict):
        return found
    if len(found) != 1:
        raise InputError(f"{path}: must hold one array, got {', '.join(found) or 'none'}")
    return next(iter(found.values()))


def check_target(path: Path, names: list[str]) -> None:
    """Raise InputError unless `write_arrays` can hold arrays of these names in `path`."""
    if path.suffix not in (".npy", ".npz"):
        raise InputError(f"{path}: must end in .npy, or in .npz for several arrays by name")
    if len(names) > 1 and path.suffix != ".npz":
        raise InputError(f"{path}: must end in .npz to hold {', '.join(names)}")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write one array to .npy, or all to a path that ends in .npz; equal arrays give equal bytes."""
    check_target(path, list(arrays))
    buffer = io.BytesIO()
    if path.suffix != ".npz":
        np.save(buffer, next(iter(arrays.values())), allow_pickle=False)
    else:
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, array in arrays.items():
                member = io.BytesIO()
                np.save(member, array, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    write_atomic(path, buffer.getvalue())
