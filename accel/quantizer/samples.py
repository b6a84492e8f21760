"""Calibration data of any kind, as samples in the network's shapes, one at a time: memory does not grow with them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError, unreadable_arrays
from accel.network.real import in_type
from accel.network.windows import Shape
from accel.quantized.network import Network
from accel.quantizer.images import is_image, read_image

Sample = dict[str, NDArray[Any]]
Calibration = Any
"""Arrays, samples first, alone or by input name; a path (.npy, .npz, a folder of .npy files and images); an iterable
(DataLoader, generator, iterator) of samples or batches; a function that returns one; an object with ``get_next()``."""


def samples_of(network: Network, source: Calibration) -> Iterator[Sample]:
    """Samples by input name, float32 (or the input's type), each in the network's shapes.

    Parameters
    ----------
    network : Network
    source : Calibration
        Tensors of other libraries are read by ``__array__``; of a tuple or list, as (images, labels), the first ones
        are the network's inputs. Arrays keep their type, and files stay on disk, until their sample's turn comes.

    Raises
    ------
    InputError
        A name, shape, type or value does not fit, or there are no samples.
    """
    found = False
    for item in items_of(source):
        for sample in _split(network, item):
            found = True
            yield sample
    if not found:
        raise InputError("calibration must hold at least one sample, got none")


def repeatable(network: Network, source: Calibration) -> Calibration:
    """The source, or all its samples if it gives them only once."""
    once = hasattr(source, "__next__") or hasattr(source, "get_next")
    return list(samples_of(network, source)) if once else source


def sample_count(source: Calibration) -> int:
    """How many samples there are, where that is known beforehand; otherwise 0."""
    if isinstance(source, Mapping) and source:
        source = next(iter(source.values()))
    return len(source) if isinstance(source, np.ndarray) and source.ndim else 0


def items_of(source: Calibration) -> Iterator[Any]:
    """Samples or batches, as the source has them."""
    if isinstance(source, str | os.PathLike):
        yield from _read(Path(source))
    elif isinstance(source, Mapping) or hasattr(source, "__array__"):
        yield source
    elif hasattr(source, "get_next"):
        while (item := source.get_next()) is not None:
            yield item
    elif callable(source):
        yield from items_of(source())
    elif isinstance(source, Iterable):
        yield from source
    else:
        raise InputError(
            f"calibration must be an array, a mapping of input names to arrays, a path, an iterable of samples or a "
            f"reader with get_next(), got {type(source).__name__}"
        )


def _split(network: Network, item: Any) -> Iterator[Sample]:
    """The samples of one item: itself, or each of a batch."""
    names = network.inputs
    if isinstance(item, tuple | list) and all(hasattr(part, "__array__") for part in item):
        item = dict(zip(names, item, strict=False))
    if not isinstance(item, Mapping):
        if len(names) != 1:
            raise InputError(f"calibration must map the names {names!r} to arrays, got one array")
        item = {names[0]: item}
    if set(item) != set(names):
        raise InputError(f"calibration must have the inputs {names!r}, got {tuple(item)!r}: name the arrays so")
    batches = {name: _batch(network, name, value) for name, value in item.items()}
    if len({len(batch) for batch in batches.values()}) != 1:
        got = ", ".join(f"{len(batch)} of {name!r}" for name, batch in batches.items())
        raise InputError(f"calibration must have equally many samples of every input, got {got}")
    for index in range(len(batches[names[0]])):
        yield {name: _number(network, name, batch[index]) for name, batch in batches.items()}


def _batch(network: Network, name: str, value: Any) -> NDArray[Any]:
    """Samples of one input along the first axis, in their own type."""
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever a library's __array__ raises
        raise InputError(f"calibration of {name!r} must be an array, got {type(value).__name__}: {error}") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"calibration of {name!r} must be real numbers, got {array.dtype}")
    shape = shape_of_sample(network, name)
    if array.shape == shape:
        return array[None]
    if array.shape[1:] != shape or len(array) == 0:
        raise InputError(f"calibration of {name!r} must have shape (samples, {str(shape)[1:]}, got {array.shape!r}")
    return array


def _number(network: Network, name: str, sample: NDArray[Any]) -> NDArray[Any]:
    """One sample in the input's type and shape."""
    info, found = network.tensors[name], network.parameters.get(name)
    values = np.asarray(sample).reshape(info.shape)
    if found is None or found.is_number:
        values = in_type(values, info.dtype, f"calibration of {name!r}")
    if found is not None:  # the real numbers that integers stand for
        values = values.astype(np.float32)
    if not np.all(np.isfinite(values)):
        raise InputError(f"calibration of {name!r} must be finite")
    return values


def shape_of_sample(network: Network, name: str) -> Shape:
    """The shape of one sample: without the batch, where the input has one."""
    shape = network.tensors[name].shape
    return shape[1:] if shape[:1] == (1,) and len(shape) > 1 else shape


def _read(path: Path) -> Iterator[Any]:
    """The arrays of a file, or of the files of a folder in the order of their names."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix == ".npy" or is_image(file))
        if not files:
            raise InputError(f"{path}: folder must hold .npy files or images, got neither")
        for file in files:
            yield read_image(file) if is_image(file) else _guarded(file, partial(np.load, file, allow_pickle=False))
        return
    if path.suffix == ".npz":
        yield from _archive(path)
    else:
        yield _guarded(path, lambda: np.load(path, mmap_mode="r", allow_pickle=False))


def _archive(path: Path) -> Iterator[Sample]:
    """The samples of a .npz file, read one after the other."""
    with ExitStack() as stack:
        archive = stack.enter_context(_guarded(path, lambda: zipfile.ZipFile(path)))
        files = {Path(name).stem: stack.enter_context(archive.open(name)) for name in archive.namelist()}
        headers = {name: _guarded(path, partial(_header, file)) for name, file in files.items()}
        if not headers:
            raise InputError(f"{path}: must hold arrays by the names of the inputs, got none")
        if any(fortran or dtype.hasobject or not shape for shape, fortran, dtype in headers.values()):
            raise InputError(f"{path}: arrays must be numbers in C order, samples first")
        if len({shape[0] for shape, _, _ in headers.values()}) != 1:
            got = ", ".join(f"{shape[0]} of {name!r}" for name, (shape, _, _) in headers.items())
            raise InputError(f"calibration must have equally many samples of every input, got {got}")
        for _ in range(next(iter(headers.values()))[0][0]):
            yield {name: _next(path, file, *headers[name]) for name, file in files.items()}


def _header(file: IO[bytes]) -> tuple[Shape, bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _next(path: Path, file: IO[bytes], shape: Shape, _: bool, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The next sample of an array of this shape, as a batch of one."""
    size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    data = _guarded(path, lambda: file.read(size))
    if len(data) != size:
        raise InputError(f"{path}: file must be whole, got its beginning only")
    return np.frombuffer(data, dtype).reshape(1, *shape[1:])


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    """What `read` gives; any error of a damaged file as one sentence."""
    try:
        return read()
    except Exception as error:
        raise unreadable_arrays(path, error) from None
