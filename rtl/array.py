"""The weight-stationary systolic array."""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from rtl.pipeline import delayed


class Right(NamedTuple):
    """The signals from a PE to its right neighbour: an activation, and whether a swap or a capture accompanies it."""

    activation: Value
    swap: Value
    capture: Value


class Down(NamedTuple):
    """The signals from a PE to its lower neighbour: a weight in transit and a partial sum."""

    transit: Value
    psum: Value


def build_pe(m: Module, name: str, left: Right, above: Down) -> tuple[Right, Down]:
    """Add one processing element to `m`; returns its outputs, all registered.

    A weight that passes by while `capture` is high stays in `shadow`; with `swap`, which travels with the first pixel
    that needs it, `shadow` becomes `weight` in time for that pixel.
    """
    weight, shadow, transit, activation = (
        Signal(signed(8), name=f"{name}_{part}", reset_less=True)
        for part in ("weight", "shadow", "transit", "activation")
    )
    psum = Signal(signed(32), name=f"{name}_psum", reset_less=True)
    swap, capture = Signal(name=f"{name}_swap"), Signal(name=f"{name}_capture")
    current, product = Signal(signed(8), name=f"{name}_current"), Signal(signed(16), name=f"{name}_product")
    m.d.comb += [current.eq(Mux(left.swap, shadow, weight)), product.eq(left.activation * current)]
    m.d.sync += [
        weight.eq(current),
        psum.eq(above.psum + product),
        transit.eq(above.transit),
        activation.eq(left.activation),
        swap.eq(left.swap),
        capture.eq(left.capture),
    ]
    with m.If(left.capture):
        m.d.sync += shadow.eq(above.transit)
    return Right(activation, swap, capture), Down(transit, psum)


class SystolicArray(wiring.Component):
    """`rows` x `cols` processing elements; weights stay, activations move right, partial sums move down.

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
        m = Module()
        rows, cols = self.config.rows, self.config.cols
        above = [Down(self._byte(m, "weights", c), Const(0, signed(32))) for c in range(cols)]
        swap, capture = self.swap, self.capture
        for r in range(rows):
            left = Right(self._byte(m, "activations", r), swap, capture)
            for c in range(cols):
                left, above[c] = build_pe(m, f"pe_{r}_{c}", left, above[c])
            swap = delayed(m, swap, 1, f"row{r}_swap", reset_less=False)
            capture = delayed(m, capture, 2, f"row{r}_capture", reset_less=False)
        for c in range(cols):
            m.d.comb += self.psums.word_select(c, 32).eq(above[c].psum)
        return m

    def _byte(self, m: Module, port: str, index: int) -> Value:
        """Byte `index` of an input word, skewed: `index` cycles late."""
        return delayed(m, getattr(self, port).word_select(index, 8).as_signed(), index, f"{port}_{index}")
