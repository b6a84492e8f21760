"""The rules of single instructions as gates: the same functions that the checker evaluates on whole programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel.machine import isa
from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode, Unit
from accel.machine.rules.check import FIELD_RULES
from rtl.interfaces import INSTRUCTION_BITS, NUMBER_BITS, layout, opcodes


class Gates:
    """Stands in for `accel.machine.rules.rows.Rows`: fields are signals, broken rules are single bits.

    Parameters
    ----------
    fields : data.View
        An instruction.
    chosen : Value
        Whether the rules that are made of this apply to it.
    """

    def __init__(self, fields: data.View, chosen: Value):
        self._fields, self._chosen = fields, chosen

    def __len__(self) -> int:
        return 1

    def __getitem__(self, field: str) -> Value:
        return self._fields[field]

    def where(self, chosen: Value) -> Gates:
        """The same instruction, if it is chosen."""
        return Gates(self._fields, self._chosen & chosen)

    def refuse(self, bad: Value | bool, rule: str, sentence: Callable[[int], str]) -> Iterator[Value]:
        """One bit: the rule applies and is broken."""
        yield self._chosen & bad

    def most(self, what: str, values: Value, limit: Value | int) -> Iterator[Value]:
        """`values` must not exceed `limit`."""
        yield self._chosen & (values > limit)


class Legality(wiring.Component):
    """Looks at each instruction beside its dispatch; the verdict comes `latency` cycles later.

    Members
    -------
    instruction, number, dispatched : In
        `dispatched`: this instruction is dispatched in this cycle.
    broken, broken_number : Out
        The instruction with this number breaks a rule.

    Attributes
    ----------
    latency : int
        Less than a STORE needs from its dispatch to its first byte on the bus.
    """

    latency = 2

    def __init__(self, config: ArchConfig):
        self._config = config
        super().__init__(
            {
                "instruction": In(INSTRUCTION_BITS),
                "number": In(NUMBER_BITS),
                "dispatched": In(1),
                "broken": Out(1),
                "broken_number": Out(NUMBER_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        broken = Cat(rule for opcode in opcodes(self._config) for rule in self._rules(opcode))
        found = Signal(len(broken))
        looked_at = Signal()
        number = Signal(NUMBER_BITS)
        m.d.sync += [
            found.eq(broken),
            looked_at.eq(self.dispatched),
            number.eq(self.number),
            self.broken.eq(looked_at & found.any()),
            self.broken_number.eq(number),
        ]
        return m

    def _rules(self, opcode: Opcode) -> Iterator[Value]:
        """A bit for each rule of an opcode: those of the encoding, those of the checker."""
        fields = layout(opcode)(self.instruction)
        mine = fields.opcode == opcode
        yield mine & (self.instruction[layout(opcode)["number"].offset :] != 0)
        for field in isa.FIELDS[opcode]:
            if field.low:
                yield mine & (fields[field.name] < field.low)
        for mask in ("wait", "signal"):
            yield mine & (fields[mask][len(Unit) :] != 0)
        if (
            opcode is Opcode.DEPTHWISE
        ):  # of the rule on lead_steps and row_steps, what keeps the engine from standing still
            yield mine & (fields.row_steps < fields.ox_count)
        yield from FIELD_RULES[opcode](self._config, Gates(fields, mine))
