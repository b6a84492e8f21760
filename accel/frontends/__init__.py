"""Quantized networks of other frameworks, read into graphs that compute the same integers as their own runtimes."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.errors import InputError, ModelError
from accel.frontends.model_file import naming, read_model
from accel.network.graph import Graph
from accel.network.graph_file import is_graph, load_graph

if TYPE_CHECKING:
    from accel.frontends.onnx.file import Shapes
    from accel.frontends.onnx.reader import read_quantized_onnx
    from accel.frontends.scalesim import read_scalesim
    from accel.frontends.tflite.reader import read_tflite

__all__ = ["load_model", "read_quantized_onnx", "read_scalesim", "read_tflite"]

_READERS = {
    "read_quantized_onnx": "accel.frontends.onnx.reader",
    "read_scalesim": "accel.frontends.scalesim",
    "read_tflite": "accel.frontends.tflite.reader",
}
"""Readers and their modules, which are imported when they are first used: programs and graphs need none of them."""


def __getattr__(name: str) -> Any:
    if name in _READERS:
        return getattr(import_module(_READERS[name]), name)
    raise AttributeError(f"module 'accel.frontends' has no attribute {name!r}")


def load_model(path: str | os.PathLike[str], *, shapes: Shapes | None = None) -> Graph:
    """Read a quantized network: .tflite and .onnx files by their suffix, graph files by their content.

    Parameters
    ----------
    path : path
        ``.tflite``, quantized ``.onnx``, a graph file, or a ``.csv`` table of SCALE-Sim.
    shapes : mapping of str to tuple of int, optional
        Sizes of inputs that an ``.onnx`` file leaves free, by name.

    Returns
    -------
    Graph
        Mode `tflite` for TensorFlow Lite and tables, `fp32` for ONNX.

    Raises
    ------
    ModelError, GraphError
        The file cannot be read, is damaged, or uses something that is not supported.
    InputError
        `shapes` does not fit the model.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        from accel.frontends.onnx.reader import read_quantized_onnx

        return read_quantized_onnx(path, shapes)
    check_no_shapes(shapes)
    if suffix == ".tflite":
        from accel.frontends.tflite.reader import read_tflite

        return read_tflite(path)
    if suffix == ".csv":
        from accel.frontends.scalesim import read_scalesim

        return read_scalesim(path)
    if suffix not in (".accel", ".graph"):
        with naming(path):
            if not is_graph(read_model(path)):
                raise ModelError("model must be a graph, .tflite or quantized .onnx file, got something else")
    return load_graph(path)


def check_no_shapes(shapes: Shapes | None) -> None:
    """Raise `InputError` if sizes are given for what has its own."""
    if shapes:
        raise InputError("shapes must be given for .onnx files only; other files have their sizes")
