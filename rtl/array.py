"""The weight-stationary systolic array."""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from rtl.pipeline import delayed


class Right(NamedTuple):
    """The signals from a PE to its right neighbour: an activation, and whether a swap or a capture accompanies it.

    `int4` tells whether the weight to capture is a nibble; None in an array without int4 weights.
    """

    activation: Value
    swap: Value
    capture: Value
    int4: Value | None = None


class Down(NamedTuple):
    """The signals from a PE to its lower neighbour: a weight in transit and a partial sum."""

    transit: Value
    psum: Value


def build_pe(m: Module, name: str, row: int, left: Right, above: Down) -> tuple[Right, Down]:
    """Add one processing element of a row to `m`; returns its outputs, all registered, as is the product.

    A weight that passes by while `capture` is high stays in `shadow`; with `swap`, which travels with the first pixel
    that needs it, `shadow` becomes `weight` in time for that pixel.
    """
    weight, shadow, transit, activation = (
        Signal(signed(8), name=f"{name}_{part}", reset_less=True)
        for part in ("weight", "shadow", "transit", "activation")
    )
    psum = Signal(signed(32), name=f"{name}_psum", reset_less=True)
    swap, capture = Signal(name=f"{name}_swap"), Signal(name=f"{name}_capture")
    current, product = (
        Signal(signed(8), name=f"{name}_current"),
        Signal(signed(16), name=f"{name}_product", reset_less=True),
    )
    m.d.comb += current.eq(Mux(left.swap, shadow, weight))
    m.d.sync += [
        weight.eq(current),
        product.eq(left.activation * current),
        psum.eq(above.psum + product),
        transit.eq(above.transit),
        activation.eq(left.activation),
        swap.eq(left.swap),
        capture.eq(left.capture),
    ]
    int4 = None if left.int4 is None else delayed(m, left.int4, 1, f"{name}_int4")
    with m.If(left.capture):
        m.d.sync += shadow.eq(above.transit if left.int4 is None else row_weight(left.int4, above.transit, row))
    return Right(activation, swap, capture, int4), Down(transit, psum)


def row_weight(int4: Value, word: Value, row: int) -> Value:
    """The weight of a row in a column's byte of a word: the byte, or with `int4` the nibble of an even or odd row."""
    return Mux(int4, word[4 * (row % 2) :][:4].as_signed(), word)


class SystolicArray(wiring.Component):
    """`rows` x `cols` processing elements; weights stay, activations move right, partial sums move down.

    A word of weights or activations enters un-skewed; the array delays row r by r and column c by c cycles. Row r
    captures word r of a tile, 2 r cycles after word 0 entered, or its nibble of word r // 2, r + r // 2 cycles after.

    Members
    -------
    weights : In, cols * 8 bits
        A tile's words in consecutive cycles; `capture` is high with the first.
    int4 : In(1)
        With `capture`: each word holds two rows of int4, the even one in the low nibbles (`int4_weights` only).
    activations : In, rows * 8 bits
        One pixel; `swap` is high with a tile's first pixel, at the earliest as many cycles after its `capture` as the
        tile has words.
    psums : Out, cols * 32 bits
        Column c holds a pixel's sum `rows + 1 + c` cycles after the pixel entered.
    """

    def __init__(self, config: ArchConfig):
        self.config = config
        super().__init__(
            {
                "weights": In(8 * config.cols),
                "capture": In(1),
                **({"int4": In(1)} if config.int4_weights else {}),
                "activations": In(8 * config.rows),
                "swap": In(1),
                "psums": Out(32 * config.cols),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        rows, cols = self.config.rows, self.config.cols
        above = [Down(self._byte(m, "weights", c), Const(0, signed(32))) for c in range(cols)]
        swap, captures = self.swap, self._captures(m)
        for r in range(rows):
            left = Right(self._byte(m, "activations", r), swap, *captures[r])
            for c in range(cols):
                left, above[c] = build_pe(m, f"pe_{r}_{c}", r, left, above[c])
            swap = delayed(m, swap, 1, f"row{r}_swap", reset_less=False)
        for c in range(cols):
            m.d.comb += self.psums.word_select(c, 32).eq(above[c].psum)
        return m

    def _captures(self, m: Module) -> list[tuple[Value, Value | None]]:
        """For each row, whether its first PE captures the word that is there, and whether that is a nibble."""
        rows = range(self.config.rows)
        if not self.config.int4_weights:
            return [(capture, None) for capture in _chain(m, self.capture, "capture", [2 for _ in rows])]
        int8 = _chain(m, self.capture & ~self.int4, "capture", [2 for _ in rows])
        int4 = _chain(m, self.capture & self.int4, "capture_int4", [1 + r % 2 for r in rows])
        return [(whole | half, half) for whole, half in zip(int8, int4, strict=True)]

    def _byte(self, m: Module, port: str, index: int) -> Value:
        """Byte `index` of an input word, skewed: `index` cycles late."""
        return delayed(m, getattr(self, port).word_select(index, 8).as_signed(), index, f"{port}_{index}")


def _chain(m: Module, first: Value, name: str, delays: list[int]) -> list[Value]:
    """A signal for each row: `first`, then each later than the one before by the delay of that row."""
    signals = [first]
    for row, delay in enumerate(delays[:-1]):
        signals.append(delayed(m, signals[-1], delay, f"row{row}_{name}", reset_less=False))
    return signals
