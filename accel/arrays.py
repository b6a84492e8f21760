"""Reading and writing arrays for the command line: .npy holds one, .npz several by name."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError
from accel.files import write_atomic
from accel.program import Program

Arrays: TypeAlias = NDArray[Any] | dict[str, NDArray[Any]]


def read_arrays(path: Path) -> Arrays:
    """The array of a .npy file, or the arrays of a .npz file by name.

    Raises
    ------
    InputError
        The file is missing, or is something else.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise InputError(f"{path}: must be a readable .npy or .npz file, got {error.strerror or error}") from None
    except Exception as error:
        # NumPy and zipfile raise half a dozen types for damaged files.
        raise InputError(f"{path}: must be a .npy or .npz file without Python objects, got {error}") from None


def check_target(path: Path, names: list[str]) -> None:
    """Raise InputError unless `write_arrays` can hold arrays of these names in `path`."""
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


def split_samples(program: Program, data: Arrays) -> list[dict[str, NDArray[np.int8]]]:
    """Split a batch along its first axis into inputs of the program's shapes.

    Raises
    ------
    InputError
        A name, type or shape is not the program's; the message has the file's shape.
    """
    if not isinstance(data, dict):
        if len(program.inputs) != 1:
            names = ", ".join(slot.name for slot in program.inputs)
            raise InputError(f"the program has several inputs: give a .npz file with the names {names}")
        data = {program.inputs[0].name: data}
    for slot in program.inputs:
        array = data.get(slot.name)
        if array is not None and (array.dtype != np.int8 or array.ndim == 0 or array.shape[1:] != slot.shape[1:]):
            shape = ", ".join(["samples", *map(str, slot.shape[1:])])
            raise InputError(f"input {slot.name!r} must be int8 of shape ({shape}), got {array.dtype} {array.shape}")
    counts = sorted({len(array) if array.ndim else 0 for array in data.values()})
    if len(counts) != 1 or counts == [0]:
        raise InputError(f"inputs must hold one number of samples along their first axis, got {counts}")
    samples = [{name: array[i : i + 1] for name, array in data.items()} for i in range(counts[0])]
    program.check_inputs(samples[0])
    return samples
