"""Tensors, segments and layers as a program describes them, valid by construction."""

from __future__ import annotations

from dataclasses import dataclass, fields

from accel.errors import ProgramError
from accel.machine import layout
from accel.network.graph import Tensor


def check_integer(what: str, value: object) -> None:
    """Raise ProgramError unless `value` is an integer in 0 .. 2^63 - 1; `what` begins the message."""
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ProgramError(f"{what} must be an integer in 0..{(1 << 63) - 1}, got {value!r}")


MACHINE, HOST = "machine", "host"
"""Who computes a segment."""


@dataclass(frozen=True)
class TensorSlot(Tensor):
    """A tensor between two segments, or between a program and its user.

    Parameters
    ----------
    address : int or None
        Of its first byte in external memory, in the layout of `accel.machine.layout`; None if only the host has it.
    """

    address: int | None = None

    def __post_init__(self) -> None:
        self.check()
        if self.address is not None:
            check_integer(f"tensor {self.name!r} address", self.address)
            if self.dtype != "int8":
                raise ProgramError(f"tensor {self.name!r} at an address must be int8, got {self.dtype}")

    @property
    def tensor(self) -> Tensor:
        """The tensor without its place."""
        return Tensor(**{field.name: getattr(self, field.name) for field in fields(Tensor)})

    @property
    def size_bytes(self) -> int:
        """Bytes of an int8 tensor."""
        return layout.tensor_bytes(self.shape)


@dataclass(frozen=True)
class Segment:
    """A part of a program that machine or host computes without a break.

    Parameters
    ----------
    unit : str
        `MACHINE` or `HOST`.
    first, count : int
        Instructions of the program, or nodes of its host graph.
    inputs, outputs : tuple of str
        Tensors that it reads and that it writes for others or the user.
    """

    unit: str
    first: int
    count: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.unit not in (MACHINE, HOST):
            raise ProgramError(f"segment unit must be {MACHINE!r} or {HOST!r}, got {self.unit!r}")
        for key in ("first", "count"):
            check_integer(f"segment {key}", getattr(self, key))
        if not all(isinstance(name, str) for name in (*self.inputs, *self.outputs)):
            raise ProgramError(f"segment inputs and outputs must be names, got {self.inputs} and {self.outputs}")


@dataclass(frozen=True)
class LayerInfo:
    """One row of reports: a layer and the matrix product (m, k) @ (k, n) that it amounts to (zeros if none).

    Parameters
    ----------
    taps : int
        Kernel positions: k is that many times the input channels of a group.
    groups : int
        Each has inputs of its own and n / groups of the columns.
    """

    name: str
    op: str
    macs: int
    m: int
    k: int
    n: int
    taps: int = 0
    groups: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not isinstance(self.op, str):
            raise ProgramError(f"layer name and op must be texts, got {self.name!r} and {self.op!r}")
        for key in ("macs", "m", "k", "n", "taps", "groups"):
            check_integer(f"layer {self.name!r} {key}", getattr(self, key))
        if self.groups < 1:
            raise ProgramError(f"layer {self.name!r} must have at least one group, got {self.groups}")


@dataclass(frozen=True)
class OperatorInfo:
    """Where an operator of the graph runs, and why there.

    Parameters
    ----------
    unit : str
        "array", "depthwise", "post", "dma", "host", or "none" if nothing is left to do.
    macs : int
        Products of a weight and an input, padding included.
    """

    name: str
    op: str
    unit: str
    why: str
    macs: int = 0

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) for text in (self.name, self.op, self.unit, self.why)):
            raise ProgramError(f"operator {self.name!r} must have four texts, got {self!r}")
        check_integer(f"operator {self.name!r} macs", self.macs)
