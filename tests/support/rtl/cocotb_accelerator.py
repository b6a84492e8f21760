"""cocotb tests of the emitted Verilog on cocotbext-axi's buses; run by test_axi_cocotb.py, not by pytest itself."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiReadBus,
    AxiSlaveRead,
    AxiSlaveWrite,
    AxiWriteBus,
)

from accel.machine.isa import INSTRUCTION_BYTES
from accel.machine.registers import ERRORS, MAGIC, REGISTERS, STATUS_DONE

FOLDER = Path(os.environ["ACCEL_COCOTB_FOLDER"])
TIMEOUT_US = 500


class ExternalMemory:
    """Bytes that answer with an error inside of `faulty`."""

    def __init__(self, image: np.ndarray):
        self.data = bytearray(image.tobytes())
        self.faulty = range(0)

    async def read(self, address: int, length: int) -> bytes:
        self._check(address, length)
        return bytes(self.data[address : address + length])

    async def write(self, address: int, data: bytes) -> None:
        self._check(address, len(data))
        self.data[address : address + len(data)] = data

    def _check(self, address: int, length: int) -> None:
        if range(max(address, self.faulty.start), min(address + length, self.faulty.stop)):
            raise ValueError("faulty address")


def random_pauses(seed: int) -> Iterator[bool]:
    generator = random.Random(seed)
    return (generator.random() < 0.4 for _ in itertools.count())


class Bench:
    """The machine with a slave on each of its buses and a driver for its registers."""

    def __init__(self, dut):
        self.dut = dut
        self.memory = ExternalMemory(np.load(FOLDER / "memory.npy"))
        self.expected = np.load(FOLDER / "expected.npy").tobytes()
        self.count = int((FOLDER / "count").read_text())
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        self.slaves = [
            AxiSlaveRead(AxiReadBus.from_prefix(dut, "fetch"), dut.clk, dut.rst, target=self.memory),
            AxiSlaveRead(AxiReadBus.from_prefix(dut, "load"), dut.clk, dut.rst, target=self.memory),
            AxiSlaveWrite(AxiWriteBus.from_prefix(dut, "store"), dut.clk, dut.rst, target=self.memory),
        ]
        self.control = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "control"), dut.clk, dut.rst)

    async def reset(self) -> None:
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 4)
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)

    def back_pressure(self, seed: int) -> None:
        """Pause every channel at random."""
        names = ("ar_channel", "r_channel", "aw_channel", "w_channel", "b_channel")
        channels = [getattr(slave, name) for slave in self.slaves for name in names if hasattr(slave, name)]
        for i, channel in enumerate(channels):
            channel.set_pause_generator(random_pauses(seed + i))

    async def write(self, name: str, value: int) -> None:
        await self.control.write_dword(REGISTERS[name].address, value)

    async def read(self, name: str) -> int:
        return await self.control.read_dword(REGISTERS[name].address)

    async def start(self) -> None:
        await self.write("PROGRAM_ADDRESS", 0)
        await self.write("PROGRAM_COUNT", self.count)
        await self.write("CONTROL", 3)

    async def run(self) -> list[str]:
        """Start, wait for the interrupt; returns the names of the errors and clears them."""
        await self.start()
        await with_timeout(RisingEdge(self.dut.irq), TIMEOUT_US, "us")
        assert await self.read("STATUS") == STATUS_DONE
        error = await self.read("ERROR")
        await self.write("ERROR", error)
        await self.write("STATUS", STATUS_DONE)
        assert await self.read("STATUS") == await self.read("ERROR") == 0
        return [name for i, name in enumerate(ERRORS) if error >> i & 1]


async def bench(dut) -> Bench:
    result = Bench(dut)
    await result.reset()
    assert await result.read("IDENTITY") == MAGIC
    return result


@cocotb.test()
async def runs_twice(dut) -> None:
    machine = await bench(dut)
    for _ in range(2):
        machine.memory.data[:] = np.load(FOLDER / "memory.npy").tobytes()
        assert await machine.run() == []
        assert machine.memory.data == machine.expected


@cocotb.test()
async def runs_under_back_pressure(dut) -> None:
    machine = await bench(dut)
    for seed in range(2):
        machine.memory.data[:] = np.load(FOLDER / "memory.npy").tobytes()
        machine.back_pressure(10 * seed)
        assert await machine.run() == []
        assert machine.memory.data == machine.expected


@cocotb.test()
async def reports_error_responses_and_recovers(dut) -> None:
    machine = await bench(dut)
    code_bytes = machine.count * INSTRUCTION_BYTES
    places = {
        "fetch_response": range(code_bytes - INSTRUCTION_BYTES, code_bytes),
        "read_response": range(int((FOLDER / "activations").read_text()), 5000),
        "write_response": range(int((FOLDER / "outputs").read_text()), 8192),
    }
    for name, faulty in places.items():
        machine.memory.faulty = faulty
        assert await machine.run() == [name]
    machine.memory.faulty = range(0)
    assert await machine.run() == []
    assert machine.memory.data == machine.expected


@cocotb.test()
async def runs_cleanly_after_a_reset_in_mid_flight(dut) -> None:
    machine = await bench(dut)
    for cycles in (20, 70, 130, 200):
        await machine.start()
        await ClockCycles(dut.clk, cycles)
        await machine.reset()
        assert await machine.read("STATUS") == 0
        machine.memory.data[:] = np.load(FOLDER / "memory.npy").tobytes()
        assert await machine.run() == []
        assert machine.memory.data == machine.expected
