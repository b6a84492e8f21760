"""Networks for others: the integer graph written as a file that another program runs, or hardware people read.

`FORMATS` has one row per format. All of them start from the graph, which is law: a file computes its integers, up to
the rounding of the program that runs it, or `ExportError` says which node it cannot express.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from accel.errors import ExportError, InputError
from accel.exports.inexpressible import InexpressibleError
from accel.files import write_atomic
from accel.frontends import load_model
from accel.frontends.onnx.file import Shapes
from accel.machine.numerics import RequantMode
from accel.network.graph import Graph

__all__ = ["FORMATS", "Export", "Format", "export"]

Files = dict[str, bytes]
"""Contents by name: "" is the path itself, a suffix (".json") replaces its own, any other name lies in the folder."""


@dataclass(frozen=True)
class Export:
    """What was written.

    Parameters
    ----------
    files : tuple of Path
    notes : tuple of str
        Where the program that runs the file may differ from the graph.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...]


class Format(NamedTuple):
    """A format.

    Parameters
    ----------
    write : callable
        From a graph, and a list that gets notes, to files.
    runtime : str
        Who runs it.
    ending : str
        Of the file's name, as other commands expect it; empty for a folder.
    mode : RequantMode or None
        How that program rounds; None if as the graph says.
    """

    write: Callable[[Graph, list[str]], Files]
    runtime: str
    ending: str
    mode: RequantMode | None = None


def _qdq(graph: Graph, notes: list[str]) -> Files:
    return {"": import_module("accel.exports.qdq").write(graph, notes)}


def _qoperator(graph: Graph, notes: list[str]) -> Files:
    return {"": import_module("accel.exports.qoperator").write(graph, notes)}


def _tensorrt(graph: Graph, notes: list[str]) -> Files:
    return {"": import_module("accel.exports.tensorrt").write(graph, notes)}


def _tflite(graph: Graph, notes: list[str]) -> Files:
    return {"": import_module("accel.exports.tflite.write").write(graph, notes)}


def _npz(graph: Graph, notes: list[str]) -> Files:
    arrays, text = import_module("accel.exports.npz").write(graph)
    return {"": arrays, ".json": text}


def _c(graph: Graph, notes: list[str]) -> Files:
    files: Files = import_module("accel.exports.c.write").write(graph)
    return files


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "qdq": Format(_qdq, "ONNX Runtime", ".onnx", RequantMode.FP32),
        "qoperator": Format(_qoperator, "ONNX Runtime", ".onnx", RequantMode.FP32),
        "tensorrt": Format(_tensorrt, "TensorRT", ".onnx", RequantMode.FP32),
        "tflite": Format(_tflite, "TensorFlow Lite (Micro)", ".tflite", RequantMode.TFLITE),
        "npz": Format(_npz, "NumPy", ".npz"),
        "c": Format(_c, "a C99 compiler", ""),
    }
)
"""Every format by name."""


def export(
    model: Graph | str | os.PathLike[str], path: str | os.PathLike[str], *, format: str, shapes: Shapes | None = None
) -> Export:
    """Write a quantized network in a format of `FORMATS`.

    Parameters
    ----------
    model : Graph or path
        A path is read by `accel.load_model`.
    path : path
        File to write; ``npz`` writes a .json file beside it, ``c`` a folder, which is made if it does not exist.
    format : str
        "qdq", "qoperator", "tensorrt" (ONNX), "tflite", "npz" or "c".
    shapes : mapping of str to tuple of int, optional
        Sizes that an ``.onnx`` file leaves free, by name.

    Returns
    -------
    Export
        The files, and where the program that runs them may differ.

    Raises
    ------
    ExportError
        The format cannot express a node; the message names it, and the formats that can.
    InputError
        There is no such format, the path's ending is another format's, or `model` is something else.
    ModelError, GraphError
        See `accel.load_model`.

    Notes
    -----
    Equal graphs give equal bytes.
    """
    if format not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    target = Path(path)
    _check_ending(target, format)
    graph = model if isinstance(model, Graph) else load_model(_as_path(model), shapes=shapes)
    notes: list[str] = []
    try:
        files = FORMATS[format].write(graph, notes)
    except InexpressibleError as error:
        raise ExportError(_refusal(graph, format, error)) from error
    if format == "c":
        target.mkdir(exist_ok=True)
    written = {_place(target, name): data for name, data in files.items()}
    for place, data in written.items():
        write_atomic(place, data)
    return Export(tuple(written), (*notes, *_notes(graph, FORMATS[format])))


def _check_ending(path: Path, format: str) -> None:
    """Raise `InputError` for a name by which a file would be read as one of another format."""
    own = FORMATS[format].ending
    if path.suffix != own and path.suffix in {row.ending for row in FORMATS.values()} - {""}:
        raise InputError(f"{path}: must {f'end in {own}' if own else 'be a folder'} for format {format}")


def _as_path(model: object) -> str | os.PathLike[str]:
    if isinstance(model, str | os.PathLike):
        return model
    raise InputError(f"model must be a graph or a path, got {type(model).__name__}; a program is compiled already")


def _place(path: Path, name: str) -> Path:
    """Where a file of `Files` goes."""
    if not name:
        return path
    return path.with_suffix(name) if name.startswith(".") else path / name


def _notes(graph: Graph, row: Format) -> list[str]:
    """Where any file of a graph in a format may differ."""
    notes = []
    if row.mode not in (None, graph.mode):
        notes.append(f"{row.runtime} rounds as mode {row.mode}, the network has mode {graph.mode}: steps may differ")
    if graph.states:
        names = ", ".join(f"{state.output!r} to {state.input!r}" for state in graph.states)
        notes.append(f"states are inputs and outputs that the user carries from run to run: {names}")
    return notes


def _refusal(graph: Graph, format: str, error: InexpressibleError) -> str:
    """The sentence for a node that a format cannot express, with the formats that can express the whole network."""
    others = [name for name in FORMATS if name != format and _expresses(graph, name)]
    advice = f"export as {' or '.join(others)}" if others else "no format can"
    return f"{error.node.op} {error.node.name!r}: format {format} cannot express {error.what}; {advice}"


def _expresses(graph: Graph, format: str) -> bool:
    try:
        FORMATS[format].write(graph, [])
    except ExportError:
        return False
    return True
