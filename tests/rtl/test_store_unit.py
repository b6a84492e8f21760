"""STORE against docs/architecture.md (bytes) and docs/timing.md (cycles)."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import SimulatorContext
from support.machine.naive_timing import Store, beats_of, rows_of
from support.mutants.rtl_mutation import mutate
from support.rtl.bench import MACHINES, simulate

import accel.machine.latencies
import rtl.store_packer
from accel.machine.config import ArchConfig
from accel.machine.isa import Instruction, Opcode
from rtl.interfaces import MASK_BITS
from rtl.store_unit import StoreUnit
from rtl.testbench.memory import WriteMemory

pytestmark = pytest.mark.rtl
MEMORY_BYTES = 16384
ALL_TOKENS = (1 << MASK_BITS) - 1


def random_store(config: ArchConfig, rng: np.random.Generator) -> Instruction:
    """A STORE of whole words or parts of them; rows may overlap in memory."""
    word_bytes = int(rng.integers(1, config.rows + 1)) if rng.random() < 0.5 else config.rows
    return Instruction(
        Opcode.STORE,
        {
            "dram_address": int(rng.integers(4000, 8192)),
            "address": int(rng.integers(0, 16)),
            "outer_count": int(rng.integers(1, 3)),
            "row_count": int(rng.integers(1, 4)),
            "row_words": int(rng.integers(1, 20)),
            "word_bytes": word_bytes,
            "byte_offset": int(rng.integers(0, config.rows - word_bytes + 1)),
            "dram_outer_stride": int(rng.integers(-900, 900)),
            "dram_row_stride": int(rng.integers(-300, 300)),
            "outer_stride": int(rng.integers(0, 5)),
            "row_stride": int(rng.integers(0, 10)),
            "signal": int(rng.integers(16)),
        },
    )


def expected_store(i: Instruction, spad: np.ndarray, memory: np.ndarray) -> None:
    """Write what docs/architecture.md says into `memory`; `spad` has the shape (words, rows)."""
    for outer in range(i["outer_count"]):
        for row in range(i["row_count"]):
            first = i["address"] + outer * i["outer_stride"] + row * i["row_stride"]
            lanes = slice(i["byte_offset"], i["byte_offset"] + i["word_bytes"])
            data = spad[first : first + i["row_words"], lanes].ravel()
            start = i["dram_address"] + outer * i["dram_outer_stride"] + row * i["dram_row_stride"]
            memory[start : start + len(data)] = data


def check(config: ArchConfig, seed: int, size: int = 12, stalls: np.random.Generator | None = None) -> None:
    """Run random STOREs back to back; bytes always agree, cycles too unless there are stalls."""
    rng = np.random.default_rng(seed)
    memory = rng.integers(0, 256, MEMORY_BYTES, np.uint8)
    expected = memory.copy()
    spad = rng.integers(0, 256, (config.spad_words, config.rows), np.uint8)
    program = [random_store(config, rng) for _ in range(size)]
    dut, model = StoreUnit(config), Store(config)
    issue, complete, signals, occupied, busy = [], [], [], [], 0
    expected_issue: list[int] = []
    expected_complete: list[int] = []

    async def testbench(ctx: SimulatorContext) -> None:
        nonlocal busy
        control, bus = dut.control, WriteMemory(dut.bus, memory, config.write_latency_cycles, stalls)
        ctx.set(control.tokens, ALL_TOKENS)
        now, words = 0, [np.zeros(1, np.uint8)] * (accel.machine.latencies.READ_LATENCY - 1)
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
            word = spad[ctx.get(dut.spad_read.addr)] if ctx.get(dut.spad_read.en) else np.zeros(1, np.uint8)
            words.append(word)
            await ctx.tick()
            ctx.set(dut.spad_read.data, int.from_bytes(words.pop(0).tobytes(), "little"))
            now += 1
        assert ctx.get(control.idle)

    simulate(dut, testbench)
    for instruction in program:
        expected_store(instruction, spad, expected)
    np.testing.assert_array_equal(memory, expected)
    assert signals == [i["signal"] for i in program]
    if stalls is None:
        assert (issue, complete) == (expected_issue, expected_complete)
        assert occupied == list(range(complete[-1] + 1))
        assert busy == len(beats(program, config))


def beats(program: list[Instruction], config: ArchConfig) -> list[int]:
    """Bytes of every data beat."""
    return [n for i in program for n in beats_of(rows_of(i, i["row_words"] * i["word_bytes"]), config.bus_bytes)]


@pytest.mark.parametrize("machine", range(len(MACHINES)))
def test_bytes_and_cycles(machine: int) -> None:
    check(MACHINES[machine], seed=machine)


@pytest.mark.parametrize("machine", range(len(MACHINES)))
def test_bytes_with_a_stalling_memory(machine: int) -> None:
    check(MACHINES[machine], seed=machine + 10, size=5, stalls=np.random.default_rng(machine))


def test_catches_a_smaller_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    half = accel.machine.latencies.store_buffer_bytes(MACHINES[2]) // 2
    monkeypatch.setattr(
        accel.machine.latencies, "store_buffer_bytes", lambda config: half
    )  # the naive model keeps its own name
    with pytest.raises(AssertionError):
        check(MACHINES[2], seed=2)


@pytest.mark.parametrize(
    ("owner", "method", "old", "new"),
    [
        ("StorePacker", "_ring", "written - self.offset", "written + self.offset"),
        ("StorePacker", "_ring", "index < self.coming", "index + 1 < self.coming"),
        ("StorePacker", "_ring", "first.eq(end - following.low)", "first.eq(end)"),
    ],
)
def test_catches_bytes_beside_the_word(
    monkeypatch: pytest.MonkeyPatch, owner: str, method: str, old: str, new: str
) -> None:
    mutate(monkeypatch, rtl.store_packer, owner, method, old, new)
    with pytest.raises(AssertionError):
        check(MACHINES[2], seed=2)
