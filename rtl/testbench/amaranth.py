"""Runs programs in Amaranth's own simulator: slow, but with every signal at hand; for small machines."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from amaranth.sim import Simulator, SimulatorContext

from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Unit
from accel.machine.registers import CONTROL_INTERRUPT_ENABLE, CONTROL_START, REGISTERS
from rtl.axi_monitor import protocol_error
from rtl.testbench.memory import ReadMemory, WriteMemory
from rtl.testbench.result import (
    SimulationResult,
    instructions_per_unit,
    prepared_memory,
    result_from_registers,
    watchdog_error,
)
from rtl.top import Accelerator

CLOCK_PERIOD_SECONDS = 1e-8


class Bench:
    """The machine, its memories and the events of the run."""

    def __init__(self, config: ArchConfig, memory: npt.NDArray[np.uint8], stalls_seed: int | None, base: int = 0):
        self.machine = machine = Accelerator(config, verification=True)
        stalls = None if stalls_seed is None else np.random.default_rng(stalls_seed)
        self.memories = [
            ReadMemory(machine.fetch, memory, config.read_latency_cycles, stalls, base),
            ReadMemory(machine.load, memory, config.read_latency_cycles, stalls, base),
            WriteMemory(machine.store, memory, config.write_latency_cycles, stalls, base),
        ]
        self.now, self.cycles = 0, 0
        self.issue: dict[Unit, list[int]] = {unit: [] for unit in Unit}
        self.complete: dict[Unit, list[int]] = {unit: [] for unit in Unit}

    async def cycle(self, ctx: SimulatorContext) -> None:
        """One clock cycle."""
        for memory in self.memories:
            memory.drive(ctx, self.now)
        for memory in self.memories:
            memory.sample(ctx, self.now)
        if protocol := ctx.get(self.machine.protocol):
            raise protocol_error(protocol)
        if ctx.get(self.machine.running):
            for events, stamps in ((self.machine.issue, self.issue), (self.machine.complete, self.complete)):
                bits = ctx.get(events)
                for unit in Unit:
                    if bits >> unit & 1:
                        stamps[unit].append(self.cycles)
            self.cycles += 1
        await ctx.tick()
        self.now += 1

    async def write(self, ctx: SimulatorContext, name: str, value: int) -> None:
        """Write a register over AXI4-Lite."""
        bus = self.machine.control
        for signal, driven in (
            (bus.awaddr, REGISTERS[name].address),
            (bus.wdata, value),
            (bus.wstrb, 15),
            (bus.awvalid, 1),
            (bus.wvalid, 1),
            (bus.bready, 1),
        ):
            ctx.set(signal, driven)
        accepted = False
        while not accepted:
            accepted = bool(ctx.get(bus.awready))
            await self.cycle(ctx)
        ctx.set(bus.awvalid, 0)
        ctx.set(bus.wvalid, 0)

    async def read(self, ctx: SimulatorContext, address: int) -> int:
        """Read a register over AXI4-Lite."""
        bus = self.machine.control
        ctx.set(bus.araddr, address)
        ctx.set(bus.arvalid, 1)
        ctx.set(bus.rready, 0)
        while not ctx.get(bus.rvalid):
            await self.cycle(ctx)
        ctx.set(bus.arvalid, 0)
        ctx.set(bus.rready, 1)
        value = ctx.get(bus.rdata)
        await self.cycle(ctx)
        ctx.set(bus.rready, 0)
        return int(value)


def run(
    config: ArchConfig,
    code: bytes,
    program_address: int,
    memory: npt.NDArray[np.uint8],
    *,
    max_cycles: int,
    stalls_seed: int | None = None,
    image_address: int = 0,
) -> SimulationResult:
    """Execute a program in Amaranth's simulator; parameters and errors as for `rtl.testbench.verilator.run`."""
    counts = instructions_per_unit(code)
    work = prepared_memory(code, program_address, memory)
    bench = Bench(config, work, stalls_seed, image_address)
    registers: list[int] = []

    async def drive(ctx: SimulatorContext) -> None:
        await bench.write(ctx, "IMAGE_ADDRESS_LO", image_address & 0xFFFFFFFF)
        await bench.write(ctx, "IMAGE_ADDRESS_HI", image_address >> 32)
        await bench.write(ctx, "PROGRAM_ADDRESS", program_address)
        await bench.write(ctx, "PROGRAM_COUNT", len(code) // INSTRUCTION_BYTES)
        await bench.write(ctx, "CONTROL", CONTROL_START | CONTROL_INTERRUPT_ENABLE)
        while not ctx.get(bench.machine.irq):
            if bench.cycles >= max_cycles:
                raise watchdog_error(max_cycles, [len(bench.issue[unit]) for unit in Unit], counts)
            await bench.cycle(ctx)
        for register in REGISTERS.values():
            registers.append(await bench.read(ctx, register.address))

    simulator = Simulator(bench.machine)
    simulator.add_clock(CLOCK_PERIOD_SECONDS)
    simulator.add_testbench(drive)
    simulator.run()
    stamps = [{unit: np.array(kind[unit], np.int64) for unit in Unit} for kind in (bench.issue, bench.complete)]
    return result_from_registers(work[: len(memory)], bench.cycles, stamps, registers)
