"""The machine's memories as arrays that kernels work on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from accel.machine.config import ArchConfig
from accel.machine.memories import Space, memories
from sim.fast.vectors import QUAD

OFFSET = 128
"""Added to the values of SPAD and TABLE, which are held as uint8: byte products of processors want one such operand."""

OnChip: TypeAlias = Mapping[Space, npt.NDArray[np.uint8]]
"""Memories on the chip by address space, shape (words, bytes of a word), lanes in little-endian order."""


class Memories(NamedTuple):
    """All memories of one machine, zero after power-up.

    SPAD and TABLE hold values plus `OFFSET`. SPAD words are padded to whole `QUAD`s; one more word holds the value of
    invalid taps. Without a depthwise engine `taps` is empty.
    """

    dram: npt.NDArray[np.uint8]
    spad: npt.NDArray[np.uint8]
    wbuf: npt.NDArray[np.int8]
    taps: npt.NDArray[np.int8]
    param: npt.NDArray[np.int8]
    table: npt.NDArray[np.uint8]
    acc: npt.NDArray[np.int32]

    @classmethod
    def of(cls, config: ArchConfig, dram: npt.NDArray[np.uint8], on_chip: OnChip | None = None) -> Memories:
        """Memories of `config` beside the external memory `dram`, which the run changes.

        `on_chip` is what the others hold before the run; None: zeros, as after power-up.
        """
        sizes = {space: (memory.words, memory.lanes) for space, memory in memories(config).items()}
        words, width = sizes[Space.SPAD]
        result = cls(
            dram=dram,
            spad=np.full((words + 1, -(-width // QUAD) * QUAD), OFFSET, np.uint8),
            wbuf=np.zeros(sizes[Space.WBUF], np.int8),
            taps=np.zeros(sizes[Space.TAPS], np.int8),
            param=np.zeros(sizes[Space.PARAM], np.int8),
            table=np.full(sizes[Space.TABLE], OFFSET, np.uint8),
            acc=np.zeros(sizes[Space.ACC], np.int32),
        )
        if on_chip is not None:
            result.spad[:-1, :width] = on_chip[Space.SPAD] ^ np.uint8(OFFSET)
            result.table[:] = on_chip[Space.TABLE][:, :1] ^ np.uint8(OFFSET)
            for space, array in result.plain().items():
                array[:] = np.ascontiguousarray(on_chip[space]).view(array.dtype)
        return result

    def plain(self) -> dict[Space, npt.NDArray[Any]]:
        """The memories whose arrays hold their values as they are."""
        return {Space.WBUF: self.wbuf, Space.TAPS: self.taps, Space.PARAM: self.param, Space.ACC: self.acc}

    def on_chip(self, rows: int) -> dict[Space, npt.NDArray[np.uint8]]:
        """What the memories on the chip hold, as bytes; a SPAD word has `rows`."""
        return {
            Space.SPAD: self.spad[:-1, :rows] ^ np.uint8(OFFSET),
            Space.TABLE: self.table ^ np.uint8(OFFSET),
            **{space: array.view(np.uint8).copy() for space, array in self.plain().items()},
        }
