"""The machine's memories as arrays that kernels work on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accel.machine.config import PARAM_RECORD_BYTES, TABLE_WORDS, ArchConfig


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
        return cls(
            np.array(memory, np.uint8, order="C"),
            np.zeros((config.spad_words + 1, config.rows + config.rows % 2), np.int16),
            np.zeros((config.wbuf_words, config.cols), np.int16),
            np.zeros((config.depthwise_words if config.depthwise_taps else 0, config.depthwise_lanes), np.int16),
            np.zeros((config.param_channels, PARAM_RECORD_BYTES), np.int16),
            np.zeros((TABLE_WORDS, 1), np.int16),
            np.zeros((config.acc_words, config.cols), np.int32),
        )
