"""EXEC against loops written from the documentation: every read, every sum and every cycle."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import defaultdict

import pytest
from amaranth.hdl import Const, Module
from unit_bench import Record, Stimulus, issue_cycle, random_stimulus, simulate, span

from accel import timing
from accel.config import ArchConfig, preset
from accel.isa import Instruction, Opcode
from rtl import activation_sequencer, array
from rtl.exec_unit import ExecUnit

pytestmark = pytest.mark.rtl

SHAPES = [(1, 1), (1, 4), (4, 1), (3, 3), (2, 6), (4, 2)]


def machine(rows: int, cols: int) -> ArchConfig:
    return dataclasses.replace(
        preset("tiny"), rows=rows, cols=cols, post_lanes=1, depthwise_taps=0, spad_banks=2, spad_bank_words=16, wbuf_words=32,
        acc_banks=2, acc_bank_words=16,
    )  # fmt: skip


def random_exec(rng: random.Random, config: ArchConfig) -> Instruction:
    """Few tiles and pixels; addresses anywhere; about half of the taps outside of the image."""
    strides = {f"{level}_stride": rng.randrange(-40, 40) for level in ("chunk", "ky", "kx", "oy", "ox")}
    return Instruction(
        Opcode.EXEC,
        {
            "wait": rng.choice((0, 0, 1, 9)), "signal": rng.getrandbits(4),
            "spad_address": rng.randrange(-8, 32), "chunk_count": rng.choice((1, 1, 2)),
            "ky_count": rng.choice((1, 2)), "kx_count": rng.choice((1, 1, 3)), "oy_count": rng.choice((1, 2)),
            "ox_count": rng.choice((1, 2, 5)), **strides, "y_start": rng.randrange(-2, 1),
            "x_start": rng.randrange(-2, 1), "y_step": rng.randrange(3), "x_step": rng.randrange(3),
            "y_dilation": rng.randrange(3), "x_dilation": rng.randrange(3), "height": rng.choice((2, 9)),
            "width": rng.choice((2, 9)), "pad_value": rng.randrange(-128, 128),
            "k_rows": rng.randrange(1, config.rows + 1), "wbuf_address": rng.randrange(32),
            "acc_address": rng.randrange(16), "accumulate": rng.getrandbits(1),
        },
    )  # fmt: skip


class Expected:
    """The EXEC section of docs/timing.md and docs/architecture.md, loop by loop."""

    def __init__(self, config: ArchConfig, stimulus: Stimulus, spad: list[list[int]], wbuf: list[list[int]]):
        self.config, self.spad, self.wbuf = config, spad, wbuf
        self.acc = defaultdict(int)
        self.record = Record(reads={"spad_read": [], "wbuf_read": []})
        self.writes: set[tuple[int, int, int, int]] = set()
        self.intervals: dict[str, list[tuple[int, int]]] = {"occupied": [], "in flight": []}
        free = stream_end = 0
        for index, fields in enumerate(stimulus.instructions):
            issue = issue_cycle(stimulus, index, free)
            free, stream_end = self.run(fields, issue, stream_end)
        self.record.reads["wbuf_read"].sort()

    def run(self, f: Instruction, issue: int, stream_end: int) -> tuple[int, int]:
        """One instruction; returns from when on the unit is free, and when its pixels end."""
        R, C = self.config.rows, self.config.cols
        tiles = list(itertools.product(range(f["chunk_count"]), range(f["ky_count"]), range(f["kx_count"])))
        pixels = f["oy_count"] * f["ox_count"]
        load = issue + 1
        for k, (chunk, ky, kx) in enumerate(tiles):
            start = max(load + R, stream_end)
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
                self.add(start + p + R + 1, (f["acc_address"] + p) % self.config.acc_words, word, weights, keep)
            load, stream_end = start, start + pixels
        completion = start + pixels + R + C - 1
        self.record.issues.append(issue)
        self.record.completions.append((completion, f["signal"]))
        self.intervals["occupied"].append((issue, stream_end - 1))
        self.intervals["in flight"].append((issue + 1, completion))
        return start, stream_end

    def read_weights(self, f: Instruction, k: int, load: int) -> list[list[int]]:
        weights = []
        for r in range(self.config.rows):
            address = (f["wbuf_address"] + k * f["k_rows"] + r) % self.config.wbuf_words
            if r < f["k_rows"]:
                self.record.reads["wbuf_read"].append((load + r, address))
            weights.append(self.wbuf[address] if r < f["k_rows"] else [0] * self.config.cols)
        return weights

    def add(self, cycle: int, address: int, word: list[int], weights: list[list[int]], keep: bool) -> None:
        for c in range(self.config.cols):
            total = sum(a * w[c] for a, w in zip(word, weights, strict=True)) + keep * self.acc[address, c]
            self.acc[address, c] = (total + 2**31) % 2**32 - 2**31
            self.writes.add((cycle + c, c, address, self.acc[address, c]))


def pack(word: list[int]) -> int:
    return int.from_bytes(bytes(byte % 256 for byte in word), "little")


class AccumulatorModel:
    """Accumulators as `AccumulatePort` describes them: which column writes what in which cycle."""

    def __init__(self, config: ArchConfig, dut: ExecUnit):
        self.config, self.port = config, dut.accumulate
        self.commands: list[tuple[int, int, int]] = []
        self.words = defaultdict(int)
        self.writes: set[tuple[int, int, int, int]] = set()

    def observe(self, cycle: int, get) -> None:
        psums = get(self.port.psums)
        for c in range(min(self.config.cols, cycle)):
            en, address, overwrite = self.commands[cycle - 1 - c]
            if en:
                psum = psums >> 32 * c
                value = (psum + (0 if overwrite else self.words[address, c]) + 2**31) % 2**32 - 2**31
                self.words[address, c] = value
                self.writes.add((cycle, c, address, value))
        self.commands.append((get(self.port.en), get(self.port.addr), get(self.port.overwrite)))


def differences(rows: int, cols: int, seed: int, instructions: int = 8, cycles: int = 700) -> list[str]:
    """Names of what differs between the unit and the loops."""
    rng, config = random.Random(seed), machine(rows, cols)
    stimulus = random_stimulus(rng, [random_exec(rng, config) for _ in range(instructions)], cycles)
    spad = [[rng.choice((-128, 127, rng.randrange(-128, 128))) for _ in range(rows)] for _ in range(config.spad_words)]
    wbuf = [[rng.choice((-128, 127, rng.randrange(-128, 128))) for _ in range(cols)] for _ in range(config.wbuf_words)]
    expected = Expected(config, stimulus, spad, wbuf)
    assert expected.record.completions[-1][0] < cycles - 2, "the stimulus needs more cycles"
    dut = ExecUnit(config)
    model = AccumulatorModel(config, dut)
    memories = {"spad_read": [pack(word) for word in spad], "wbuf_read": [pack(word) for word in wbuf]}
    record = simulate(dut, stimulus, memories, model.observe)
    idle = [1 - flying for flying in span(cycles, expected.intervals["in flight"])]
    checks = {
        "latency": dut.latency == timing.accumulate_latency(config),
        "issues": record.issues == expected.record.issues,
        "completions": record.completions == expected.record.completions,
        "occupied": record.occupied == span(cycles, expected.intervals["occupied"]),
        "idle": record.idle == idle,
        "spad reads": record.reads["spad_read"] == expected.record.reads["spad_read"],
        "wbuf reads": record.reads["wbuf_read"] == expected.record.reads["wbuf_read"],
        "writes": model.writes == expected.writes,
    }
    return [name for name, equal in checks.items() if not equal]


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_every_read_sum_and_cycle(rows, cols):
    assert differences(rows, cols, seed=rows * 10 + cols) == []


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "cols"), [*SHAPES, (7, 14), (4, 16), (16, 4), (8, 8)])
def test_every_read_sum_and_cycle_at_length(rows, cols):
    for seed in range(4):
        assert differences(rows, cols, seed, instructions=24, cycles=3000) == []


def test_a_lost_swap_is_seen(monkeypatch):
    def lossy(m: Module, name: str, left: array.Right, above: array.Down, build=array.build_pe):
        return build(m, name, left._replace(swap=Const(0)) if name == "pe_1_1" else left, above)

    monkeypatch.setattr(array, "build_pe", lossy)
    assert differences(2, 6, seed=1) == ["writes"]


def test_a_wrong_edge_is_seen(monkeypatch):
    inside = activation_sequencer.is_inside
    monkeypatch.setattr(activation_sequencer, "is_inside", lambda nest, height, width: inside(nest, height + 1, width))
    assert "spad reads" in differences(2, 6, seed=1)
