"""LOAD against docs/architecture.md (bytes) and docs/timing.md (cycles)."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import SimulatorContext
from support.machine.naive_timing import Load
from support.mutants.rtl_mutation import mutate
from support.rtl.bench import MACHINES, simulate

import rtl.load_unit
import rtl.load_writer
from accel.machine.config import PARAM_RECORD_BYTES, ArchConfig
from accel.machine.isa import Instruction, Memory, Opcode, Unit
from rtl.interfaces import MASK_BITS
from rtl.load_unit import LoadUnit
from rtl.testbench.memory import ReadMemory

pytestmark = pytest.mark.rtl
MEMORY_BYTES = 16384
ALL_TOKENS = (1 << MASK_BITS) - 1


def random_load(config: ArchConfig, rng: np.random.Generator) -> Instruction:
    """A LOAD with overlapping or gapped windows, padding, strides and any destination."""
    memory = Memory(int(rng.integers(len(Memory))))
    width = (config.rows, config.cols, PARAM_RECORD_BYTES, 1, min(config.rows, config.cols))[memory]
    word_bytes = width if memory == Memory.PARAM else int(rng.integers(1, width + 1))
    step = int(rng.integers(1, config.load_word_bytes + 1)) if rng.random() < 0.5 else word_bytes
    row_words = int(rng.integers(1, 12))
    stream = (row_words - 1) * step + word_bytes
    pad = int(rng.integers(0, stream)) if rng.random() < 0.5 else 0
    row_bytes = stream - pad if rng.random() < 0.6 else int(rng.integers(1, stream - pad + 1))
    fields = {
        "memory": memory,
        "dram_address": int(rng.integers(4000, 8192)),
        "address": int(rng.integers(0, 8)),
        "outer_count": int(rng.integers(1, 3)),
        "row_count": int(rng.integers(1, 4)),
        "row_bytes": row_bytes,
        "dram_outer_stride": int(rng.integers(-500, 500)),
        "dram_row_stride": int(rng.integers(-300, 300)),
        "outer_stride": int(rng.integers(0, 2)),
        "row_stride": int(rng.integers(0, 3)),
        "row_words": row_words if memory != Memory.PARAM else min(row_words, 4),
        "word_bytes": word_bytes,
        "step_bytes": step,
        "byte_offset": int(rng.integers(0, width - word_bytes + 1)),
        "pad_bytes": pad,
        "pad_value": int(rng.integers(-128, 128)),
        "signal": int(rng.integers(16)),
    }
    if memory == Memory.PARAM and row_words > 4:
        fields |= {"row_bytes": 1, "pad_bytes": 0}
    return Instruction(Opcode.LOAD, fields)


def expected_writes(i: Instruction, memory: np.ndarray) -> list[tuple[int, int, bytes]]:
    """(address, first byte, bytes) of every word, straight from docs/architecture.md."""
    writes = []
    for outer in range(i["outer_count"]):
        for row in range(i["row_count"]):
            start = i["dram_address"] + outer * i["dram_outer_stride"] + row * i["dram_row_stride"]
            pad = bytes([i["pad_value"] & 255])
            stream = pad * i["pad_bytes"] + memory[start : start + i["row_bytes"]].tobytes() + pad * 4096
            for j in range(i["row_words"]):
                first = j * i["step_bytes"]
                address = i["address"] + outer * i["outer_stride"] + row * i["row_stride"] + j
                writes.append((address, i["byte_offset"], stream[first : first + i["word_bytes"]]))
    return writes


def sample_write(ctx: SimulatorContext, port) -> tuple[int, int, bytes]:
    """(address, first byte, bytes) of the write on `port`; its mask, if it has one, must be one run of ones."""
    mask = ctx.get(port.mask) if hasattr(port, "mask") else (1 << len(port.data) // 8) - 1
    first = (mask & -mask).bit_length() - 1
    count = mask.bit_count()
    assert mask == ((1 << count) - 1) << first
    data = ctx.get(port.data) >> 8 * first & ((1 << 8 * count) - 1)
    return ctx.get(port.addr), first, data.to_bytes(count, "little")


def check(config: ArchConfig, seed: int, size: int = 12, stalls: np.random.Generator | None = None) -> None:
    """Run random LOADs back to back; writes always agree, cycles too unless there are stalls."""
    rng = np.random.default_rng(seed)
    memory = rng.integers(0, 256, MEMORY_BYTES, np.uint8)
    program = [random_load(config, rng) for _ in range(size)]
    dut, model = LoadUnit(config), Load(config)
    issue, complete, signals, occupied, busy = [], [], [], [], 0
    writes: dict[Memory, list] = {m: [] for m in Memory}
    targets = [target for target in Memory if target is not Memory.TAPS or config.depthwise_taps]
    ports = {target: getattr(dut, f"{target.name.lower()}_write") for target in targets}
    expected_issue: list[int] = []
    expected_complete: list[int] = []

    async def testbench(ctx: SimulatorContext) -> None:
        nonlocal busy
        control, bus = dut.control, ReadMemory(dut.bus, memory, config.read_latency_cycles, stalls)
        ctx.set(control.tokens, ALL_TOKENS)
        now = 0
        while len(complete) < size:
            assert now < 20000
            left = program[len(issue) :]
            ctx.set(control.instruction.valid, bool(left))
            if left:
                ctx.set(control.instruction.payload, int.from_bytes(left[0].encode(), "little"))
            bus.drive(ctx, now)
            bus.sample(ctx, now)
            if left and ctx.get(control.instruction.ready):
                issue.append(now)
            for target, port in ports.items():
                if ctx.get(port.en):
                    writes[target].append(sample_write(ctx, port))
            if ctx.get(control.complete):
                complete.append(now)
                signals.append(ctx.get(control.signal))
            if ctx.get(control.occupied):
                occupied.append(now)
            busy += ctx.get(control.busy)
            if len(expected_issue) < size and model.free(now):
                model.issue(now, program[len(expected_issue)])
                expected_issue.append(now)
            if (completion := model.step(now)) is not None:
                expected_complete.append(completion)
            await ctx.tick()
            now += 1
        assert ctx.get(control.idle)

    simulate(dut, testbench)
    for target in targets:
        mine = [i for i in program if i["memory"] == target]
        assert writes[target] == [write for i in mine for write in expected_writes(i, memory)]
    assert signals == [i["signal"] for i in program]
    if stalls is None:
        assert (issue, complete) == (expected_issue, expected_complete)
        assert occupied == list(range(complete[-1] + 1))
        assert busy == len(model.emissions)


@pytest.mark.parametrize("machine", range(len(MACHINES)))
def test_bytes_and_cycles(machine: int) -> None:
    check(MACHINES[machine], seed=machine)


@pytest.mark.parametrize("machine", range(len(MACHINES)))
def test_bytes_with_a_stalling_memory(machine: int) -> None:
    check(MACHINES[machine], seed=machine + 10, size=5, stalls=np.random.default_rng(machine))


def test_catches_a_wrong_number_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtl.load_unit, "LOAD_IN_FLIGHT", 3)
    with pytest.raises(AssertionError):
        check(MACHINES[3], seed=3)


def test_catches_bytes_of_the_neighbour_row(monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch, rtl.load_writer, "LoadWriter", "_move", "kept > place", "kept >= place")
    with pytest.raises(AssertionError):
        check(MACHINES[0], seed=0)


def test_catches_taps_that_go_to_the_scratchpad(monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch, rtl.load_writer, None, "word_layout", 'LOAD_LAYOUT["memory"].width', "2")
    with pytest.raises(AssertionError):
        check(MACHINES[2], seed=2)


def test_waits_for_tokens_and_reports_error_responses() -> None:
    config = MACHINES[0]
    dut = LoadUnit(config)
    instruction = Instruction(Opcode.LOAD, {"wait": 1 << Unit.STORE, "row_bytes": 4, "word_bytes": 4})
    seen = []

    async def testbench(ctx: SimulatorContext) -> None:
        bus = ReadMemory(dut.bus, np.zeros(64, np.uint8), config.read_latency_cycles)
        bus.response = 2
        ctx.set(dut.control.instruction.valid, 1)
        ctx.set(dut.control.instruction.payload, int.from_bytes(instruction.encode(), "little"))
        for now in range(40):
            ctx.set(dut.control.tokens, ALL_TOKENS if now >= 10 else ALL_TOKENS & ~(1 << Unit.STORE))
            bus.drive(ctx, now)
            bus.sample(ctx, now)
            seen.append((ctx.get(dut.control.instruction.ready), ctx.get(dut.error)))
            await ctx.tick()
            ctx.set(dut.control.instruction.valid, now < 10)

    simulate(dut, testbench)
    assert [now for now, (issue, _) in enumerate(seen) if issue] == [10]
    assert [now for now, (_, error) in enumerate(seen) if error] == [11 + config.read_latency_cycles]
