"""LOAD and STORE times that jump over the steady part of each burst against those that step through every beat.

That the steps are those of the machine is shown by the stepped engine and the Verilog.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from support.machine import plain_python
from support.machine.random_programs import random_config

from accel.machine import timing
from accel.machine.config import PRESETS, ArchConfig
from accel.machine.isa import Opcode, column


def _row(opcode: Opcode, fields: dict[str, int]) -> Any:
    row = np.zeros(64, np.int64)
    row[0] = opcode
    for name, value in {"outer_count": 1, "row_count": 1, **fields}.items():
        row[column(opcode, name)] = value
    return row


def _random_load(config: ArchConfig, rng: np.random.Generator) -> Any:
    """A row of a stream that is long enough to be steady, and not only whole words."""
    word = int(rng.choice([config.rows, config.cols, 9, rng.integers(1, config.load_word_bytes + 1)]))
    step = word if rng.random() < 0.7 else int(rng.integers(1, config.load_word_bytes + 1))
    words = int(rng.choice([1, rng.integers(1, 30), rng.integers(1, 900)]))
    stream = (words - 1) * step + word
    pad = int(rng.integers(0, min(255, stream))) if rng.random() < 0.2 else 0
    memory = stream - pad if rng.random() < 0.8 else int(rng.integers(1, stream - pad + 1))
    return _row(Opcode.LOAD, {
        "word_bytes": word, "step_bytes": step, "row_words": words, "pad_bytes": pad, "row_bytes": memory,
        **_rows(rng),
    })  # fmt: skip


def _random_store(config: ArchConfig, rng: np.random.Generator) -> Any:
    word = int(rng.choice([config.rows, rng.integers(1, config.rows + 1)]))
    return _row(Opcode.STORE, {"word_bytes": word, "row_words": int(rng.integers(1, 700)), **_rows(rng)})


def _rows(rng: np.random.Generator) -> dict[str, int]:
    address = int(rng.integers(0, 1 << 16)) & (-64 if rng.random() < 0.5 else -1)
    return {
        "dram_address": address, "row_count": int(rng.integers(1, 4)), "outer_count": int(rng.integers(1, 3)),
        "dram_row_stride": int(rng.integers(0, 1 << 14)), "dram_outer_stride": int(rng.integers(0, 1 << 15)),
    }  # fmt: skip


def _random_machine(rng: np.random.Generator) -> ArchConfig:
    config = list(PRESETS.values())[rng.integers(len(PRESETS))] if rng.random() < 0.5 else random_config(rng)
    return dataclasses.replace(
        config, outstanding_bursts=int(rng.choice([1, 2, config.outstanding_bursts])),
        read_latency_cycles=int(rng.integers(1, 300)), write_latency_cycles=int(rng.integers(1, 300)),
    )  # fmt: skip


def _channel(config: ArchConfig) -> tuple[Any, Any]:
    return np.array(timing.CHANNEL_START, np.int64), np.full(config.outstanding_bursts, -1, np.int64)


def _times(config: ArchConfig, rows: list[Any], gaps: list[int], time: Callable[..., int], store: bool) -> list[Any]:
    """After each transfer: its last emission or completion, and all that the channel remembers."""
    machine, (state, ends), seen, issue = timing.Machine.of(config), _channel(config), [], 0
    sent = np.zeros((4, 2 * machine.store_buffer_bytes), np.int64)
    for row, gap in zip(rows, gaps, strict=True):
        result = time(machine, state, ends, row, issue, *([sent] if store else []))
        seen.append((result, state.tolist(), sorted(ends.tolist())))
        issue = int(state[timing.BEAT if store else timing.HANDSHAKE]) + gap
    return seen


def _differing(opcode: Opcode, seeds: range) -> list[int]:
    """Seeds whose transfers the closed form times otherwise."""
    is_store = opcode is Opcode.STORE
    draw, name = (_random_store, "store_time") if is_store else (_random_load, "load_time")
    found = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        config = _random_machine(rng)
        rows, gaps = [draw(config, rng).tolist() for _ in range(4)], rng.integers(1, 300, 4).tolist()
        jumped = _times(config, rows, gaps, getattr(timing, name), is_store)
        with (
            patch.object(timing, "load_period", lambda *_: (0, 1, 0)),
            patch.object(timing, "store_period", lambda *_: 0),
        ):
            stepped = _times(config, rows, gaps, getattr(timing, name), is_store)
        found += [seed] * (jumped != stepped)
    return found


@pytest.mark.parametrize("opcode", [Opcode.LOAD, Opcode.STORE])
def test_closed_form_equals_every_step(opcode: Opcode) -> None:
    assert _differing(opcode, range(25)) == []


@pytest.mark.slow
@pytest.mark.parametrize("opcode", [Opcode.LOAD, Opcode.STORE])
def test_closed_form_equals_every_step_of_more_transfers(opcode: Opcode) -> None:
    assert _differing(opcode, range(1000, 1150)) == []


@pytest.mark.parametrize(
    ("opcode", "function", "old", "new"),
    [
        (Opcode.LOAD, "load_period", "level >= need", "level > need"),
        (Opcode.LOAD, "load_time", "count = min(beats - 1,", "count = min(beats,"),
        (Opcode.STORE, "store_period", "oldest - period < first", "oldest - period < 0"),
        (Opcode.STORE, "store_period", "sent[READ, last] - sent[READ, before] != cycles or", ""),
        (Opcode.STORE, "store_time", "sent[CYCLE, i % slots] += count * cycles", "pass"),
    ],
)
def test_mutants_are_caught(opcode: Opcode, function: str, old: str, new: str) -> None:
    with plain_python.mutated(timing, function, old, new):
        assert any(_differing(opcode, range(seed, seed + 1)) for seed in range(100))


def test_few_beats_are_stepped_through() -> None:
    """On `edge` a load of weights of 32 KiB, 8 bursts, takes a few steps for each burst."""
    beats = Steps(np.array(timing.CHANNEL_START, np.int64))
    machine = timing.Machine.of(PRESETS["edge"])
    row = _row(Opcode.LOAD, {"word_bytes": 16, "step_bytes": 16, "row_words": 2048, "row_bytes": 32768})
    timing.load_time(machine, beats, np.full(8, -1, np.int64), row, 0)
    assert beats.values[timing.BEATS] == 2048
    assert beats.written < 8 * 10


def test_few_beats_of_a_store_are_stepped_through() -> None:
    """On `edge` reads of STORE wait for room, four words at a time: some steps for each of 8 bursts."""
    beats = Steps(np.array(timing.CHANNEL_START, np.int64))
    machine = timing.Machine.of(PRESETS["edge"])
    row = _row(Opcode.STORE, {"word_bytes": 16, "row_words": 2048})
    sent = np.zeros((4, 2 * machine.store_buffer_bytes), np.int64)
    timing.store_time(machine, beats, np.full(8, -1, np.int64), row, 0, sent)
    assert beats.values[timing.BEATS] == 2048
    assert beats.written < 8 * 40


class Steps:
    """A channel's state that counts how often the cycle of a beat is written."""

    def __init__(self, values: Any) -> None:
        self.values, self.written = values, 0

    def __getitem__(self, place: int) -> Any:
        return self.values[place]

    def __setitem__(self, place: int, value: Any) -> None:
        self.values[place] = value
        self.written += place == timing.BEAT
