"""Evaluating what is constant once all sizes are known: constants, and arithmetic on shapes.

The evaluator is that of the package `onnx`, node by node (docs/adr/0007): names stay, quantized operators stay, and
a damaged file meets Python only.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError, reason
from accel.frontends.onnx.control_flow import as_functions, inline_known_branches
from accel.frontends.onnx.padding import state_first_padding
from accel.frontends.onnx.pool_sizes import disagreeing, given, has_unsure
from accel.network.windows import Shape
from accel.quantized.builder import LARGEST_TENSOR

if TYPE_CHECKING:
    import onnx

Arrays = dict[str, NDArray[Any]]
MOST_ROUNDS = 8
"""Folding may make more shapes known; more rounds than this are not needed by what exporters write."""
KEPT = {"QuantizeLinear", "DequantizeLinear", "RandomNormal", "RandomUniform", "Multinomial", "Bernoulli"}
"""Operators that stay although their inputs are constant: parameters of integers, and random numbers."""
UNBOUNDED = {"ConstantOfShape", "Expand", "Range", "Tile", "Resize", "Upsample", "OneHot", "Pad"}
"""Operators whose results may be much larger than their inputs: evaluated only if the size is known and sane."""


def fold(model: onnx.ModelProto, weights: Mapping[str, NDArray[Any]]) -> tuple[Arrays, dict[str, tuple[Shape, str]]]:
    """Evaluate all constant nodes of `model` and remove them, and choose branches whose condition is constant.

    What is left of control flow becomes functions.

    Parameters
    ----------
    model : onnx.ModelProto
    weights : mapping of str to ndarray
        Values of inputs of the model that are constants.

    Returns
    -------
    (dict of str to ndarray, dict of str to (tuple of int, str))
        All constants, those of the file and `weights` included; the shapes that can be known, with types.

    Raises
    ------
    ModelError
        Shapes contradict each other, or a constant cannot be evaluated.
    """
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer} | dict(weights)
    known: dict[str, tuple[Shape, str]] = {}
    for _ in range(MOST_ROUNDS):
        known = infer(model, strict=False)
        sizes = {name: value.shape for name, value in constants.items()}
        while state_first_padding(model, shapes := sizes | {name: shape for name, (shape, _) in known.items()}):
            known = infer(model, strict=False)
        folded, inlined = _fold_once(model, constants, shapes), inline_known_branches(model, constants)
        if not folded and not inlined:
            break
    as_functions(model, constants, known)
    return constants, known


def infer(model: onnx.ModelProto, *, strict: bool) -> dict[str, tuple[Shape, str]]:
    """Every shape that can be known from those of the inputs, and types; what the file states is not trusted.

    Raises
    ------
    ModelError
        If `strict`: shapes contradict each other.
    """
    del model.graph.value_info[:]
    given_types = {value.name: value.type for value in model.graph.input}
    for output in model.graph.output:
        output.type.Clear()
        if output.name in given_types:
            output.type.CopyFrom(given_types[output.name])
    while has_unsure(model):
        shapes = {name: shape for name, (shape, _) in _inferred(model, strict=False).items()}
        found = disagreeing(model, shapes)
        if not found:
            break
        model = given(model, found)
    return _inferred(model, strict=strict)


def _inferred(model: onnx.ModelProto, *, strict: bool) -> dict[str, tuple[Shape, str]]:
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=strict, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"model must have consistent shapes: {reason(error)}") from error
    shapes: dict[str, tuple[Shape, str]] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
            sizes = tuple(dim.dim_value for dim in dims)
            shapes[value.name] = sizes, {"float": "float32", "double": "float32"}.get(kind, kind)
    return shapes


def _fold_once(model: onnx.ModelProto, constants: Arrays, shapes: dict[str, Shape]) -> bool:
    """Evaluate the nodes that are constant now; True if there were any."""
    from onnx import numpy_helper

    kept, found = [], False
    for node in model.graph.node:
        values = _evaluated(model, node, constants, shapes)
        if values is None:
            kept.append(node)
            continue
        found = True
        for name, value in values.items():
            constants[name] = value
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return found


def _evaluated(
    model: onnx.ModelProto, node: onnx.NodeProto, constants: Arrays, shapes: dict[str, Shape]
) -> Arrays | None:
    """The outputs of a node, if they are constant."""
    if node.domain not in ("", "ai.onnx") or node.op_type in KEPT:
        return None
    if node.op_type in ("Shape", "Size") and node.input and node.input[0] in shapes:
        return {node.output[0]: _shape_of(node, shapes[node.input[0]])}
    if not all(name in constants for name in node.input if name) or any(a.HasField("g") for a in node.attribute):
        return None
    sizes = [math.prod(shapes[name]) if name in shapes else math.inf for name in node.output if name]
    if node.op_type in UNBOUNDED and max(sizes, default=0) > LARGEST_TENSOR:
        return None
    return evaluate(node, model.opset_import, constants)


def _shape_of(node: onnx.NodeProto, shape: Shape) -> NDArray[np.int64]:
    """The result of Shape or Size, whose input has a known shape."""
    if node.op_type == "Size":
        return np.array(math.prod(shape), dtype=np.int64)
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(shape[bounds.get("start", 0) : bounds.get("end", len(shape))], dtype=np.int64)


def evaluate(node: onnx.NodeProto, versions: Iterable[onnx.OperatorSetIdProto], constants: Arrays) -> Arrays:
    """The outputs of a node with constant inputs; ModelError if it has none."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    names = [name for name in node.input if name]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output if name]
    inputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in dict.fromkeys(names)]
    graph = helper.make_graph([node], "constant", inputs, outputs)
    single = helper.make_model(graph, opset_imports=list(versions))
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            values = ReferenceEvaluator(single).run(None, {name: constants[name] for name in names})
    except Exception as error:
        raise ModelError(f"{node.op_type} {node.name!r}: constant cannot be evaluated: {reason(error)}") from error
    return {value.name: np.asarray(result) for value, result in zip(outputs, values, strict=True)}
