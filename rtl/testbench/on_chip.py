"""The memories on the chip as arrays, and the memories of the Verilog that hold their parts.

A state of them is one array of uint8 per address space, shape (words, bytes of a word), lanes in little-endian order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from accel.machine.config import ArchConfig
from accel.machine.memories import INT32_BYTES, Space, memories
from rtl.scratchpad import memories_of

OnChip: TypeAlias = Mapping[Space, npt.NDArray[np.uint8]]


class Part(NamedTuple):
    """One memory of the Verilog.

    Parameters
    ----------
    instance : str
        Path of the instance below the top module, joined by dots.
    space : Space
    words, columns : slice
        The words of the space's array that it holds, and the bytes of each.
    """

    instance: str
    space: Space
    words: slice
    columns: slice


def parts(config: ArchConfig) -> Iterator[Part]:
    """The memories of the Verilog that hold the address spaces; of TABLE every post lane has a copy."""
    everything = slice(None)
    halves = 2 if config.depthwise_taps else 1
    for bank in range(config.spad_banks):
        first, end = bank * config.spad_bank_words, (bank + 1) * config.spad_bank_words
        for half in range(halves):
            for group, name in enumerate(memories_of(config, bank, half)):
                columns = slice(group * config.post_lanes, (group + 1) * config.post_lanes)
                yield Part(f"scratchpad.{name}", Space.SPAD, slice(first + half, end, halves), columns)
    yield Part("weight_buffer.memory", Space.WBUF, everything, everything)
    if config.depthwise_taps:
        yield Part("tap_memory.memory", Space.TAPS, everything, everything)
    for column in range(config.cols):
        columns = slice(column * INT32_BYTES, (column + 1) * INT32_BYTES)
        for bank in range(config.acc_banks):
            words = slice(bank * config.acc_bank_words, (bank + 1) * config.acc_bank_words)
            yield Part(f"accumulators.column{column}.bank{bank}", Space.ACC, words, columns)
    for lane in range(config.post_lanes):
        yield Part(f"param_memory.lane{lane}", Space.PARAM, slice(lane, None, config.post_lanes), everything)
    for lane in range(config.post_lanes):
        yield Part(f"table_memory.lane{lane}", Space.TABLE, everything, slice(lane, lane + 1))


def zeros(config: ArchConfig) -> dict[Space, npt.NDArray[np.uint8]]:
    """All memories as they are after power-up; a word of TABLE has a byte for each post lane, which holds a copy."""
    state = {space: np.zeros((each.words, each.word_bytes), np.uint8) for space, each in memories(config).items()}
    state[Space.TABLE] = np.repeat(state[Space.TABLE], config.post_lanes, axis=1)
    return state


def entry_bytes(word_bytes: int) -> int:
    """Bytes in which Verilator holds a word: a power of two up to 8, then a multiple of 4."""
    return 1 << (word_bytes - 1).bit_length() if word_bytes <= 8 else -(-word_bytes // 4) * 4
