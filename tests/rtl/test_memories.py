"""SPAD, WBUF, TAPS, PARAM and TABLE against dictionaries."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import defaultdict
from collections.abc import Callable

import pytest
from amaranth.sim import Simulator
from support.mutants.rtl_mutation import mutate

from accel.machine.config import TABLE_WORDS, ArchConfig, preset
from accel.machine.latencies import ACC_LATENCY, READ_LATENCY
from rtl import scratchpad
from rtl.param_memory import ParamMemory
from rtl.scratchpad import ENGINE_READERS, READERS, WRITERS, Scratchpad
from rtl.table_memory import TableMemory
from rtl.weight_buffer import WeightBuffer

pytestmark = pytest.mark.rtl

CYCLES = 400


def machine(banks: int = 3, **changes) -> ArchConfig:
    sizes = {"rows": 2, "cols": 4, "post_lanes": 2, "spad_banks": banks, "spad_bank_words": 8, "wbuf_words": 16}
    return dataclasses.replace(preset("tiny"), **{**sizes, "param_channels": 16, **changes})


def run(dut, cycle_bench: Callable) -> None:
    """Call `cycle_bench(ctx, cycle)` in every cycle."""

    async def bench(ctx):
        for cycle in range(CYCLES):
            cycle_bench(ctx, cycle)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


class MaskedMemory:
    """Words of bytes behind several ports; a word that is being written reads as its old value."""

    def __init__(self, dut, rng: random.Random, words: int, lanes: int, readers: list[str], writers: list[str]):
        self.dut, self.rng, self.words, self.lanes = dut, rng, words, lanes
        self.readers, self.writers = readers, writers
        self.bytes: dict[tuple[int, int], int] = defaultdict(int)
        self.due: list[dict[str, int]] = [{}] * READ_LATENCY
        self.mismatches = 0

    def read_check(self, ctx) -> None:
        for name, value in self.due[0].items():
            self.mismatches += ctx.get(getattr(self.dut, name).data) != value

    def drive(self, ctx, allowed: Callable[[str, int], bool]) -> dict[str, int]:
        """Random traffic; `allowed(port, address)` may forbid an access. Returns the address of each enabled port."""
        used = {}
        due: dict[str, int] = {}
        self.due = [*self.due[1:], due]
        written = []
        for name in [*self.readers, *self.writers]:
            port, address = getattr(self.dut, name), self.rng.randrange(self.words)
            enabled = self.rng.random() < 0.6 and allowed(name, address)
            ctx.set(port.en, enabled)
            ctx.set(port.addr, address)
            if name in self.writers:
                data, mask = self.rng.getrandbits(8 * self.lanes), self.rng.getrandbits(self.lanes)
                ctx.set(port.data, data)
                ctx.set(port.mask, mask)
                written += [(address, i, data >> 8 * i & 255) for i in range(self.lanes) if enabled and mask >> i & 1]
            elif enabled:
                due[name] = sum(self.bytes[address, i] << 8 * i for i in range(self.lanes))
            if enabled:
                used[name] = address
        for address, i, byte in written:
            self.bytes[address, i] = byte
        return used


def clash(used: dict[str, int], a: str, b: str) -> bool:
    """Two ports use one bank; DEPTHWISE's two may, if one of the addresses is even and the other odd."""
    interleaved = {a, b} == set(ENGINE_READERS) and (used[a] + used[b]) % 2
    return used[a] // 8 == used[b] // 8 and not interleaved


@pytest.mark.parametrize("banks", [1, 3])
@pytest.mark.parametrize("conflicts", [False, True])
@pytest.mark.parametrize("taps", [0, 3])
def test_scratchpad(banks, conflicts, taps):
    dut = Scratchpad(machine(banks, depthwise_taps=taps))
    readers = [*READERS, *ENGINE_READERS] if taps else list(READERS)
    memory = MaskedMemory(dut, random.Random(banks), 8 * banks, 2, readers, list(WRITERS))
    seen, expected = (
        {"read_conflict": 0, "write_conflict": 0},
        {"read_conflict": [False] * 2, "write_conflict": [False]},
    )

    def cycle_bench(ctx, cycle):
        taken: dict[tuple[bool, int], tuple[str, int]] = {}

        def allowed(name: str, address: int) -> bool:
            user, other = taken.setdefault((name not in WRITERS, address // 8), (name, address))
            both_of_engine = {user, name} == set(ENGINE_READERS) and (other + address) % 2
            return conflicts or user == name or both_of_engine

        if not conflicts:
            memory.read_check(ctx)
        used = memory.drive(ctx, allowed)
        for output, names in (("read_conflict", readers), ("write_conflict", WRITERS)):
            assert ctx.get(getattr(dut, output)) == expected[output].pop(0)
            pairs = itertools.combinations([name for name in names if name in used], 2)
            expected[output].append(any(clash(used, *pair) for pair in pairs))
            seen[output] += expected[output][-1]

    run(dut, cycle_bench)
    assert memory.mismatches == 0
    assert all((count > 20) == conflicts for count in seen.values())


@pytest.mark.parametrize(("words", "lanes"), [(16, 4), (8, 1)])
def test_weight_buffer(words, lanes):
    dut = WeightBuffer(words, lanes)
    memory = MaskedMemory(dut, random.Random(words), words, lanes, ["read"], ["load_write"])

    def cycle_bench(ctx, cycle):
        memory.read_check(ctx)
        memory.drive(ctx, lambda name, address: True)

    run(dut, cycle_bench)
    assert memory.mismatches == 0


@pytest.mark.parametrize("lanes", [1, 2])
def test_param_memory(lanes):
    dut, rng = ParamMemory(machine(post_lanes=lanes)), random.Random(lanes)
    records: dict[int, int] = defaultdict(int)
    due = [None] * ACC_LATENCY

    def cycle_bench(ctx, cycle):
        if (expected := due.pop(0)) is not None:
            assert ctx.get(dut.post_read.data) == expected
        row, channel, record, write = (
            rng.randrange(16 // lanes),
            rng.randrange(16),
            rng.getrandbits(72),
            rng.random() < 0.7,
        )
        ctx.set(dut.post_read.en, 1)
        ctx.set(dut.post_read.addr, row)
        ctx.set(dut.load_write.en, write)
        ctx.set(dut.load_write.addr, channel)
        ctx.set(dut.load_write.data, record)
        due.append(sum(records[row * lanes + lane] << 72 * lane for lane in range(lanes)))
        if write:
            records[channel] = record

    run(dut, cycle_bench)
    assert len(records) == 16


@pytest.mark.parametrize("lanes", [1, 2])
def test_table_memory(lanes):
    dut, rng = TableMemory(machine(post_lanes=lanes)), random.Random(lanes)
    table, due, used = [0] * TABLE_WORDS, [{}] * ACC_LATENCY, [0, 1, 255, 256, 511]

    def cycle_bench(ctx, cycle):
        due.append({})
        for lane, byte in due.pop(0).items():
            assert ctx.get(dut.post_read[lane].data) == byte
        for lane in range(lanes):
            address = rng.choice(used)
            ctx.set(dut.post_read[lane].en, 1)
            ctx.set(dut.post_read[lane].addr, address)
            due[-1][lane] = table[address]
        address, byte, write = rng.choice(used), rng.getrandbits(8), rng.random() < 0.7
        ctx.set(dut.load_write.en, write)
        ctx.set(dut.load_write.addr, address)
        ctx.set(dut.load_write.data, byte)
        if write:
            table[address] = byte

    run(dut, cycle_bench)
    assert any(table)


def test_a_scratchpad_that_lets_the_engine_read_one_half_twice_is_seen(monkeypatch):
    mutate(monkeypatch, scratchpad, "Scratchpad", "_read", "if part_bits:", "if 0:")
    with pytest.raises(AssertionError):
        test_scratchpad(banks=1, conflicts=True, taps=3)
