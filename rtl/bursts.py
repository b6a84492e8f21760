"""From rows of bytes to AXI4 bursts, for LOAD, STORE and fetch."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from accel.machine import isa
from accel.machine.isa import Opcode
from accel.machine.latencies import BURST_BEATS, BURST_BOUNDARY_BYTES
from rtl.axi import ADDRESS_BITS, BURST
from rtl.pipeline import one_hot, sum_of_three

COUNT_BITS = isa.FIELDS[Opcode.LOAD][isa.column(Opcode.LOAD, "row_count")].width


def rows_layout(address_bits: int) -> data.StructLayout:
    """A two-level pattern of rows: where it starts, how many rows there are and how far apart."""
    return data.StructLayout(
        {
            "address": address_bits,
            "outer_stride": signed(address_bits),
            "row_stride": signed(address_bits),
            "outer_count": COUNT_BITS,
            "row_count": COUNT_BITS,
        }
    )


def shift_bytes_left(value: Value, count: Value, width: int) -> Value:
    """The low `width` bits of `value << 8 * count`; Amaranth's `<<` would make the result 2^len(count) bytes wide."""
    for stage, bit in enumerate(count):
        if 8 << stage < width:
            value = Mux(bit, Cat(Const(0, 8 << stage), value)[:width], value)
    return value[:width]


def rotated(m: Module, name: str, value: Value, count: Value) -> Value:
    """The bytes of `value`, a power of two of them, moved up by `count`, those at the top to the bottom."""
    for bit in range(exact_log2(len(value) // 8)):
        stage = Signal(len(value), name=f"{name}_by_{1 << bit}")
        m.d.comb += stage.eq(Mux(count[bit], value.rotate_left(8 << bit), value))
        value = stage
    return value


def chunk_layout(bus_bytes: int, length_bits: int) -> data.StructLayout:
    """What comes next of a sequence of bytes: how many in one beat, whether it ends, and how many are beyond if not."""
    return data.StructLayout({"count": range(bus_bytes + 1), "beyond": length_bits, "ends": 1})


def first_chunk(length: Value, most: Value | int, layout: data.StructLayout) -> Value:
    """The `chunk_layout` of a sequence of `length` bytes, `most` of which fit its first beat."""
    few, beyond = length[: layout["count"].width], (length - most)[: layout["beyond"].width]
    ends = ~length[len(few) :].any() & (few <= most)
    return Cat(Mux(ends, few, most)[: len(few)], beyond, Const(0, layout["beyond"].width - len(beyond)), ends)


def connect_rows(target: RowWalker | BurstGenerator, instruction: data.View, prefix: str = "") -> list:
    """Drive `target.rows` from the fields of a LOAD or STORE; the prefix "dram_" takes those of external memory."""
    return [
        target.rows.address.eq(getattr(instruction, f"{prefix}address")),
        target.rows.outer_stride.eq(getattr(instruction, f"{prefix}outer_stride")),
        target.rows.row_stride.eq(getattr(instruction, f"{prefix}row_stride")),
        target.rows.outer_count.eq(instruction.outer_count),
        target.rows.row_count.eq(instruction.row_count),
    ]


class Rows(wiring.Signature):
    """What steps through the rows of a pattern: row loop inside, outer loop outside.

    Members
    -------
    rows, start : In
        Pattern; in a cycle with `start` it is captured and its first row is current from the next cycle on. Only while
        there is no current row, or with the `step` from the last one.
    step : In
        Go to the next row.
    address, following, next_address : Out
        Address of the current row; of the one after it; of the one that is current after a `start` or `step` in this
        cycle.
    addends : Out
        Two registers whose sum `following` is.
    active, last : Out
        There is a current row; it is the last one.
    """

    def __init__(self, address_bits: int):
        super().__init__(
            {
                "rows": In(rows_layout(address_bits)),
                "start": In(1),
                "step": In(1),
                "address": Out(address_bits),
                "following": Out(address_bits),
                "addends": Out(address_bits).array(2),
                "next_address": Out(address_bits),
                "active": Out(1),
                "last": Out(1),
            }
        )


class SingleRow(wiring.Component):
    """`Rows` for patterns of one row."""

    def __init__(self, address_bits: int):
        super().__init__(Rows(address_bits))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        address = Signal.like(self.address, name="current", reset_less=True)
        m.d.comb += [self.last.eq(1), self.address.eq(address), self.next_address.eq(self.rows.address)]
        m.d.sync += self.active.eq(self.start | (self.active & ~self.step))
        with m.If(~self.active | self.step):
            m.d.sync += address.eq(self.rows.address)
        return m


class RowWalker(wiring.Component):
    """`Rows` for any pattern."""

    def __init__(self, address_bits: int):
        self._layout = rows_layout(address_bits)
        super().__init__(Rows(address_bits))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(self._layout, reset_less=True)
        address, outer_address, base, stride = (
            Signal.like(self.address, name=name, reset_less=True)
            for name in ("current", "outer_address", "base", "stride")
        )
        rows_left, outer_left = (Signal(COUNT_BITS, name=name, reset_less=True) for name in ("rows_left", "outer_left"))
        single_row, next_last_row, last_row, last_outer = (
            Signal(name=name, reset_less=True) for name in ("single_row", "next_last_row", "last_row", "last_outer")
        )
        # A pattern is loaded until it starts: whether it does is known late, as is whether there is a step.
        fresh = ~self.active | self.last
        # What is added for the next row, and to what, are registers: so is whether that row is the last one.
        m.d.comb += [
            self.address.eq(address),
            [addend.eq(register) for addend, register in zip(self.addends, (base, stride), strict=True)],
            self.last.eq(last_row & last_outer),
            self.following.eq(base + stride),
            self.next_address.eq(Mux(fresh, self.rows.address, self.following)),
        ]
        m.d.sync += self.active.eq(self.start | (self.active & ~(self.step & self.last)))
        with m.If(~self.active | self.step):
            m.d.sync += address.eq(self.next_address)
        with m.If((~self.active | self.step) & fresh):
            single = self.rows.row_count == 1
            m.d.sync += [
                held.eq(self.rows),
                outer_address.eq(self.rows.address),
                base.eq(self.rows.address),
                stride.eq(Mux(single, self.rows.outer_stride, self.rows.row_stride)),
                rows_left.eq(self.rows.row_count),
                single_row.eq(single),
                last_row.eq(single),
                next_last_row.eq(single | (self.rows.row_count == 2)),
                outer_left.eq(self.rows.outer_count),
                last_outer.eq(self.rows.outer_count == 1),
            ]
        with m.Elif(self.step):
            m.d.sync += [
                base.eq(Mux(next_last_row & ~last_row, outer_address, self.following)),
                stride.eq(Mux(next_last_row, held.outer_stride, held.row_stride)),
                last_row.eq(next_last_row),
            ]
            with m.If(last_row):
                m.d.sync += [
                    outer_address.eq(self.following),
                    rows_left.eq(held.row_count),
                    next_last_row.eq(single_row | (held.row_count == 2)),
                    outer_left.eq(outer_left - 1),
                    last_outer.eq(outer_left == 2),
                ]
            with m.Else():
                m.d.sync += [rows_left.eq(rows_left - 1), next_last_row.eq(rows_left == 3)]
        return m


class BurstGenerator(wiring.Component):
    """Cuts rows of bytes into bursts: at every 4 KiB boundary and after 256 beats; rows are never merged.

    One burst per cycle, the first one in the cycle after `start`, and at most `outstanding_bursts` open at a time.

    Parameters
    ----------
    bus_bytes : int
        Bytes per beat.
    outstanding_bursts : int
        Bound on bursts whose address was accepted and that have not ended.
    row_bytes_bits : int
        Width of `row_bytes`.
    walker : type
        `SingleRow` if no pattern has more than one row.

    Members
    -------
    rows, row_bytes, start : In
        Pattern and length of each row; captured in a cycle with `start`, which needs `free`.
    free : Out
        No address is left to be sent.
    burst : Out
        Stream of `BURST`s with addresses aligned to beats.
    ended : In
        One burst ended (last beat read, or response accepted).
    halt : In
        Offer no further burst, until a reset; one that is offered stays so until it is accepted.
    quiet : Out
        The generator is halted, and no burst is offered or open.
    """

    def __init__(
        self,
        bus_bytes: int,
        outstanding_bursts: int,
        row_bytes_bits: int,
        walker: type[RowWalker] | type[SingleRow] = RowWalker,
    ):
        self._bus_bytes = bus_bytes
        self._outstanding_bursts = outstanding_bursts
        self._row_bytes_bits = row_bytes_bits
        self._walker = walker
        super().__init__(
            {
                "rows": In(rows_layout(ADDRESS_BITS)),
                "row_bytes": In(row_bytes_bits),
                "start": In(1),
                "free": Out(1, init=1),
                "burst": Out(stream.Signature(BURST)),
                "ended": In(1),
                "halt": In(1),
                "quiet": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.walker = walker = self._walker(ADDRESS_BITS)
        row_done, accepted = Signal(name="row_done", reset_less=True), Signal(name="accepted")
        open_bursts = Signal(range(self._outstanding_bursts + 1))
        burst = self.burst.payload
        halted = Signal()
        m.d.comb += [
            walker.rows.eq(self.rows),
            walker.start.eq(self.start),
            self.free.eq(~walker.active),
            self.burst.valid.eq(walker.active & (open_bursts != self._outstanding_bursts) & ~halted),
            self.quiet.eq(halted & (open_bursts == 0)),
            accepted.eq(self.burst.valid & self.burst.ready),
            burst.final.eq(row_done & walker.last),
            walker.step.eq(accepted & row_done),
        ]
        m.d.sync += [
            open_bursts.eq(Mux(self.ended, open_bursts + accepted - 1, open_bursts + accepted)),
            halted.eq(self.halt & (halted | ~self.burst.valid | accepted)),
        ]
        self._cut(m, walker, accepted, row_done)
        return m

    def _cut(self, m: Module, walker: RowWalker | SingleRow, accepted: Signal, row_done: Signal) -> None:
        """The current row's next beat and how many follow it; a burst has them all, or the most that it may have.

        How many follow a row's first beat depends on its place in a beat by one at most: both numbers are registers.
        So is whether this burst is its row's last one, on which all that comes next depends.
        """
        shift = self._bus_bytes.bit_length() - 1
        beat = Signal(ADDRESS_BITS - shift, reset_less=True)
        left = Signal(self._row_bytes_bits + 1 - shift, reset_less=True)
        page_bits = (BURST_BOUNDARY_BYTES // self._bus_bytes - 1).bit_length()
        page_left = (~beat)[:page_bits]
        longest = Signal(min(len(page_left), (BURST_BEATS - 1).bit_length()))
        longest_bits, to_page = len(longest), page_left < BURST_BEATS

        burst_bits, page_bytes_bits = longest_bits + shift, page_bits + shift

        def is_one_burst(row_bytes: Value, address: Value) -> Value:
            """A row ends in the page of its first byte, and with no more beats than a burst may have."""
            end = row_bytes[: burst_bits + 1] + (address[:shift] - 1)
            place = Cat(address[:page_bytes_bits], 0)
            last = sum_of_three(row_bytes[: len(place)], place, Const(-1, len(place)))
            leaves_burst = end[burst_bits : burst_bits + 2].any() | row_bytes[burst_bits + 1 :].any()
            return ~(leaves_burst | last[page_bytes_bits])

        def is_further_one_burst(last_byte: Value, base: Value, stride: Value) -> Value:
            """The same of one that ends `last_byte` bytes behind its first one, at `base + stride`.

            It leaves the page if the sum of all three has a carry that the address has not: no sum waits for another.
            """
            numbers = [number[:page_bytes_bits] for number in (last_byte, base, stride)]
            address = numbers[1] + numbers[2]
            end = last_byte[:burst_bits] + address[:shift]
            leaves_burst = end[burst_bits] | last_byte[burst_bits:].any()
            total = sum_of_three(*(Cat(number, 0) for number in numbers))
            return ~(leaves_burst | (total[page_bytes_bits] ^ address[page_bytes_bits]))

        m.d.comb += [
            longest.eq(Mux(to_page, page_left, BURST_BEATS - 1)),
            self.burst.payload.address.eq(Cat(Const(0, shift), beat)),
            self.burst.payload.length.eq(Mux(row_done, left, longest)),
        ]
        first = (self.row_bytes + (self.rows.address[:shift] - 1)) >> shift
        first_done = is_one_burst(self.row_bytes, self.rows.address)
        further, further_done = first, first_done
        if self._walker is not SingleRow:
            fewer, more = (Signal.like(left, name=name, reset_less=True) for name in ("fewer", "more"))
            rest = Signal(shift, reset_less=True)
            last_byte = (self.row_bytes - 1)[: self._row_bytes_bits]
            with m.If(self.free):
                m.d.sync += [
                    fewer.eq(last_byte >> shift),
                    more.eq((self.row_bytes + (self._bus_bytes - 1)) >> shift),
                    rest.eq(last_byte),
                ]
            above = (rest + walker.following[:shift])[shift]
            further = Mux(above, more, fewer)
            further_done = is_further_one_burst(Cat(rest, fewer), *walker.addends)
        # The next burst begins at the next multiple of the longest one, which no page cuts, or as far into it as this.
        on_boundary = Mux(to_page, 0, beat[:longest_bits])
        # It is its row's last one if the row ends less than a burst behind the page's end, or behind this burst.
        end = left[:page_bits] + beat[:page_bits]
        pages, over = left[page_bits:], end[page_bits]
        in_next_page = ~end[longest_bits:page_bits].any() & Mux(over, ~pages.any(), pages == 1)
        in_this_page = ~over & ~left[longest_bits + 1 :].any()
        with m.If(self.free | walker.step):
            m.d.sync += [
                beat.eq(walker.next_address >> shift),
                left.eq(Mux(self.free, first, further)),
            ]
        with m.Elif(accepted):
            m.d.sync += [
                beat.eq(Cat(on_boundary, beat[longest_bits:] + 1)),
                left.eq(left + ~Cat(longest, Const(0, len(left) - longest_bits))),
            ]
        with m.If(self.free | accepted):
            m.d.sync += row_done.eq(
                one_hot(
                    [
                        (self.free, first_done),
                        (~self.free & row_done, further_done),
                        (~self.free & ~row_done & to_page, in_next_page),
                        (~self.free & ~row_done & ~to_page, in_this_page),
                    ]
                )
            )
