"""A unit alone: its queue, its tokens and the memories that it reads, cycle by cycle."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from amaranth.hdl import Elaboratable
from amaranth.lib.wiring import PureInterface
from amaranth.sim import Simulator

from accel.machine.isa import Instruction
from accel.machine.latencies import ACC_LATENCY, READ_LATENCY


@dataclass
class Stimulus:
    """Instructions, the cycle from which each may be at the queue's head, and the tokens' mask in each cycle."""

    instructions: list[Instruction]
    available: list[int]
    tokens: list[int]


@dataclass
class Record:
    """What the unit did: cycles of issues, (cycle, signal) of completions, and masks over cycles."""

    issues: list[int] = field(default_factory=list)
    completions: list[tuple[int, int]] = field(default_factory=list)
    occupied: list[int] = field(default_factory=list)
    idle: list[int] = field(default_factory=list)
    reads: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


@dataclass
class AccumulatorModel:
    """Accumulators as `AccumulatePort` describes them: which column writes what in which cycle.

    `skew` is the number of cycles from one column to the next; `writes` holds (cycle, column, address, value).
    """

    port: PureInterface
    columns: int
    skew: int
    commands: list[tuple[int, int, int]] = field(default_factory=list)
    words: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    writes: set[tuple[int, int, int, int]] = field(default_factory=set)

    def observe(self, cycle: int, get) -> None:
        psums = get(self.port.psums)
        for c in range(self.columns):
            if (read := cycle - ACC_LATENCY - self.skew * c) >= 0 and self.commands[read][0]:
                _, address, overwrite = self.commands[read]
                value = wrap(int32(psums, c) + (0 if overwrite else self.words[address, c]))
                self.words[address, c] = value
                self.writes.add((cycle, c, address, value))
        self.commands.append((get(self.port.en), get(self.port.addr), get(self.port.overwrite)))


@dataclass
class ExpectedSums:
    """The writes that `AccumulatorModel` should see, in any order of calls that keeps each word's own."""

    words: int
    skew: int
    values: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    writes: set[tuple[int, int, int, int]] = field(default_factory=set)

    def add(self, cycle: int, address: int, sums: list[int], keep: bool) -> None:
        """Column 0 writes in `cycle`."""
        address %= self.words
        for c, total in enumerate(sums):
            self.values[address, c] = wrap(total + keep * self.values[address, c])
            self.writes.add((cycle + self.skew * c, c, address, self.values[address, c]))


def wrap(value: int) -> int:
    """To int32."""
    return (value + 2**31) % 2**32 - 2**31


def int32(vector: int, index: int) -> int:
    """Element `index` of a packed vector."""
    return wrap(vector >> 32 * index & (2**32 - 1))


def extreme_words(rng: random.Random, words: int, lanes: int) -> list[list[int]]:
    """Words of int8, the extremes often."""
    return [[rng.choice((-128, 127, rng.randrange(-128, 128))) for _ in range(lanes)] for _ in range(words)]


def pack(word: list[int]) -> int:
    """A word of int8 as a port carries it."""
    return int.from_bytes(bytes(byte % 256 for byte in word), "little")


def random_stimulus(rng: random.Random, instructions: list[Instruction], cycles: int) -> Stimulus:
    """Instructions that mostly wait for the unit, some of them late, and tokens that come and go."""
    available, cycle = [], 3
    for _ in instructions:
        available.append(cycle)
        cycle += rng.choice((0, 0, 0, 1, 2, 40))
    return Stimulus(instructions, available, [rng.getrandbits(6) | rng.getrandbits(6) for _ in range(cycles)])


def issue_cycle(stimulus: Stimulus, index: int, free: int) -> int:
    """First cycle from `free` on in which the instruction is there and has its tokens."""
    cycle = max(free, stimulus.available[index])
    while stimulus.instructions[index]["wait"] & ~stimulus.tokens[cycle]:
        cycle += 1
    return cycle


def simulate(
    dut: Elaboratable,
    stimulus: Stimulus,
    memories: Mapping[str, Sequence[int]],
    observe: Callable[[int, Callable], None],
) -> Record:
    """Run until nothing happens for a long time.

    `memories` holds the words of each read port ("name", or "name.i" for one of several); they answer
    `READ_LATENCY` or `ACC_LATENCY` cycles after the address. `observe(cycle, get)` may look at any signal before the
    edge that ends the cycle.
    """
    record = Record(reads={name: [] for name in memories})
    ports = {name: _port(dut, *name.split(".")) for name in memories}

    async def bench(ctx):
        control, waiting = dut.control, list(zip(stimulus.instructions, stimulus.available, strict=True))
        for cycle, tokens in enumerate(stimulus.tokens):
            there = bool(waiting) and cycle >= waiting[0][1]
            ctx.set(control.instruction.valid, there)
            if there:
                ctx.set(control.instruction.payload, int.from_bytes(waiting[0][0].encode(), "little"))
            ctx.set(control.tokens, tokens)
            for name, words in memories.items():
                latency = ACC_LATENCY if name.startswith(("acc", "param", "table")) else READ_LATENCY
                answer = [words[address] for read, address in record.reads[name][-latency:] if read == cycle - latency]
                if answer or name.startswith("acc"):  # without a read the accumulators' answer is 0
                    ctx.set(ports[name].data, answer[0] if answer else 0)
            if ctx.get(control.instruction.ready):
                record.issues.append(cycle)
                waiting.pop(0)
            if ctx.get(control.complete):
                record.completions.append((cycle, ctx.get(control.signal)))
            record.occupied.append(ctx.get(control.occupied))
            record.idle.append(ctx.get(control.idle))
            for name, port in ports.items():
                if ctx.get(port.en):
                    record.reads[name].append((cycle, ctx.get(port.addr)))
            observe(cycle, ctx.get)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return record


def _port(dut: Elaboratable, member: str, place: str | None = None):
    return getattr(dut, member) if place is None else getattr(dut, member)[int(place)]


def span(cycles: int, intervals: list[tuple[int, int]]) -> list[int]:
    """1 in the cycles of the closed intervals, else 0."""
    return [int(any(a <= cycle <= b for a, b in intervals)) for cycle in range(cycles)]
