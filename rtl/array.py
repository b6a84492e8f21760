"""The weight-stationary systolic array."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.config import ArchConfig


class SystolicArray(wiring.Component):
    """`rows` x `cols` multiply-accumulate cells; weights stay, activations move right, partial sums move down.

    A word of weights or activations enters un-skewed; the array delays row r by r and column c by c cycles.

    Members
    -------
    weights : In, cols * 8 bits
        A tile's words in consecutive cycles; `capture` is high with the first.
    activations : In, rows * 8 bits
        One pixel; `swap` is high with a tile's first pixel, at the earliest `rows` cycles after its `capture`.
    psums : Out, cols * 32 bits
        Column c holds a pixel's sum `rows + c` cycles after the pixel entered.
    """

    def __init__(self, config: ArchConfig):
        self.config = config
        super().__init__(
            {
                "weights": In(8 * config.cols),
                "capture": In(1),
                "activations": In(8 * config.rows),
                "swap": In(1),
                "psums": Out(32 * config.cols),
            }
        )

    def elaborate(self, platform) -> Module:
        return Module()
