"""A run of a program, segment by segment: the external memory and what only the host holds."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError
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
    inputs : as in `Program.memory_image`

    Attributes
    ----------
    memory : ndarray of uint8, shape (memory_bytes,)
        External memory.
    host_seconds : float
        Time that the host's segments took.

    Raises
    ------
    InputError
        `program` is none, or a name, shape or type is not the program's.
    """

    def __init__(self, program: Program, inputs: Mapping[str, NDArray[Any]] | NDArray[Any]) -> None:
        if not isinstance(program, Program):
            raise InputError(
                f"program must be a Program, got {type(program).__name__}: "
                "make one with `accel.compile` or `accel.load_program`"
            )
        self.program = program
        self.memory: NDArray[np.uint8] = program.memory_image(inputs)
        self.host_seconds = 0.0
        self._values = program.check_inputs(inputs)

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
        return {name: self._value(name) for name in self.program.output_names}

    def _value(self, name: str) -> NDArray[Any]:
        """A tensor as memory has it, or as the host keeps it."""
        stored = self.program.read_tensor(self.memory, self.program.slots[name])
        return self._values[name] if stored is None else stored
