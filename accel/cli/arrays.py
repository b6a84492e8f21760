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
from accel.machine.numerics import RequantMode
from accel.program.program import Program, TensorSlot
from accel.quantizer.convert import quantize_real

Arrays: TypeAlias = NDArray[Any] | dict[str, NDArray[Any]]
_LAYOUTS = {"NHWC": (0, 1, 2, 3), "NCHW": (0, 2, 3, 1)}
"""Orders of images' axes, and how each is transposed to the first."""


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


def split_samples(program: Program, data: Arrays, layout: str | None = None) -> list[dict[str, NDArray[np.int8]]]:
    """Split a batch along its first axis into inputs of the program's shapes.

    Parameters
    ----------
    program : Program
    data : ndarray, or dict of str to ndarray
        int8 in the program's shapes, samples first; or real numbers, which are quantized; or uint8, if the program's
        model has inputs of uint8.
    layout : {"NCHW", "NHWC"}, optional
        Order of real images; by default the one that fits the shape.

    Raises
    ------
    InputError
        A name, type or shape is not the program's; the message has the file's shape.
    """
    if layout not in (None, *_LAYOUTS):
        raise InputError(f"layout must be one of {', '.join(_LAYOUTS)}, got {layout!r}")
    if not isinstance(data, dict):
        if len(program.inputs) != 1:
            names = ", ".join(slot.name for slot in program.inputs)
            raise InputError(f"the program has several inputs: give a .npz file with the names {names}")
        data = {program.inputs[0].name: data}
    known = {slot.name: slot for slot in program.inputs}
    data = {
        name: _as_int8(array, known[name], program.mode, layout) if name in known else array
        for name, array in data.items()
    }
    counts = sorted({len(array) if array.ndim else 0 for array in data.values()})
    if len(counts) != 1 or counts == [0]:
        raise InputError(f"inputs must hold one number of samples along their first axis, got {counts}")
    samples = [{name: array[i : i + 1] for name, array in data.items()} for i in range(counts[0])]
    program.check_inputs(samples[0])
    return samples


def _as_int8(array: NDArray[Any], slot: TensorSlot, mode: RequantMode, layout: str | None) -> NDArray[np.int8]:
    """A batch for one input as the integers that the machine reads."""
    if array.ndim and array.shape[1:] == slot.shape[1:] and array.dtype == np.int8:
        return array
    if array.ndim and array.shape[1:] == slot.shape[1:] and array.dtype == np.uint8 and slot.unsigned:
        return (array ^ 0x80).view(np.int8)
    if array.dtype.kind == "f" and (order := _order(array, slot, layout)):
        return quantize_real(array.transpose(order), slot.tensor, mode)
    kinds = "int8, uint8 or float32" if slot.unsigned else "int8 or float32"
    shape = ", ".join(["samples", *map(str, slot.shape[1:])])
    raise InputError(f"input {slot.name!r} must be {kinds} of shape ({shape}), got {array.dtype} {array.shape}")


def _order(array: NDArray[Any], slot: TensorSlot, layout: str | None) -> tuple[int, ...]:
    """How to transpose a batch to the order of axes of an input; empty if no order fits."""
    inner = slot.shape[1:]
    orders = [order for name, order in _LAYOUTS.items() if layout in (None, name)] if len(inner) == 3 else [(0, 1)]
    fitting = [o for o in orders if array.ndim == len(o) and tuple(array.shape[axis] for axis in o[1:]) == inner]
    if len(fitting) > 1 and set(inner) != {1}:
        raise InputError(f"input {slot.name!r} of shape {array.shape} may be NCHW or NHWC: say which with --layout")
    return fitting[0] if fitting else ()
