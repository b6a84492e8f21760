"""What must hold between the parts of a program."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from accel.errors import ProgramError
from accel.machine import isa
from accel.network.states import check_states
from accel.program.parts import HOST, MACHINE, Segment, TensorSlot, check_integer

if TYPE_CHECKING:
    from accel.program.program import Program

MEMORY_LIMIT_BYTES = 1 << 30
"""Largest image of external memory, so that no program file makes its reader allocate more; addresses reach 4 GiB."""


def check_program_parts(program: Program) -> None:
    """Raise ProgramError, or GraphError, unless code, memory, tensors, states, segments and host graph fit together."""
    for key in ("memory_bytes", "code_address", "constants_address"):
        check_integer(key, getattr(program, key))
    if not 0 < program.memory_bytes <= MEMORY_LIMIT_BYTES:
        raise ProgramError(f"memory_bytes must be in 1..{MEMORY_LIMIT_BYTES}, got {program.memory_bytes}")
    size = isa.INSTRUCTION_BYTES
    if len(program.code) % size:
        raise ProgramError(f"code must be instructions of {size} bytes, got {len(program.code)} bytes")
    if program.code_address % size:
        raise ProgramError(f"code_address must be a multiple of {size}, got {program.code_address}")
    layers = range(len(program.layers))
    owners = program.instruction_layers
    if len(owners) != program.instruction_count or any(type(i) is not int or i not in layers for i in owners):
        raise ProgramError("instruction_layers must give the layer of each instruction")
    _check_names(program)
    check_states(program.states, program.slots, program.input_names, program.output_names)
    _check_places(program)
    _check_segments(program)


def _check_names(program: Program) -> None:
    """Names are distinct and known; there are inputs and outputs."""
    if not program.input_names or not program.output_names:
        raise ProgramError("a program must have at least one input and one output tensor")
    every = tuple(slot.name for slot in program.tensors)
    for what, names in (("tensor", every), ("input", program.input_names), ("output", program.output_names)):
        if len(set(names)) < len(names):
            raise ProgramError(f"{what} names must be distinct, got {', '.join(map(str, names))}")
        if unknown := [name for name in names if name not in every]:
            raise ProgramError(f"{what} {unknown[0]!r} must be one of the program's tensors")


class _Place(NamedTuple):
    """Bytes of external memory and what they hold."""

    what: str
    address: int
    size: int


def _check_places(program: Program) -> None:
    """All is inside of the memory; code, constants and what the user gives do not overlap."""
    fixed = [
        _Place("code", program.code_address, len(program.code)),
        _Place("constants", program.constants_address, len(program.constants)),
    ]
    every = list(_places(program.tensors))
    given = list(_places(tuple(program.slots[name] for name in program.input_names)))
    for what, address, size in (*fixed, *every):
        if address + size > program.memory_bytes:
            raise ProgramError(
                f"{what} must lie inside the memory of {program.memory_bytes} bytes, got {address}..{address + size}"
            )
    for a, b in (*combinations(fixed, 2), *((a, b) for a in fixed for b in every), *combinations(given, 2)):
        if a.address < b.address + b.size and b.address < a.address + a.size:
            raise ProgramError(f"{a.what} and {b.what} must not overlap in memory")


def _places(slots: tuple[TensorSlot, ...]) -> Iterator[_Place]:
    return (_Place(f"tensor {s.name!r}", s.address, s.size_bytes) for s in slots if s.address is not None)


def _check_segments(program: Program) -> None:
    """Segments follow each other, read only what there is, and leave every output."""
    counts = {MACHINE: program.instruction_count, HOST: len(program.host.nodes) if program.host else 0}
    done, known = {MACHINE: 0, HOST: 0}, set(program.input_names)
    for number, segment in enumerate(program.segments):
        where = f"segment {number}"
        if segment.first != done[segment.unit] or not segment.count:
            raise ProgramError(
                f"{where} must begin at number {done[segment.unit]} of the {segment.unit}'s and have one or more, "
                f"got {segment.count} from {segment.first}"
            )
        done[segment.unit] += segment.count
        if unread := [name for name in segment.inputs if name not in known]:
            raise ProgramError(f"{where} must read inputs or outputs of earlier segments, got {unread[0]!r}")
        known.update(segment.outputs)
        _check_tensors(program, segment, where)
    if done != counts:
        raise ProgramError(
            f"segments must hold all {counts[MACHINE]} instructions and {counts[HOST]} nodes of the host, "
            f"got {done[MACHINE]} and {done[HOST]}"
        )
    if missing := [name for name in program.output_names if name not in known]:
        raise ProgramError(f"output {missing[0]!r} must be an input or an output of a segment")


def _check_tensors(program: Program, segment: Segment, where: str) -> None:
    """The machine finds its tensors in memory; the host graph has the same ones as the program."""
    for name in (*segment.inputs, *segment.outputs):
        slot = program.slots.get(name)
        if slot is None or (segment.unit == MACHINE and slot.address is None):
            raise ProgramError(
                f"{where}: tensor {name!r} must be one of the program's tensors, in memory for the machine"
            )
        if segment.unit == HOST and program.host and _described(program.host.tensors.get(name)) != _described(slot):
            raise ProgramError(f"{where}: tensor {name!r} must be the same in the host graph")
    if segment.unit == HOST and program.host:
        nodes = program.host.nodes[segment.first : segment.first + segment.count]
        own = {name for node in nodes for name in node.outputs}
        if foreign := [n for node in nodes for n in node.inputs if n not in own and n not in segment.inputs]:
            raise ProgramError(f"{where} must list tensor {foreign[0]!r}, which its nodes read")
        if foreign := [name for name in segment.outputs if name not in own]:
            raise ProgramError(f"{where}: output {foreign[0]!r} must be made by its nodes")


def _described(tensor: object) -> object:
    """What must be the same of a tensor wherever it is described."""
    return tuple(getattr(tensor, key, None) for key in ("shape", "scale", "zero_point", "dtype"))
