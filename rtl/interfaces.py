"""Signatures that the blocks of the machine share, seen from the unit that drives them."""

from __future__ import annotations

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.machine import isa
from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode, Unit
from rtl.axi import ADDRESS_BITS

INSTRUCTION_BITS = 8 * isa.INSTRUCTION_BYTES
MASK_BITS = len(Unit)
"""Bits of `wait` and `signal` that the units look at, one for each; with any other bit an instruction is refused."""

NUMBER_BITS = 10
"""Low bits of an instruction's index in the program: more than there are between dispatch and completion."""

PLACE = data.StructLayout({"unit": 4, "number": NUMBER_BITS, "address": ADDRESS_BITS})
"""Where an error happened: unit (the code of ERROR_FIRST), number of its instruction, address in the image."""


def layout(opcode: Opcode) -> data.StructLayout:
    """The fields of one instruction as an Amaranth layout, padded to the instruction's width.

    Behind the encoder's fields, where the program has zeros, fetch puts the instruction's `number`.
    """
    from amaranth.hdl import signed, unsigned

    members = {f.name: (signed if f.signed else unsigned)(f.width) for f in isa.FIELDS[opcode]}
    members["number"] = unsigned(NUMBER_BITS)
    members["reserved"] = unsigned(INSTRUCTION_BITS - NUMBER_BITS - sum(f.width for f in isa.FIELDS[opcode]))
    return data.StructLayout(members)


def opcodes(config: ArchConfig) -> list[Opcode]:
    """The opcodes that the machine has units for, in the order of units; DEPTHWISE, the last, needs its engine."""
    return [opcode for opcode in Opcode if config.depthwise_taps or opcode is not Opcode.DEPTHWISE]


def loop_levels(opcode: Opcode) -> dict[str, int]:
    """Loops of an EXEC, POST or DEPTHWISE, outermost first, with the width of their count fields."""
    return {f.name.removesuffix("_count"): f.width for f in isa.FIELDS[opcode] if f.name.endswith("_count")}


FAULT = data.StructLayout({"rule": 1, "bounds": 1, "number": NUMBER_BITS})
"""What a unit finds wrong with an instruction while it executes it: `rule` or `bounds` of ERROR; which one it is."""

REACH_BITS = 1 + isa.FIELDS[Opcode.LOAD][isa.column(Opcode.LOAD, "address")].width
"""Width of an address that goes from word to word, each of which is used, and shows the first one that does not exist:
from one that exists a stride leads less than half of the largest memory away."""

ADDRESS_SPAN_BITS = 32
"""Width at which no sum of an address and its strides wraps: the largest is 2^18 + 2^17 * (2 * (2^12 + 2^8) + 2^10)."""


class ReadPort(wiring.Signature):
    """Synchronous read: `data` holds word `addr` the memory's latency after one with `en`; a byte has `width` bits."""

    def __init__(self, words: int, lanes: int, width: int = 8):
        super().__init__({"en": Out(1), "addr": Out(range(max(words, 2))), "data": In(lanes * width)})


class WritePort(wiring.Signature):
    """Write of a word of `lanes` bytes at the end of a cycle with `en`; `masked`: of those that `mask` selects."""

    def __init__(self, words: int, lanes: int, masked: bool = True):
        mask = {"mask": Out(lanes)} if masked else {}
        super().__init__({"en": Out(1), "addr": Out(range(max(words, 2))), "data": Out(8 * lanes), **mask})


class UnitControl(wiring.Signature):
    """The signals of an execution unit for dispatch, semaphores, counters and the verification port.

    Members
    -------
    instruction : stream of INSTRUCTION_BITS
        Head of the unit's queue; `ready` is high in the issue cycle only.
    tokens : In
        Bit p: the semaphore that unit p posts for this unit holds a token.
    complete, signal : Out
        `complete` is high in a completion cycle, `signal` then is the instruction's signal mask (0 otherwise).
    occupied, busy : Out
        For the stall counters: docs/timing.md, "Where every cycle goes".
    idle : Out
        No instruction is between issue and completion.
    fault : Out
        Some cycles after something wrong was found.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "instruction": In(stream.Signature(INSTRUCTION_BITS)),
                "tokens": In(MASK_BITS),
                "complete": Out(1),
                "signal": Out(MASK_BITS),
                "occupied": Out(1),
                "busy": Out(1),
                "idle": Out(1),
                "fault": Out(FAULT),
            }
        )


class AccumulatePort(wiring.Signature):
    """Accumulation into a word. Skewed, column c executes c cycles later what column 0 executes.

    Members
    -------
    en, addr, overwrite : Out
        Column 0 reads word `addr` in a cycle with `en` and writes psum + old value (or psum alone if `overwrite`) to it
        `ACC_LATENCY` cycles later.
    psums : Out, columns * 32 bits
        Column 0 is sampled in the cycle of its write.
    """

    def __init__(self, words: int, columns: int):
        super().__init__(
            {"en": Out(1), "addr": Out(range(max(words, 2))), "overwrite": Out(1), "psums": Out(32 * columns)}
        )
