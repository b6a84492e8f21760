"""Control flow: branches that are known become part of the network, the rest a function each, which the host runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.network.nodes.host import FUNCTION_BODY, FUNCTION_DOMAIN
from accel.network.windows import Shape

if TYPE_CHECKING:
    import onnx

CONTROL = ("If", "Loop", "Scan")
Arrays = dict[str, NDArray[Any]]
Types = dict[str, tuple[Shape, str]]


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


def as_functions(model: onnx.ModelProto, constants: Arrays, known: Types) -> None:
    """Make every other operator of control flow the call of a function that has all it reads as an input.

    Integers of 8 bits go in and out as real numbers, which they are with scale 1: what is around them is quantized
    as elsewhere, and what is inside the runtime's own.

    Parameters
    ----------
    model : onnx.ModelProto
    constants : dict of str to ndarray
        By name; gets those of the conversions.
    known : mapping of str to (tuple of int, str)
        Shapes and types; gets those of the real numbers.
    """
    import onnx
    from onnx import helper, numpy_helper

    taken, nodes = set[str](), list[onnx.NodeProto]()
    for node in model.graph.node:
        if node.op_type not in CONTROL or node.domain:
            nodes.append(node)
            continue
        name, number = node.op_type, 0
        while name in taken:
            name, number = f"{node.op_type}_{number + 1}", number + 1
        taken.add(name)
        read = list(dict.fromkeys(filter(None, (*node.input, *_captured(node)))))
        types = {one: known[one][1] for one in read if one in known and one not in constants}
        given = _numbers_of(types, constants, known)
        made = _numbers_of(_types_of_results(node), constants, known)
        inside = [*given.into_integers(), node, *made.into_numbers()]
        extra = dict.fromkeys(parameter for one in (*given.constants, *made.constants) for parameter in one)
        ports = [*map(given.name, read), *extra], [*map(made.name, node.output)]
        function = helper.make_function(FUNCTION_DOMAIN, name, *ports, inside, model.opset_import)
        model.functions.append(function)
        data = np.frombuffer(function.SerializeToString(deterministic=True), np.uint8)
        call = helper.make_node(name, *ports, name=node.name, domain=FUNCTION_DOMAIN)
        call.attribute.append(helper.make_attribute(FUNCTION_BODY, numpy_helper.from_array(data)))
        nodes += [*given.into_numbers(), call, *made.into_integers()]
    if taken:
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        model.opset_import.append(helper.make_opsetid(FUNCTION_DOMAIN, 1))


class _Numbers(NamedTuple):
    """Tensors of integers of 8 bits, the real numbers of scale 1 that they are, and scale and zero point of each."""

    names: dict[str, str]
    constants: list[tuple[str, str]]

    def name(self, name: str) -> str:
        """The real numbers of a tensor; any other tensor itself."""
        return self.names.get(name, name)

    def into_integers(self) -> list[onnx.NodeProto]:
        """QuantizeLinear of each."""
        return self._converted("QuantizeLinear", [(real, whole) for whole, real in self.names.items()])

    def into_numbers(self) -> list[onnx.NodeProto]:
        """DequantizeLinear of each."""
        return self._converted("DequantizeLinear", list(self.names.items()))

    def _converted(self, kind: str, pairs: Sequence[tuple[str, str]]) -> list[onnx.NodeProto]:
        from onnx import helper

        return [
            helper.make_node(kind, [source, *constants], [result], name=f"{result}/{kind}")
            for (source, result), constants in zip(pairs, self.constants, strict=True)
        ]


def _types_of_results(node: onnx.NodeProto) -> dict[str, str]:
    """The types of the outputs of control flow, which the graphs inside it declare."""
    from onnx import TensorProto

    inner = next(attribute.g for attribute in node.attribute if attribute.HasField("g"))
    results = inner.output[1:] if node.op_type == "Loop" else inner.output
    kinds = [TensorProto.DataType.Name(result.type.tensor_type.elem_type).lower() for result in results]
    return dict(zip(node.output, kinds, strict=False))


def _numbers_of(types: Mapping[str, str], constants: Arrays, known: Types) -> _Numbers:
    """The real numbers of those tensors that are integers of 8 bits, declared with the constants that they need."""
    found = _Numbers({}, [])
    for name, kind in types.items():
        if kind not in ("int8", "uint8"):
            continue
        one, zero = "accel/one", f"accel/zero_{kind}"
        constants |= {one: np.ones((), np.float32), zero: np.zeros((), kind)}
        known |= {one: ((), "float32"), zero: ((), kind)}
        found.names[name] = f"{name}/numbers"
        if name in known:
            known[found.names[name]] = known[name][0], "float32"
        found.constants.append((one, zero))
    return found


def _captured(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the graphs inside a node read from around it."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            own = _defined(attribute.g)
            for inner in attribute.g.node:
                yield from (name for name in (*inner.input, *_captured(inner)) if name and name not in own)
            yield from (value.name for value in attribute.g.output if value.name not in own)
