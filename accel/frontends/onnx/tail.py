"""The end of a network that nobody here computes: custom operators, and results whose sizes depend on values."""

from __future__ import annotations

import logging
from dataclasses import replace

from accel.network.nodes.host import FUNCTION_DOMAIN
from accel.quantized.host import MICROSOFT
from accel.quantized.network import Network, Operator

LOGGER = logging.getLogger(__name__)
KNOWN_DOMAINS = ("", "ai.onnx.ml", FUNCTION_DOMAIN, MICROSOFT)
UNSIZED = ("Compress", "NonMaxSuppression", "NonZero", "Unique")
WEIGHTED = ("Conv", "ConvInteger", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger", "QGemm", "QLinearConv")
"""Operators that no end of a network has."""


def cut_tail(network: Network) -> Network:
    """The network without the operators at its end that neither machine nor host can run, and what depends on them.

    What they read are outputs instead, which a line tells.

    Raises
    ------
    ModelError
        The network goes on after such an operator, or begins with it.
    """
    kept, left = list[Operator](), list[Operator]()
    causes: dict[str, Operator] = {}
    for op in network.operators:
        cause = next((causes[name] for name in op.inputs if name in causes), op if _problem(op) else None)
        if cause is None:
            kept.append(op)
            continue
        if op is not cause and op.kind.rpartition(".")[2] in WEIGHTED:
            raise cause.error(f"{_problem(cause)}, and the network goes on with {op.kind} {op.name!r}: split the model")
        left.append(op)
        causes |= dict.fromkeys(filter(None, op.outputs), cause)
    if not left:
        return network
    made = {name for op in kept for name in op.outputs}
    given = [name for name in dict.fromkeys(name for op in left for name in op.inputs) if name in made]
    outputs = [name for name in network.outputs if name not in causes]
    first = next((i for i, name in enumerate(network.outputs) if name in causes), len(outputs))
    outputs[first:first] = [name for name in given if name not in outputs]
    if not outputs:
        raise left[0].error(f"{_problem(left[0])}, and nothing comes before it")
    for cause in dict.fromkeys(causes.values()):
        LOGGER.warning("%s %r and what follows is left to you: %s", cause.kind, cause.name, _problem(cause))
    LOGGER.warning("Outputs are %s", ", ".join(map(repr, outputs)))
    return replace(network, operators=tuple(kept), outputs=tuple(outputs))


def _problem(op: Operator) -> str:
    """Why an operator cannot run; empty if it can."""
    domain, _, kind = op.kind.rpartition(".")
    if domain not in KNOWN_DOMAINS:
        return "operator is not ONNX's"
    return "sizes of its results depend on values" if kind in UNSIZED and not domain else ""
