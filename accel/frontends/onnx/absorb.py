"""Parameters to the tensors that are quantized as they stand, and outputs under the names of the file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from accel.frontends.onnx.parameters import is_same
from accel.quantized.network import REAL_TYPES, Network, Operator, Quantization
from accel.quantized.operators import OPERATORS


def absorbed(network: Network) -> Network:
    """Tensors that are quantized as they stand get the parameters; what quantizes them again is left out."""
    parameters, aliases, kept = dict(network.parameters), dict[str, str](), []
    readers = network.readers()

    def resolved(name: str) -> str:
        while name in aliases:
            name = aliases[name]
        return name

    for op in network.operators:
        op = replace(op, inputs=tuple(map(resolved, op.inputs)))
        if op.kind != "Identity" or op.outputs[0] not in parameters:
            kept.append(op)
            continue
        source, wanted = op.inputs[0], parameters[op.outputs[0]]
        if source not in parameters and not _is_quantized_only(network, readers[source], source, wanted):
            kept.append(op)
        elif is_same(parameters.setdefault(source, wanted), wanted):
            aliases[op.outputs[0]] = source
        else:
            kept.append(op)
    outputs = tuple(map(resolved, network.outputs))
    for op in reversed(kept):
        _quantize_before(network, op, kept, outputs, parameters)
    return replace(network, operators=tuple(kept), outputs=outputs, parameters=parameters)


def _is_quantized_only(network: Network, readers: list[Operator], source: str, wanted: Quantization) -> bool:
    """Whether nothing needs the real numbers of a tensor, or other integers than those of the parameters `wanted`."""
    found = [network.parameters.get(op.outputs[0]) if op.kind == "Identity" else None for op in readers]
    return source not in network.outputs and all(one is not None and is_same(one, wanted) for one in found)


def _quantize_before(
    network: Network,
    op: Operator,
    operators: list[Operator],
    outputs: tuple[str, ...],
    parameters: dict[str, Quantization],
) -> None:
    """Let a movement whose result is quantized move integers: what it moves is quantized first.

    This holds only if nothing else needs the real numbers: every reader moves them, and every result that is used has
    the same parameters.
    """
    row, found = OPERATORS.get(op.kind), parameters.get(op.outputs[0])
    source = op.inputs[0] if op.inputs else ""
    if row is None or not row.keeps_range or found is None or op.name in network.host:
        return
    if source in parameters or network.value(source) is not None:
        return
    if source in network.tensors and network.tensors[source].dtype not in REAL_TYPES:
        return
    used = {*outputs, *(name for other in operators for name in other.inputs)}
    readers = [other for other in operators if source in other.inputs]
    results = [parameters.get(name) for other in readers for name in other.outputs if name in used]
    moves = all(other.kind in OPERATORS and OPERATORS[other.kind].keeps_range for other in readers)
    if not moves or source in outputs or any(other.attributes.get("mode") == "linear" for other in readers):
        return
    same = all(result is not None and is_same(result, found) for result in results)
    if same and (source in network.inputs or op.kind not in ("Clip", "Relu")):
        parameters[source] = found


def with_outputs_named(network: Network, names: tuple[str, ...]) -> Network:
    """Outputs under the names that the file gives them: of their tensors, unless these are inputs or other outputs."""
    renamed: dict[str, str] = {}
    for tensor, name in zip(network.outputs, names, strict=True):
        if tensor not in network.inputs and network.value(tensor) is None:
            renamed.setdefault(tensor, name)
    rename = {old: new for old, new in renamed.items() if old != new}
    taken = {new: old for old, new in rename.items()}

    def after(name: str) -> str:
        return rename.get(name, f"{name}_inner" if name in taken else name)

    operators = tuple(
        replace(op, inputs=tuple(map(after, op.inputs)), outputs=tuple(map(after, op.outputs)))
        for op in network.operators
    )
    tensors = {after(name): replace(info, name=after(name)) for name, info in network.tensors.items()}
    parameters = {after(name): found for name, found in network.parameters.items()}
    outputs = tuple(map(after, network.outputs))
    changed: dict[str, Any] = {"operators": operators, "tensors": tensors, "parameters": parameters}
    return replace(network, **changed, outputs=outputs, output_names=names if names != outputs else ())
