"""Weight words in kernels (`accel.machine.weight_words`)."""

from __future__ import annotations

from typing import Any

from accel.machine import weight_words
from sim.jit import jit_group, kernel

(tile_words,) = jit_group(weight_words.tile_words)


@kernel
def low_nibble(byte: Any) -> Any:
    """The int4 in the low half of an int8."""
    return ((byte & 15) ^ 8) - 8


@kernel
def high_nibble(byte: Any) -> Any:
    """The int4 in the high half of an int8."""
    return byte >> 4
