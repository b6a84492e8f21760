"""The machine's memories as arrays that kernels work on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accel.machine.config import ArchConfig
from accel.machine.memories import Space, memories


class Memories(NamedTuple):
    """All memories of one machine, zero after power-up.

    Bytes on the chip are held as int16: products of pairs then need no widening, and one compiled kernel serves every
    destination. SPAD words are padded to an even number of bytes; one more word holds the value of invalid taps.
    Without a depthwise engine `taps` is empty.
    """

    dram: npt.NDArray[np.uint8]
    spad: npt.NDArray[np.int16]
    wbuf: npt.NDArray[np.int16]
    taps: npt.NDArray[np.int16]
    param: npt.NDArray[np.int16]
    table: npt.NDArray[np.int16]
    acc: npt.NDArray[np.int32]

    @classmethod
    def of(cls, config: ArchConfig, memory: npt.NDArray[np.uint8]) -> Memories:
        """Memories of `config` beside a copy of the external memory image `memory`."""
        arrays = {
            space: np.zeros((on_chip.words, on_chip.lanes), np.int16)
            for space, on_chip in memories(config).items()
            if space not in (Space.SPAD, Space.ACC)
        }
        spad, acc = memories(config)[Space.SPAD], memories(config)[Space.ACC]
        return cls(
            dram=np.array(memory, np.uint8, order="C"),
            spad=np.zeros((spad.words + 1, spad.lanes + spad.lanes % 2), np.int16),
            wbuf=arrays[Space.WBUF],
            taps=arrays[Space.TAPS],
            param=arrays[Space.PARAM],
            table=arrays[Space.TABLE],
            acc=np.zeros((acc.words, acc.lanes), np.int32),
        )
