"""EXEC against loops written from the documentation: every read, every sum and every cycle."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
from support.mutants.rtl_mutation import mutate_pe, mutated
from support.rtl.unit_bench import (
    AccumulatorModel,
    ExpectedSums,
    Record,
    Stimulus,
    extreme_words,
    issue_cycle,
    pack,
    random_stimulus,
    simulate,
    span,
)

from accel.machine import latencies
from accel.machine.config import ArchConfig, preset
from accel.machine.isa import Instruction, Opcode
from rtl import activation_sequencer, window
from rtl.exec_unit import ExecUnit

pytestmark = pytest.mark.rtl

SHAPES = [(1, 1), (1, 4), (4, 1), (3, 3), (2, 6), (4, 2)]


def machine(rows: int, cols: int) -> ArchConfig:
    return dataclasses.replace(
        preset("tiny"), rows=rows, cols=cols, post_lanes=1, depthwise_taps=0, spad_banks=2,
        spad_bank_words=16, wbuf_words=32, acc_banks=2, acc_bank_words=16,
    )  # fmt: skip


def random_exec(rng: random.Random, config: ArchConfig) -> Instruction:
    """Few tiles and pixels; addresses anywhere; about half of the taps outside of the image."""
    strides = {f"{level}_stride": rng.randrange(-40, 40) for level in ("chunk", "ky", "kx", "oy", "ox")}
    return Instruction(
        Opcode.EXEC,
        {
            "wait": rng.choice((0, 0, 1, 17)), "signal": rng.getrandbits(5),
            "spad_address": rng.randrange(-8, 32), "chunk_count": rng.choice((1, 1, 2)),
            "ky_count": rng.choice((1, 2)), "kx_count": rng.choice((1, 1, 3)), "oy_count": rng.choice((1, 2)),
            "ox_count": rng.choice((1, 2, 5)), **strides, "y_start": rng.randrange(-2, 1),
            "x_start": rng.randrange(-2, 1), "y_step": rng.randrange(3), "x_step": rng.randrange(3),
            "y_dilation": rng.randrange(3), "x_dilation": rng.randrange(3), "height": rng.choice((2, 9)),
            "width": rng.choice((2, 9)), "pad_value": rng.randrange(-128, 128),
            "k_rows": rng.randrange(1, config.rows + 1), "wbuf_address": rng.randrange(32),
            "acc_address": rng.randrange(16), "accumulate": rng.getrandbits(1), "int4": rng.getrandbits(1),
        },
    )  # fmt: skip


class Expected:
    """The EXEC section of docs/timing.md and docs/architecture.md, loop by loop."""

    def __init__(self, config: ArchConfig, stimulus: Stimulus, spad: list[list[int]], wbuf: list[list[int]]):
        self.config, self.spad, self.wbuf = config, spad, wbuf
        self.sums = ExpectedSums(config.acc_words, skew=1)
        self.record = Record(reads={"spad_read": [], "wbuf_read": []})
        self.intervals: dict[str, list[tuple[int, int]]] = {"occupied": [], "in flight": []}
        self.stream_end = free = 0
        for index, fields in enumerate(stimulus.instructions):
            issue = issue_cycle(stimulus, index, free)
            free = self.run(fields, issue)
            completion = self.stream_end - 1 + latencies.exec_latency(config)
            self.record.issues.append(issue)
            self.record.completions.append((completion, fields["signal"]))
            self.intervals["occupied"].append((issue, self.stream_end - 1))
            self.intervals["in flight"].append((issue + 1, completion))
        self.record.reads["wbuf_read"].sort()

    def run(self, f: Instruction, issue: int) -> int:
        """One instruction; returns from when on the unit is free."""
        R = self.config.rows
        tiles = list(itertools.product(range(f["chunk_count"]), range(f["ky_count"]), range(f["kx_count"])))
        pixels = f["oy_count"] * f["ox_count"]
        load = issue + 1
        for k, (chunk, ky, kx) in enumerate(tiles):
            start = max(load + (-(-R // 2) if f["int4"] else R), self.stream_end)
            weights = self.read_weights(f, k, load)
            base = f["spad_address"] + chunk * f["chunk_stride"] + ky * f["ky_stride"] + kx * f["kx_stride"]
            for p, (oy, ox) in enumerate(itertools.product(range(f["oy_count"]), range(f["ox_count"]))):
                y = f["y_start"] + oy * f["y_step"] + ky * f["y_dilation"]
                x = f["x_start"] + ox * f["x_step"] + kx * f["x_dilation"]
                word = [f["pad_value"]] * R
                if 0 <= y < f["height"] and 0 <= x < f["width"]:
                    address = (base + oy * f["oy_stride"] + ox * f["ox_stride"]) % self.config.spad_words
                    self.record.reads["spad_read"].append((start + p, address))
                    word = self.spad[address]
                keep = k > 0 or f["accumulate"]
                sums = [sum(a * w for a, w in zip(word, column, strict=True)) for column in zip(*weights, strict=True)]
                self.sums.add(start + p + R + latencies.EXEC_LATENCY, f["acc_address"] + p, sums, keep)
            load, self.stream_end = start, start + pixels
        return start

    def read_weights(self, f: Instruction, k: int, load: int) -> list[list[int]]:
        if f["int4"]:
            return self.read_int4(f, k, load)
        weights = []
        for r in range(self.config.rows):
            address = (f["wbuf_address"] + k * f["k_rows"] + r) % self.config.wbuf_words
            if r < f["k_rows"]:
                self.record.reads["wbuf_read"].append((load + r, address))
            weights.append(self.wbuf[address] if r < f["k_rows"] else [0] * self.config.cols)
        return weights

    def read_int4(self, f: Instruction, k: int, load: int) -> list[list[int]]:
        weights, words = [], -(-f["k_rows"] // 2)
        for r in range(self.config.rows):
            address = (f["wbuf_address"] + k * words + r // 2) % self.config.wbuf_words
            if r % 2 == 0 and r < f["k_rows"]:
                self.record.reads["wbuf_read"].append((load + r // 2, address))
            nibbles = [byte % 256 // (16 if r % 2 else 1) % 16 for byte in self.wbuf[address]]
            row = [nibble - 16 * (nibble >= 8) for nibble in nibbles]
            weights.append(row if r < f["k_rows"] else [0] * self.config.cols)
        return weights


def differences(rows: int, cols: int, seed: int, instructions: int = 8, cycles: int = 700) -> list[str]:
    """Names of what differs between the unit and the loops."""
    rng, config = random.Random(seed), machine(rows, cols)
    stimulus = random_stimulus(rng, [random_exec(rng, config) for _ in range(instructions)], cycles)
    spad = extreme_words(rng, config.spad_words, rows)
    wbuf = extreme_words(rng, config.wbuf_words, cols)
    expected = Expected(config, stimulus, spad, wbuf)
    assert expected.record.completions[-1][0] < cycles - 2, "the stimulus needs more cycles"
    dut = ExecUnit(config)
    model = AccumulatorModel(dut.accumulate, cols, skew=1)
    memories = {"spad_read": [pack(word) for word in spad], "wbuf_read": [pack(word) for word in wbuf]}
    record = simulate(dut, stimulus, memories, model.observe)
    idle = [1 - flying for flying in span(cycles, expected.intervals["in flight"])]
    checks = {
        "latency": dut.latency == latencies.exec_latency(config),
        "issues": record.issues == expected.record.issues,
        "completions": record.completions == expected.record.completions,
        "occupied": record.occupied == span(cycles, expected.intervals["occupied"]),
        "idle": record.idle == idle,
        "spad reads": record.reads["spad_read"] == expected.record.reads["spad_read"],
        "wbuf reads": record.reads["wbuf_read"] == expected.record.reads["wbuf_read"],
        "writes": model.writes == expected.sums.writes,
    }
    return [name for name, equal in checks.items() if not equal]


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_every_read_sum_and_cycle(rows, cols):
    assert differences(rows, cols, seed=rows * 10 + cols) == []


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "cols"), [*SHAPES, (7, 14), (4, 16), (16, 4), (8, 8)])
def test_every_read_sum_and_cycle_at_length(rows, cols):
    for seed in range(3):
        assert differences(rows, cols, seed, instructions=24, cycles=3000) == []


def test_a_lost_swap_is_seen(monkeypatch):
    mutate_pe(monkeypatch, 1, 1, "m.If(left.swap)", "m.If(0)")
    assert differences(2, 6, seed=1) == ["writes"]


def test_a_wrong_edge_is_seen(monkeypatch):
    higher = mutated(window, None, "drive_positions", "- instruction.height", "- instruction.height - 1")
    monkeypatch.setattr(activation_sequencer, "drive_positions", higher)
    assert "spad reads" in differences(2, 6, seed=1)
