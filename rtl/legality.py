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
from rtl.pipeline import delayed


class Gates:
    """Stands in for `accel.machine.rules.rows.Rows`: fields are signals, broken rules are single bits a cycle later.

    Which instructions a rule applies to, and whether they keep it, are registers of their own.

    Parameters
    ----------
    m : Module
        Receives the registers.
    fields : data.View
        An instruction.
    chosen : Value
        Whether the rules that are made of this apply to the instruction of the cycle before.
    """

    def __init__(self, m: Module, fields: data.View, chosen: Value):
        self._module, self._fields, self._chosen = m, fields, chosen

    def __len__(self) -> int:
        return 1

    def __getitem__(self, field: str) -> Value:
        return self._fields[field]

    def where(self, chosen: Value) -> Gates:
        """The same instruction, if it is chosen."""
        return Gates(self._module, self._fields, self._chosen & delayed(self._module, chosen, 1, "chosen"))

    def refuse(self, bad: Value | bool, rule: str, sentence: Callable[[int], str]) -> Iterator[Value]:
        """One bit: the rule applies and is broken."""
        yield self._chosen & delayed(self._module, Value.cast(bad), 1, "bad")

    def most(self, what: str, values: Value, limit: Value | int) -> Iterator[Value]:
        """`values` must not exceed `limit`."""
        return self.refuse(values > limit, what, str)


class Legality(wiring.Component):
    """Looks at each instruction beside its dispatch; the verdict comes `latency` cycles later.

    Members
    -------
    instruction, number, dispatched : In
        `dispatched`: this instruction is dispatched in this cycle.
    pending : Out
        The verdict on an instruction is not there yet, or it is that it breaks a rule.
    broken, broken_number : Out
        The instruction with this number breaks a rule.

    Attributes
    ----------
    latency : int
        Less than a STORE needs from its dispatch to its first byte on the bus, and any unit to report a word that does
        not exist.
    """

    latency = 4

    def __init__(self, config: ArchConfig):
        self._config = config
        super().__init__(
            {
                "instruction": In(INSTRUCTION_BITS),
                "number": In(NUMBER_BITS),
                "dispatched": In(1),
                "pending": Out(1),
                "broken": Out(1),
                "broken_number": Out(NUMBER_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        instruction = delayed(m, self.instruction, 1, "instruction")
        broken = Cat(rule for opcode in opcodes(self._config) for rule in self._rules(m, opcode, instruction))
        found = Signal(len(broken))
        looked_at = [self.dispatched]
        for stage in range(1, self.latency):
            looked_at.append(delayed(m, looked_at[-1], 1, f"looked_at{stage}", reset_less=False))
        m.d.comb += self.pending.eq(Cat(*looked_at[1:], self.broken).any())
        m.d.sync += [
            found.eq(broken),
            self.broken.eq(looked_at[-1] & found.any()),
            self.broken_number.eq(delayed(m, self.number, self.latency - 1, "number")),
        ]
        return m

    def _rules(self, m: Module, opcode: Opcode, instruction: Value) -> Iterator[Value]:
        """A bit for each rule of an opcode, a cycle later: those of the encoding, those of the checker."""
        fields = layout(opcode)(instruction)
        mine = Gates(m, fields, delayed(m, fields.opcode == opcode, 1, "mine"))
        yield from mine.refuse(instruction[layout(opcode)["number"].offset :] != 0, "bits behind the fields", str)
        for field in isa.FIELDS[opcode]:
            if field.low:
                yield from mine.refuse(fields[field.name] < field.low, f"least {field.name}", str)
        for mask in ("wait", "signal"):
            yield from mine.most(f"{mask} bits", fields[mask], (1 << len(Unit)) - 1)
        if (
            opcode is Opcode.DEPTHWISE
        ):  # of the rule on lead_steps and row_steps, what keeps the engine from standing still
            yield from mine.refuse(fields.row_steps < fields.ox_count, "row_steps at least ox_count", str)
        yield from FIELD_RULES[opcode](self._config, mine)
