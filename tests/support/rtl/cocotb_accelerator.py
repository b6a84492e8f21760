"""cocotb tests of the emitted Verilog on cocotbext-axi's buses; run by test_axi_cocotb.py, not by pytest itself."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiReadBus,
    AxiResp,
    AxiSlaveRead,
    AxiSlaveWrite,
    AxiWriteBus,
    axi_slave,
)

from accel.machine.isa import INSTRUCTION_BYTES, Unit
from accel.machine.registers import (
    CONTROL_INTERRUPT_ENABLE,
    CONTROL_STOP,
    ERRORS,
    FETCH_SOURCE,
    MAGIC,
    REGISTERS,
    STATUS_DONE,
)

BUS_BYTES = 8
FOLDER = Path(os.environ["ACCEL_COCOTB_FOLDER"])
TIMEOUT_US = 500


class ExternalMemory:
    """Bytes from the bus address `base` on that answer with an error inside of `faulty`."""

    def __init__(self, image: np.ndarray):
        self.data = bytearray(image.tobytes())
        self.faulty = range(0)
        self.base = 0

    async def read(self, address: int, length: int) -> bytes:
        place = self._place(address, length)
        return bytes(self.data[place : place + length])

    async def write(self, address: int, data: bytes) -> None:
        place = self._place(address, len(data))
        self.data[place : place + len(data)] = data

    def _place(self, address: int, length: int) -> int:
        place = address - self.base
        assert 0 <= place <= len(self.data) - length
        if range(max(place, self.faulty.start), min(place + length, self.faulty.stop)):
            raise ValueError("faulty address")
        return place


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
        """Pause every channel at random, those of the registers, too."""
        names = ("ar_channel", "r_channel", "aw_channel", "w_channel", "b_channel")
        users = (*self.slaves, self.control.write_if, self.control.read_if)
        channels = [getattr(user, name) for user in users for name in names if hasattr(user, name)]
        assert len(channels) == 2 + 2 + 3 + 3 + 2
        for i, channel in enumerate(channels):
            channel.set_pause_generator(random_pauses(seed + i))

    async def write(self, name: str, value: int) -> None:
        await self.control.write_dword(REGISTERS[name].address, value)

    async def read(self, name: str) -> int:
        return await self.control.read_dword(REGISTERS[name].address)

    async def start(self) -> None:
        await self.write("IMAGE_ADDRESS_LO", self.memory.base & 0xFFFFFFFF)
        await self.write("IMAGE_ADDRESS_HI", self.memory.base >> 32)
        await self.write("PROGRAM_ADDRESS", 0)
        await self.write("PROGRAM_COUNT", self.count)
        await self.write("CONTROL", 3)

    async def run(self) -> list[str]:
        """Start, wait for the interrupt; returns the names of the errors and clears them."""
        await self.start()
        return await self.end()

    async def end(self) -> list[str]:
        """The same of a run that was started."""
        if not self.dut.irq.value:
            await with_timeout(RisingEdge(self.dut.irq), TIMEOUT_US, "us")
        assert await self.read("STATUS") == STATUS_DONE
        assert self.dut.protocol.value == 0
        error = await self.read("ERROR")
        await self.write("ERROR", error)
        await self.write("STATUS", STATUS_DONE)
        assert await self.read("STATUS") == await self.read("ERROR") == 0
        return [name for i, name in enumerate(ERRORS) if error >> i & 1]

    async def check_right(self) -> None:
        """The program's whole run."""
        self.memory.data[:] = np.load(FOLDER / "memory.npy").tobytes()
        assert await self.run() == []
        assert self.memory.data == self.expected

    async def check_quiet(self) -> None:
        """No master offers or accepts anything."""
        for _ in range(20):
            await RisingEdge(self.dut.clk)
            for name in (
                "fetch_arvalid", "fetch_rvalid", "load_arvalid", "load_rvalid", "store_awvalid", "store_wvalid",
                "store_bvalid",
            ):  # fmt: skip
                assert not getattr(self.dut, name).value


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
    units = {"fetch_response": FETCH_SOURCE, "read_response": Unit.LOAD, "write_response": Unit.STORE}
    for (name, faulty), code in itertools.product(places.items(), (AxiResp.SLVERR, AxiResp.DECERR)):
        machine.memory.faulty = faulty
        with mock.patch.object(axi_slave, "AxiResp", SimpleNamespace(OKAY=AxiResp.OKAY, SLVERR=code)):
            assert await machine.run() == [name]
        assert await machine.read("ERROR_FIRST") == 1 << list(ERRORS).index(name) | units[name] << 16
        assert await machine.read("ERROR_INDEX") < machine.count
        address = await machine.read("ERROR_ADDRESS")
        assert faulty.start - 256 * BUS_BYTES < address < faulty.stop
    machine.memory.faulty = range(0)
    assert await machine.run() == []
    assert machine.memory.data == machine.expected


@cocotb.test()
async def runs_cleanly_after_a_reset_in_mid_flight(dut) -> None:
    machine = await bench(dut)
    generator = random.Random(0)
    for cycles in (20, 70, 130, 200, *(generator.randrange(260) for _ in range(6))):
        await machine.start()
        await ClockCycles(dut.clk, cycles)
        await machine.reset()
        assert await machine.read("STATUS") == 0
        await machine.check_right()


@cocotb.test()
async def stops_at_any_time_under_back_pressure(dut) -> None:
    machine = await bench(dut)
    machine.back_pressure(5)
    generator = random.Random(1)
    stopped = 0
    for _ in range(12):
        await machine.start()
        await ClockCycles(dut.clk, generator.randrange(400))
        await machine.write("CONTROL", CONTROL_STOP | CONTROL_INTERRUPT_ENABLE)
        stopped += await machine.end() == ["stopped"]
        await machine.check_quiet()
        await machine.check_right()
    assert stopped > 6


@cocotb.test()
async def runs_from_an_image_anywhere(dut) -> None:
    machine = await bench(dut)
    for base in (0x80000000, 0xFEDC_BA98_7654_3000):
        machine.memory.base = base
        await machine.check_right()
