"""Fetch and dispatch against docs/timing.md, and the errors of programs that cannot be fetched or decoded."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import SimulatorContext
from support.machine.naive_timing import Bursts, ReadBus, cut
from support.rtl.bench import simulate, small

import rtl.bursts
import rtl.fetch
from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Instruction, Opcode, Unit, encode
from accel.machine.latencies import FETCH_DEPTH
from accel.machine.registers import CAUSES
from rtl.control import fetch_cause
from rtl.fetch import Fetch
from rtl.interfaces import NUMBER_BITS, layout, opcodes
from rtl.testbench.memory import ReadMemory

pytestmark = pytest.mark.rtl
MACHINES = (
    small(bus_bytes=4, read_latency_cycles=1, outstanding_bursts=1),
    small(bus_bytes=16, read_latency_cycles=7, depthwise_taps=3),
    small(bus_bytes=64, read_latency_cycles=20, outstanding_bursts=4, depthwise_taps=1),
)
ADDRESS = 4096 - 5 * INSTRUCTION_BYTES
PROGRAM = 16


def random_program(config: ArchConfig, rng: np.random.Generator) -> list[Instruction]:
    known = opcodes(config)
    return [
        Instruction(known[int(rng.integers(len(known)))], {"signal": int(rng.integers(16))}) for _ in range(PROGRAM)
    ]


def always(cycles: int) -> np.ndarray:
    """All queues have a place."""
    return np.ones((cycles, len(Unit)), bool)


def expected_dispatches(config: ArchConfig, program: list[Instruction], ready: np.ndarray) -> list[int]:
    """The cycle in which each instruction is dispatched when queue u has a place in cycle t if `ready[t, u]`."""
    bus = ReadBus(Bursts(config.outstanding_bursts), config.read_latency_cycles)
    bus.bursts.start(0, cut([(ADDRESS, len(program) * INSTRUCTION_BYTES)], config.bus_bytes))
    dispatched: list[int] = []
    held: list[int] = []
    collected = 0
    for t in range(len(ready)):
        bus.bursts.step(t)
        room = len(held) < FETCH_DEPTH
        if held and t > held[0] and ready[t, program[len(dispatched)].unit]:
            dispatched.append(t)
            del held[0]
        if room and bus.valid(t):
            bus.accept(t)
            collected += config.bus_bytes
            if collected == INSTRUCTION_BYTES:
                collected = 0
                held.append(t)
    return dispatched


def without_number(word: int, unit: int, index: int) -> int:
    """A dispatched instruction as the program has it; its number must be the low bits of `index`."""
    place = layout(Opcode[Unit(unit).name])["number"]
    number = word >> place.offset & (1 << place.width) - 1
    assert number == index % (1 << NUMBER_BITS)
    return word ^ number << place.offset


def fetch(config: ArchConfig, code: bytes, ready: np.ndarray, faulty_from: int | None = None) -> dict[str, list]:
    """Run fetch; returns dispatches (cycle, unit, instruction), error events and causes by cycle."""
    memory = np.zeros(8192, np.uint8)
    memory[ADDRESS : ADDRESS + len(code)] = np.frombuffer(code, np.uint8)
    dut = Fetch(config)
    seen: dict[str, list] = {"dispatch": [], "opcode": [], "response": [], "causes": [], "done": []}

    async def testbench(ctx: SimulatorContext) -> None:
        bus = ReadMemory(dut.bus, memory, config.read_latency_cycles)
        ctx.set(dut.address, ADDRESS)
        ctx.set(dut.count, len(code) // INSTRUCTION_BYTES)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for now in range(len(ready)):
            bus.response = 2 if faulty_from is not None and now >= faulty_from else 0
            bus.drive(ctx, now)
            for unit, queue in enumerate(dut.queues):
                ctx.set(queue.ready, bool(ready[now, unit]))
            bus.sample(ctx, now)
            for unit, queue in enumerate(dut.queues):
                if ctx.get(queue.valid) and ready[now, unit]:
                    word = without_number(ctx.get(queue.payload), unit, len(seen["dispatch"]))
                    seen["dispatch"].append((now, unit, word.to_bytes(INSTRUCTION_BYTES, "little")))
            for event, signal in (("opcode", dut.opcode_error), ("response", dut.response_error), ("done", dut.done)):
                if ctx.get(signal):
                    seen[event].append(now)
            seen["causes"].append(ctx.get(fetch_cause(dut.busy, dut.waiting, dut.done)))
            await ctx.tick()

    simulate(dut, testbench)
    return seen


def check(config: ArchConfig, seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(config, rng)
    ready = rng.random((800, len(Unit))) < rng.choice([0.05, 0.5, 1.0], (800, len(Unit)), p=[0.2, 0.3, 0.5])
    ready[500:] = True
    seen = fetch(config, encode(program), ready)
    cycles = expected_dispatches(config, program, ready)
    assert len(cycles) == PROGRAM
    expected = [(t, i.unit, i.encode()) for t, i in zip(cycles, program, strict=True)]
    assert seen["dispatch"] == expected
    assert seen["done"][0] == cycles[-1] + 1
    assert not seen["opcode"]
    assert not seen["response"]
    assert all(cause.bit_count() == 1 for cause in seen["causes"])
    busy = [t for t, cause in enumerate(seen["causes"]) if cause == 1 << CAUSES.index("busy")]
    assert busy == cycles


@pytest.mark.parametrize("machine", range(len(MACHINES)))
def test_dispatch_cycles(machine: int) -> None:
    check(MACHINES[machine], seed=machine)


def test_one_instruction_per_cycle_over_a_wide_bus() -> None:
    config = small(bus_bytes=INSTRUCTION_BYTES, outstanding_bursts=4)
    program = random_program(config, np.random.default_rng(0))[:4]
    cycles = [t for t, _, _ in fetch(config, encode(program), always(60))["dispatch"]]
    assert np.diff(cycles).tolist() == [1, 1, 1]


def test_catches_bursts_that_are_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtl.bursts, "BURST_BOUNDARY_BYTES", INSTRUCTION_BYTES)
    with pytest.raises(AssertionError):
        check(MACHINES[0], seed=0)


@pytest.mark.parametrize(("machine", "opcode"), [(1, 0), (1, max(Opcode) + 1), (0, Opcode.DEPTHWISE)])
def test_an_opcode_without_unit_drops_the_rest(machine: int, opcode: int) -> None:
    program = random_program(MACHINES[machine], np.random.default_rng(1))
    code = bytearray(encode(program))
    code[7 * INSTRUCTION_BYTES] = code[7 * INSTRUCTION_BYTES] & 0xF0 | opcode
    seen = fetch(MACHINES[machine], bytes(code), always(600))
    assert [word for _, _, word in seen["dispatch"]] == [i.encode() for i in program[:7]]
    assert len(seen["opcode"]) == 1
    assert seen["done"]


def test_catches_a_dispatch_to_a_unit_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtl.fetch, "opcodes", lambda config: list(Opcode))
    with pytest.raises(AssertionError):
        test_an_opcode_without_unit_drops_the_rest(0, Opcode.DEPTHWISE)


def test_an_error_response_drops_the_rest() -> None:
    config = MACHINES[1]
    program = random_program(config, np.random.default_rng(2))
    ready = always(600)
    cycles = expected_dispatches(config, program, ready)
    seen = fetch(config, encode(program), ready, faulty_from=cycles[4])
    assert [word for _, _, word in seen["dispatch"]] == [i.encode() for i in program[:5]]
    assert seen["response"]
    assert not seen["opcode"]
    assert seen["done"]
