"""Quantized networks of other frameworks, read into graphs that compute the same integers as their own runtimes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from accel.errors import ModelError
from accel.graph import Graph
from accel.graph_file import load_graph
from accel.importers.onnx_quantized import read_quantized_onnx
from accel.importers.tflite import read_tflite

__all__ = ["load_model", "read_quantized_onnx", "read_tflite"]

_READERS: dict[str, Callable[[str | os.PathLike[str]], Graph]] = {
    ".accel": load_graph,
    ".graph": load_graph,
    ".onnx": read_quantized_onnx,
    ".tflite": read_tflite,
}


def load_model(path: str | os.PathLike[str]) -> Graph:
    """Read a quantized network; the file's suffix tells its format.

    Parameters
    ----------
    path : path
        ``.tflite``, quantized ``.onnx``, or a graph file (``.graph``, ``.accel``).

    Returns
    -------
    Graph
        Mode `tflite` for TensorFlow Lite, `fp32` for ONNX.

    Raises
    ------
    ModelError, GraphError
        The file cannot be read, is damaged, or uses something that is not supported.
    """
    reader = _READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise ModelError(f"model must be a file {', '.join(_READERS)}, got {os.fspath(path)!r}")
    return reader(path)
