"""`Accelerator`: the whole machine."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from accel.machine.isa import Unit
from accel.machine.registers import ERRORS, NO_SOURCE, STOPPING
from rtl.accumulators import Accumulators
from rtl.axi import Axi4Lite, Axi4Read, Axi4Write
from rtl.axi_monitor import VIOLATIONS, AxiMonitor
from rtl.control import (
    InstructionQueue,
    Semaphores,
    StallCounters,
    fetch_cause,
    head_wait,
    taken_tokens,
    unit_cause,
)
from rtl.depthwise_unit import DepthwiseUnit
from rtl.exec_unit import ExecUnit
from rtl.fetch import Fetch
from rtl.interfaces import NUMBER_BITS, PLACE, opcodes
from rtl.load_unit import LoadUnit
from rtl.param_memory import ParamMemory
from rtl.pipeline import delayed
from rtl.post_unit import PostUnit
from rtl.progress import oldest_waiting, progress
from rtl.registers import ADDRESS_WIDTH, RegisterBlock
from rtl.scratchpad import Scratchpad
from rtl.stop_control import StopControl
from rtl.store_unit import StoreUnit
from rtl.table_memory import TableMemory
from rtl.weight_buffer import WeightBuffer

BUSES = ("fetch", "load", "store", "control")


class Accelerator(wiring.Component):
    """The machine of docs/architecture.md with the cycles of docs/timing.md.

    Parameters
    ----------
    config : ArchConfig
    verification : bool
        Add the outputs `issue`, `complete` (one bit per `Unit`, high in the cycle of that event), `running` (high in
        cycles 0 .. total - 1) and `protocol` (sticky bits of `rtl.axi_monitor.VIOLATIONS` for each bus).

    Members
    -------
    fetch, load : Out(Axi4Read)
    store : Out(Axi4Write)
    control : In(Axi4Lite)
    irq : Out(1)
        Interrupt request: a run has ended and its STATUS done bit has not been cleared, if that interrupt is enabled;
        or a bit is set in both ERROR and ERROR_MASK.
    """

    def __init__(self, config: ArchConfig, verification: bool = False):
        self._config = config
        self._verification = verification
        members = {
            "fetch": Out(Axi4Read(config.bus_bytes)),
            "load": Out(Axi4Read(config.bus_bytes)),
            "store": Out(Axi4Write(config.bus_bytes)),
            "control": In(Axi4Lite(ADDRESS_WIDTH)),
            "irq": Out(1),
        }
        if verification:
            protocol = Out(len(BUSES) * len(VIOLATIONS))
            members |= {
                "issue": Out(len(Unit)), "complete": Out(len(Unit)), "running": Out(1), "protocol": protocol
            }  # fmt: skip
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.registers = registers = RegisterBlock(config)
        m.submodules.stop_control = stop = StopControl(config)
        self._resettable = ResetInserter(stop.reset)
        fetch, load, store = Fetch(config), LoadUnit(config), StoreUnit(config)
        units = [load, ExecUnit(config), PostUnit(config), store]
        if config.depthwise_taps:
            units.append(DepthwiseUnit(config))
        m.submodules.fetch_unit = self._resettable(fetch)
        for unit, opcode in zip(units, opcodes(config), strict=True):
            m.submodules[f"{opcode.name.lower()}_unit"] = self._resettable(unit)
        wiring.connect(m, registers.bus, wiring.flipped(self.control))
        for unit, bus in ((fetch, self.fetch), (load, self.load), (store, self.store)):
            wiring.connect(m, unit.bus, wiring.flipped(bus))
        m.d.comb += [
            fetch.start.eq(registers.start),
            [unit.page.eq(registers.page) for unit in (fetch, load, store)],
            registers.dispatched.eq(fetch.dispatched),
            fetch.address.eq(registers.program_address),
            fetch.count.eq(registers.program_count),
            self.irq.eq(registers.irq),
        ]
        # LOAD looks at its words late and ends soon behind them. The others wait a cycle: the rules on an instruction's
        # fields speak first (`Legality`).
        faults = [load.control.fault]
        for opcode, unit in zip(opcodes(config)[1:], units[1:], strict=True):
            faults.append(delayed(m, unit.control.fault, 1, f"{opcode.name.lower()}_fault", reset_less=False))
        errors = self._memories(m, *units)
        errors |= self._synchronise(m, registers, fetch, units)
        errors |= {
            "opcode": fetch.opcode_error,
            "fetch_response": fetch.response_error,
            "rule": fetch.rule_error | Cat(fault.rule for fault in faults).any(),
            "bounds": Cat(fault.bounds for fault in faults).any(),
            "read_response": load.error,
            "write_response": store.error,
        }
        errors |= {"stopped": registers.stop, "watchdog": stop.expired}
        raised = Cat(errors.get(name, Const(0, 1)) for name in ERRORS)
        m.d.comb += registers.errors.eq(Mux(stop.halt, 0, raised))
        self._stop(m, registers, stop, fetch, units)
        oldest = oldest_waiting(m, units, fetch.dispatched)
        if self._verification:
            self._monitor(m)
        self._place(m, registers, fetch, [*zip(units, faults, strict=True)], (stop.expired, oldest.place))
        return m

    def _monitor(self, m: Module) -> None:
        """Watch all buses."""
        found = []
        for name in BUSES:
            bus, signature = getattr(self, name), self.signature.members[name].signature
            m.submodules[f"{name}_monitor"] = monitor = AxiMonitor(self._config, signature)
            m.d.comb += monitor.watch(bus)
            found.append(monitor.violations)
        m.d.comb += self.protocol.eq(Cat(found))

    def _stop(
        self, m: Module, registers: RegisterBlock, stop: StopControl, fetch: Fetch, units: list[wiring.Component]
    ) -> None:
        """Connect what ends a run early with the units that have buses."""
        masters = [unit for unit in (fetch, *units) if hasattr(unit, "quiet")]
        fatal = Cat(registers.errors[list(ERRORS).index(name)] for name in STOPPING)
        m.d.comb += [
            stop.running.eq(registers.running),
            stop.stop.eq(registers.stop | fatal.any()),
            stop.limit.eq(registers.watchdog),
            stop.rewritten.eq(registers.watchdog_written),
            stop.progress.eq(progress(m, units, fetch)),
            stop.drained.eq(Cat(master.quiet for master in masters).all()),
            [master.halt.eq(stop.halt) for master in masters],
            registers.ending.eq(stop.stop | stop.expired),
            registers.stopping.eq(stop.halt),
            registers.stopped.eq(stop.ended),
        ]

    def _place(
        self,
        m: Module,
        registers: RegisterBlock,
        fetch: Fetch,
        units: list[tuple[wiring.Component, data.View]],
        watchdog: tuple[Value, Value],
    ) -> None:
        """Where the error of the cycle before happened: the watchdog's, that of the first unit, or fetch's."""
        number = delayed(m, fetch.dispatched[:NUMBER_BITS], 1, "dispatched")
        m.d.comb += [registers.place.unit.eq(NO_SOURCE), registers.place.number.eq(number)]
        found = [(fetch.opcode_error | fetch.response_error | fetch.rule_error, fetch.place)]
        for index, (unit, fault) in reversed(list(enumerate(units))):
            if hasattr(unit, "error"):
                found.append((unit.error, unit.place))
            place = Signal(PLACE, name=f"fault{index}_place")
            m.d.comb += [place.unit.eq(index), place.number.eq(fault.number)]
            found.append((fault.rule | fault.bounds, place))
        for i, (happened, place) in enumerate([*found, watchdog]):
            before = delayed(m, Cat(happened, place), 1, f"error{i}")
            with m.If(before[0]):
                m.d.comb += registers.place.eq(before[1:])

    def _memories(
        self,
        m: Module,
        load: LoadUnit,
        execute: ExecUnit,
        post: PostUnit,
        store: StoreUnit,
        depthwise: DepthwiseUnit | None = None,
    ) -> dict:
        """Connect units and memories; returns the error bits that the memories raise."""
        config = self._config
        m.submodules.scratchpad = spad = Scratchpad(config)
        m.submodules.weight_buffer = wbuf = WeightBuffer(config.wbuf_words, config.cols)
        acc = Accumulators(config)
        m.submodules.accumulators = self._resettable(acc)
        m.submodules.param_memory = param = ParamMemory(config)
        m.submodules.table_memory = table = TableMemory(config)
        for source, target in (
            (load.spad_write, spad.load_write),
            (load.wbuf_write, wbuf.load_write),
            (load.param_write, param.load_write),
            (load.table_write, table.load_write),
            (execute.spad_read, spad.exec_read),
            (execute.wbuf_read, wbuf.read),
            (execute.accumulate, acc.exec_accumulate),
            (post.spad_read, spad.post_read),
            (post.acc_read, acc.post_read),
            (post.param_read, param.post_read),
            *zip(post.table_read, table.post_read, strict=True),
            (post.spad_write, spad.post_write),
            (store.spad_read, spad.store_read),
        ):
            wiring.connect(m, source, target)
        if depthwise is not None:
            self._connect_engine(m, depthwise, load, spad, acc)
        acc_conflict = delayed(m, acc.conflict, 1, "acc_conflict", reset_less=False)
        return {"spad_read": spad.read_conflict, "spad_write": spad.write_conflict, "acc_port": acc_conflict}

    def _connect_engine(
        self, m: Module, depthwise: DepthwiseUnit, load: LoadUnit, spad: Scratchpad, acc: Accumulators
    ) -> None:
        """Add the tap memory and connect the depthwise engine."""
        config = self._config
        m.submodules.tap_memory = taps = WeightBuffer(config.depthwise_words, config.depthwise_lanes)
        for source, target in (
            (load.taps_write, taps.load_write),
            (depthwise.taps_read, taps.read),
            (depthwise.spad_read, spad.depthwise_read),
            (depthwise.spad_read_earlier, spad.depthwise_read_earlier),
            (depthwise.accumulate, acc.depthwise_accumulate),
        ):
            wiring.connect(m, source, target)

    def _before(self, m: Module, name: str, *values: Value) -> list[Value]:
        """The values of the cycle before."""
        return [delayed(m, value, 1, f"{name}_cause{i}") for i, value in enumerate(values)]

    def _synchronise(self, m: Module, registers: RegisterBlock, fetch: Fetch, units: list) -> dict:
        """Queues, semaphores, counters and the end of the run; returns the error bits that they raise."""
        semaphores = Semaphores()
        m.submodules.semaphores = semaphores
        began = delayed(m, registers.start, 1, "began", reset_less=False)
        m.submodules.stall_counters = counters = StallCounters()
        m.d.comb += [
            semaphores.clear.eq(began),
            counters.clear.eq(began),
            counters.running.eq(registers.running),
            [count.eq(value) for count, value in zip(registers.counts, counters.counts, strict=True)],
            counters.causes[len(Unit)].eq(
                fetch_cause(*self._before(m, "fetch", fetch.busy, fetch.waiting, fetch.done))
            ),
        ]
        issues = []
        for opcode, unit in zip(opcodes(self._config), units, strict=True):
            index = opcode.unit
            queue = InstructionQueue(self._config, opcode)
            m.submodules[f"{index.name.lower()}_queue"] = self._resettable(queue)
            wiring.connect(m, fetch.queues[index], queue.pushed)
            wiring.connect(m, queue.head, unit.control.instruction)
            head = unit.control.instruction
            issues.append(head.valid & head.ready)
            lacking, busy = head_wait(unit.control) & ~unit.control.tokens, (unit.control.occupied, unit.control.busy)
            m.d.comb += [
                unit.control.tokens.eq(semaphores.tokens[index]),
                semaphores.take[index].eq(taken_tokens(unit.control)),
                semaphores.post[index].eq(unit.control.signal),
                counters.causes[index].eq(unit_cause(*self._before(m, index.name.lower(), lacking, *busy))),
            ]
        controls = [unit.control for unit in units]
        resting = [c.idle & ~c.complete & ~c.instruction.valid for c in controls]
        m.d.comb += registers.finished.eq(fetch.done & Cat(resting).all())
        if self._verification:
            m.d.comb += [
                self.issue.eq(Cat(issues)),
                self.complete.eq(Cat(c.complete for c in controls)),
                self.running.eq(registers.running),
            ]
        return {"semaphore": semaphores.overflow}
