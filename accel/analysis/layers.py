"""What a layer is: the operators between two tensors of integers, with all parameters that quantizing it sets."""

from __future__ import annotations

from dataclasses import dataclass

from accel.quantized.network import Network, Operator
from accel.quantized.operators import OPERATORS
from accel.quantizer.reconstruct import is_integer_layer


@dataclass(frozen=True)
class Layer:
    """A part of a quantized network that is quantized, or left real, as a whole.

    Parameters
    ----------
    name, kind : str
        Of its operator with weights, otherwise of its first operator; an input of the network is of kind "Input".
    place : int
        Position of its first operator in the network; 0 for an input.
    result : str
        The tensor of integers that it makes; empty if its sums stay real.
    weight : str
        Its constant of integers; empty if there is none.
    tensors : frozenset of str
        All tensors whose parameters belong to it: result, weight and bias, and what only moves the result's integers.
    """

    name: str
    kind: str
    place: int
    result: str
    weight: str
    tensors: frozenset[str]


def layers_of(network: Network) -> list[Layer]:
    """The layers of a quantized network: its inputs, then in the order of their first operators."""
    roots = _roots(network)
    owners = _owners(network, roots)
    members: dict[str, list[int]] = {name: [] for name in network.inputs if name in network.parameters}
    for place in range(len(network.operators)):
        if owners[place]:
            members.setdefault(owners[place], []).append(place)
    return [_layer(network, owner, places, roots) for owner, places in members.items()]


def real_operators(network: Network) -> tuple[str, ...]:
    """The operators that belong to no layer: nothing of them is quantized."""
    owners = _owners(network, _roots(network))
    return tuple(op.name for op, owner in zip(network.operators, owners, strict=True) if not owner)


def _layer(network: Network, owner: str, places: list[int], roots: dict[str, str]) -> Layer:
    operators = [network.operators[place] for place in places]
    results = {name for name, root in roots.items() if root == owner}
    if owner in network.inputs:
        return Layer(owner, "Input", 0, owner, "", frozenset(results))
    weighted = [op for op in operators if is_integer_layer(network, op)]
    constants = {
        name for op in operators for name in op.inputs if name in network.parameters and _is_constant(network, name)
    }
    named = (weighted or operators)[0]
    return Layer(
        named.name, named.kind, places[0], owner if owner in results else "",
        weighted[0].inputs[1] if weighted else "", frozenset(results | constants),
    )  # fmt: skip


def _is_constant(network: Network, name: str) -> bool:
    return network.parameters[name].integers is not None


def _roots(network: Network) -> dict[str, str]:
    """For each tensor of integers the one whose integers it only moves or clips; itself otherwise."""
    roots = {name: name for name in network.inputs if name in network.parameters}
    for op in network.operators:
        row, source = OPERATORS.get(op.kind), op.input(0)
        for name in op.outputs:
            if name in network.parameters:
                same = row is not None and row.keeps_range and source in roots
                same = same and network.parameters[source].parameters == network.parameters[name].parameters
                roots[name] = roots[source] if same else name
    return roots


def _owners(network: Network, roots: dict[str, str]) -> list[str]:
    """For each operator the layer's tensor of integers; its own result if that stays real; empty if it has no layer."""
    found: dict[str, str] = dict(roots)
    owners = [""] * len(network.operators)
    for place in reversed(range(len(network.operators))):
        op = network.operators[place]
        owner = next((found[name] for name in op.outputs if name in found), "")
        if not owner and is_integer_layer(network, op):
            owner = op.outputs[0]
        owners[place] = owner
        if owner and not _starts(network, op):
            for name in op.inputs:
                if name and network.value(name) is None:
                    found.setdefault(name, owner)
    return owners


def _starts(network: Network, op: Operator) -> bool:
    """Whether nothing before an operator can belong to its layer: its inputs are integers."""
    return all(name in network.parameters for name in op.inputs if name and network.value(name) is None)
