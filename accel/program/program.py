"""`Program`: everything one machine needs to run one network, as one file.

The file has four sections (`accel.program.sections`): JSON header, instructions, constants, and the host's graph
(`accel.network.graph_file`), which may be empty. There is one way to write a program; a file that says the same in
another way is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import AccelError, InputError, ProgramError, brief
from accel.files import write_atomic
from accel.machine import isa, layout
from accel.machine.config import ArchConfig
from accel.machine.numerics import RequantMode, requant_mode
from accel.network.array_layout import ArrayLayout
from accel.network.graph import Graph, Tensor
from accel.network.graph_file import dump_graph, parse_graph
from accel.network.states import State, initial_state
from accel.program.consistency import MEMORY_LIMIT_BYTES, check_program_parts
from accel.program.parts import MACHINE, LayerInfo, OperatorInfo, Segment, TensorSlot
from accel.program.sections import join_sections, split_sections

__all__ = ["MEMORY_LIMIT_BYTES", "LayerInfo", "OperatorInfo", "Program", "Segment", "TensorSlot"]


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled network.

    Parameters
    ----------
    config : ArchConfig
        The machine it was compiled for.
    mode : RequantMode
        How the network rounds: real inputs are quantized accordingly.
    code : bytes
        Instructions.
    constants : bytes
        Weights and parameters.
    code_address, constants_address : int
        Where they lie in external memory.
    memory_bytes : int
        Size of the external memory's image.
    tensors : tuple of TensorSlot
        All that crosses the border of a segment.
    input_names, output_names : tuple of str
        What a run starts from and what it leaves, in the model's order; states behind what the user gives and gets.
    segments : tuple of Segment
        What machine and host compute, in order. Each of the machine's is a program of its own.
    layers : tuple of LayerInfo
    instruction_layers : tuple of int
        For each instruction the index of its layer.
    host : Graph or None
        All nodes that the host computes, those of its first segment first.
    operators : tuple of OperatorInfo
        Where each operator of the graph runs.
    states : tuple of State
        Which outputs are which inputs of the next run.

    Raises
    ------
    ProgramError
        Sections contradict each other.
    """

    config: ArchConfig
    mode: RequantMode
    code: bytes
    constants: bytes
    code_address: int
    constants_address: int
    memory_bytes: int
    tensors: tuple[TensorSlot, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    segments: tuple[Segment, ...]
    layers: tuple[LayerInfo, ...]
    instruction_layers: tuple[int, ...]
    host: Graph | None = None
    operators: tuple[OperatorInfo, ...] = ()
    states: tuple[State, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", requant_mode(self.mode))
        check_program_parts(self)

    @property
    def instruction_count(self) -> int:
        """Number of instructions."""
        return len(self.code) // isa.INSTRUCTION_BYTES

    @property
    def machine_segments(self) -> tuple[Segment, ...]:
        """What the machine computes, in order."""
        return tuple(segment for segment in self.segments if segment.unit == MACHINE)

    def code_of(self, segment: Segment) -> bytes:
        """Instructions of a segment of the machine."""
        first, size = segment.first * isa.INSTRUCTION_BYTES, segment.count * isa.INSTRUCTION_BYTES
        return self.code[first : first + size]

    def address_of(self, segment: Segment) -> int:
        """Address in external memory of a machine segment's first instruction."""
        return self.code_address + segment.first * isa.INSTRUCTION_BYTES

    @cached_property
    def slots(self) -> Mapping[str, TensorSlot]:
        """`tensors` by name."""
        return {slot.name: slot for slot in self.tensors}

    @property
    def inputs(self) -> tuple[TensorSlot, ...]:
        """What the user gives: states aside."""
        carried = {state.input for state in self.states}
        return tuple(self.slots[name] for name in self.input_names if name not in carried)

    @property
    def outputs(self) -> tuple[TensorSlot, ...]:
        """What the user gets: states aside."""
        carried = {state.output for state in self.states}
        return tuple(self.slots[name] for name in self.output_names if name not in carried)

    @property
    def input_tensors(self) -> tuple[Tensor, ...]:
        """`inputs` without their places."""
        return tuple(slot.tensor for slot in self.inputs)

    @property
    def output_tensors(self) -> tuple[Tensor, ...]:
        """`outputs` without their places."""
        return tuple(slot.tensor for slot in self.outputs)

    def initial_state(self) -> dict[str, NDArray[np.int8]]:
        """The state of the first run."""
        return initial_state(self.states, self.slots)

    def memory_image(
        self, inputs: Mapping[str, NDArray[Any]] | NDArray[Any], state: Mapping[str, NDArray[Any]] | None = None
    ) -> NDArray[np.uint8]:
        """External memory before the run.

        Parameters
        ----------
        inputs : ndarray, or mapping of input name to ndarray
            One array is enough if there is one input; shapes and types are those of `inputs`.
        state : mapping of input name to ndarray, optional
            By default the first run's.

        Returns
        -------
        ndarray of uint8, shape (memory_bytes,)

        Raises
        ------
        InputError
            A name, shape or type is not the program's.
        """
        arrays = self.check_inputs(inputs, state)
        memory, end = np.empty(self.memory_bytes, np.uint8), 0
        for start, section in sorted(((self.code_address, self.code), (self.constants_address, self.constants))):
            memory[end:start] = 0
            end = start + len(section)
            memory[start:end] = np.frombuffer(section, np.uint8)
        memory[end:] = 0
        for name, array in arrays.items():
            self.write_tensor(memory, self.slots[name], array)
        return memory

    def write_tensor(self, memory: NDArray[np.uint8], slot: TensorSlot, value: NDArray[Any]) -> None:
        """Put a tensor to its place in external memory, if it has one."""
        if slot.address is not None:
            packed = layout.pack(value, self.config.rows)
            memory[slot.address : slot.address + slot.size_bytes] = np.frombuffer(packed, np.uint8)

    def read_tensor(self, memory: NDArray[np.uint8], slot: TensorSlot) -> NDArray[np.int8] | None:
        """A tensor from its place in external memory; None if it has none."""
        if slot.address is None:
            return None
        return layout.unpack(memory[slot.address : slot.address + slot.size_bytes], slot.shape, self.config.rows)

    def check_inputs(
        self, inputs: Mapping[str, NDArray[Any]] | NDArray[Any], state: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """The inputs by name, states included; InputError names the one that does not fit."""
        if not isinstance(inputs, Mapping):
            if len(self.inputs) != 1:
                names = ", ".join(slot.name for slot in self.inputs)
                raise InputError(f"the program has several inputs: give a mapping with the names {names}")
            inputs = {self.inputs[0].name: inputs}
        given = _fitting("input", self.inputs, inputs)
        carried = tuple(self.slots[one.input] for one in self.states)
        return given | _fitting("state", carried, self.initial_state() if state is None else state)

    def to_bytes(self) -> bytes:
        """The file's content."""
        return join_sections((self._header(), self.code, self.constants, self._host_section()))

    def _header(self) -> bytes:
        header = {
            "fingerprint": self.config.fingerprint(),
            "config": self.config.to_toml(),
            "mode": str(self.mode),
            "code_address": self.code_address,
            "constants_address": self.constants_address,
            "memory_bytes": self.memory_bytes,
            "tensors": [asdict(slot) for slot in self.tensors],
            "inputs": list(self.input_names),
            "outputs": list(self.output_names),
            "segments": [asdict(segment) for segment in self.segments],
            "layers": [asdict(layer) for layer in self.layers],
            "instruction_layers": list(self.instruction_layers),
            "operators": [asdict(operator) for operator in self.operators],
            "states": [state._asdict() for state in self.states],
        }
        return json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def _host_section(self) -> bytes:
        return dump_graph(self.host) if self.host else b""

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "program") -> Program:
        """Parse `to_bytes`; raises ProgramError with one sentence on anything else."""
        sections = split_sections(data, where)
        try:
            program = cls._parse(*sections)
            if (program._header(), program._host_section()) != (sections[0], sections[3]):
                raise ProgramError("header and host graph must be written as `Program.save` writes them")
        except AccelError as error:
            raise ProgramError(f"{where}: {brief(error)}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise ProgramError(
                f"{where}: the header must be a program's, got {type(error).__name__} {brief(error)}"
            ) from None
        return program

    @classmethod
    def _parse(cls, text: bytes, code: bytes, constants: bytes, host: bytes) -> Program:
        header = json.loads(text)
        config = ArchConfig.from_toml(header["config"], "config")
        if header["fingerprint"] != config.fingerprint():
            raise ProgramError("the fingerprint must be that of the configuration; compile the graph again")
        isa.decode_table(code)
        return cls(
            config=config,
            mode=header["mode"],
            code=code,
            constants=constants,
            code_address=header["code_address"],
            constants_address=header["constants_address"],
            memory_bytes=header["memory_bytes"],
            tensors=_slots(header["tensors"]),
            input_names=tuple(header["inputs"]),
            output_names=tuple(header["outputs"]),
            segments=_segments(header["segments"]),
            layers=tuple(LayerInfo(**layer) for layer in header["layers"]),
            instruction_layers=tuple(header["instruction_layers"]),
            host=parse_graph(host) if host else None,
            operators=tuple(OperatorInfo(**operator) for operator in header["operators"]),
            states=tuple(State(**state) for state in header["states"]),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program file, replacing it atomically."""
        write_atomic(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Program:
        """Read a program file; ProgramError if it is missing, damaged or not a program."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ProgramError(f"{path}: must be a readable program file, got {error.strerror}") from None
        return cls.from_bytes(data, str(path))


def _fitting(what: str, slots: tuple[TensorSlot, ...], arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Arrays for `slots`, in their order; InputError names the one that does not fit."""
    expected = sorted(slot.name for slot in slots)
    if sorted(arrays) != expected:
        raise InputError(f"{what}s must be named {', '.join(expected)}, got {', '.join(sorted(arrays))}")
    for slot in slots:
        array = arrays[slot.name]
        if not isinstance(array, np.ndarray) or array.dtype != slot.dtype or array.shape != slot.shape:
            got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise InputError(f"{what} {slot.name!r} must be {slot.dtype} of shape {slot.shape}, got {got}")
    return {slot.name: arrays[slot.name] for slot in slots}


def _slots(rows: list[dict[str, Any]]) -> tuple[TensorSlot, ...]:
    return tuple(
        TensorSlot(**{**row, "shape": tuple(row["shape"]), "source": ArrayLayout.parse(row["source"])}) for row in rows
    )


def _segments(rows: list[dict[str, Any]]) -> tuple[Segment, ...]:
    return tuple(Segment(**{**row, "inputs": tuple(row["inputs"]), "outputs": tuple(row["outputs"])}) for row in rows)
