"""Real arrays in the float model's layout to and from the int8 arrays of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError
from accel.machine.numerics import RequantMode
from accel.network.graph import Graph, Tensor
from accel.quantizer.parameters import round_real


def quantize_input(graph: Graph, x: NDArray[Any], name: str | None = None, *, layout: str = "NCHW") -> NDArray[np.int8]:
    """Quantize one real sample for an input of `graph`.

    Parameters
    ----------
    graph : Graph
    x : ndarray of real numbers, shape (1, channels, height, width) or (1, features)
        With `layout` NHWC, shape (1, height, width, channels).
    name : str, optional
        The input; not needed if there is one.
    layout : {"NCHW", "NHWC"}

    Returns
    -------
    ndarray of int8
        In the shape of the graph's input.

    Raises
    ------
    InputError
        `x` does not fit, or holds values that are not finite.

    Notes
    -----
    See `quantize_real`; ties as in the graph's mode.
    """
    tensor = _tensor(graph, graph.inputs, name)
    real = np.asarray(x, dtype=np.float32)
    if real.ndim == 4 and _is_nchw(layout):
        real = real.transpose(0, 2, 3, 1)
    if real.shape != tensor.shape:
        expected = _in_layout(tensor.shape, layout)
        raise InputError(f"input {tensor.name!r} must have shape {expected} ({layout}), got {np.shape(x)}")
    return quantize_real(real, tensor, graph.mode)


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
    steps = round_real(real / np.float32(tensor.scale), mode) + tensor.zero_point
    return np.ascontiguousarray(np.clip(steps, -128, 127).astype(np.int8))


def dequantize_output(
    graph: Graph, q: NDArray[np.int8], name: str | None = None, *, layout: str = "NCHW"
) -> NDArray[np.float32]:
    """The real values ``(q - zero_point) * scale`` of an output of `graph`, images in `layout`.

    Raises
    ------
    InputError
        `q` does not have the output's shape, or the graph has several outputs and `name` is none of them.
    """
    tensor = _tensor(graph, graph.outputs, name)
    if q.shape != tensor.shape:
        raise InputError(f"output {tensor.name!r} must have shape {tensor.shape}, got {q.shape}")
    real = (q.astype(np.float32) - np.float32(tensor.zero_point)) * np.float32(tensor.scale)
    return np.ascontiguousarray(real.transpose(0, 3, 1, 2) if q.ndim == 4 and _is_nchw(layout) else real)


def _tensor(graph: Graph, names: tuple[str, ...], name: str | None) -> Tensor:
    if name is None and len(names) == 1:
        return graph.tensors[names[0]]
    if name not in names:
        raise InputError(f"name must be one of {names!r}, got {name!r}")
    return graph.tensors[name]


def _is_nchw(layout: str) -> bool:
    if layout not in ("NCHW", "NHWC"):
        raise InputError(f"layout must be 'NCHW' or 'NHWC', got {layout!r}")
    return layout == "NCHW"


def _in_layout(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 and _is_nchw(layout) else shape
