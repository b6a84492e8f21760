"""SPAD, WBUF, TAPS, PARAM, TABLE and ACC against dictionaries."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest
from amaranth.sim import Simulator
from rtl_mutation import mutate

from accel.config import TABLE_WORDS, ArchConfig, preset
from rtl import accumulators, scratchpad
from rtl.accumulators import Accumulators
from rtl.param_memory import ParamMemory
from rtl.scratchpad import ENGINE_READERS, READERS, WRITERS, Scratchpad
from rtl.table_memory import TableMemory
from rtl.weight_buffer import WeightBuffer

pytestmark = pytest.mark.rtl

CYCLES = 400


def machine(banks: int = 3, **changes) -> ArchConfig:
    sizes = {"rows": 2, "cols": 4, "post_lanes": 2, "spad_banks": banks, "spad_bank_words": 8, "wbuf_words": 16}
    return dataclasses.replace(
        preset("tiny"), **{**sizes, "acc_banks": 2, "acc_bank_words": 4, "param_channels": 16, **changes}
    )


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
        self.due: dict[str, int] = {}
        self.mismatches = 0

    def read_check(self, ctx) -> None:
        for name, value in self.due.items():
            self.mismatches += ctx.get(getattr(self.dut, name).data) != value

    def drive(self, ctx, allowed: Callable[[str, int], bool]) -> dict[str, int]:
        """Random traffic; `allowed(port, address)` may forbid an access. Returns the address of each enabled port."""
        used = {}
        self.due = {}
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
                self.due[name] = sum(self.bytes[address, i] << 8 * i for i in range(self.lanes))
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
    seen = {"read_conflict": 0, "write_conflict": 0}

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
            pairs = itertools.combinations([name for name in names if name in used], 2)
            conflict = any(clash(used, *pair) for pair in pairs)
            assert ctx.get(getattr(dut, output)) == conflict
            seen[output] += conflict

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
    due = [None]

    def cycle_bench(ctx, cycle):
        if due[0] is not None:
            assert ctx.get(dut.post_read.data) == due[0]
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
        ctx.set(dut.load_write.mask, (1 << 9) - 1)
        due[0] = sum(records[row * lanes + lane] << 72 * lane for lane in range(lanes))
        if write:
            records[channel] = record

    run(dut, cycle_bench)
    assert len(records) == 16


@pytest.mark.parametrize("lanes", [1, 2])
def test_table_memory(lanes):
    dut, rng = TableMemory(machine(post_lanes=lanes)), random.Random(lanes)
    table, due, used = [0] * TABLE_WORDS, {}, [0, 1, 255, 256, 511]

    def cycle_bench(ctx, cycle):
        for lane, byte in due.items():
            assert ctx.get(dut.post_read[lane].data) == byte
        for lane in range(lanes):
            address = rng.choice(used)
            ctx.set(dut.post_read[lane].en, 1)
            ctx.set(dut.post_read[lane].addr, address)
            due[lane] = table[address]
        address, byte, write, mask = rng.choice(used), rng.getrandbits(8), rng.random() < 0.7, rng.getrandbits(1)
        ctx.set(dut.load_write.en, write)
        ctx.set(dut.load_write.addr, address)
        ctx.set(dut.load_write.data, byte)
        ctx.set(dut.load_write.mask, mask)
        if write and mask:
            table[address] = byte

    run(dut, cycle_bench)
    assert any(table)


class AccumulatorModel:
    """Random commands of EXEC, DEPTHWISE and POST against one dictionary; EXEC's column c runs c cycles behind."""

    def __init__(self, config: ArchConfig, seed: int):
        self.config, self.rng = config, random.Random(seed)
        self.dut = Accumulators(config)
        self.values: dict[tuple[int, int], int] = defaultdict(int)
        self.commands = [(0, 0, 0)] * (config.cols + 1)
        self.engine_commands = [(0, 0, 0)] * 2
        self.due: int | None = None
        self.mismatches = 0
        self.conflicts: Counter[str] = Counter()

    def cycle_bench(self, ctx, cycle: int) -> None:
        """What was read in the cycle before is written in this one, then POST reads."""
        if self.due is not None:
            self.mismatches += ctx.get(self.dut.post_read.data) != self.due
        self.commands = [self._command(0.4), *self.commands[: self.config.cols]]
        self.engine_commands = [self._command(0.4 if self.config.depthwise_taps else 0), self.engine_commands[0]]
        if self._engine_clashes():
            self._expect_conflict(ctx, "EXEC and DEPTHWISE")
            self.engine_commands[0] = (0, 0, 0)
        self._drive(ctx, self.dut.exec_accumulate, self.commands[0])
        self._accumulate(ctx, self.dut.exec_accumulate, self.config.cols, self.commands[1:])
        if self.config.depthwise_taps:
            self._drive(ctx, self.dut.depthwise_accumulate, self.engine_commands[0])
            before = self.engine_commands[1:] * self.config.cols
            self._accumulate(ctx, self.dut.depthwise_accumulate, self.config.depthwise_lanes, before)
        self._post(ctx)

    def _command(self, probability: float) -> tuple[int, int, int]:
        rng = self.rng
        return int(rng.random() < probability), rng.randrange(self.config.acc_words), int(rng.random() < 0.3)

    def _bank(self, address: int) -> int:
        return address // self.config.acc_bank_words

    def _engine_clashes(self) -> bool:
        """Whether any column of EXEC reads the bank that DEPTHWISE reads in this cycle."""
        en, address, _ = self.engine_commands[0]
        return bool(en) and self._exec_uses(self._bank(address))

    def _exec_uses(self, bank: int) -> bool:
        return any(en and self._bank(a) == bank for en, a, _ in self.commands[: self.config.cols])

    def _expect_conflict(self, ctx, users: str) -> None:
        """The current commands must raise it; the caller then takes one of them back."""
        ctx.set(self.dut.post_read.en, 0)
        self._drive(ctx, self.dut.exec_accumulate, self.commands[0])
        self._drive(ctx, self.dut.depthwise_accumulate, self.engine_commands[0])
        self.mismatches += not ctx.get(self.dut.conflict)
        self.conflicts[users] += 1

    def _drive(self, ctx, port, command: tuple[int, int, int]) -> None:
        for name, value in zip(("en", "addr", "overwrite"), command, strict=True):
            ctx.set(getattr(port, name), value)

    def _accumulate(self, ctx, port, lanes: int, commands: list[tuple[int, int, int]]) -> None:
        """Random sums; column c executes `commands[c]`, and columns beyond the lanes add 0."""
        psums = [self.rng.getrandbits(32) for _ in range(lanes)]
        ctx.set(port.psums, sum(psum << 32 * c for c, psum in enumerate(psums)))
        for c in range(self.config.cols):
            en, address, overwrite = commands[c]
            if en:
                old = 0 if overwrite else self.values[address, c]
                self.values[address, c] = (old + (psums[c] if c < lanes else 0)) % 2**32

    def _post(self, ctx) -> None:
        """A read of all columns of one word, which may be written in this cycle: the new value then."""
        config, address = self.config, self.rng.randrange(self.config.acc_words)
        bank, read = self._bank(address), self.rng.random() < 0.5
        engine, engine_address, _ = self.engine_commands[0]
        users = {"EXEC": self._exec_uses(bank), "DEPTHWISE": engine and self._bank(engine_address) == bank}
        ctx.set(self.dut.post_read.en, read)
        ctx.set(self.dut.post_read.addr, address)
        conflict = read and any(users.values())
        self.mismatches += ctx.get(self.dut.conflict) != conflict
        if conflict:
            self.conflicts.update(f"{name} and POST" for name, uses in users.items() if uses)
            ctx.set(self.dut.post_read.en, 0)
            read = False
        self.due = sum(self.values[address, c] << 32 * c for c in range(config.cols)) if read else None


def accumulator_model(cols: int, banks: int, words: int, taps: int) -> AccumulatorModel:
    """The model after its run."""
    config = machine(cols=cols, post_lanes=1, acc_banks=banks, acc_bank_words=words, depthwise_taps=taps)
    model = AccumulatorModel(config, seed=cols)
    run(model.dut, model.cycle_bench)
    return model


@pytest.mark.parametrize(("cols", "banks", "words"), [(1, 1, 1), (1, 1, 4), (2, 2, 4), (4, 3, 2), (4, 6, 2)])
@pytest.mark.parametrize("taps", [0, 3])
def test_accumulators(cols, banks, words, taps):
    model = accumulator_model(cols, banks, words, taps)
    assert model.mismatches == 0
    expected = {"EXEC and POST"} | ({"EXEC and DEPTHWISE", "DEPTHWISE and POST"} if taps else set())
    assert {users for users, count in model.conflicts.items() if count > 5} == expected


def test_an_accumulator_that_reads_the_old_value_is_seen(monkeypatch):
    class OldValue(accumulators.Memory):
        def read_port(self, **options):
            return super().read_port(**{**options, "transparent_for": ()})

    monkeypatch.setattr(accumulators, "Memory", OldValue)
    assert accumulator_model(2, 2, 4, 0).mismatches > 0


FAULTS = {
    "DEPTHWISE never overwrites": ("_engine", "read.delayed(m,", "read._replace(overwrite=Const(0)).delayed(m,"),
    "conflicts of EXEC and DEPTHWISE pass": (
        "elaborate",
        "in combinations(reads, 2)",
        "in ((read, post) for read in reads[:-1])",
    ),
    "conflicts of DEPTHWISE and POST pass": (
        "elaborate",
        "in combinations(reads, 2)",
        "in combinations(reads[::2], 2)",
    ),
    "a column takes its neighbour's sum": ("elaborate", "*engine[column]]", "*engine[column - 1]]"),
    "both add to the same old value": ("_column", "overwrite, 0, old)", "overwrite, 0, olds[0])"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_accumulators_are_seen(fault, monkeypatch):
    mutate(monkeypatch, accumulators, "Accumulators", *FAULTS[fault])
    assert accumulator_model(4, 6, 2, 3).mismatches > 0


def test_a_scratchpad_that_lets_the_engine_read_one_half_twice_is_seen(monkeypatch):
    mutate(monkeypatch, scratchpad, "Scratchpad", "_read", "if part_bits:", "if 0:")
    with pytest.raises(AssertionError):
        test_scratchpad(banks=1, conflicts=True, taps=3)
