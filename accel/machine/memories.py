"""The memories of a machine in one table: compiler, checker, simulator and documentation derive theirs from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType

from accel.machine.config import PARAM_RECORD_BYTES, TABLE_WORDS, ArchConfig
from accel.machine.isa import Memory, Unit

DRAM_BYTES = 1 << 32
"""Bytes that a `dram_address` can name."""

INT32_BYTES = 4


class Space(IntEnum):
    """Address spaces; those that LOAD writes have the values of `accel.machine.isa.Memory`."""

    SPAD = Memory.SPAD
    WBUF = Memory.WBUF
    PARAM = Memory.PARAM
    TABLE = Memory.TABLE
    TAPS = Memory.TAPS
    ACC = 5
    DRAM = 6


BANKED = (Space.SPAD, Space.ACC)
"""Memories with more than one user per port: two units must not use the same port of a bank at the same time."""


@dataclass(frozen=True)
class OnChipMemory:
    """One memory of a machine.

    Parameters
    ----------
    words : int
        Number of addresses: of words, for PARAM of channel records; 0 if the machine does not have the memory.
    lanes : int
        Values per word.
    lane_bytes : int
        Bytes per value: 1 for int8, 4 for int32.
    writers, readers : tuple of Unit
    banks : int
        Equal parts of consecutive words, each with one read and one write port.
    """

    words: int
    lanes: int
    lane_bytes: int
    writers: tuple[Unit, ...]
    readers: tuple[Unit, ...]
    banks: int = 1

    @property
    def word_bytes(self) -> int:
        """Bytes per word."""
        return self.lanes * self.lane_bytes

    @property
    def bank_words(self) -> int:
        """Words per bank."""
        return self.words // self.banks


@lru_cache(maxsize=64)
def memories(config: ArchConfig) -> Mapping[Space, OnChipMemory]:
    """The memories on the chip of `config`, by address space."""
    sums = (Unit.EXEC, Unit.DEPTHWISE)
    return MappingProxyType(
        {
            Space.SPAD: OnChipMemory(
                config.spad_words, config.rows, 1, (Unit.LOAD, Unit.POST),
                (Unit.EXEC, Unit.DEPTHWISE, Unit.POST, Unit.STORE), config.spad_banks,
            ),
            Space.WBUF: OnChipMemory(config.wbuf_words, config.cols, 1, (Unit.LOAD,), (Unit.EXEC,)),
            Space.TAPS: OnChipMemory(
                config.depthwise_words if config.depthwise_taps else 0, config.depthwise_lanes, 1, (Unit.LOAD,),
                (Unit.DEPTHWISE,),
            ),
            Space.ACC: OnChipMemory(
                config.acc_words, config.cols, INT32_BYTES, sums, (*sums, Unit.POST), config.acc_banks
            ),
            Space.PARAM: OnChipMemory(config.param_channels, PARAM_RECORD_BYTES, 1, (Unit.LOAD,), (Unit.POST,)),
            Space.TABLE: OnChipMemory(TABLE_WORDS, 1, 1, (Unit.LOAD,), (Unit.POST,)),
        }
    )  # fmt: skip


def space_words(config: ArchConfig, space: Space) -> int:
    """Words of a memory (PARAM: channel records), or the bytes that a DRAM address can name."""
    return DRAM_BYTES if space is Space.DRAM else memories(config)[space].words
