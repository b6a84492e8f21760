"""The AXI4-Lite register block; `accel.machine.registers` is the map."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from accel.machine.registers import (
    CAUSES,
    CONTROL_INTERRUPT_ENABLE,
    CONTROL_START,
    COUNTED_UNITS,
    ERRORS,
    MAGIC,
    REGISTERS,
    STATUS_DONE,
)
from rtl.axi import ADDRESS_BITS, Axi4Lite
from rtl.control import COUNTER_BITS

ADDRESS_WIDTH = (4 * len(REGISTERS) - 1).bit_length()
RESPONSE_ERROR = 2
COUNTERS = len(COUNTED_UNITS) * len(CAUSES)


class RegisterBlock(wiring.Component):
    """Control, status and counters; one write and one read at a time, answered two cycles after they are accepted.

    Every output to the bus comes from registers alone: AXI4-Lite forbids a way through from its inputs. Addresses
    without a register answer with an error; writes to read-only registers are ignored.

    Members
    -------
    bus : In(Axi4Lite)
    finished : In
        This is the last cycle of the run.
    errors : In
        Bits of `ERRORS` to be set.
    counts : In
        Stall counters.
    start : Out
        High in the cycle before cycle 0.
    running, irq : Out
    program_address, program_count : Out
    """

    def __init__(self, config: ArchConfig):
        self._config = config
        super().__init__(
            {
                "bus": In(Axi4Lite(ADDRESS_WIDTH)),
                "finished": In(1),
                "errors": In(len(ERRORS)),
                "counts": In(COUNTER_BITS).array(COUNTERS),
                "start": Out(1),
                "running": Out(1),
                "irq": Out(1),
                "program_address": Out(ADDRESS_BITS),
                "program_count": Out(32),
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
        address, data, strobe = Signal(ADDRESS_WIDTH), Signal(32), Signal(4)
        addressed, supplied, accept = Signal(), Signal(), Signal()
        m.d.comb += [
            bus.awready.eq(~(addressed | bus.bvalid)),
            bus.wready.eq(~(supplied | bus.bvalid)),
            accept.eq(addressed & supplied),
        ]
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
        return data, {
            name: enable & (accept & (address[2:] == register.address >> 2)).replicate(32)
            for name, register in REGISTERS.items()
            if register.access != "ro"
        }

    def _state(self, m: Module, data: Value, write: dict[str, Value]) -> dict[str, Value]:
        """Registers and what changes them; returns each one's value by name."""
        interrupt_enable, done, cycles = Signal(), Signal(), Signal(32)
        errors = Signal(len(ERRORS))
        for name, register in (("PROGRAM_ADDRESS", self.program_address), ("PROGRAM_COUNT", self.program_count)):
            m.d.sync += register.eq((data & write[name]) | (register & ~write[name]))
        control, cleared = data & write["CONTROL"], data & write["STATUS"]
        with m.If((write["CONTROL"] & CONTROL_INTERRUPT_ENABLE) != 0):
            m.d.sync += interrupt_enable.eq((control & CONTROL_INTERRUPT_ENABLE) != 0)
        m.d.comb += [
            self.start.eq(((control & CONTROL_START) != 0) & ~self.running),
            self.irq.eq(done & interrupt_enable),
        ]
        m.d.sync += errors.eq((errors & ~(data & write["ERROR"])) | self.errors)
        with m.If(self.start):
            m.d.sync += [self.running.eq(1), done.eq(0), cycles.eq(0)]
        with m.Elif(self.running):
            m.d.sync += [self.running.eq(~self.finished), done.eq(self.finished), cycles.eq(cycles + 1)]
        with m.Elif((cleared & STATUS_DONE) != 0):
            m.d.sync += done.eq(0)
        fingerprint = bytes.fromhex(self._config.fingerprint())
        named = {
            "IDENTITY": MAGIC,
            "FINGERPRINT_LO": int.from_bytes(fingerprint[:4], "big"),
            "FINGERPRINT_HI": int.from_bytes(fingerprint[4:8], "big"),
            "CONTROL": Cat(0, interrupt_enable),
            "STATUS": Cat(self.running, done),
            "ERROR": errors,
            "PROGRAM_ADDRESS": self.program_address,
            "PROGRAM_COUNT": self.program_count,
            "CYCLES": cycles,
        }
        counters = [name for name in REGISTERS if name not in named]
        return named | dict(zip(counters, self.counts, strict=True))

    def _read_channel(self, m: Module, values: dict[str, Value]) -> None:
        bus = self.bus
        address, addressed = Signal(ADDRESS_WIDTH), Signal()
        m.d.comb += bus.arready.eq(~(addressed | bus.rvalid))
        m.d.sync += addressed.eq(bus.arvalid & bus.arready)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += address.eq(bus.araddr)
        with m.If(addressed):
            m.d.sync += [bus.rvalid.eq(1), bus.rresp.eq(Mux(_mapped(address), 0, RESPONSE_ERROR))]
            with m.Switch(address[2:]):
                for name, register in REGISTERS.items():
                    with m.Case(register.address >> 2):
                        m.d.sync += bus.rdata.eq(values[name])
                with m.Default():
                    m.d.sync += bus.rdata.eq(0)
        with m.Elif(bus.rready):
            m.d.sync += bus.rvalid.eq(0)


def _mapped(address: Value) -> Value:
    return address[2:] < len(REGISTERS)
