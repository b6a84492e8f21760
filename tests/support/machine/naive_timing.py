"""The cycles of docs/timing.md, one cycle at a time and as plainly as possible: the reference of RTL and simulator.

Everything that happens is kept with its cycle; a question about the state "at the start of cycle t" counts the events
of earlier cycles. So the order in which the parts are stepped within a cycle does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Instruction, Source, Unit
from accel.machine.latencies import (
    DEPTHWISE_LATENCY,
    EXEC_LATENCY,
    FETCH_DEPTH,
    LOAD_IN_FLIGHT,
    LOAD_START,
    LOAD_WRITE_LATENCY,
    POST_LATENCY,
    READ_LATENCY,
    store_buffer_bytes,
)


def before(events: list[int], t: int) -> int:
    """Events of cycles earlier than t."""
    return sum(event < t for event in events)


def rows_of(instruction: Instruction, row_bytes: int) -> list[tuple[int, int]]:
    """(address, bytes) of each row in external memory."""
    return [
        (
            (
                instruction["dram_address"]
                + outer * instruction["dram_outer_stride"]
                + row * instruction["dram_row_stride"]
            )
            % (1 << 32),
            row_bytes,
        )
        for outer in range(instruction["outer_count"])
        for row in range(instruction["row_count"])
    ]


def cut(rows: list[tuple[int, int]], bus_bytes: int) -> list[tuple[int, int]]:
    """(first beat's address, beats) of each burst."""
    bursts = []
    for address, length in rows:
        beats = list(range(address // bus_bytes, (address + length - 1) // bus_bytes + 1))
        while beats:
            page = beats[0] * bus_bytes // 4096
            burst = [beat for beat in beats[:256] if beat * bus_bytes // 4096 == page]
            bursts.append((burst[0] * bus_bytes, len(burst)))
            beats = beats[len(burst) :]
    return bursts


def beats_of(rows: list[tuple[int, int]], bus_bytes: int) -> list[int]:
    """Valid bytes of each beat."""
    counts = []
    for address, length in rows:
        while length:
            count = min(bus_bytes - address % bus_bytes, length)
            counts.append(count)
            address, length = address + count, length - count
    return counts


@dataclass
class Bursts:
    """A burst generator and the memory behind it; times of handshakes and of ends."""

    bound: int
    pending: list[tuple[int, int]] = field(default_factory=list)
    started: int = -1
    sent: list[tuple[int, tuple[int, int]]] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)

    def start(self, t: int, bursts: list[tuple[int, int]]) -> None:
        self.started, self.pending = t, list(bursts)

    def free(self, t: int) -> bool:
        return not self.pending and (not self.sent or self.sent[-1][0] < t)

    def step(self, t: int) -> None:
        open_bursts = before([time for time, _ in self.sent], t) - before(self.ended, t)
        if self.pending and t > self.started and open_bursts < self.bound:
            self.sent.append((t, self.pending.pop(0)))


@dataclass
class ReadBus:
    """Bursts plus the read channel: which beat is valid when."""

    bursts: Bursts
    latency: int
    burst: int = 0
    beat: int = 0
    last_accept: int = -1

    def valid(self, t: int) -> bool:
        if self.burst >= len(self.bursts.sent):
            return False
        address = self.bursts.sent[self.burst][0]
        return t >= max(address + self.latency, self.last_accept + 1) if self.beat == 0 else t > self.last_accept

    def accept(self, t: int) -> None:
        self.last_accept = t
        self.beat += 1
        if self.beat == self.bursts.sent[self.burst][1][1]:
            self.burst, self.beat = self.burst + 1, 0
            self.bursts.ended.append(t)


class Load:
    """Issue rule and writer of LOAD."""

    def __init__(self, config: ArchConfig):
        self.config = config
        self.bus = ReadBus(Bursts(config.outstanding_bursts), config.read_latency_cycles)
        self.issued: list[tuple[int, Instruction]] = []
        self.left: list[int] = []
        self.index, self.level = 0, 0
        self.chunks: list[tuple[bool, int]] | None = None
        self.words: list[tuple[int, int]] = []
        self.emissions: list[int] = []

    def free(self, t: int) -> bool:
        return self.bus.bursts.free(t) and len(self.issued) - before(self.left, t) < LOAD_IN_FLIGHT

    def issue(self, t: int, instruction: Instruction) -> None:
        self.issued.append((t, instruction))
        self.bus.bursts.start(t, cut(rows_of(instruction, instruction["row_bytes"]), self.config.bus_bytes))

    def step(self, t: int) -> int | None:
        """One cycle; returns the completion cycle of the LOAD whose last word is emitted in it."""
        self.bus.bursts.step(t)
        if self.chunks is None:
            if self.index == len(self.issued) or t < self.issued[self.index][0] + LOAD_START:
                return None
            self._begin(self.issued[self.index][1])
        level = self.level
        if level <= self.config.load_word_bytes and self.chunks:
            memory, count = self.chunks[0]
            if not memory or self.bus.valid(t):
                self.chunks.pop(0)
                self.level += count
                if memory:
                    self.bus.accept(t)
        if level >= self.words[0][0]:
            self.level -= self.words.pop(0)[1]
            self.emissions.append(t)
            if not self.words:
                self.index, self.chunks = self.index + 1, None
                self.left.append(t)
                return t + LOAD_WRITE_LATENCY
        return None

    def _begin(self, instruction: Instruction) -> None:
        """Chunks (from memory?, bytes) and words (need, bytes that leave) of the whole LOAD."""
        bus = self.config.bus_bytes
        word, step, words = (instruction[name] for name in ("word_bytes", "step_bytes", "row_words"))
        self.chunks, self.words, self.level = [], [], 0
        for row in rows_of(instruction, instruction["row_bytes"]):
            pad = instruction["pad_bytes"]
            tail = (words - 1) * step + word - pad - row[1]
            self.chunks += [(False, min(bus, pad - i)) for i in range(0, pad, bus)]
            self.chunks += [(True, count) for count in beats_of([row], bus)]
            self.chunks += [(False, min(bus, tail - i)) for i in range(0, tail, bus)]
            self.words += [(max(word, step), step)] * (words - 1) + [(word, word)]


class Store:
    """Reader, packer and responses of STORE."""

    def __init__(self, config: ArchConfig):
        self.config = config
        self.bursts = Bursts(config.outstanding_bursts)
        self.words = 0
        self.reads: list[int] = []
        self.beats: list[int] = []
        self.sends: list[tuple[int, int]] = []
        self.bursts_begun, self.beats_in_burst = 0, 0
        self.started, self.word_bytes = -1, 0
        self.responses: list[int] = []
        self.finals: list[bool] = []

    def free(self, t: int) -> bool:
        return not self.beats and (not self.sends or self.sends[-1][0] < t)

    def issue(self, t: int, instruction: Instruction) -> None:
        rows = rows_of(instruction, instruction["row_words"] * instruction["word_bytes"])
        bursts = cut(rows, self.config.bus_bytes)
        self.bursts.start(t + 1, bursts)
        self.finals += [False] * (len(bursts) - 1) + [True]
        self.beats = beats_of(rows, self.config.bus_bytes)
        self.started, self.word_bytes = t, instruction["word_bytes"]
        self.words = len(rows) * instruction["row_words"]
        self.reads, self.sends = [], []

    def step(self, t: int) -> int | None:
        """One cycle; returns the completion cycle of the STORE whose last beat is sent in it."""
        self.bursts.step(t)
        sent = sum(count for time, count in self.sends if time < t)
        reserved = before(self.reads, t) * self.word_bytes - sent
        if self.words and t > self.started and reserved + self.word_bytes <= store_buffer_bytes(self.config):
            self.reads.append(t)
            self.words -= 1
        level = before(self.reads, t - READ_LATENCY) * self.word_bytes - sent
        announced = before([time for time, _ in self.bursts.sent], t)
        if not self.beats or level < self.beats[0] or announced <= self.bursts_begun:
            return None
        self.sends.append((t, self.beats.pop(0)))
        self.beats_in_burst += 1
        if self.beats_in_burst < self.bursts.sent[self.bursts_begun][1][1]:
            return None
        self.bursts_begun, self.beats_in_burst = self.bursts_begun + 1, 0
        response = t + self.config.write_latency_cycles
        self.bursts.ended.append(response)
        return response if self.finals[self.bursts_begun - 1] else None


class Exec:
    """Tile by tile; a step is a cycle in which a pixel enters the array."""

    def __init__(self, config: ArchConfig):
        self.config = config
        self.free_from, self.last_step = 0, -1

    def free(self, t: int) -> bool:
        return t >= self.free_from

    def issue(self, t: int, i: Instruction) -> int:
        """Returns the completion cycle."""
        pixels, weights = i["oy_count"] * i["ox_count"], t + 1
        for _ in range(i["chunk_count"] * i["ky_count"] * i["kx_count"]):
            words = -(-self.config.rows // 2) if i["int4"] else self.config.rows
            start = max(weights + words, self.last_step + 1)
            weights, self.last_step = start, start + pixels - 1
        self.free_from = start
        return self.last_step + EXEC_LATENCY + self.config.rows + self.config.cols - 1


class Depthwise:
    """Row by row; a step is a cycle in which the engine reads words or an output's last word."""

    def __init__(self) -> None:
        self.free_from, self.last_step = 0, -1

    def free(self, t: int) -> bool:
        return t >= self.free_from

    def issue(self, t: int, i: Instruction) -> int:
        """Returns the completion cycle."""
        weights = t + 1
        read = max(weights + i["kx_count"], self.last_step + 1)
        for _ in range(i["ky_count"]):
            assert read >= weights + i["kx_count"] - i["lead_steps"]
            weights = read + i["lead_steps"]
            for _ in range(i["oy_count"]):
                self.last_step = read + i["lead_steps"] + i["ox_count"] - 1
                read += i["row_steps"]
            assert read <= self.last_step + 1
        self.free_from = weights
        return self.last_step + DEPTHWISE_LATENCY


class Post:
    """Closed form of POST."""

    def __init__(self) -> None:
        self.free_from = 0

    def free(self, t: int) -> bool:
        return t >= self.free_from

    def issue(self, t: int, i: Instruction) -> int:
        """Returns the completion cycle."""
        steps = 1
        for name in ("word_count", "oy_count", "ox_count", "group_count", "ky_count", "kx_count"):
            steps *= i[name]
        assert i["source"] == Source.SPAD or i["ky_count"] * i["kx_count"] == 1
        self.free_from = t + steps
        return t + steps + POST_LATENCY


class Machine:
    """The whole machine: stamps and total of a program."""

    def __init__(self, config: ArchConfig, program: list[Instruction], program_address: int = 0):
        self.config, self.program = config, program
        self.load, self.store, self.exec, self.post = Load(config), Store(config), Exec(config), Post()
        self.depthwise = Depthwise()
        self.issue: dict[Unit, list[int]] = {unit: [] for unit in Unit}
        self.complete: dict[Unit, list[int]] = {unit: [] for unit in Unit}
        self.pushed: dict[Unit, list[tuple[int, Instruction]]] = {unit: [] for unit in Unit}
        self.posted: dict[tuple[int, int], list[int]] = {(p, u): [] for p in Unit for u in Unit}
        self.taken = dict.fromkeys(self.posted, 0)
        self.fetch = ReadBus(Bursts(config.outstanding_bursts), config.read_latency_cycles)
        rows = [(program_address, len(program) * INSTRUCTION_BYTES)]
        self.fetch.bursts.start(0, cut(rows, config.bus_bytes))
        self.collected, self.dispatched = 0, []
        self.held: list[int] = []

    def run(self, limit: int = 1 << 20) -> int:
        """Returns the total cycles."""
        for t in range(limit):
            self._fetch(t)
            for unit in Unit:
                self._issue(t, unit)
            for unit, part in ((Unit.LOAD, self.load), (Unit.STORE, self.store)):
                completion = part.step(t)
                if completion is not None:
                    self._complete(unit, completion)
            done = sum(len(times) for times in self.complete.values()) == len(self.program)
            if done and t > (last := max(max(times, default=0) for times in self.complete.values())):
                return last + 2
        raise AssertionError(f"no end within {limit} cycles")

    def _fetch(self, t: int) -> None:
        self.fetch.bursts.step(t)
        room = len(self.held) < FETCH_DEPTH
        if self.held and t > self.held[0]:
            instruction = self.program[len(self.dispatched)]
            queue, unit = self.pushed[instruction.unit], instruction.unit
            level = before([time for time, _ in queue], t) - before(self.issue[unit], t - 1)
            if level < self.config.queue_depth:
                queue.append((t, instruction))
                self.dispatched.append(t)
                del self.held[0]
        if room and self.fetch.valid(t):
            self.fetch.accept(t)
            self.collected += 1
            if self.collected * self.config.bus_bytes == INSTRUCTION_BYTES:
                self.collected = 0
                self.held.append(t)

    def _issue(self, t: int, unit: Unit) -> None:
        part = {
            Unit.LOAD: self.load, Unit.EXEC: self.exec, Unit.POST: self.post, Unit.STORE: self.store,
            Unit.DEPTHWISE: self.depthwise,
        }[unit]  # fmt: skip
        queue, index = self.pushed[unit], len(self.issue[unit])
        if index == len(queue) or queue[index][0] >= t or not part.free(t):
            return
        if index and t < self.issue[unit][-1] + 2:
            return
        instruction = queue[index][1]
        needed = [(producer, unit) for producer in Unit if instruction["wait"] >> producer & 1]
        if any(before(self.posted[pair], t) <= self.taken[pair] for pair in needed):
            return
        for pair in needed:
            self.taken[pair] += 1
        self.issue[unit].append(t)
        completion = part.issue(t, instruction)
        if completion is not None:
            self._complete(unit, completion)

    def _complete(self, unit: Unit, cycle: int) -> None:
        instruction = self.pushed[unit][len(self.complete[unit])][1]
        self.complete[unit].append(cycle)
        for consumer in Unit:
            if instruction["signal"] >> consumer & 1:
                self.posted[unit, consumer].append(cycle)
