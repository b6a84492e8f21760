"""Recurrences of the machine; `docs/timing.md` says what each one means.

The recurrence functions take the decoded row of an instruction, the machine's numbers, the state of a channel, and
earlier cycles; they return the next cycle. They use integers and integer arrays only, so that the simulator compiles
them unchanged.

References
----------
The closed form of a tile sequence, `max(P, R)` cycles per weight tile, replaces the `2R + C + P - 2` of
SCALE-Sim (Samajdar et al., 2018), which drains the array between tiles.
"""

from __future__ import annotations

from math import gcd
from typing import Any, NamedTuple, TypeAlias

from accel.machine import isa
from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode
from accel.machine.latencies import (
    BURST_BEATS,
    BURST_BOUNDARY_BYTES,
    DEPTHWISE_LATENCY,
    FETCH_DEPTH,
    LOAD_IN_FLIGHT,
    LOAD_START,
    LOAD_WRITE_LATENCY,
    POST_LATENCY,
    QUEUE_LATENCY,
    READ_LATENCY,
    exec_latency,
    store_buffer_bytes,
)
from accel.machine.weight_words import tile_words

Ints: TypeAlias = Any
"""An int64 array, or anything else that is indexed and assigned like one."""

HANDSHAKE, BURSTS, BEAT, BEATS, OPEN_BEATS, OPEN_VALID, LAST = range(7)
"""Places in a channel's state: cycle of the last address handshake, bursts that were closed, cycle of the last data
beat, data beats; beats left in the open burst and the cycle its first one is valid (FETCH); last emission (LOAD)."""

TOTAL, CYCLE, READ, OLDEST = range(4)
"""Rows of the STORE packer's ring of beats (`store_time`)."""

STEADY_BEATS = 6
"""The steady part of a burst is looked for while at least this many beats are left of it."""

STEADY_TRIES = 4
"""Beats of a burst after which a LOAD's buffer may become steady."""

CHANNEL_START = (0, 0, -1, 0, 0, 0, -1)
"""State of a channel in which nothing happened."""

LOAD, EXEC, POST, STORE, DEPTHWISE = (isa.columns(opcode) for opcode in Opcode)


class Machine(NamedTuple):
    """The numbers of a configuration that time depends on, and its latencies."""

    rows: int
    cols: int
    queue_depth: int
    bus_bytes: int
    outstanding_bursts: int
    read_latency: int
    write_latency: int
    load_word_bytes: int
    store_buffer_bytes: int
    exec_latency: int
    fetch_depth: int = FETCH_DEPTH
    queue_latency: int = QUEUE_LATENCY
    load_in_flight: int = LOAD_IN_FLIGHT
    load_start: int = LOAD_START
    load_write_latency: int = LOAD_WRITE_LATENCY
    memory_latency: int = READ_LATENCY
    post_latency: int = POST_LATENCY
    depthwise_latency: int = DEPTHWISE_LATENCY

    @classmethod
    def of(cls, config: ArchConfig) -> Machine:
        """The numbers of `config`."""
        return cls(
            config.rows, config.cols, config.queue_depth, config.bus_bytes, config.outstanding_bursts,
            config.read_latency_cycles, config.write_latency_cycles, config.load_word_bytes,
            store_buffer_bytes(config), exec_latency(config),
        )  # fmt: skip


def burst_beats(address: int, end: int, bus_bytes: int) -> int:
    """Beats of the burst that starts at byte `address` of a row that ends before byte `end`."""
    to_boundary = (BURST_BOUNDARY_BYTES - (address & (BURST_BOUNDARY_BYTES - 1)) + bus_bytes - 1) // bus_bytes
    return min(BURST_BEATS, to_boundary, (end - 1) // bus_bytes - address // bus_bytes + 1)


def open_burst(state: Ints, ends: Ints) -> int:
    """Cycle of the next burst's address handshake; `ends` is a ring of the cycles in which the last bursts ended."""
    state[HANDSHAKE] = max(state[HANDSHAKE], ends[state[BURSTS] % len(ends)]) + 1
    return int(state[HANDSHAKE])


def close_burst(state: Ints, ends: Ints, cycle: int) -> None:
    """The open burst ended in `cycle`."""
    ends[state[BURSTS] % len(ends)] = cycle
    state[BURSTS] += 1


def fetch_time(machine: Machine, state: Ints, ends: Ints, address: int, end: int, first: int) -> int:
    """Cycle in which the last beat of the instruction at `address` is accepted.

    Parameters
    ----------
    machine : Machine
    state, ends : int64 arrays, shapes (7,) and (outstanding_bursts,)
        The fetch channel; updated.
    address, end : int
        The instruction's first byte, aligned to its size, and the first byte after the program.
    first : int
        Earliest cycle for its first beat.
    """
    for beat in range(address, address + isa.INSTRUCTION_BYTES, machine.bus_bytes):
        if state[OPEN_BEATS] == 0:
            state[OPEN_BEATS] = burst_beats(beat, end, machine.bus_bytes)
            state[OPEN_VALID] = open_burst(state, ends) + machine.read_latency
        state[BEAT] = max(state[BEAT] + 1, state[OPEN_VALID], first)
        state[BEATS] += 1
        state[OPEN_BEATS] -= 1
        if state[OPEN_BEATS] == 0:
            close_burst(state, ends, state[BEAT])
    return int(state[BEAT])


def load_period(machine: Machine, filled: int, need: int, step: int) -> tuple[int, int, int]:
    """Cycles, beats and words after which a LOAD's buffer again holds `filled` bytes, while a beat is always there.

    The number of cycles is 0, and of beats 1, if that never happens: the bytes in the buffer are not steady yet.
    """
    level, taken, emitted = filled, 0, 0
    for cycle in range(1, machine.load_word_bytes + machine.bus_bytes + 1):
        take, emit = level <= machine.load_word_bytes, level >= need
        if take:
            level += machine.bus_bytes
            taken += 1
        if emit:
            level -= step
            emitted += 1
        if level == filled:
            return cycle, taken, emitted
    return 0, 1, 0


def load_time(machine: Machine, state: Ints, ends: Ints, row: Ints, issue: int) -> int:
    """Cycle of the last emission of a LOAD that issues in cycle `issue`.

    Cycles without an event are skipped, and so is the steady part of each burst: from the second beat on memory
    delivers one in every cycle, so that the bytes in the buffer repeat. `state` and `ends` are the load channel's, as
    in `fetch_time`; the row's stream must hold its memory bytes and no word or step may exceed `load_word_bytes`.
    """
    bus, word, step, words = machine.bus_bytes, row[LOAD.word_bytes], row[LOAD.step_bytes], row[LOAD.row_words]
    pad, memory_end = row[LOAD.pad_bytes], row[LOAD.pad_bytes] + row[LOAD.row_bytes]
    row_stream, rows = (words - 1) * step + word, row[LOAD.outer_count] * row[LOAD.row_count]
    state[HANDSHAKE] = issue
    cycle = max(issue + machine.load_start, state[LAST] + 1)
    filled = position = taken_rows = written = written_rows = base = beats = valid = tries = 0
    while written_rows < rows:
        last = written == words - 1
        emit = filled >= (word if last else max(word, step))
        chunk = 0
        if filled <= machine.load_word_bytes and taken_rows < rows:
            if position == 0:
                outer, inner = taken_rows // row[LOAD.row_count], taken_rows % row[LOAD.row_count]
                base = row[LOAD.dram_address] + outer * row[LOAD.dram_outer_stride] - pad
                base += inner * row[LOAD.dram_row_stride]
            if position < pad:
                chunk = min(pad - position, bus)
            elif position >= memory_end:
                chunk = min(row_stream - position, bus)
            else:
                if beats == 0:
                    beats = burst_beats(base + position, base + memory_end, bus)
                    valid, tries = open_burst(state, ends) + machine.read_latency, STEADY_TRIES
                arrival = max(valid, state[BEAT] + 1)
                if arrival <= cycle:
                    chunk = min(bus - ((base + position) & (bus - 1)), memory_end - position)
                    state[BEAT] = cycle
                    state[BEATS] += 1
                    beats -= 1
                    if beats == 0:
                        close_burst(state, ends, cycle)
                elif not emit:
                    cycle = arrival
                    continue
            position += chunk
            if position == row_stream:
                position, taken_rows = 0, taken_rows + 1
        if emit:
            state[LAST] = cycle
            filled -= word if last else step
            written, written_rows = (0, written_rows + 1) if last else (written + 1, written_rows)
        filled += chunk
        cycle += 1
        if tries and chunk == bus and beats >= STEADY_BEATS and taken_rows == written_rows:
            cycles, taken, emitted = load_period(machine, filled, max(word, step), step)
            count = min(beats - 1, (memory_end - position) // bus) // taken
            if cycles and count:
                cycle += count * cycles
                written += count * emitted
                position += count * taken * bus
                beats -= count * taken
                state[BEATS] += count * taken
            tries = tries - 1 if cycles == 0 else 0
    return int(state[LAST])


def load_completion(machine: Machine, emission: int) -> int:
    """Completion of a LOAD: its last word, emitted in cycle `emission`, is written."""
    return emission + machine.load_write_latency


def exec_time(machine: Machine, row: Ints, previous_end: int, issue: int) -> tuple[int, int]:
    """When the last weight tile of an EXEC that issues in cycle `issue` takes its steps.

    Parameters
    ----------
    machine : Machine
    row : int64 array
        The decoded instruction.
    previous_end : int
        `end` of the EXEC before, 0 if there is none.
    issue : int

    Returns
    -------
    free, end : int
        Cycle of the tile's first step, in which the next EXEC may issue, and the cycle after its last step.
    """
    pixels = row[EXEC.oy_count] * row[EXEC.ox_count]
    tiles = row[EXEC.chunk_count] * row[EXEC.ky_count] * row[EXEC.kx_count]
    words = tile_words(machine.rows, row[EXEC.int4])
    first = max(issue + 1 + words, previous_end)
    start = first + (tiles - 1) * max(pixels, words)
    return int(start), int(start + pixels)


def exec_completion(machine: Machine, end: int) -> int:
    """Completion of an EXEC, its last accumulator write; `end` is the cycle after its last step."""
    return end - 1 + machine.exec_latency


def depthwise_time(machine: Machine, row: Ints, previous_end: int, issue: int) -> tuple[int, int]:
    """`exec_time` of a DEPTHWISE: the steps of its outputs under the last tap row."""
    row_steps, further_rows = row[DEPTHWISE.row_steps], row[DEPTHWISE.oy_count] - 1
    first = row[DEPTHWISE.lead_steps] + max(issue + 1 + row[DEPTHWISE.kx_count], previous_end)
    start = first + (row[DEPTHWISE.ky_count] - 1) * row[DEPTHWISE.oy_count] * row_steps
    return int(start), int(start + further_rows * row_steps + row[DEPTHWISE.ox_count])


def depthwise_completion(machine: Machine, end: int) -> int:
    """`exec_completion` of a DEPTHWISE."""
    return end - 1 + machine.depthwise_latency


def post_time(row: Ints, issue: int) -> int:
    """Cycle in which a POST that issues in cycle `issue` takes its last step; the next POST may issue then."""
    outputs = row[POST.word_count] * row[POST.oy_count] * row[POST.ox_count] * row[POST.group_count]
    return int(issue + outputs * row[POST.ky_count] * row[POST.kx_count])


def post_completion(machine: Machine, last_step: int) -> int:
    """Completion of a POST, its last scratchpad write."""
    return last_step + machine.post_latency


def store_period(machine: Machine, sent: Ints, first: int, beats: int, period: int) -> int:
    """Cycles by which all that a STORE's next beat depends on has moved in the last `period` beats; 0 if by several.

    That is the read of the last word, and the beats from `OLDEST` on, all of them whole, once the buffer was full.
    Beat number `first` is the first that may be compared: within a burst, no address is waited for.
    """
    bus, slots = machine.bus_bytes, len(sent[0])
    last, before = (beats - 1) % slots, (beats - 1 - period) % slots
    cycles, oldest = sent[CYCLE, last] - sent[CYCLE, before], sent[OLDEST, last]
    if oldest - period < first or oldest >= beats or sent[TOTAL, before] <= machine.store_buffer_bytes:
        return 0
    if sent[READ, last] - sent[READ, before] != cycles or oldest - sent[OLDEST, before] != period:
        return 0
    for i in range(oldest, beats):
        now, then = i % slots, (i - period) % slots
        if sent[CYCLE, now] - sent[CYCLE, then] != cycles or sent[TOTAL, now] - sent[TOTAL, then] != period * bus:
            return 0
    return int(cycles)


def store_time(machine: Machine, state: Ints, ends: Ints, row: Ints, issue: int, sent: Ints) -> int:
    """Completion of a STORE that issues in cycle `issue`; `state[BEAT]` becomes the cycle of its last data beat.

    `state` and `ends` are the store channel's, as in `fetch_time`. `sent` is scratch of shape
    (4, 2 * store_buffer_bytes), a ring of the last beats: `TOTAL` bytes and `CYCLE`, from which the reader's room
    follows, and after which read and oldest beat that matters.

    The recurrence is a maximum of sums, the same for every whole beat of a burst. So when all that it depends on (the
    last read, the beats in the buffer) has moved by equal times since some beats before, it goes on like that, and all
    whole beats of the burst but the last ones are skipped. Either each read follows the one before, or it follows the
    beats that made room for it: then as many words as the buffer holds move together.
    """
    bus, word, buffer, slots = machine.bus_bytes, row[STORE.word_bytes], machine.store_buffer_bytes, len(sent[0])
    size = row[STORE.row_words] * word
    state[HANDSHAKE] = issue + 1
    read_cycle = issue
    words = total = beats = oldest = first = completion = 0
    single = word // min(word & -word, bus)
    buffered = single * (buffer // word) // gcd(buffer // word, single * bus // word)
    for outer in range(row[STORE.outer_count]):
        for inner in range(row[STORE.row_count]):
            address = row[STORE.dram_address] + outer * row[STORE.dram_outer_stride]
            address += inner * row[STORE.dram_row_stride]
            end, burst, handshake = address + size, 0, 0
            while address < end:
                if burst == 0:
                    burst = burst_beats(address, end, bus)
                    handshake, first = open_burst(state, ends), beats
                chunk = min(bus - (address & (bus - 1)), end - address)
                address += chunk
                total += chunk
                while words * word < total:
                    words += 1
                    read_cycle += 1
                    if words * word > buffer:
                        while sent[TOTAL, oldest % slots] < words * word - buffer:
                            oldest += 1
                        read_cycle = max(read_cycle, sent[CYCLE, oldest % slots] + 1)
                state[BEAT] = max(state[BEAT], handshake, read_cycle + machine.memory_latency) + 1
                sent[TOTAL, beats % slots], sent[CYCLE, beats % slots] = total, state[BEAT]
                sent[READ, beats % slots], sent[OLDEST, beats % slots] = read_cycle, oldest
                state[BEATS] += 1
                beats += 1
                burst -= 1
                count = cycles = skipped = 0
                for period in (single, buffered):
                    if cycles == 0 and burst >= STEADY_BEATS:
                        count = min(burst - 1, (end - address) // bus) // period
                        cycles = store_period(machine, sent, first, beats, period) if count > 0 else 0
                        skipped = count * period
                if cycles:
                    for i in range(oldest, beats):
                        sent[TOTAL, i % slots] += skipped * bus
                        sent[CYCLE, i % slots] += count * cycles
                    read_cycle += count * cycles
                    state[BEAT] += count * cycles
                    state[BEATS] += skipped
                    address += skipped * bus
                    total += skipped * bus
                    words += skipped * bus // word
                    burst -= skipped
                    first = beats
                if burst == 0:
                    completion = state[BEAT] + machine.write_latency
                    close_burst(state, ends, completion)
    return int(completion)
