"""Opening ONNX files: parsing, checks, data in other files, sizes of inputs."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError, ModelError, reason
from accel.frontends.model_file import ModelSource, read_model
from accel.frontends.onnx.fused import ADVICE
from accel.frontends.onnx.versions import modern
from accel.network.windows import Shape

if TYPE_CHECKING:
    import onnx

ZIP = b"PK\x03\x04"
Shapes = Mapping[str, Shape]
"""Sizes of inputs by name, where the file leaves some free."""
_UNKNOWN = re.compile(r"No Op registered for (\S+) with domain_version of (\d+)")
"""What ONNX's checker says of the operators of later versions that ONNX Runtime's optimizer writes."""
_UNMADE = re.compile(r"^Nodes in a graph must be topologically sorted, however input (\S+) of node.*")
LARGE = 2**14
"""Bytes from which on float32 weights leave the model, which is copied and serialized several times."""


class OnnxFile(NamedTuple):
    """A model whose large weights are inputs, and these weights."""

    model: onnx.ModelProto
    weights: dict[str, NDArray[np.float32]]


def load_onnx(source: ModelSource, shapes: Shapes | None = None) -> OnnxFile:
    """Parse and check a model whose inputs then have known sizes.

    Parameters
    ----------
    source : path or bytes
        Data in other files must lie in the folder of the model, or below it.
    shapes : mapping of str to tuple of int, optional
        Sizes of inputs; a free first size becomes 1 by default.

    Raises
    ------
    ModelError
        The file cannot be read, is no valid ONNX model, keeps data elsewhere, or leaves sizes free.
    InputError
        `shapes` names no input of the model, or contradicts it.
    """
    import onnx.inliner
    from google.protobuf.message import DecodeError

    data = read_model(source)
    kind = _kind(data)
    try:
        model = onnx.load_model_from_string(data)
        del data
        _load_external_data(model, source)
        weights = _taken_weights(model)
        # The memory of a message is freed as a whole: a copy without the weights lets go of them.
        whole, model = model, onnx.ModelProto()
        model.CopyFrom(whole)
        del whole
        for value in (*model.graph.output, *model.graph.value_info):
            # Nobody reads what a file states of results, but the checker wants it there.
            if value.type.WhichOneof("value") in (None, "tensor_type"):
                value.type.tensor_type.shape.SetInParent()
        model.graph.name = model.graph.name or "model"
        model = modern(model)
        onnx.checker.check_model(model)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
    except DecodeError as error:
        raise ModelError(f"model must be an ONNX file, got {kind}") from error
    except (onnx.checker.ValidationError, UnicodeDecodeError) as error:
        problem = _UNMADE.sub(r"input \1 must come from the node that makes it, before it is read", reason(error))
        if unknown := _UNKNOWN.match(problem):
            problem = _unknown_operator(model.graph, *unknown.groups())
        raise ModelError(f"model must be a valid ONNX file: {problem}") from error
    _fix_sizes(model, weights, shapes or {})
    return OnnxFile(model, weights)


def _unknown_operator(graph: onnx.GraphProto, kind: str, version: str) -> str:
    """The sentence for the first operator of a kind that the model's version of ONNX does not define."""
    node = next((node for node in _nodes(graph) if node.op_type == kind), None)
    name = (node.name or next(iter(node.output), "")) if node else ""
    return (
        f"{kind} {name!r} is no operator of version {version} of ONNX; export the model in a version that has it, or "
        f"as operators that this one has; if ONNX Runtime saved the model, save it {ADVICE}"
    )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of graphs inside, too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _kind(data: bytes) -> str:
    """What a file that is none of ONNX's seems to be, and what to do with it."""
    if data[4:8] == b"TFL3":
        return "a TensorFlow Lite file: if it is quantized, give it to `accel compile` or `accel run` as it is"
    if data.startswith(ZIP):
        return "an archive: if it is a graph, it is quantized already, give it to `accel compile` or `accel run`"
    return "a damaged file or one of another kind: export the model again"


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every constant that a graph stores."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors


def _taken_weights(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """Large float32 constants, which become inputs of the model; damaged ones stay, for the checker to name."""
    from onnx import TensorProto, helper

    graph = model.graph
    counts = Counter(tensor.name for tensor in graph.initializer)
    declared = {value.name for value in graph.input}
    weights: dict[str, NDArray[np.float32]] = {}
    kept = []
    for tensor in graph.initializer:
        size = 4 * math.prod(tensor.dims)
        plain = tensor.data_type == TensorProto.FLOAT and tensor.HasField("raw_data") and counts[tensor.name] == 1
        if not plain or size < LARGE or len(raw := tensor.raw_data) != size:
            kept.append(tensor)
            continue
        weights[tensor.name] = np.frombuffer(raw, "<f4").reshape(tuple(tensor.dims))
        if tensor.name not in declared:
            graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return weights


def _load_external_data(model: onnx.ModelProto, source: ModelSource) -> None:
    """Read constants that the model keeps in other files of its folder."""
    import onnx

    external = [t for t in _tensors(model.graph) if t.data_location == onnx.TensorProto.EXTERNAL]
    if not external:
        return
    if isinstance(source, bytes):
        raise ModelError(f"model must be one file, got external data for {external[0].name!r}; give its path")
    folder = Path(os.fspath(source)).resolve().parent
    for tensor in external:
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        path = (folder / location).resolve()
        if not location or not path.is_relative_to(folder) or not path.is_file():
            raise ModelError(f"data of {tensor.name!r} must be a file in the model's folder, got {location!r}")
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise ModelError(f"data of {tensor.name!r} must be readable, got {error}") from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _fix_sizes(model: onnx.ModelProto, weights: Collection[str], shapes: Shapes) -> None:
    """Give every input of the model its sizes."""
    constants = {tensor.name for tensor in model.graph.initializer} | set(weights)
    inputs = [value for value in model.graph.input if value.name not in constants]
    if not inputs:
        raise ModelError("model must have an input, got one whose values are all constants")
    if unknown := sorted(set(shapes) - {value.name for value in inputs}):
        names = ", ".join(repr(value.name) for value in inputs)
        raise InputError(f"shape must be of an input of the model ({names}), got {unknown[0]!r}")
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and not dims and not shapes.get(value.name):
            continue  # one number
        found = tuple(max(dim.dim_value, 0) for dim in dims)  # some exporters write -1 for free
        wanted = shapes.get(value.name) or ((found[0] or 1, *found[1:]) if found else ())
        if len(wanted) != len(found) and found:
            raise InputError(f"shape of {value.name!r} must have {len(found)} sizes, got {tuple(wanted)!r}")
        if any(has not in (0, size) for has, size in zip(found, wanted, strict=False)):
            raise InputError(f"shape of {value.name!r} must fit {found!r} with 0 for free, got {tuple(wanted)!r}")
        if not wanted or any(size <= 0 for size in wanted):
            example = ",".join(str(size or "N") for size in wanted) or "1,N"
            raise ModelError(
                f"model input {value.name!r} must have known sizes, of which only the first may be free, got {found!r} "
                f"with 0 for free; give them: --shape {value.name}={example}, or shapes={{{value.name!r}: (...)}}"
            )
        value.type.tensor_type.shape.ClearField("dim")
        for size in wanted:
            value.type.tensor_type.shape.dim.add().dim_value = size
