"""The weight-stationary systolic array."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from rtl.blocks import Block
from rtl.pipeline import delayed


class Rightwards(wiring.Signature):
    """From a PE to its right neighbour: an activation, and whether a swap or a capture accompanies it.

    `int4` tells whether the weight to capture is a nibble; only in an array with int4 weights.
    """

    def __init__(self, int4_weights: bool):
        int4 = {"int4": Out(1)} if int4_weights else {}
        super().__init__({"activation": Out(signed(8)), "swap": Out(1), "capture": Out(1), **int4})


class Downwards(wiring.Signature):
    """From a PE to its lower neighbour: a weight in transit and a partial sum."""

    def __init__(self) -> None:
        super().__init__({"transit": Out(signed(8)), "psum": Out(signed(32))})


class PE(Block):
    """One processing element of a row; all outputs are registers, as are the product and both of its factors.

    A weight that passes by while `capture` is high stays in `shadow`; with `swap`, which travels with the first pixel
    that needs it, `shadow` becomes `weight` in the cycle in which that pixel is in the register to the right.

    Members
    -------
    left, right : In, Out(Rightwards)
    above, below : In, Out(Downwards)
    """

    def __init__(self, int4_weights: bool, row: int):
        self._row = row
        self.module = ("pe_even", "pe_odd")[row % 2] if int4_weights else "pe"
        rightwards, downwards = Rightwards(int4_weights), Downwards()
        super().__init__(
            {"left": In(rightwards), "right": Out(rightwards), "above": In(downwards), "below": Out(downwards)}
        )

    def build(self, platform: object) -> Module:
        m = Module()
        left, above = self.left, self.above
        weight, shadow, psum = (
            Signal(shape, name=name, reset_less=True)
            for name, shape in (("weight", signed(8)), ("shadow", signed(8)), ("psum", signed(32)))
        )
        product = delayed(m, self.right.activation * weight, 1, "product")
        m.d.sync += psum.eq(above.psum + product)
        with m.If(left.swap):
            m.d.sync += weight.eq(shadow)
        with m.If(left.capture):
            m.d.sync += shadow.eq(self._weight())
        m.d.comb += [self.below.psum.eq(psum), self.below.transit.eq(delayed(m, above.transit, 1, "transit"))]
        for name in self.right.signature.members:
            control = name in ("swap", "capture")
            passed = delayed(m, getattr(left, name), 1, name, reset_less=not control)
            m.d.comb += getattr(self.right, name).eq(passed)
        return m

    def _weight(self) -> Value:
        """The weight to capture: the byte that passes by, or with `int4` the nibble of an even or odd row."""
        word, row = self.above.transit, self._row
        return Mux(self.left.int4, word[4 * (row % 2) :][:4].as_signed(), word) if hasattr(self.left, "int4") else word


class PEGrid(Block):
    """`rows` x `cols` PEs, in which row r works r cycles, column c c cycles later than the first.

    In Verilog it is `pe_grid.v`, whose loops spare netlists of many thousand instances.

    Members
    -------
    activations, swap, capture, int4 : In
        For each row's first PE; `int4` counts only with int4 weights.
    weights : In, psums : Out
        Into the first row, and out of the last one.
    """

    module = "pe_grid"

    def __init__(self, rows: int, cols: int, int4_weights: bool):
        self.parameters = {"ROWS": rows, "COLS": cols, "INT4": int(int4_weights)}
        self._size, self._int4_weights = (rows, cols), int4_weights
        controls = {name: In(rows) for name in ("swap", "capture", "int4")}
        super().__init__({"activations": In(8 * rows), **controls, "weights": In(8 * cols), "psums": Out(32 * cols)})

    def parts(self) -> list[Block]:
        return [PE(self._int4_weights, row) for row in range(min(self._size[0], 1 + self._int4_weights))]

    def build(self, platform: object) -> Module:
        m = Module()
        rows, cols = self._size
        above = [Downwards().create(path=(f"column{c}",)) for c in range(cols)]
        m.d.comb += [above[c].transit.eq(self.weights.word_select(c, 8)) for c in range(cols)]
        for r in range(rows):
            left = Rightwards(self._int4_weights).create(path=(f"row{r}",))
            m.d.comb += [
                left.activation.eq(self.activations.word_select(r, 8)),
                left.swap.eq(self.swap[r]),
                left.capture.eq(self.capture[r]),
                left.int4.eq(self.int4[r]) if self._int4_weights else [],
            ]
            for c in range(cols):
                m.submodules[f"pe_{r}_{c}"] = pe = PE(self._int4_weights, r)
                wiring.connect(m, left, pe.left)
                wiring.connect(m, above[c], pe.above)
                left, above[c] = pe.right, pe.below
        m.d.comb += self.psums.eq(Cat(below.psum for below in above))
        return m


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
        Column c holds a pixel's sum `rows + 2 + c` cycles after the pixel entered.
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
        rows, cols, int4_weights = self.config.rows, self.config.cols, self.config.int4_weights
        m.submodules.grid = grid = PEGrid(rows, cols, int4_weights)
        swaps, captures = _chain(m, self.swap, "swap", [1] * rows), self._captures(m)
        m.d.comb += [
            grid.weights.eq(Cat(self._byte(m, "weights", c) for c in range(cols))),
            grid.activations.eq(Cat(self._byte(m, "activations", r) for r in range(rows))),
            grid.swap.eq(Cat(swaps)),
            grid.capture.eq(Cat(capture for capture, _ in captures)),
            grid.int4.eq(Cat(int4 for _, int4 in captures)),
            self.psums.eq(grid.psums),
        ]
        return m

    def _captures(self, m: Module) -> list[tuple[Value, Value]]:
        """For each row, whether its first PE captures the word that is there, and whether that is a nibble."""
        rows = range(self.config.rows)
        if not self.config.int4_weights:
            return [(capture, Const(0, 1)) for capture in _chain(m, self.capture, "capture", [2 for _ in rows])]
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
