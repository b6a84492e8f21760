"""Real arrays in the layouts that users have to and from the int8 tensors of a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError
from accel.machine.numerics import RequantMode, round_half_away
from accel.network.array_layout import ArrayLayout, check_layout, image_layouts
from accel.network.graph import Tensor
from accel.network.windows import Shape


class Network(Protocol):
    """The members that graphs and programs share: mode, inputs and outputs."""

    @property
    def mode(self) -> RequantMode:
        """The requantization mode."""
        ...

    @property
    def input_tensors(self) -> tuple[Tensor, ...]:
        """Inputs, in the model's order."""
        ...

    @property
    def output_tensors(self) -> tuple[Tensor, ...]:
        """Outputs, in the model's order."""
        ...


@overload
def quantize_input(
    network: Network, x: Mapping[str, NDArray[Any]], name: None = None, *, layout: str | None = None
) -> dict[str, NDArray[Any]]: ...


@overload
def quantize_input(
    network: Network, x: NDArray[Any], name: str | None = None, *, layout: str | None = None
) -> NDArray[Any]: ...


def quantize_input(
    network: Network,
    x: NDArray[Any] | Mapping[str, NDArray[Any]],
    name: str | None = None,
    *,
    layout: str | None = None,
) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Quantize one real sample for an input of a graph or program; the model's own integers are taken as they are.

    Parameters
    ----------
    network : Graph or Program
    x : ndarray of real numbers, or mapping of input name to ndarray
        Of shape (1, channels, height, width), (1, height, width, channels) or (1, features). Integers of the model's
        own type (int8, or uint8 where its input is) are quantized already, as for `accel.run`.
    name : str, optional
        The input of one array; not needed if there is one.
    layout : {"NCHW", "NHWC"}, optional
        Order of an image's axes; by default the one that fits the shape.

    Returns
    -------
    ndarray of int8, or dict of them
        In the shape of the network's input; of the input's own type if that is not int8, for the host quantizes it.

    Raises
    ------
    InputError
        `x` does not fit, fits in both orders, or holds values that are not finite, or that the type of an input of
        integers does not have.

    Notes
    -----
    See `quantize_real`; ties as in the network's mode.
    """
    if isinstance(x, Mapping):
        return {key: quantize_input(network, array, key, layout=layout) for key, array in x.items()}
    tensor = _tensor(network.input_tensors, name)
    array = np.asarray(x)
    found = find_layout(tensor, array.shape, layout)
    if found is None:
        shapes = " or ".join(dict.fromkeys(str(known.shape) for known in layouts(tensor, layout)))
        several = array.ndim and find_layout(tensor, (1, *array.shape[1:]), layout) is not None
        advice = "; give one sample, `accel.run` takes several" if several else ""
        raise InputError(f"input {tensor.name!r} must have shape {shapes}, got {array.shape}{advice}")
    if tensor.dtype != "int8":
        return found.to_graph(in_type(array, tensor.dtype, f"input {tensor.name!r}"), tensor.shape)
    if is_stored(array, tensor):
        return found.to_graph(stored(array), tensor.shape)
    if tensor.scale == 1 and array.dtype.kind in "iu":
        in_type(array, "uint8" if tensor.unsigned else "int8", f"input {tensor.name!r}")
    return quantize_real(found.to_graph(np.asarray(array, dtype=np.float32), tensor.shape), tensor, network.mode)


@overload
def dequantize_output(
    network: Network, q: Mapping[str, NDArray[Any]], name: None = None, *, layout: str | None = None
) -> dict[str, NDArray[Any]]: ...


@overload
def dequantize_output(
    network: Network, q: NDArray[Any], name: str | None = None, *, layout: str | None = None
) -> NDArray[Any]: ...


def dequantize_output(
    network: Network,
    q: NDArray[Any] | Mapping[str, NDArray[Any]],
    name: str | None = None,
    *,
    layout: str | None = None,
) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """The real values of an output of a graph or program, or of all outputs of a run.

    Parameters
    ----------
    network : Graph or Program
    q : ndarray, or mapping of output name to ndarray
        In the shape of the network's output; of several samples, one after the other along the first axis. Of int8, or
        the host's own numbers, which stay as they are.
    name : str, optional
        The output of one array; not needed if there is one.
    layout : {"NCHW", "NHWC"}, optional
        Order of an image's axes in the result; by default the graph's, NHWC.

    Raises
    ------
    InputError
        `q` does not have the output's shape, or the network has several outputs and `name` is none of them.
    """
    if isinstance(q, Mapping):
        return {key: dequantize_output(network, array, key, layout=layout) for key, array in q.items()}
    tensor = _tensor(network.output_tensors, name)
    target = layouts(tensor, layout)[0]
    if np.shape(q) == tensor.shape:
        return target.from_graph(dequantize(q, tensor))
    each = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape
    if np.ndim(q) != len(each) + 1 or np.shape(q)[1:] != each or not len(q):
        raise InputError(f"output {tensor.name!r} must have shape {tensor.shape}, got {np.shape(q)}")
    real = np.stack([target.from_graph(dequantize(sample, tensor)) for sample in q])
    return real.reshape(len(q), *target.samples_shape)


def is_stored(x: NDArray[Any], tensor: Tensor) -> bool:
    """Whether an array holds the integers of an int8 tensor: int8, or uint8 where the model's own tensor is."""
    return x.dtype == np.int8 or (tensor.unsigned and x.dtype == np.uint8)


def stored(x: NDArray[Any]) -> NDArray[np.int8]:
    """Integers of 8 bits as the machine has them: those of uint8 less 128."""
    return (x ^ 0x80).view(np.int8) if x.dtype == np.uint8 else x


def in_type(x: NDArray[Any], dtype: str, what: str) -> NDArray[Any]:
    """Numbers in the type of an input; integers and bool must have them all.

    Raises
    ------
    InputError
        A number is none of the type; the message begins with `what`.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        own = x.astype(dtype, copy=False)
    if own.dtype.kind != "f" and np.any(wrong := own != x):
        limits = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        raise InputError(f"{what} must be whole numbers in {limits[0]}..{limits[1]} ({dtype}), got {x[wrong].flat[0]}")
    return own


def quantize_real(x: NDArray[Any], tensor: Tensor, mode: RequantMode) -> NDArray[np.int8]:
    """``clamp(round(x / scale) + zero_point)`` in float32, with the scale and zero point of `tensor`; any shape.

    Raises
    ------
    InputError
        A value is not finite.
    """
    real = np.asarray(x, dtype=np.float32)
    if not np.all(np.isfinite(real)):
        raise InputError(f"input {tensor.name!r} must be finite")
    with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 is beyond int8
        steps = round_real(real / np.float32(tensor.scale), mode) + tensor.zero_point
    return np.ascontiguousarray(np.clip(steps, -128, 127).astype(np.int8))


def dequantize(q: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """``(q - zero_point) * scale`` in float32, with the scale and zero point of `tensor`; any shape.

    A tensor of the host, which is not int8, stays as it is.
    """
    if tensor.dtype != "int8":
        return q
    return np.asarray((q.astype(np.float32) - np.float32(tensor.zero_point)) * np.float32(tensor.scale))


def round_real(x: NDArray[np.floating], mode: RequantMode) -> NDArray[np.float64]:
    """Reals to integers as the runtimes of `mode` do: ties to even in `fp32`, away from zero otherwise."""
    return np.rint(x).astype(np.float64) if mode is RequantMode.FP32 else round_half_away(x)


def layouts(tensor: Tensor, layout: str | None) -> list[ArrayLayout]:
    """The layouts in which arrays may hold a tensor, the usual one first; `layout` chooses among those of images.

    Raises
    ------
    InputError
        `layout` is not known.
    """
    check_layout(layout)
    own = [tensor.source] if tensor.source else []
    if len(tensor.shape) != 4 or tensor.dtype != "int8":
        return [*own, ArrayLayout.row_major(tensor.shape)]
    images = image_layouts(tensor.shape)
    if layout is None:
        return [*own, images["NHWC"], images["NCHW"]]
    return [images[layout], *(source for source in own if len(source.shape) != 4)]


def find_layout(tensor: Tensor, shape: Shape, layout: str | None, *, of_samples: bool = False) -> ArrayLayout | None:
    """The layout of an array of `shape` that holds `tensor`; None if no layout fits.

    Parameters
    ----------
    tensor : Tensor
    shape : tuple of int
        Of an array for one inference; if `of_samples`, of one sample in a batch.
    layout : {"NCHW", "NHWC"} or None

    Raises
    ------
    InputError
        The shape fits images in both orders.
    """
    known = layouts(tensor, layout)
    fitting = [found for found in known if (found.samples_shape if of_samples else found.shape) == shape]
    if len(set(fitting) - {tensor.source}) > 1 and tensor.source not in fitting and sum(n > 1 for n in shape) > 1:
        raise InputError(f"input {tensor.name!r} of shape {shape} may be NCHW or NHWC: give the layout")
    return fitting[0] if fitting else None


def _tensor(tensors: tuple[Tensor, ...], name: str | None) -> Tensor:
    names = tuple(tensor.name for tensor in tensors)
    if name is None and len(tensors) == 1:
        return tensors[0]
    if name not in names:
        raise InputError(f"name must be one of {names!r}, got {name!r}")
    return tensors[names.index(name)]
