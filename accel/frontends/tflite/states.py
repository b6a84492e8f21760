"""Resource variables of streaming networks: what one run assigns and the next one reads.

VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE and CALL_ONCE disappear. The value that a run finds in a variable is one more
input, and what it leaves there one more output, so that the user carries states from run to run (`Graph.states`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from accel.errors import ModelError
from accel.frontends.tflite.file import TfliteFile, TfliteOperator, TfliteTensor
from accel.frontends.tflite.svdf import STATE, delay_line

LOGGER = logging.getLogger(__name__)
VARIABLES = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")


class Variable(NamedTuple):
    """A state: indices of the tensors that hold it before and after a run, and the integer that fills it at first."""

    before: int
    after: int
    initial: int


class Streaming(NamedTuple):
    """A file without variables; those of `states` are the last inputs and outputs."""

    file: TfliteFile
    states: tuple[Variable, ...]


def carry_states(file: TfliteFile) -> Streaming:
    """Turn variables into inputs and outputs.

    Raises
    ------
    ModelError
        A variable is not initialized with one number.
    """
    if file.subgraphs and not any(operator.builtin == "CALL_ONCE" for operator in file.operators):
        LOGGER.warning("the first of %d subgraphs is read, %r", 1 + len(file.subgraphs), file.name)
    constants = _constants(file)
    handles, first, now = dict[int, str](), dict[str, int](), dict[str, int]()
    tensors, own = list(file.tensors), list[Variable]()
    assigned, renamed, operators = set[str](), dict[int, int](), list[TfliteOperator]()
    for operator in file.operators:
        inputs = tuple(renamed.get(index, index) for index in operator.inputs)
        if operator.builtin == "VAR_HANDLE":
            handles[operator.outputs[0]] = variable_name(operator)
        elif operator.builtin == "READ_VARIABLE":
            name, result = handles[inputs[0]], operator.outputs[0]
            first.setdefault(name, result)
            if name in now:
                renamed[result] = now[name]
            now.setdefault(name, result)
        elif operator.builtin == "ASSIGN_VARIABLE":
            name = handles[inputs[0]]
            now[name] = inputs[1]
            first.setdefault(name, inputs[1])
            assigned.add(name)
        elif operator.builtin != "CALL_ONCE":
            operators.append(_with_state(replace(operator, inputs=inputs), tensors, own))
    states = [
        Variable(first[name], now[name], _filling(name, file.tensors[first[name]], constants))
        for name in first
        if name in assigned and first[name] not in (now[name], *(i for op in operators for i in op.outputs))
    ]
    states += own
    outputs = tuple(renamed.get(index, index) for index in file.outputs)
    streaming = replace(
        file,
        tensors=tuple(tensors),
        operators=tuple(operators),
        inputs=(*file.inputs, *(state.before for state in states)),
        outputs=(*outputs, *(state.after for state in states)),
        subgraphs=(),
    )
    return Streaming(streaming, tuple(states))


def _with_state(operator: TfliteOperator, tensors: list[TfliteTensor], own: list[Variable]) -> TfliteOperator:
    """The operator with the state that it keeps, if it is the machine's, as an input and an output of its own."""
    shape = delay_line(tensors, operator)
    if shape is None:
        return operator
    state = replace(tensors[operator.inputs[STATE]], shape=shape, variable=False)
    before, after = len(tensors), len(tensors) + 1
    tensors += [state, replace(state, name=f"{state.name}_next")]
    own.append(Variable(before, after, state.parameters()[1]))
    return replace(operator, inputs=(*operator.inputs[:STATE], before), outputs=(*operator.outputs, after))


def variable_name(operator: TfliteOperator) -> str:
    """Container and name of a variable."""
    if operator.options is None:
        raise ModelError(f"VAR_HANDLE {operator.index}: must have its options")
    parts = (operator.options.Container(), operator.options.SharedName())
    return "/".join((part or b"").decode("utf-8", "replace") for part in parts)


def _constants(file: TfliteFile) -> Mapping[str, TfliteTensor]:
    """What CALL_ONCE assigns to each variable."""
    found = dict[str, TfliteTensor]()
    for operator in file.operators:
        if operator.builtin != "CALL_ONCE":
            continue
        if operator.options is None or not 1 <= operator.options.InitSubgraphIndex() <= len(file.subgraphs):
            raise ModelError(f"CALL_ONCE {operator.index}: must name one of {len(file.subgraphs)} further subgraphs")
        graph, handles = file.subgraphs[operator.options.InitSubgraphIndex() - 1], dict[int, str]()
        for inner in graph.operators:
            if inner.builtin == "VAR_HANDLE":
                handles[inner.outputs[0]] = variable_name(inner)
            elif inner.builtin == "ASSIGN_VARIABLE":
                found[handles[inner.inputs[0]]] = graph.tensors[inner.inputs[1]]
            else:
                raise ModelError(f"CALL_ONCE {operator.index}: must assign constants to variables, got {inner.builtin}")
    return found


def _filling(name: str, tensor: TfliteTensor, constants: Mapping[str, TfliteTensor]) -> int:
    """The stored integer that fills a variable at first: the zero point unless CALL_ONCE says otherwise."""
    if name not in constants:
        return tensor.parameters()[1]
    values = np.unique(constants[name].stored())
    if values.size != 1:
        raise constants[name].error(f"variable {name!r} must be initialized with one number, got {values.size}")
    return int(values[0])
