"""Users' arrays, one sample or many, to and from the tensors of a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError
from accel.machine.numerics import RequantMode
from accel.network.graph import Tensor
from accel.network.real import dequantize, find_layout, in_type, layouts, quantize_real, stored
from accel.program.program import Program

Arrays: TypeAlias = NDArray[Any] | Mapping[str, NDArray[Any]]
"""One array, or several by name."""
Sample: TypeAlias = dict[str, NDArray[Any]]
"""Inputs or outputs of one run, in the shapes and types of a program's tensors."""


def program_samples(program: Program, inputs: Arrays, layout: str | None = None) -> list[Sample]:
    """Samples for runs of a program.

    Parameters
    ----------
    program : Program
    inputs : ndarray, or mapping of str to ndarray
        In the shapes and types of `Program.inputs`, of which int8 ones may hold more samples than 1 along their first
        axis; or what `split_samples` takes.
    layout : {"NCHW", "NHWC"}, optional
        As for `split_samples`.

    Raises
    ------
    InputError
        `program` is none, or a name, type or shape is not the program's.
    """
    if not isinstance(program, Program):
        raise InputError(
            f"program must be a Program, got {type(program).__name__}: "
            "make one with `accel.compile` or `accel.load_program`"
        )
    arrays = _by_name(program, inputs)
    if layout is not None or not all(_is_own(arrays[tensor.name], tensor) for tensor in program.input_tensors):
        return split_samples(program, inputs, layout)
    batches = {t.name: arrays[t.name] if t.dtype == "int8" else arrays[t.name][None] for t in program.input_tensors}
    return _zipped({t.name: [np.asarray(a).reshape(t.shape) for a in batches[t.name]] for t in program.input_tensors})


def split_samples(program: Program, data: Arrays, layout: str | None = None) -> list[Sample]:
    """Split a batch along its first axis into inputs of the program's shapes.

    Parameters
    ----------
    program : Program
    data : ndarray, or mapping of str to ndarray
        Samples first: int8, or real numbers, which are quantized, or uint8, if the program's model has inputs of uint8.
        One array is enough if there is one input.
    layout : {"NCHW", "NHWC"}, optional
        Order of images' axes; by default the model's, or the one that fits.

    Raises
    ------
    InputError
        A name, type or shape is not the program's, or a value is not finite.
    """
    arrays = _by_name(program, data)
    return _zipped({t.name: _as_own(arrays[t.name], t, program.mode, layout) for t in program.input_tensors})


def join_samples(
    program: Program, samples: Sequence[Mapping[str, NDArray[Any]]], layout: str | None, *, real: bool
) -> Sample:
    """The outputs of several runs as batches in the model's shapes, or in `layout`.

    Int8, uint8 where the model's output is, or float32 if `real`.
    """
    batches: Sample = {}
    for tensor in program.output_tensors:
        target = layouts(tensor, layout)[0]
        arrays = [target.from_graph(sample[tensor.name]).reshape(target.samples_shape) for sample in samples]
        batch = np.stack(arrays)
        if real:
            batch = dequantize(batch, tensor)
        elif tensor.unsigned:
            batch = batch.view(np.uint8) ^ np.uint8(0x80)
        batches[tensor.name] = batch
    return batches


def join_own(program: Program, samples: Sequence[Mapping[str, NDArray[Any]]]) -> Sample:
    """The outputs of one run as they are; those of several one after the other along their first axis."""
    if len(samples) == 1:
        return dict(samples[0])
    return {
        tensor.name: (np.concatenate if tensor.shape[:1] == (1,) else np.stack)([one[tensor.name] for one in samples])
        for tensor in program.output_tensors
    }


def _by_name(program: Program, data: Arrays) -> Mapping[str, NDArray[Any]]:
    """Arrays by the names of the inputs; InputError names what is missing or too much."""
    names = [tensor.name for tensor in program.input_tensors]
    if not isinstance(data, Mapping):
        if len(names) != 1:
            raise InputError(f"the model has several inputs: give them by the names {', '.join(names)}, got one array")
        return {names[0]: data}
    if sorted(data) == sorted(names):
        return data
    got = ", ".join(sorted(map(str, data))) or "none"
    missing = [name for name in names if name not in data]
    wrong = missing or [name for name in data if name not in names]
    problem = f"{', '.join(map(str, wrong))} {'is missing' if missing else 'is none of them'}"
    raise InputError(f"inputs must be named {', '.join(sorted(names))}, got {got}: {problem}")


def _zipped(batches: Mapping[str, Sequence[NDArray[Any]]]) -> list[Sample]:
    """Batches of one length as samples."""
    counts = {name: len(batch) for name, batch in batches.items()}
    if len(set(counts.values())) > 1:
        got = " and ".join(f"{count} of {name!r}" for name, count in counts.items())
        raise InputError(f"inputs must hold one number of samples along their first axis, got {got}")
    if 0 in counts.values():
        raise InputError("inputs must hold at least one sample along their first axis, got none")
    return [dict(zip(batches, sample, strict=True)) for sample in zip(*batches.values(), strict=True)]


def _is_own(array: Any, tensor: Tensor) -> bool:
    """Whether an array has the type and shape of a program's tensor; one of int8 may be a batch."""
    if not isinstance(array, np.ndarray) or array.dtype != tensor.dtype:
        return False
    return array.shape == tensor.shape or (tensor.dtype == "int8" and array.shape[1:] == tensor.shape[1:])


def _as_own(array: Any, tensor: Tensor, mode: RequantMode, layout: str | None) -> list[NDArray[Any]]:
    """A batch for one input as the integers that the machine reads, sample by sample."""
    kinds = [np.dtype(tensor.dtype), *([np.dtype(np.uint8)] if tensor.unsigned else [])]
    array = np.asarray(array)
    if layout is None and array.dtype in kinds and tensor.source is None:
        layout = "NHWC"
    source = find_layout(tensor, array.shape[1:], layout, of_samples=True) if array.ndim else None
    if source is None or not (array.dtype in kinds or array.dtype.kind == "f"):
        names = " or ".join(dict.fromkeys([", ".join(map(str, kinds)), "float32"]))
        shape = ", ".join(["samples", *map(str, layouts(tensor, layout)[0].samples_shape)])
        raise InputError(f"input {tensor.name!r} must be {names} of shape ({shape}), got {array.dtype} {array.shape}")
    if tensor.dtype != "int8":
        array = in_type(array, tensor.dtype, f"input {tensor.name!r}")
    elif array.dtype.kind == "f":
        array = quantize_real(_finite(array, tensor), tensor, mode)
    else:
        array = stored(array)
    return [source.to_graph(sample.reshape(source.shape), tensor.shape) for sample in array]


def _finite(batch: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """The batch; InputError names the first sample with a value that is not finite."""
    for number, sample in enumerate(batch):
        if not np.all(np.isfinite(sample)):
            value = sample[~np.isfinite(sample)].flat[0]
            raise InputError(f"input {tensor.name!r} must be finite, got {value} in sample {number}")
    return batch
