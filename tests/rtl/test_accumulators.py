"""ACC against a dictionary: EXEC, DEPTHWISE and POST in any order, and their conflicts."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from amaranth.sim import SimulatorContext
from support.mutants.rtl_mutation import mutate
from support.rtl.bench import simulate, small

from accel.machine.config import ArchConfig
from accel.machine.latencies import ACC_LATENCY
from rtl import accumulators
from rtl.accumulators import Accumulators

pytestmark = pytest.mark.rtl

CYCLES = 400


class AccumulatorModel:
    """Random commands of EXEC, DEPTHWISE and POST against one dictionary; EXEC's column c runs c cycles behind."""

    def __init__(self, config: ArchConfig, seed: int):
        self.config, self.rng = config, random.Random(seed)
        self.dut = Accumulators(config)
        self.values: dict[tuple[int, int], int] = defaultdict(int)
        self.commands = [(0, 0, 0)] * (config.cols + ACC_LATENCY)
        self.engine_commands = [(0, 0, 0)] * (ACC_LATENCY + 1)
        self.due: int | None = None
        self.read: int | None = None
        self.mismatches = 0
        self.conflicts: Counter[str] = Counter()

    def cycle(self, ctx) -> None:
        """What was read `ACC_LATENCY` cycles before is written in this one, then POST reads."""
        if self.due is not None:
            self.mismatches += ctx.get(self.dut.post_read.data) != self.due
        self.commands = [self._command(0.4, self.commands[0]), *self.commands[:-1]]
        engine = 0.4 if self.config.depthwise_taps else 0
        self.engine_commands = [self._command(engine, self.engine_commands[0]), *self.engine_commands[:-1]]
        if self._engine_clashes():
            self._expect_conflict(ctx, "EXEC and DEPTHWISE")
            self.engine_commands[0] = (0, 0, 0)
        self._keep_apart()
        self._drive(ctx, self.dut.exec_accumulate, self.commands[0])
        self._accumulate(ctx, self.dut.exec_accumulate, self.config.cols, self.commands[ACC_LATENCY:])
        if self.config.depthwise_taps:
            self._drive(ctx, self.dut.depthwise_accumulate, self.engine_commands[0])
            before = self.engine_commands[ACC_LATENCY:] * self.config.cols
            self._accumulate(ctx, self.dut.depthwise_accumulate, self.config.depthwise_lanes, before)
        words = range(self.config.cols)
        self.due = None if self.read is None else sum(self.values[self.read, c] << 32 * c for c in words)
        self._post(ctx)

    def _command(self, probability: float, before: tuple[int, int, int]) -> tuple[int, int, int]:
        """A command, often for the same word as the one `before`."""
        rng = self.rng
        address = before[1] if rng.random() < 0.4 else rng.randrange(self.config.acc_words)
        return int(rng.random() < probability), address, int(rng.random() < 0.3)

    def _bank(self, address: int) -> int:
        return address // self.config.acc_bank_words

    def _engine_clashes(self) -> bool:
        """Whether any column of EXEC reads the bank that DEPTHWISE reads in this cycle."""
        en, address, _ = self.engine_commands[0]
        return bool(en) and self._exec_uses(self._bank(address))

    def _keep_apart(self) -> None:
        """No unit uses a word that the other one has under way: they have semaphores between them."""
        for mine, others in (
            (self.commands, self.engine_commands[1:]),
            (self.engine_commands, self.commands),
        ):
            if any(en and address == mine[0][1] for en, address, _ in others):
                mine[0] = (0, mine[0][1], 0)

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
        """A read of all columns of one word that no unit has under way."""
        address = self.rng.randrange(self.config.acc_words)
        under_way = any(en and a == address for en, a, _ in [*self.commands[1:], *self.engine_commands[1:]])
        bank, read = self._bank(address), self.rng.random() < 0.5 and not under_way
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
        self.read = address if read else None


def accumulator_model(cols: int, banks: int, words: int, taps: int) -> AccumulatorModel:
    """The model after its run."""
    config = small(rows=2, cols=cols, post_lanes=1, acc_banks=banks, acc_bank_words=words, depthwise_taps=taps)
    model = AccumulatorModel(config, seed=cols)

    async def bench(ctx: SimulatorContext) -> None:
        for _ in range(CYCLES):
            model.cycle(ctx)
            await ctx.tick()

    simulate(model.dut, bench)
    return model


@pytest.mark.parametrize(("cols", "banks", "words"), [(1, 1, 1), (1, 1, 4), (2, 2, 4), (4, 3, 2), (4, 6, 2)])
@pytest.mark.parametrize("taps", [0, 3])
def test_accumulators(cols, banks, words, taps):
    model = accumulator_model(cols, banks, words, taps)
    assert model.mismatches == 0
    expected = {"EXEC and POST"} | ({"EXEC and DEPTHWISE", "DEPTHWISE and POST"} if taps else set())
    assert {users for users, count in model.conflicts.items() if count > 5} == expected


WHOLE, COLUMN = (accumulators, "Accumulators"), (accumulators, "AccumulatorColumn")
FAULTS = {
    "DEPTHWISE never overwrites": (
        *WHOLE,
        "_chain",
        "keep = ~port.overwrite",
        'keep = ~port.overwrite | (name == "engine")',
    ),
    "a sum that is written two cycles later is not seen": (*WHOLE, "_chain", "(first.sum, keep &", "(first.sum, 0 &"),
    "a sum that is written a cycle later is not seen": (
        *WHOLE,
        "_chain",
        "(first.sum_before, keep &",
        "(first.sum_before, 0 &",
    ),
    "the older one of two sums is taken": (
        *WHOLE,
        "_chain",
        "(first.sum, keep & sum_next)",
        "(first.sum, keep & sum_next & ~sum_before)",
    ),
    "conflicts of EXEC and DEPTHWISE pass": (
        *WHOLE,
        "elaborate",
        "in combinations(reads, 2)",
        "in ((read, post) for read in reads[:-1])",
    ),
    "conflicts of DEPTHWISE and POST pass": (
        *WHOLE,
        "elaborate",
        "in combinations(reads, 2)",
        "in combinations(reads[::2], 2)",
    ),
    "a column takes its neighbour's sum": (
        *WHOLE,
        "elaborate",
        "depthwise_accumulate.psums.word_select(index,",
        "depthwise_accumulate.psums.word_select((index + 1) % lanes,",
    ),
    "the sum of EXEC is added for both": (
        *COLUMN,
        "build",
        "zip(written, self.psums,",
        "zip(written, self.psums[:1] * 2,",
    ),
    "banks take their sum from another one": (*COLUMN, "build", "[bank] for origin", "[0] for origin"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_accumulators_are_seen(fault, monkeypatch):
    mutate(monkeypatch, *FAULTS[fault])
    assert accumulator_model(4, 6, 2, 3).mismatches > 0
