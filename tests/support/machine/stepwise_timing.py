"""LOAD and STORE beat by beat, word by word: the definition that the closed form in `accel.machine.timing` must equal.

Every cycle with an event is stepped through; `accel.machine.timing` jumps over the steady part of each burst.
"""

from __future__ import annotations

from accel.machine.timing import (
    BEAT,
    BEATS,
    HANDSHAKE,
    LAST,
    LOAD,
    STORE,
    Ints,
    Machine,
    burst_beats,
    close_burst,
    open_burst,
)


def load_time(machine: Machine, state: Ints, ends: Ints, row: Ints, issue: int) -> int:
    """Cycle of the last emission of a LOAD that issues in cycle `issue`; cycles without an event are skipped.

    `state` and `ends` are the load channel's, as in `fetch_time`; the row's stream must hold its memory bytes and no
    word or step may exceed `load_word_bytes`.
    """
    bus, word, step, words = machine.bus_bytes, row[LOAD.word_bytes], row[LOAD.step_bytes], row[LOAD.row_words]
    pad, memory_end = row[LOAD.pad_bytes], row[LOAD.pad_bytes] + row[LOAD.row_bytes]
    row_stream, rows = (words - 1) * step + word, row[LOAD.outer_count] * row[LOAD.row_count]
    state[HANDSHAKE] = issue
    cycle = max(issue + machine.load_start, state[LAST] + 1)
    filled = position = taken_rows = written = written_rows = base = beats = valid = 0
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
                    valid = open_burst(state, ends) + machine.read_latency
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
    return int(state[LAST])


def store_time(machine: Machine, state: Ints, ends: Ints, row: Ints, issue: int, sent: Ints) -> int:
    """Completion of a STORE that issues in cycle `issue`; `state[BEAT]` becomes the cycle of its last data beat.

    `state` and `ends` are the store channel's, as in `fetch_time`. `sent` is scratch of shape
    (2, 2 * store_buffer_bytes): total bytes and cycle of the last beats, from which the reader's room follows.
    """
    bus, word, buffer, slots = machine.bus_bytes, row[STORE.word_bytes], machine.store_buffer_bytes, len(sent[0])
    size = row[STORE.row_words] * word
    state[HANDSHAKE] = issue + 1
    read_cycle = issue
    words = total = beats = oldest = completion = 0
    for outer in range(row[STORE.outer_count]):
        for inner in range(row[STORE.row_count]):
            address = row[STORE.dram_address] + outer * row[STORE.dram_outer_stride]
            address += inner * row[STORE.dram_row_stride]
            end, burst, handshake = address + size, 0, 0
            while address < end:
                if burst == 0:
                    burst = burst_beats(address, end, bus)
                    handshake = open_burst(state, ends)
                chunk = min(bus - (address & (bus - 1)), end - address)
                address += chunk
                total += chunk
                while words * word < total:
                    words += 1
                    read_cycle += 1
                    if words * word > buffer:
                        while sent[0, oldest % slots] < words * word - buffer:
                            oldest += 1
                        read_cycle = max(read_cycle, sent[1, oldest % slots] + 1)
                state[BEAT] = max(state[BEAT], handshake, read_cycle + machine.memory_latency) + 1
                sent[0, beats % slots], sent[1, beats % slots] = total, state[BEAT]
                state[BEATS] += 1
                beats += 1
                burst -= 1
                if burst == 0:
                    completion = state[BEAT] + machine.write_latency
                    close_burst(state, ends, completion)
    return int(completion)
