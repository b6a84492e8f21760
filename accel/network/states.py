"""What a streaming network carries from run to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.errors import GraphError
from accel.machine.numerics import INT8_MAX, INT8_MIN
from accel.network.windows import check_range

if TYPE_CHECKING:
    from accel.network.graph import Tensor


class State(NamedTuple):
    """An output that is an input of the next run.

    Parameters
    ----------
    input, output : str
        Names of int8 tensors of one shape, scale and zero point.
    initial : int
        The stored integer that fills the input of the first run.
    """

    input: str
    output: str
    initial: int


def initial_state(states: tuple[State, ...], tensors: Mapping[str, Tensor]) -> dict[str, NDArray[np.int8]]:
    """The states of the first run, by the names of their inputs."""
    return {state.input: np.full(tensors[state.input].shape, state.initial, np.int8) for state in states}


def next_state(states: tuple[State, ...], outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The states of the run that follows the one that gave `outputs`, by the names of their inputs."""
    return {state.input: outputs[state.output] for state in states}


def check_states(
    states: tuple[State, ...], tensors: Mapping[str, Tensor], inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> None:
    """Raise `GraphError` unless states are distinct pairs of an input and an output alike, and not all there is."""
    for state in states:
        if state.input not in inputs or state.output not in outputs:
            raise GraphError(f"a state must be an input and an output of the graph, got {state!r}")
        before, after = tensors[state.input], tensors[state.output]
        if (before.dtype, before.shape, before.parameters) != ("int8", after.shape, after.parameters):
            raise GraphError(f"state {state.input!r} must be int8, of the shape and parameters of {state.output!r}")
        check_range(f"state {state.input!r}", "initial", state.initial, INT8_MIN, INT8_MAX)
    before_run, after_run = ({state[side] for state in states} for side in range(2))
    if min(len(before_run), len(after_run)) != len(states):
        raise GraphError(f"states must have distinct inputs and outputs, got {states!r}")
    if not (set(inputs) - before_run and set(outputs) - after_run):
        raise GraphError(f"there must be inputs and outputs beside the states, got {inputs!r} and {outputs!r}")
