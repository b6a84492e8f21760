"""A run of a program, segment by segment: the external memory and what only the host holds."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.network.reference import run_node
from accel.program.parts import Segment
from accel.program.program import Program


class Execution:
    """What a run has computed so far.

    Whoever drives it takes the program's segments in order: `run_host` computes one of the host; for one of the
    machine the driver runs its code on `memory` and puts the memory after it there.

    Parameters
    ----------
    program : Program
    inputs, state : as in `Program.memory_image`

    Attributes
    ----------
    memory : ndarray of uint8, shape (memory_bytes,)
        External memory.
    host_seconds : float
        Time that the host's segments took.

    Raises
    ------
    InputError
        A name, shape or type is not the program's.
    """

    def __init__(
        self,
        program: Program,
        inputs: Mapping[str, NDArray[Any]] | NDArray[Any],
        state: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self.program = program
        self.memory: NDArray[np.uint8] = program.memory_image(inputs, state)
        self.host_seconds = 0.0
        self._values = program.check_inputs(inputs, state)

    def run_host(self, segment: Segment) -> None:
        """Compute a segment of the host."""
        started, host = perf_counter(), self.program.host
        values = {name: self._value(name) for name in segment.inputs}
        if host is not None:
            for node in host.nodes[segment.first : segment.first + segment.count]:
                values |= run_node(host, node, values)
        for name in segment.outputs:
            self._values[name] = values[name]
            self.program.write_tensor(self.memory, self.program.slots[name], values[name])
        self.host_seconds += perf_counter() - started

    def outputs(self) -> dict[str, NDArray[Any]]:
        """The program's outputs after its last segment, in the model's order."""
        return {slot.name: self._value(slot.name) for slot in self.program.outputs}

    def state(self) -> dict[str, NDArray[Any]]:
        """The state for the next run, after the last segment."""
        return {state.input: self._value(state.output) for state in self.program.states}

    def _value(self, name: str) -> NDArray[Any]:
        """A tensor as memory has it, or as the host keeps it."""
        stored = self.program.read_tensor(self.memory, self.program.slots[name])
        return self._values[name] if stored is None else stored
