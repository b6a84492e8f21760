"""Reading and writing arrays for the command line: .npy holds one, .npz several by name."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError
from accel.files import write_atomic
from accel.machine.numerics import RequantMode
from accel.network.graph import Tensor
from accel.network.real import dequantize, find_layout, layouts, quantize_real
from accel.program.program import Program

Arrays: TypeAlias = NDArray[Any] | dict[str, NDArray[Any]]


def read_arrays(path: Path) -> Arrays:
    """The array of a .npy file or of a .npz file that holds one under any name; several arrays by name.

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
            arrays = {name: loaded[name] for name in loaded.files}
            return next(iter(arrays.values())) if len(arrays) == 1 else arrays
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
        Samples first: int8, or real numbers, which are quantized, or uint8, if the program's model has inputs of uint8.
        One array is enough if there is one input.
    layout : {"NCHW", "NHWC"}, optional
        Order of images' axes; by default the model's, or the one that fits.

    Raises
    ------
    InputError
        A name, type or shape is not the program's; the message has the file's shape.
    """
    names = [tensor.name for tensor in program.input_tensors]
    if not isinstance(data, dict):
        if len(names) != 1:
            raise InputError(f"the program has several inputs: give a .npz file with the names {', '.join(names)}")
        data = {names[0]: data}
    if sorted(data) != sorted(names):
        raise InputError(f"inputs must be named {', '.join(sorted(names))}, got {', '.join(sorted(data))}")
    batches = {t.name: _as_int8(data[t.name], t, program.mode, layout) for t in program.input_tensors}
    counts = sorted({len(batch) for batch in batches.values()})
    if len(counts) != 1 or counts == [0]:
        raise InputError(f"inputs must hold one number of samples along their first axis, got {counts}")
    return [dict(zip(batches, sample, strict=True)) for sample in zip(*batches.values(), strict=True)]


def join_samples(
    program: Program, samples: Sequence[Mapping[str, NDArray[np.int8]]], layout: str | None, *, real: bool
) -> dict[str, NDArray[Any]]:
    """The outputs of several runs as batches in the model's shapes, or in `layout`: int8, or float32 if `real`."""
    batches: dict[str, NDArray[Any]] = {}
    for tensor in program.output_tensors:
        target = layouts(tensor, layout)[0]
        arrays = [target.from_graph(sample[tensor.name]).reshape(target.samples_shape) for sample in samples]
        batches[tensor.name] = dequantize(np.stack(arrays), tensor) if real else np.stack(arrays)
    return batches


def _as_int8(array: NDArray[Any], tensor: Tensor, mode: RequantMode, layout: str | None) -> list[NDArray[np.int8]]:
    """A batch for one input as the integers that the machine reads, sample by sample."""
    kinds = [np.dtype(tensor.dtype), *([np.dtype(np.uint8)] if tensor.unsigned else [])]
    if layout is None and array.dtype in kinds and tensor.source is None:
        layout = "NHWC"
    source = find_layout(tensor, array.shape[1:], layout, of_samples=True) if array.ndim else None
    if source is None or not (array.dtype in kinds or array.dtype.kind == "f"):
        names = " or ".join(dict.fromkeys([", ".join(map(str, kinds)), "float32"]))
        shape = ", ".join(["samples", *map(str, layouts(tensor, layout)[0].samples_shape)])
        raise InputError(f"input {tensor.name!r} must be {names} of shape ({shape}), got {array.dtype} {array.shape}")
    if tensor.dtype != "int8":
        array = array.astype(tensor.dtype)
    elif array.dtype.kind == "f":
        array = quantize_real(array, tensor, mode)
    elif array.dtype == np.uint8:
        array = (array ^ 0x80).view(np.int8)
    return [source.to_graph(sample.reshape(source.shape), tensor.shape) for sample in array]
