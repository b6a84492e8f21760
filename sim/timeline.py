"""Time: the stamps of all instructions, in one pass in program order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.machine import causes, latencies, timing, weight_words
from accel.machine.causes import COMPLETE, DISPATCH, FULL, ISSUE, OCCUPIED, WORK
from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Opcode, Unit
from accel.machine.timing import HANDSHAKE, Machine
from sim.fields import LOAD
from sim.jit import jit_group, kernel
from sim.stepped import depthwise_sequencer, sequencer

(
    _, _, _, _, fetch_time, _, load_time, load_completion, exec_time, exec_completion, depthwise_time,
    depthwise_completion, post_time, post_completion, _, store_time,
) = jit_group(
    weight_words.tile_words, timing.burst_beats, timing.open_burst, timing.close_burst, timing.fetch_time,
    timing.load_period, timing.load_time, timing.load_completion, timing.exec_time, timing.exec_completion,
    timing.depthwise_time, timing.depthwise_completion, timing.post_time, timing.post_completion, timing.store_period,
    timing.store_time,
)  # fmt: skip
(count_causes,) = jit_group(causes.count_causes)
_LOAD, _EXEC, _POST, _STORE, _DEPTHWISE = (int(opcode) for opcode in Opcode)

Ints = npt.NDArray[np.int64]


class State(NamedTuple):
    """The state that earlier instructions leave for later ones.

    Three channels with their rings of burst ends; `sent`, scratch of the STORE packer; for each unit, instructions
    so far, the cycle from which it is free, the end of the last one's steps (EXEC and DEPTHWISE), a ring of issues
    (queue places); a ring of last emissions (LOADs in flight); and the stepped engine's sequencers with their last
    cycles.
    """

    fetch: Ints
    fetch_ends: Ints
    load: Ints
    load_ends: Ints
    store: Ints
    store_ends: Ints
    sent: Ints
    counts: Ints
    free: Ints
    ends: Ints
    issues: Ints
    emissions: Ints
    sequencer: Ints
    clock: Ints
    depthwise_sequencer: Ints
    depthwise_clock: Ints

    @classmethod
    def of(cls, config: ArchConfig) -> State:
        """The machine before its first cycle."""
        rings = [np.full(config.outstanding_bursts, -1, np.int64) for _ in range(3)]
        channels = [np.array(timing.CHANNEL_START, np.int64) for _ in range(3)]
        return cls(
            channels[0], rings[0], channels[1], rings[1], channels[2], rings[2],
            np.zeros((4, 2 * latencies.store_buffer_bytes(config)), np.int64), np.zeros(len(Unit), np.int64),
            np.zeros(len(Unit), np.int64), np.zeros(len(Unit), np.int64),
            np.full((len(Unit), config.queue_depth), -latencies.QUEUE_LATENCY, np.int64),
            np.full(latencies.LOAD_IN_FLIGHT, -1, np.int64),
            np.stack([sequencer.registers()] * 2), np.full(1, -1, np.int64),
            np.stack([depthwise_sequencer.registers()] * 2), np.full(1, -1, np.int64),
        )  # fmt: skip


@kernel
def schedule(
    machine: Machine, state: State, table: Ints, producers: Ints, address: int, stepped: bool, stamps: Ints,
    first: int, last: int,
) -> None:  # fmt: skip
    """Fill `stamps` (FULL .. WORK) for instructions `first` .. `last - 1`; the program lies at `address`."""
    end = address + len(table) * INSTRUCTION_BYTES
    for i in range(first, last):
        row = table[i]
        unit = row[0] - 1
        ordinal = state.counts[unit]
        room = stamps[DISPATCH, i - machine.fetch_depth] + 1 if i >= machine.fetch_depth else 0
        here = address + i * INSTRUCTION_BYTES
        full = fetch_time(machine, state.fetch, state.fetch_ends, here, end, room) + 1
        if i:
            full = max(full, stamps[DISPATCH, i - 1] + 1)
        issues = state.issues[unit]
        dispatch = max(full, issues[ordinal % machine.queue_depth] + machine.queue_latency)
        head = issues[(ordinal - 1) % machine.queue_depth] + machine.queue_latency
        issue = max(dispatch + 1, head, state.free[unit])
        for p in range(producers.shape[1]):
            if producers[i, p] >= 0:
                issue = max(issue, stamps[COMPLETE, producers[i, p]] + 1)
        if unit + 1 == _LOAD:
            issue = max(issue, state.emissions[ordinal % machine.load_in_flight] + 1)
        state.counts[unit] += 1
        issues[ordinal % machine.queue_depth] = issue
        stamps[FULL, i], stamps[DISPATCH, i], stamps[ISSUE, i], stamps[WORK, i] = full, dispatch, issue, -1
        if unit + 1 == _LOAD:
            _time_load(machine, state, row, ordinal, stamps[:, i])
        elif unit + 1 == _EXEC:
            _time_exec(machine, state, row, stepped, stamps[:, i])
        elif unit + 1 == _POST:
            _time_post(machine, state, row, stamps[:, i])
        elif unit + 1 == _STORE:
            _time_store(machine, state, row, stamps[:, i])
        else:
            _time_depthwise(machine, state, row, stepped, stamps[:, i])


@kernel
def _time_load(machine: Machine, state: State, row: Any, ordinal: int, stamp: Any) -> None:
    emission = load_time(machine, state.load, state.load_ends, row, stamp[ISSUE])
    state.emissions[ordinal % machine.load_in_flight] = emission
    state.free[_LOAD - 1] = state.load[HANDSHAKE] + 1
    stamp[OCCUPIED] = stamp[COMPLETE] = load_completion(machine, emission)
    stamp[WORK] = row[LOAD.outer_count] * row[LOAD.row_count] * row[LOAD.row_words]


@kernel
def _time_exec(machine: Machine, state: State, row: Any, stepped: bool, stamp: Any) -> None:
    if stepped:
        free, end = sequencer.sequence_exec(state.sequencer, state.clock, machine.rows, row, stamp[ISSUE])
    else:
        free, end = exec_time(machine, row, state.ends[_EXEC - 1], stamp[ISSUE])
    state.free[_EXEC - 1], state.ends[_EXEC - 1] = free, end
    stamp[OCCUPIED], stamp[COMPLETE] = end - 1, exec_completion(machine, end)


@kernel
def _time_depthwise(machine: Machine, state: State, row: Any, stepped: bool, stamp: Any) -> None:
    if stepped:
        free, end = depthwise_sequencer.sequence_depthwise(
            state.depthwise_sequencer, state.depthwise_clock, row, stamp[ISSUE]
        )
    else:
        free, end = depthwise_time(machine, row, state.ends[_DEPTHWISE - 1], stamp[ISSUE])
    state.free[_DEPTHWISE - 1], state.ends[_DEPTHWISE - 1] = free, end
    stamp[OCCUPIED], stamp[COMPLETE] = end - 1, depthwise_completion(machine, end)


@kernel
def _time_post(machine: Machine, state: State, row: Any, stamp: Any) -> None:
    last_step = post_time(row, stamp[ISSUE])
    stamp[OCCUPIED] = state.free[_POST - 1] = last_step
    stamp[COMPLETE] = post_completion(machine, last_step)


@kernel
def _time_store(machine: Machine, state: State, row: Any, stamp: Any) -> None:
    before = state.store[timing.BEATS]
    stamp[COMPLETE] = store_time(machine, state.store, state.store_ends, row, stamp[ISSUE], state.sent)
    state.free[_STORE - 1] = state.store[timing.BEAT] + 1
    stamp[OCCUPIED], stamp[WORK] = stamp[COMPLETE], state.store[timing.BEATS] - before
