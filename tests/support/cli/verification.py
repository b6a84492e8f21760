"""Results of a co-verification that nobody ran."""

from __future__ import annotations

import accel


def verification(
    cycles: int, instructions: int, compared: int, bytes_: int = 0, cycles_: int = 0, stamps: int = 0
) -> accel.Verification:
    """One segment compared, and how much of it differed; 100 of the `compared` bytes are on the chip."""
    return accel.Verification(
        cycles=cycles, instructions=instructions, memory_bytes=compared - 100, on_chip_bytes=100,
        differing_bytes=bytes_,
        differing_cycles=cycles_, differing_stamps=stamps, segments=1, outputs={},
    )  # fmt: skip
