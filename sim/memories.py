"""The machine's memories as arrays that kernels work on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accel.machine.config import ArchConfig
from accel.machine.memories import Space, memories
from sim.fast.vectors import QUAD

OFFSET = 128
"""Added to the values of SPAD and TABLE, which are held as uint8: byte products of processors want one such operand."""


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
    def of(cls, config: ArchConfig, dram: npt.NDArray[np.uint8]) -> Memories:
        """Memories of `config` beside the external memory `dram`, which the run changes."""
        sizes = {space: (on_chip.words, on_chip.lanes) for space, on_chip in memories(config).items()}
        words, width = sizes[Space.SPAD]
        return cls(
            dram=dram,
            spad=np.full((words + 1, -(-width // QUAD) * QUAD), OFFSET, np.uint8),
            wbuf=np.zeros(sizes[Space.WBUF], np.int8),
            taps=np.zeros(sizes[Space.TAPS], np.int8),
            param=np.zeros(sizes[Space.PARAM], np.int8),
            table=np.full(sizes[Space.TABLE], OFFSET, np.uint8),
            acc=np.zeros(sizes[Space.ACC], np.int32),
        )
