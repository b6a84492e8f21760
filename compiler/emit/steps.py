"""Steps and loads: what a plan becomes, and what the scheduler puts in order."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from accel.machine.isa import Instruction, Memory


@dataclass
class Load:
    """Something that steps need on chip.

    Parameters
    ----------
    key : hashable
        Its name; steps refer to it.
    memory : Memory
        WBUF, TAPS, PARAM and TABLE blocks get their address when they are loaded; SPAD loads have theirs.
    words : int
        Size of a block: WBUF or TAPS words, PARAM rows, the 256 words of one TABLE.
    make : function of the block's address
        The instructions.
    earliest : int
        The load must come after this step (it overwrites or reads what that step leaves); -1 if any time will do.
    """

    key: Hashable
    memory: Memory
    words: int
    make: Callable[[int], list[Instruction]]
    earliest: int = -1


@dataclass
class Step:
    """Work of one layer after its loads; `make` gets the address of every block that it needs."""

    layer: int
    needs: list[Hashable]
    make: Callable[[dict[Hashable, int]], list[Instruction]]
