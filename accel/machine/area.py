"""Sizes of a machine that do not depend on a technology: multipliers, registers, memory.

The formulas follow `rtl/array.py`, `rtl/depthwise_lane.py` and `rtl/requantize.py`; `tests/rtl/test_area.py` counts the
registers and multipliers of their netlists.
"""

from __future__ import annotations

from dataclasses import dataclass

from accel.machine.config import ArchConfig
from accel.machine.memories import Space, memories


@dataclass(frozen=True)
class Area:
    """What a machine is made of.

    Parameters
    ----------
    multipliers : int
        8 x 8 bits: of the array and of the depthwise engine.
    requantizers : int
        32 x 32 bits: two for each post lane, of operands and of results.
    register_bits : int
        Of the data path: array, lanes of the depthwise engine, requantizers. Sequencers, queues, buses and the other
        stages of POST, which hardly grow with the machine, are left out.
    sram_bits : int
        All memories on the chip; TABLE once for each post lane.
    """

    multipliers: int
    requantizers: int
    register_bits: int
    sram_bits: int

    @property
    def mm2(self) -> float:
        """A rough area at 45 nm, to compare machines by one number: without wires, control and the memories' periphery.

        References
        ----------
        Dally, "High-Performance Hardware for Machine Learning", NIPS tutorial, 2015: multiplication of 8 bits 282, of
        32 bits 3,495, addition of 32 bits 137 square micrometres. NanGate 45 nm Open Cell Library: DFF_X1 4.522.
        Mistry et al., "A 45nm Logic Technology with High-k+Metal Gate Transistors", IEDM 2007: memory cell 0.346.
        """
        logic = self.multipliers * (282 + 137) + self.requantizers * (3495 + 137)
        return (logic + self.register_bits * 4.522 + self.sram_bits * 0.346) / 1e6


def area(config: ArchConfig) -> Area:
    """The sizes of a machine."""
    bits = {space: 8 * memory.words * memory.word_bytes for space, memory in memories(config).items()}
    copies, requantizers = bits[Space.TABLE] * (config.post_lanes - 1), 2 * config.post_lanes
    registers = array_register_bits(config) + requantizers * requantizer_register_bits(config)
    return Area(
        multipliers=config.rows * config.cols + config.depthwise_multipliers,
        requantizers=requantizers,
        register_bits=registers + config.depthwise_register_bits,
        sram_bits=sum(bits.values()) + copies,
    )


def array_register_bits(config: ArchConfig) -> int:
    """Processing elements, and the delay lines that skew words and control signals at the array's edges."""
    rows, cols, int4 = config.rows, config.cols, config.int4_weights
    # Weight, shadow, transit and activation; product; sum; swap, capture and whether it is of a nibble.
    element = 4 * 8 + 16 + 32 + 2 + int4
    skew = 8 * (_triangle(rows) + _triangle(cols))
    captures = 2 * (rows - 1) + int4 * (rows - 1 + (rows - 1) // 2)
    return rows * cols * element + skew + rows - 1 + captures


def _triangle(count: int) -> int:
    """0 + 1 + ... + (count - 1)."""
    return count * (count - 1) // 2


def requantizer_register_bits(config: ArchConfig) -> int:
    """One requantizer: mode `single` shifts a number of 63 bits, the others one of 34; `fp32` keeps the magnitude."""
    return 677 + 29 * ("single" in config.requant_modes) + 34 * ("fp32" in config.requant_modes)
