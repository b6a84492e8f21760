"""What fetch holds: instructions that wait for a place in their units' queues."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from accel.machine.latencies import FETCH_DEPTH
from rtl.interfaces import INSTRUCTION_BITS


def order_layout(queues: int) -> data.StructLayout:
    """What is to be done with an instruction: which of the queues it goes to, a bit for each, or whether it is dropped,
    and why it is the first one that is."""
    return data.StructLayout({"selected": queues, "drop": 1, "opcode_error": 1, "response_error": 1})


class FetchBuffer(wiring.Component):
    """First in, first out; an instruction that enters in one cycle may leave in the next one.

    Orders are in registers, the oldest one always in the same, so that it acts without the way through a memory. That
    it leaves is known late: it chooses only.

    Members
    -------
    room, enter, instruction, order : Out, In, In, In
        There is a place; an instruction enters.
    oldest, oldest_order, leave : Out, Out, In
        The oldest instruction and its order, which is 0 if there is none; it leaves.
    """

    def __init__(self, queues: int):
        self._layout = order_layout(queues)
        super().__init__(
            {
                "room": Out(1),
                "enter": In(1),
                "instruction": In(INSTRUCTION_BITS),
                "order": In(self._layout),
                "oldest": Out(INSTRUCTION_BITS),
                "oldest_order": Out(self._layout),
                "leave": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.storage = storage = Memory(shape=INSTRUCTION_BITS, depth=FETCH_DEPTH, init=[])
        write, read = storage.write_port(), storage.read_port(domain="comb")
        produce, consume = (Signal(exact_log2(FETCH_DEPTH), name=name) for name in ("produce", "consume"))
        m.d.sync += [produce.eq(produce + self.enter), consume.eq(consume + self.leave)]
        # How many instructions there are: one bit for each number.
        level = Signal(FETCH_DEPTH + 1, init=1)
        orders = [Signal(self._layout, name=f"order{place}") for place in range(FETCH_DEPTH)]
        for place, (order, following) in enumerate(
            zip(orders, [*orders[1:], Const(0, self._layout.size)], strict=True)
        ):
            stays = Mux(self.enter & level[place], self.order, order)
            moves = Mux(self.enter & level[place + 1], self.order, following)
            m.d.sync += order.eq(Mux(self.leave, moves, stays))
        m.d.sync += level.eq(Mux(self.leave, Mux(self.enter, level, level >> 1), Mux(self.enter, level << 1, level)))
        m.d.comb += [
            write.en.eq(self.enter),
            write.addr.eq(produce),
            write.data.eq(self.instruction),
            read.addr.eq(consume),
            self.room.eq(~level[-1]),
            self.oldest.eq(read.data),
            self.oldest_order.eq(orders[0]),
        ]
        return m
