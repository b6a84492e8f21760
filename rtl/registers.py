"""The AXI4-Lite register block; `accel.machine.registers` is the map."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES
from accel.machine.registers import (
    CAUSES,
    CONTROL_INTERRUPT_ENABLE,
    CONTROL_START,
    CONTROL_STOP,
    COUNT_BITS,
    COUNTED_UNITS,
    ERRORS,
    IMAGE_ALIGNMENT,
    MAGIC,
    NO_SOURCE,
    REGISTERS,
    STATUS_DONE,
    VERSION,
    WATCHDOG_CYCLES,
    capabilities,
    fingerprint_words,
)
from rtl.axi import ADDRESS_BITS, PAGE_BITS, Axi4Lite
from rtl.control import COUNTER_BITS
from rtl.error_log import ErrorLog
from rtl.interfaces import PLACE
from rtl.pipeline import delayed

ADDRESS_WIDTH = (4 * len(REGISTERS) - 1).bit_length()
RESPONSE_ERROR = 2
READ_GROUP_BITS = 4
COUNTERS = len(COUNTED_UNITS) * len(CAUSES)


STABLE = ("IMAGE_ADDRESS_LO", "IMAGE_ADDRESS_HI", "PROGRAM_ADDRESS", "PROGRAM_COUNT")
"""Registers that describe the program."""


class RegisterBlock(wiring.Component):
    """Control, status and counters; one write at a time, answered in three cycles, and one read, answered in four.

    Every output to the bus comes from registers alone: AXI4-Lite forbids a way through from its inputs. Addresses
    without a register answer with an error; writes to read-only registers are ignored, and those to `STABLE` ones while
    the machine runs.

    Members
    -------
    bus : In(Axi4Lite)
    finished, ending : In
        This is the last cycle of the run, but if it begins to be stopped in this cycle.
    stopping, stopped : In
        The run is being stopped, and `finished` has no meaning; this is the last cycle of a run that is stopped.
    errors, place, dispatched : In
        What `rtl.error_log.ErrorLog` takes, as far as the units and fetch raise it.
    counts : In
        Stall counters.
    start : Out
        High in the cycle before cycle 0. A start that is refused (`alignment`, `count`) only sets the done bit.
    stop : Out
        The driver ends the run in this cycle.
    watchdog : Out
        Cycles without progress after which the run is to be stopped; 0: never.
    watchdog_written : Out
        The driver wrote them in the cycle before.
    running, irq : Out
    page, program_address, program_count : Out
    """

    def __init__(self, config: ArchConfig):
        self._config = config
        super().__init__(
            {
                "bus": In(Axi4Lite(ADDRESS_WIDTH)),
                "finished": In(1),
                "ending": In(1),
                "stopping": In(1),
                "stopped": In(1),
                "errors": In(len(ERRORS)),
                "place": In(PLACE),
                "dispatched": In(COUNT_BITS),
                "counts": In(COUNTER_BITS).array(COUNTERS),
                "start": Out(1),
                "stop": Out(1),
                "watchdog": Out(32, init=WATCHDOG_CYCLES),
                "watchdog_written": Out(1),
                "running": Out(1),
                "irq": Out(1),
                "page": Out(PAGE_BITS),
                "program_address": Out(ADDRESS_BITS),
                "program_count": Out(COUNT_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        data, write = self._write_channel(m)
        values = self._state(m, data, write)
        self._read_channel(m, values)
        return m

    def _write_channel(self, m: Module) -> tuple[Value, dict[str, Value]]:
        """Answer writes; returns the data, and for each writable register a mask of the bits that are written."""
        bus = self.bus
        address, data = Signal(ADDRESS_WIDTH, name="write_address"), Signal(32, name="write_data")
        strobe = Signal(4, name="write_strobe")
        addressed, supplied = Signal(name="write_addressed"), Signal(name="write_supplied")
        both, accept = Signal(name="write_complete"), Signal(name="write_accept")
        m.d.comb += [
            bus.awready.eq(~(addressed | bus.bvalid)),
            bus.wready.eq(~(supplied | bus.bvalid)),
            both.eq(addressed & supplied),
        ]
        m.d.sync += accept.eq(both & ~accept)
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [addressed.eq(1), address.eq(bus.awaddr)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [supplied.eq(1), data.eq(bus.wdata), strobe.eq(bus.wstrb)]
        with m.If(accept):
            m.d.sync += [addressed.eq(0), supplied.eq(0), bus.bvalid.eq(1)]
            m.d.sync += bus.bresp.eq(Mux(_mapped(address), 0, RESPONSE_ERROR))
        with m.Elif(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        enable = Cat(bit.replicate(8) for bit in strobe)
        masks = {}
        for name, register in REGISTERS.items():
            if register.access != "ro":
                mine = Signal(name=f"write_{name.lower()}")
                m.d.sync += mine.eq(both & ~accept & (address[2:] == register.address >> 2))
                masks[name] = enable & mine.replicate(32)
        return data, masks

    def _state(self, m: Module, data: Value, write: dict[str, Value]) -> dict[str, Value]:
        """Registers and what changes them; returns each one's value by name."""
        program = {name: Signal(32, name=name.lower()) for name in STABLE}
        mask = Signal(len(ERRORS))
        for name, register in (*program.items(), ("ERROR_MASK", mask), ("WATCHDOG", self.watchdog)):
            mine = write[name] & ~self.running.replicate(32) if name in STABLE else write[name]
            m.d.sync += register.eq((data & mine) | (register & ~mine))
        image = Cat(program["IMAGE_ADDRESS_LO"], program["IMAGE_ADDRESS_HI"])
        count, beyond = program["PROGRAM_COUNT"][:COUNT_BITS], program["PROGRAM_COUNT"][COUNT_BITS:]
        m.d.comb += [
            self.page.eq(image[-PAGE_BITS:]),
            self.program_address.eq(program["PROGRAM_ADDRESS"]),
            self.program_count.eq(count),
        ]
        m.d.sync += self.watchdog_written.eq(write["WATCHDOG"].any())
        # In time for the next write.
        refused = {name: Signal(name=f"refused_{name}") for name in ("alignment", "count")}
        m.d.sync += [
            refused["alignment"].eq(((image % IMAGE_ALIGNMENT) | (self.program_address % INSTRUCTION_BYTES)).any()),
            refused["count"].eq((count == 0) | beyond.any()),
        ]
        started, interrupt_enable, done, cycles = self._run(m, data, write, Cat(refused.values()).any())
        log = self._errors(m, data & write["ERROR"], started, refused)
        m.d.comb += self.irq.eq((done & interrupt_enable) | (log.errors & mask).any())
        fingerprint = fingerprint_words(self._config)
        named = {
            "IDENTITY": MAGIC,
            "VERSION": VERSION,
            "FINGERPRINT_LO": fingerprint[0],
            "FINGERPRINT_HI": fingerprint[1],
            "CONTROL": Cat(0, interrupt_enable),
            "STATUS": Cat(self.running, done, self.stopping),
            "ERROR": log.errors,
            "ERROR_MASK": mask,
            "ERROR_FIRST": Cat(log.first, Const(0, 16 - len(ERRORS)), log.unit),
            "ERROR_INDEX": log.index,
            "ERROR_ADDRESS": log.address,
            "WATCHDOG": self.watchdog,
            "CYCLES": cycles,
            **program,
            **capabilities(self._config),
        }
        counters = [name for name in REGISTERS if name not in named]
        return named | dict(zip(counters, self.counts, strict=True))

    def _run(self, m: Module, data: Value, write: dict[str, Value], refused: Value) -> tuple[Signal, ...]:
        """Start and end; returns whether a start is asked for, and interrupt enable, done and cycles."""
        started = Signal()
        ends = Signal()
        interrupt_enable = Signal()
        done = Signal()
        cycles = Signal(32)
        control, cleared = data & write["CONTROL"], data & write["STATUS"]
        with m.If((write["CONTROL"] & CONTROL_INTERRUPT_ENABLE) != 0):
            m.d.sync += interrupt_enable.eq((control & CONTROL_INTERRUPT_ENABLE) != 0)
        m.d.comb += [
            started.eq(((control & CONTROL_START) != 0) & ~self.running),
            self.start.eq(started & ~refused),
            self.stop.eq(((control & CONTROL_STOP) != 0) & self.running & ~self.stopping),
            ends.eq(Mux(self.stopping, self.stopped, self.finished & ~self.ending)),
        ]
        with m.If(started):
            m.d.sync += [self.running.eq(~refused), done.eq(refused), cycles.eq(0)]
        with m.Elif(self.running):
            m.d.sync += [self.running.eq(~ends), done.eq(ends), cycles.eq(cycles + 1)]
        with m.Elif((cleared & STATUS_DONE) != 0):
            m.d.sync += done.eq(0)
        return started, interrupt_enable, done, cycles

    def _errors(self, m: Module, written: Value, started: Signal, refused: dict[str, Value]) -> ErrorLog:
        """The log of what the units raise and of starts that are refused."""
        m.submodules.error_log = log = ErrorLog()
        # A cycle later, as many registers wait for it.
        began = delayed(m, started, 1, "began", reset_less=False)
        refusals = {
            name: delayed(m, started & bit, 1, f"{name}_error", reset_less=False) for name, bit in refused.items()
        }
        m.d.comb += [
            log.clear.eq(began),
            log.refused.eq(Cat(refusals.get(name, Const(0, 1)) for name in ERRORS)),
            log.written.eq(written),
            log.raised.eq(self.errors),
            log.place.eq(self.place),
            log.dispatched.eq(self.dispatched),
            log.program_address.eq(self.program_address),
        ]
        with m.If(began):
            m.d.comb += log.place.eq(PLACE.const({"unit": NO_SOURCE}))
        return log

    def _read_channel(self, m: Module, values: dict[str, Value]) -> None:
        """Answer reads: a cycle chooses a register of each group, the next one the group.

        A cycle before that lets the counters catch up with a run whose end was just seen.
        """
        bus = self.bus
        address, addressed = Signal(ADDRESS_WIDTH, name="read_address"), Signal(name="read_addressed")
        current, chosen = Signal(name="read_current"), Signal(name="read_chosen")
        names, data = list(REGISTERS), []
        m.d.comb += bus.arready.eq(~(addressed | current | chosen | bus.rvalid))
        m.d.sync += [addressed.eq(bus.arvalid & bus.arready), current.eq(addressed), chosen.eq(current)]
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += address.eq(bus.araddr)
        for first in range(0, len(names), 1 << READ_GROUP_BITS):
            data.append(Signal(32, name=f"read_data{len(data)}"))
            with m.Switch(address[2:][:READ_GROUP_BITS]):
                for index, name in enumerate(names[first : first + (1 << READ_GROUP_BITS)]):
                    with m.Case(index):
                        m.d.sync += data[-1].eq(values[name])
                with m.Default():
                    m.d.sync += data[-1].eq(0)
        with m.If(chosen):
            m.d.sync += [bus.rvalid.eq(1), bus.rresp.eq(Mux(_mapped(address), 0, RESPONSE_ERROR))]
            with m.Switch(address[2 + READ_GROUP_BITS :]):
                for index, value in enumerate(data):
                    with m.Case(index):
                        m.d.sync += bus.rdata.eq(value)
                with m.Default():
                    m.d.sync += bus.rdata.eq(0)
        with m.Elif(bus.rready):
            m.d.sync += bus.rvalid.eq(0)


def _mapped(address: Value) -> Value:
    return address[2:] < len(REGISTERS)
