"""`Program`: everything one machine needs to run one network, as one file.

File layout (little-endian): magic, format version, lengths of the four sections, SHA-256 of version, lengths and
sections, then the sections: JSON header, instructions, constants, host graph (`accel.graph_file`, may be empty).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel import isa, layout
from accel.config import ArchConfig
from accel.errors import AccelError, InputError, ProgramError
from accel.files import write_atomic
from accel.graph import Graph
from accel.graph_file import dump_graph, parse_graph

MAGIC = b"ACCELPRG"
VERSION = 1
_PREFIX = struct.Struct("<8sI4Q32s")
MEMORY_LIMIT_BYTES = 1 << 32
"""External memory that 32-bit addresses reach."""


@dataclass(frozen=True)
class TensorSlot:
    """Where an int8 activation lies in external memory, in the layout of `accel.layout`."""

    name: str
    address: int
    shape: tuple[int, ...]
    scale: float
    zero_point: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor."""
        return layout.tensor_bytes(self.shape)


@dataclass(frozen=True)
class LayerInfo:
    """One row of reports: a layer and the matrix product (m, k) @ (k, n) that it amounts to (zeros if none)."""

    name: str
    op: str
    macs: int
    m: int
    k: int
    n: int


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled network.

    Parameters
    ----------
    config : ArchConfig
        The machine it was compiled for.
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

    Raises
    ------
    ProgramError
        Sections contradict each other.
    """

    config: ArchConfig
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

    def __post_init__(self) -> None:
        if not 0 < self.memory_bytes <= MEMORY_LIMIT_BYTES:
            raise ProgramError(f"memory_bytes must be in 1..{MEMORY_LIMIT_BYTES}, got {self.memory_bytes}")
        if not self.code or len(self.code) % isa.INSTRUCTION_BYTES:
            raise ProgramError(
                f"code must be one or more instructions of {isa.INSTRUCTION_BYTES} bytes, got {len(self.code)} bytes"
            )
        if not self.inputs or not self.outputs:
            raise ProgramError("a program must have at least one input and one output tensor")
        areas = [
            ("code", self.code_address, len(self.code)),
            ("constants", self.constants_address, len(self.constants)),
        ]
        areas += [(f"tensor {t.name!r}", t.address, t.size_bytes) for t in (*self.inputs, *self.outputs)]
        for what, address, size in areas:
            if address < 0 or address + size > self.memory_bytes:
                raise ProgramError(
                    f"{what} must lie inside the memory of {self.memory_bytes} bytes, got {address}..{address + size}"
                )
        if len(self.instruction_layers) != self.instruction_count or not all(
            0 <= i < len(self.layers) for i in self.instruction_layers
        ):
            raise ProgramError("instruction_layers must give the layer of each instruction")

    @property
    def instruction_count(self) -> int:
        """Number of instructions."""
        return len(self.code) // isa.INSTRUCTION_BYTES

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
        from accel import reference

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
        return {name: computed[name] for name in self.host.outputs}

    def to_bytes(self) -> bytes:
        """The file's content."""
        header = {
            "fingerprint": self.config.fingerprint(),
            "config": self.config.to_toml(),
            "code_address": self.code_address,
            "constants_address": self.constants_address,
            "memory_bytes": self.memory_bytes,
            "inputs": [asdict(slot) for slot in self.inputs],
            "outputs": [asdict(slot) for slot in self.outputs],
            "layers": [asdict(layer) for layer in self.layers],
            "instruction_layers": list(self.instruction_layers),
        }
        text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
        sections = (text, self.code, self.constants, dump_graph(self.host) if self.host else b"")
        lengths = tuple(len(section) for section in sections)
        return _PREFIX.pack(MAGIC, VERSION, *lengths, _checksum(VERSION, lengths, sections)) + b"".join(sections)

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "program") -> Program:
        """Parse `to_bytes`; raises ProgramError with one sentence on anything else."""
        sections = _sections(data, where)
        try:
            header = json.loads(sections[0])
            config = ArchConfig.from_toml(header["config"], where)
            if header["fingerprint"] != config.fingerprint():
                raise ProgramError("the fingerprint must be that of the configuration; compile the graph again")
            isa.decode_table(sections[1])
            return cls(
                config=config,
                code=sections[1],
                constants=sections[2],
                code_address=int(header["code_address"]),
                constants_address=int(header["constants_address"]),
                memory_bytes=int(header["memory_bytes"]),
                inputs=_slots(header["inputs"]),
                outputs=_slots(header["outputs"]),
                layers=tuple(LayerInfo(**layer) for layer in header["layers"]),
                instruction_layers=tuple(int(i) for i in header["instruction_layers"]),
                host=parse_graph(sections[3]) if sections[3] else None,
            )
        except AccelError as error:
            raise ProgramError(f"{where}: {error}") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ProgramError(f"{where}: the header must be a program's, got {type(error).__name__} {error}") from None

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


def _checksum(version: int, lengths: tuple[int, ...], sections: tuple[bytes, ...]) -> bytes:
    digest = hashlib.sha256(struct.pack("<I4Q", version, *lengths))
    for section in sections:
        digest.update(section)
    return digest.digest()


def _sections(data: bytes, where: str) -> tuple[bytes, ...]:
    if len(data) < _PREFIX.size or data[: len(MAGIC)] != MAGIC:
        raise ProgramError(f"{where}: must be a program file (magic {MAGIC.decode()}), got something else")
    _, version, *lengths, checksum = _PREFIX.unpack_from(data)
    if version != VERSION:
        raise ProgramError(f"{where}: format version must be {VERSION}, got {version}; compile the graph again")
    if _PREFIX.size + sum(lengths) != len(data):
        raise ProgramError(
            f"{where}: must be {_PREFIX.size + sum(lengths)} bytes long, got {len(data)}; the file is damaged"
        )
    sections, position = [], _PREFIX.size
    for length in lengths:
        sections.append(data[position : position + length])
        position += length
    if _checksum(version, tuple(lengths), tuple(sections)) != checksum:
        raise ProgramError(f"{where}: the checksum does not match; the file is damaged")
    return tuple(sections)


def _slots(rows: list[dict[str, Any]]) -> tuple[TensorSlot, ...]:
    slots = []
    for row in rows:
        slot = TensorSlot(**{**row, "shape": tuple(int(size) for size in row["shape"])})
        if len(slot.shape) not in (2, 4) or min(slot.shape) < 1 or math.prod(slot.shape) > MEMORY_LIMIT_BYTES:
            raise ProgramError(f"tensor {slot.name!r} must have 2 or 4 positive sizes, got {slot.shape}")
        slots.append(slot)
    return tuple(slots)
