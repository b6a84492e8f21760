"""`Program`: everything one machine needs to run one network, as one file.

The file has four sections (`accel.program.sections`): JSON header, instructions, constants, and the host's graph
(`accel.network.graph_file`), which may be empty. There is one way to write a program; a file that says the same in
another way is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import AccelError, InputError, ProgramError
from accel.files import write_atomic
from accel.machine import isa, layout
from accel.machine.config import ArchConfig
from accel.machine.numerics import RequantMode, requant_mode
from accel.network.array_layout import ArrayLayout
from accel.network.graph import Graph, Tensor
from accel.network.graph_file import dump_graph, parse_graph
from accel.program.parts import LayerInfo, OperatorInfo, TensorSlot, check_integer
from accel.program.sections import join_sections, split_sections

__all__ = ["MEMORY_LIMIT_BYTES", "LayerInfo", "OperatorInfo", "Program", "TensorSlot"]

MEMORY_LIMIT_BYTES = 1 << 30
"""Largest image of external memory, so that no program file makes its reader allocate more; addresses reach 4 GiB."""


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
    inputs, outputs : tuple of TensorSlot
        Activations that the machine reads and writes.
    layers : tuple of LayerInfo
    instruction_layers : tuple of int
        For each instruction the index of its layer.
    host : Graph or None
        What remains for the host after the machine is done; its inputs are the machine's outputs.
    operators : tuple of OperatorInfo
        Where each operator of the graph runs.

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
    inputs: tuple[TensorSlot, ...]
    outputs: tuple[TensorSlot, ...]
    layers: tuple[LayerInfo, ...]
    instruction_layers: tuple[int, ...]
    host: Graph | None = None
    operators: tuple[OperatorInfo, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", requant_mode(self.mode))
        for key in ("memory_bytes", "code_address", "constants_address"):
            check_integer(key, getattr(self, key))
        if not 0 < self.memory_bytes <= MEMORY_LIMIT_BYTES:
            raise ProgramError(f"memory_bytes must be in 1..{MEMORY_LIMIT_BYTES}, got {self.memory_bytes}")
        size = isa.INSTRUCTION_BYTES
        if not self.code or len(self.code) % size:
            raise ProgramError(f"code must be one or more instructions of {size} bytes, got {len(self.code)} bytes")
        if self.code_address % size:
            raise ProgramError(f"code_address must be a multiple of {size}, got {self.code_address}")
        if not self.inputs or not self.outputs:
            raise ProgramError("a program must have at least one input and one output tensor")
        layers = range(len(self.layers))
        owners = self.instruction_layers
        if len(owners) != self.instruction_count or any(type(i) is not int or i not in layers for i in owners):
            raise ProgramError("instruction_layers must give the layer of each instruction")
        self._check_places()
        self._check_host()

    def _check_places(self) -> None:
        """Names are distinct, all is inside of the memory, and nothing that is given overlaps."""
        for what, slots in (("input", self.inputs), ("output", self.outputs)):
            names = [slot.name for slot in slots]
            if len(set(names)) < len(names):
                raise ProgramError(f"{what} names must be distinct, got {', '.join(names)}")
        given = [
            ("code", self.code_address, len(self.code)),
            ("constants", self.constants_address, len(self.constants)),
            *_places(self.inputs),
        ]
        for what, address, size in (*given, *_places(self.outputs)):
            if address + size > self.memory_bytes:
                raise ProgramError(
                    f"{what} must lie inside the memory of {self.memory_bytes} bytes, got {address}..{address + size}"
                )
        exclusive = [*combinations(given, 2), *((a, b) for a in given[:2] for b in _places(self.outputs))]
        for (what, address, size), (other, other_address, other_size) in exclusive:
            if address < other_address + other_size and other_address < address + size:
                raise ProgramError(f"{what} and {other} must not overlap in memory")

    def _check_host(self) -> None:
        """What the host reads is what the machine delivers."""
        delivered = {slot.name: (slot.shape, slot.scale, slot.zero_point) for slot in self.outputs}
        needed = [self.host.tensors[name] for name in self.host.inputs] if self.host else []
        for tensor in needed:
            if delivered.get(tensor.name) != (tensor.shape, tensor.scale, tensor.zero_point):
                raise ProgramError(f"input {tensor.name!r} of the host graph must be an output tensor of the machine")

    @property
    def instruction_count(self) -> int:
        """Number of instructions."""
        return len(self.code) // isa.INSTRUCTION_BYTES

    @property
    def output_names(self) -> list[str]:
        """Names of what a run returns: the host's outputs, or the machine's."""
        return list(self.host.outputs) if self.host else [slot.name for slot in self.outputs]

    @property
    def input_tensors(self) -> tuple[Tensor, ...]:
        """What the user gives."""
        return tuple(slot.tensor for slot in self.inputs)

    @property
    def output_tensors(self) -> tuple[Tensor, ...]:
        """What a run returns."""
        tensors = self.host.tensors if self.host else {slot.name: slot.tensor for slot in self.outputs}
        return tuple(tensors[name] for name in self.output_names)

    def memory_image(self, inputs: Mapping[str, NDArray[np.int8]] | NDArray[np.int8]) -> NDArray[np.uint8]:
        """External memory before the run.

        Parameters
        ----------
        inputs : ndarray of int8, or mapping of input name to ndarray of int8
            One array is enough if there is one input; shapes are those of the graph, (1, h, w, c) or (1, features).

        Returns
        -------
        ndarray of uint8, shape (memory_bytes,)

        Raises
        ------
        InputError
            A name, shape or type is not the program's.
        """
        arrays = self.check_inputs(inputs)
        memory = np.zeros(self.memory_bytes, np.uint8)
        for start, section in ((self.code_address, self.code), (self.constants_address, self.constants)):
            memory[start : start + len(section)] = np.frombuffer(section, np.uint8)
        for slot in self.inputs:
            packed = layout.pack(arrays[slot.name], self.config.rows)
            memory[slot.address : slot.address + slot.size_bytes] = np.frombuffer(packed, np.uint8)
        return memory

    def check_inputs(self, inputs: Mapping[str, NDArray[np.int8]] | NDArray[np.int8]) -> dict[str, NDArray[np.int8]]:
        """The inputs by name; InputError names the one that does not fit."""
        if not isinstance(inputs, Mapping):
            if len(self.inputs) != 1:
                names = ", ".join(slot.name for slot in self.inputs)
                raise InputError(f"the program has several inputs: give a mapping with the names {names}")
            inputs = {self.inputs[0].name: inputs}
        expected = sorted(slot.name for slot in self.inputs)
        if sorted(inputs) != expected:
            raise InputError(f"inputs must be named {', '.join(expected)}, got {', '.join(sorted(inputs))}")
        for slot in self.inputs:
            array = inputs[slot.name]
            if not isinstance(array, np.ndarray) or array.dtype != np.int8 or array.shape != slot.shape:
                got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                raise InputError(f"input {slot.name!r} must be int8 of shape {slot.shape}, got {got}")
        return dict(inputs)

    def read_outputs(self, memory: NDArray[np.uint8]) -> dict[str, NDArray[np.int8]]:
        """The graph's outputs from the memory after the run: the machine's tensors, then the host's part."""
        from accel.network import reference

        arrays = {
            slot.name: layout.unpack(
                memory[slot.address : slot.address + slot.size_bytes], slot.shape, self.config.rows
            )
            for slot in self.outputs
        }
        if self.host is None:
            return arrays
        needed = {name: arrays[name] for name in self.host.inputs}
        computed = reference.run(self.host, needed)
        return {name: computed[name] for name in self.output_names}

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
            "inputs": [asdict(slot) for slot in self.inputs],
            "outputs": [asdict(slot) for slot in self.outputs],
            "layers": [asdict(layer) for layer in self.layers],
            "instruction_layers": list(self.instruction_layers),
            "operators": [asdict(operator) for operator in self.operators],
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
            raise ProgramError(f"{where}: {error}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise ProgramError(f"{where}: the header must be a program's, got {type(error).__name__} {error}") from None
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
            inputs=_slots(header["inputs"]),
            outputs=_slots(header["outputs"]),
            layers=tuple(LayerInfo(**layer) for layer in header["layers"]),
            instruction_layers=tuple(header["instruction_layers"]),
            host=parse_graph(host) if host else None,
            operators=tuple(OperatorInfo(**operator) for operator in header["operators"]),
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


def _places(slots: tuple[TensorSlot, ...]) -> Iterator[tuple[str, int, int]]:
    return ((f"tensor {slot.name!r}", slot.address, slot.size_bytes) for slot in slots)


def _slots(rows: list[dict[str, Any]]) -> tuple[TensorSlot, ...]:
    return tuple(
        TensorSlot(**{**row, "shape": tuple(row["shape"]), "source": ArrayLayout.parse(row["source"])}) for row in rows
    )
