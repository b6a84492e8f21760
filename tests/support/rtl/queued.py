"""Instructions that pass through the memory of their unit's queue: one that waits for another unit is before them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from accel.machine.isa import Opcode, decode, encode
from support.rtl.lone_faults import fillers

TOGETHER = 2
"""Instructions that wait behind the head of a queue."""


def queued(codes: Iterable[bytes], seed: int) -> Iterator[bytes]:
    """Single instructions in programs of some for one unit, which get there while its first one waits."""
    idle, of_opcode = fillers(np.random.default_rng(seed)), defaultdict[Opcode, list[bytes]](list)
    for code in codes:
        of_opcode[Opcode(code[0] & 15)].append(code)
    for opcode, alike in of_opcode.items():
        other = Opcode.POST if opcode is Opcode.LOAD else Opcode.LOAD
        (first,), (waits,) = decode(idle[other]), decode(idle[opcode])
        begin = encode([first.replace(signal=1 << opcode.unit), waits.replace(wait=1 << other.unit)])
        for place in range(0, len(alike), TOGETHER):
            yield begin + b"".join(alike[place : place + TOGETHER])
