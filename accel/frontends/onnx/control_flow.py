"""Control flow: branches that are known become part of the network, the rest a function each, which the host runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accel.network.nodes.host import FUNCTION_BODY, FUNCTION_DOMAIN

if TYPE_CHECKING:
    import onnx

CONTROL = ("If", "Loop", "Scan")


def inline_known_branches(model: onnx.ModelProto, constants: Mapping[str, NDArray[Any]]) -> bool:
    """Put the branch of every If whose condition is known in its place; True if there was one."""
    nodes, found = list[Any](), False
    for node in model.graph.node:
        if node.op_type == "If" and not node.domain and node.input[0] in constants:
            wanted = "then_branch" if bool(constants[node.input[0]].reshape(-1)[0]) else "else_branch"
            branch = next(attribute.g for attribute in node.attribute if attribute.name == wanted)
            nodes += _inlined(branch, node, constants)
            found = True
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return found


def _inlined(branch: onnx.GraphProto, node: onnx.NodeProto, constants: Mapping[str, Any]) -> Iterator[onnx.NodeProto]:
    """The nodes of a branch, their own tensors under names of their own, and its results under those of `node`."""
    from onnx import helper

    own = {name: f"{node.name or node.output[0]}/{name}" for name in _defined(branch)}
    for tensor in branch.initializer:
        yield helper.make_node("Constant", [], [own[tensor.name]], name=own[tensor.name], value=tensor)
    for inner in branch.node:
        yield _renamed(inner, own)
    for result, name in zip(branch.output, node.output, strict=True):
        yield helper.make_node("Identity", [own.get(result.name, result.name)], [name], name=name)


def _defined(graph: onnx.GraphProto) -> set[str]:
    """Names that a graph gives to tensors of its own."""
    given = {value.name for value in (*graph.input, *graph.initializer)}
    return given | {name for node in graph.node for name in node.output if name}


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """A node, with the graphs inside it, that reads and writes tensors under other names."""
    import onnx

    result = onnx.NodeProto()
    result.CopyFrom(node)
    result.name = names.get(node.output[0], node.name) if node.output else node.name
    result.input[:] = [names.get(name, name) for name in node.input]
    result.output[:] = [names.get(name, name) for name in node.output]
    for attribute in result.attribute:
        if attribute.HasField("g"):
            inner = [_renamed(one, names) for one in attribute.g.node]
            del attribute.g.node[:]
            attribute.g.node.extend(inner)
            for value in attribute.g.output:
                value.name = names.get(value.name, value.name)
    return result


def as_functions(model: onnx.ModelProto) -> None:
    """Make every other operator of control flow the call of a function that has all it reads as an input."""
    import onnx
    from onnx import helper, numpy_helper

    taken: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in CONTROL or node.domain:
            continue
        name, number = node.op_type, 0
        while name in taken:
            name, number = f"{node.op_type}_{number + 1}", number + 1
        taken.add(name)
        body = onnx.NodeProto()
        body.CopyFrom(node)
        read = dict.fromkeys(filter(None, (*node.input, *_captured(node))))
        ports = list(read), list(node.output)
        function = helper.make_function(FUNCTION_DOMAIN, name, *ports, [body], model.opset_import)
        model.functions.append(function)
        data = np.frombuffer(function.SerializeToString(deterministic=True), np.uint8)
        call = helper.make_node(name, *ports, name=node.name, domain=FUNCTION_DOMAIN)
        call.attribute.append(helper.make_attribute(FUNCTION_BODY, numpy_helper.from_array(data)))
        node.CopyFrom(call)
    if taken:
        model.opset_import.append(helper.make_opsetid(FUNCTION_DOMAIN, 1))


def _captured(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the graphs inside a node read from around it."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            own = _defined(attribute.g)
            for inner in attribute.g.node:
                yield from (name for name in (*inner.input, *_captured(inner)) if name and name not in own)
            yield from (value.name for value in attribute.g.output if value.name not in own)
