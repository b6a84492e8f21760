"""POST against loops written from the documentation: every read, every byte and every cycle."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from support.mutants.rtl_mutation import mutate
from support.rtl.unit_bench import Record, Stimulus, issue_cycle, random_stimulus, simulate, span

from accel.machine import latencies
from accel.machine.config import TABLE_ENTRIES, TABLE_WORDS, TABLES, ArchConfig, preset
from accel.machine.isa import Instruction, Opcode, Reduce, Source
from accel.machine.numerics import RequantMode, requantize
from rtl import post_lane, post_unit
from rtl.post_unit import PostUnit

pytestmark = pytest.mark.rtl

LANE = "PostLane"
SHAPES = [(1, 1, 1), (4, 2, 1), (4, 2, 2), (2, 8, 2), (4, 4, 4)]


def machine(rows: int, cols: int, lanes: int) -> ArchConfig:
    return dataclasses.replace(
        preset("tiny"), rows=rows, cols=cols, post_lanes=lanes, spad_banks=2, spad_bank_words=16, acc_banks=2,
        acc_bank_words=8, param_channels=64, depthwise_taps=0,
    )  # fmt: skip


def wrap(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def random_scale(rng: random.Random) -> tuple[int, int]:
    """A multiplier that every mode accepts, most often of a size that makes int8 of an int32."""
    return rng.randrange(2**30, 2**31, 128), rng.choice(
        (rng.randrange(-31, 31), rng.randrange(-12, 3), rng.randrange(-2, 2))
    )


def random_post(rng: random.Random, config: ArchConfig, reduces: Sequence[Reduce]) -> Instruction:
    """Few steps; addresses anywhere; about half of the taps outside of the image."""
    source = rng.choice((Source.ACC, Source.SPAD))
    groups = rng.randrange(1, min(config.rows, config.cols) // config.post_lanes + 1)
    words = 1 + (config.cols - groups * config.post_lanes) // config.rows if source == Source.ACC else 2
    act = sorted((rng.randrange(-128, 128), rng.randrange(-128, 128)))
    strides = {
        f"{side}_{level}_stride": rng.randrange(-40, 40)
        for side, levels in (("src", ("word", "oy", "ox", "ky", "kx")), ("dst", ("word", "oy", "ox")))
        for level in levels
    }
    modes = [mode.code for mode in RequantMode]
    scales, reduce, mode = [random_scale(rng) for _ in range(2)], rng.choice(reduces), rng.choice(modes)
    taps = rng.choice((1, 2)), rng.choice((1, 2 if reduce is Reduce.INTERPOLATE else 3))
    if source == Source.ACC:
        taps = 1, 1
    elif reduce is Reduce.MUL:
        taps = rng.choice(((1, 1), (1, 2), (2, 1)))
    if reduce is Reduce.INTERPOLATE:
        scales, mode = [(0, rng.choice((1, 2, rng.randrange(-20, 20)))) for _ in range(2)], rng.choice((0, 1))
    return Instruction(
        Opcode.POST,
        {
            "wait": rng.choice((0, 0, 1, 9)), "signal": rng.getrandbits(4), "source": source,
            "reduce": reduce, "mode": mode, "per_channel": rng.getrandbits(1),
            "word_count": rng.randrange(1, words + 1), "oy_count": rng.choice((1, 2)), "ox_count": rng.choice((1, 3)),
            "group_count": groups, "ky_count": taps[0], "kx_count": taps[1],
            "src_address": rng.randrange(-8, 32),
            **strides, "y_start": rng.choice((0, 0, -1, -2)), "x_start": rng.choice((0, 0, -1, -2)),
            "y_step": rng.randrange(3), "x_step": rng.randrange(3), "y_dilation": rng.randrange(3),
            "x_dilation": rng.randrange(3),
            "height": rng.choice((2, 9)), "width": rng.choice((2, 9)), "dst_address": rng.randrange(32),
            "dst_byte": rng.randrange(config.rows - groups * config.post_lanes + 1),
            "param_address": rng.randrange(config.param_rows), "zero_point": rng.randrange(-128, 128),
            "act_min": act[0], "act_max": act[1], "table": rng.randrange(TABLES + 1),
            "left_shift": rng.choice((0, 0, 7, 20)),
            "zero_point0": rng.randrange(-128, 128), "multiplier0": scales[0][0], "shift0": scales[0][1],
            "zero_point1": rng.randrange(-128, 128), "multiplier1": scales[1][0], "shift1": scales[1][1],
            "y_weight": rng.choice((0, 1024, rng.randrange(1025))), "x_weight": rng.choice((1024, rng.randrange(1025))),
        },
    )  # fmt: skip


class Memories:
    """Random contents: SPAD bytes, ACC int32, PARAM records (bias, multiplier, shift) and TABLE bytes."""

    def __init__(self, rng: random.Random, config: ArchConfig):
        def matrix(words: int, lanes: int, draw) -> list[list]:
            return [[draw() for _ in range(lanes)] for _ in range(words)]

        self.spad = matrix(config.spad_words, config.rows, lambda: rng.randrange(-128, 128))
        self.acc = matrix(config.acc_words, config.cols, lambda: rng.randrange(-(2**31), 2**31) >> rng.randrange(24))
        self.param = matrix(
            config.param_rows,
            config.post_lanes,
            lambda: (rng.randrange(-(2**31), 2**31) >> rng.randrange(14, 32), *random_scale(rng)),
        )
        self.table, self.lanes = rng.choices(range(256), k=TABLE_WORDS), config.post_lanes

    def packed(self) -> dict[str, list[int]]:
        """The words as each port delivers them."""

        def pack(words: list[list], width: int, number) -> list[int]:
            return [sum(number(value) << width * i for i, value in enumerate(word)) for word in words]

        return {
            "spad_read": pack(self.spad, 8, lambda byte: byte % 256),
            "acc_read": pack(self.acc, 32, lambda value: value % 2**32),
            "param_read": pack(self.param, 72, lambda r: r[0] % 2**32 | r[1] << 32 | r[2] % 256 << 64),
            **{f"table_read.{lane}": self.table for lane in range(self.lanes)},
        }


class Expected:
    """The POST sections of docs/timing.md and docs/architecture.md, loop by loop."""

    def __init__(self, config: ArchConfig, stimulus: Stimulus, memories: Memories):
        self.config, self.memories = config, memories
        self.record = Record(reads={name: [] for name in memories.packed()})
        self.writes: set[tuple[int, int, int, int]] = set()
        self.intervals: dict[str, list[tuple[int, int]]] = {"occupied": [], "in flight": []}
        free = 0
        for index, fields in enumerate(stimulus.instructions):
            issue = issue_cycle(stimulus, index, free)
            free = self.run(fields, issue)
            self.record.issues.append(issue)
            self.record.completions.append((free + latencies.POST_LATENCY, fields["signal"]))
            self.intervals["occupied"].append((issue, free))
            self.intervals["in flight"].append((issue + 1, free + latencies.POST_LATENCY))

    def run(self, f: Instruction, issue: int) -> int:
        """One instruction; returns the cycle of its last step."""
        lanes, groups = self.config.post_lanes, self.config.rows // self.config.post_lanes
        step = issue
        for w, oy, ox, g in itertools.product(*(range(f[f"{n}_count"]) for n in ("word", "oy", "ox", "group"))):
            sums = [{Reduce.MAX: -(2**31), Reduce.MUL: 1}.get(f["reduce"], 0)] * lanes
            base = f["src_address"] + oy * f["src_oy_stride"] + ox * f["src_ox_stride"]
            for ky, kx in itertools.product(range(f["ky_count"]), range(f["kx_count"])):
                step += 1
                if f["source"] == Source.SPAD:
                    source = base + w * f["src_word_stride"] + ky * f["src_ky_stride"] + kx * f["src_kx_stride"]
                    self.reduce(f, step, (oy, ox, ky, kx), source % self.config.spad_words, g, sums)
            if f["source"] == Source.ACC:
                self.record.reads["acc_read"].append((step + latencies.POST_ACC_READ, base % self.config.acc_words))
                column = (w * groups + g) * lanes
                sums = self.memories.acc[base % self.config.acc_words][column : column + lanes]
            row = (f["param_address"] + (w * groups + g if f["per_channel"] else 0)) % self.config.param_rows
            self.record.reads["param_read"].append((step + latencies.POST_ACC_READ, row))
            target = f["dst_address"] + w * f["dst_word_stride"] + oy * f["dst_oy_stride"] + ox * f["dst_ox_stride"]
            for lane in range(lanes):
                place = (target % self.config.spad_words, f["dst_byte"] + g * lanes + lane)
                result = self.finish(f, sums[lane], *self.memories.param[row][lane])
                if f["table"]:
                    entry = (f["table"] - 1) * TABLE_ENTRIES + (result + 128) % 256
                    self.record.reads[f"table_read.{lane}"].append(
                        (step + latencies.POST_LATENCY - latencies.ACC_LATENCY, entry)
                    )
                    result = self.memories.table[entry]
                self.writes.add((step + latencies.POST_LATENCY, *place, result))
        return step

    def reduce(self, f: Instruction, step: int, at: tuple[int, ...], source: int, g: int, sums: list[int]) -> None:
        oy, ox, ky, kx = at
        y = f["y_start"] + oy * f["y_step"] + ky * f["y_dilation"]
        x = f["x_start"] + ox * f["x_step"] + kx * f["x_dilation"]
        if not (0 <= y < f["height"] and 0 <= x < f["width"]):
            return
        self.record.reads["spad_read"].append((step, source))
        i = 0 if ky == kx == 0 else 1
        for lane in range(len(sums)):
            value = self.memories.spad[source][g * len(sums) + lane]
            operand = wrap((value - f[f"zero_point{i}"]) << f["left_shift"])
            multiplier = f[f"multiplier{i}"]
            if f["reduce"] == Reduce.INTERPOLATE:
                shares = (f["y_weight"], f["x_weight"])
                multiplier = math.prod(w if k else 1024 - w for w, k in zip(shares, (ky, kx), strict=True)) << 10
            tap = self.rescale(f, operand, multiplier, f[f"shift{i}"])
            sums[lane] = self.combine(Reduce(f["reduce"]), sums[lane], tap, later=i == 1)

    def combine(self, reduce: Reduce, before: int, tap: int, later: bool) -> int:
        if reduce is Reduce.MAX:
            return max(before, tap)
        if reduce is Reduce.MUL:
            return wrap(before * ((tap + 256) % 512 - 256))
        return wrap(before - tap if reduce is Reduce.SUB and later else before + tap)

    def finish(self, f: Instruction, value: int, bias: int, multiplier: int, shift: int) -> int:
        result = self.rescale(f, wrap(value + bias), multiplier, shift) + f["zero_point"]
        return min(max(result, f["act_min"]), f["act_max"]) % 256

    def rescale(self, f: Instruction, x: int, multiplier: int, shift: int) -> int:
        return int(requantize(np.int64(x), multiplier, shift, RequantMode.of_code(f["mode"])))


def differences(
    shape: tuple[int, int, int],
    seed: int,
    instructions: int = 12,
    cycles: int = 500,
    reduces: Sequence[Reduce] = tuple(Reduce),
) -> list[str]:
    """Names of what differs between the unit and the loops."""
    rng, config = random.Random(seed), machine(*shape)
    stimulus = random_stimulus(rng, [random_post(rng, config, reduces) for _ in range(instructions)], cycles)
    memories = Memories(rng, config)
    expected = Expected(config, stimulus, memories)
    assert expected.record.completions[-1][0] < cycles - 2, "the stimulus needs more cycles"
    dut, writes = PostUnit(config), set()

    def observe(cycle: int, get) -> None:
        port = dut.spad_write
        for byte in range(config.rows if get(port.en) else 0):
            if get(port.mask) >> byte & 1:
                writes.add((cycle, get(port.addr), byte, get(port.data) >> 8 * byte & 255))

    record = simulate(dut, stimulus, memories.packed(), observe)
    checks = {
        "latency": (dut.acc_read_latency, dut.latency) == (latencies.POST_ACC_READ, latencies.POST_LATENCY),
        "issues": record.issues == expected.record.issues,
        "completions": record.completions == expected.record.completions,
        "occupied": record.occupied == span(cycles, expected.intervals["occupied"]),
        "idle": record.idle == [1 - flying for flying in span(cycles, expected.intervals["in flight"])],
        **{name: record.reads[name] == reads for name, reads in expected.record.reads.items()},
        "writes": writes == expected.writes,
    }
    return [name for name, equal in checks.items() if not equal]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_read_byte_and_cycle(shape):
    assert differences(shape, seed=sum(shape)) == []


@pytest.mark.parametrize(
    "shape",
    [
        *(pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES),
        *(pytest.param(shape, marks=pytest.mark.marathon) for shape in ((8, 4, 2), (4, 16, 4), (7, 14, 1))),
    ],
)
def test_every_read_byte_and_cycle_at_length(shape):
    for seed in range(4):
        assert differences(shape, seed, instructions=60, cycles=4000) == []


def test_an_invalid_tap_that_counts_is_seen(monkeypatch):
    monkeypatch.setattr(post_unit, "is_inside", lambda nest: nest.values.y_end < 0)
    assert {"spad_read", "writes"} <= set(differences((4, 2, 2), seed=1))


def test_a_missing_bias_is_seen(monkeypatch):
    mutate(monkeypatch, post_lane, LANE, "_finish", " + record.bias", "")
    found = set(differences((4, 2, 2), seed=1))
    assert "writes" in found
    assert found <= {"table_read.0", "table_read.1", "writes"}


def test_a_first_tap_that_is_subtracted_is_seen(monkeypatch):
    stage, _ = post_lane.AHEAD["subtract"]
    monkeypatch.setitem(post_lane.AHEAD, "subtract", (stage, lambda step: step.reduce == Reduce.SUB))
    assert any("writes" in differences((4, 2, 2), seed, instructions=40, cycles=1500) for seed in range(6))


@pytest.mark.parametrize(
    ("module", "owner", "function", "old", "new"),
    [
        pytest.param(
            post_lane,
            LANE,
            "_reduce_taps",
            "candidate > largest",
            "candidate < largest",
            id="the smallest tap is the largest",
        ),
        pytest.param(
            post_lane, LANE, "_finish", "(y - control", "(y[:10].as_signed() - control", id="a limit has ten bits"
        ),
        pytest.param(post_lane, LANE, "_reduce_taps", "y[:FACTOR_BITS]", "y[:10]", id="factors have ten bits"),
        pytest.param(post_lane, LANE, "_look_up", "table == 2", "table == 1", id="the tables change places"),
        pytest.param(post_lane, LANE, "_look_up", "clamped ^ 0x80", "clamped", id="entry 0 is for 0"),
        pytest.param(
            post_unit, "PostUnit", "_step", "Mux(nest.first.ky", "Mux(nest.first.kx", id="rows weigh like columns"
        ),
        pytest.param(post_unit, "PostUnit", "_tap_multiplier", "[:21]", "[:20]", id="a weight of one is lost"),
    ],
)
def test_mutants_are_seen(module, owner, function, old, new, monkeypatch):
    mutate(monkeypatch, module, owner, function, old, new)
    assert any("writes" in differences((4, 2, 2), seed, instructions=40, cycles=1500) for seed in range(6))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("Mux(control.first_factor, 1, before)", "before", id="of the output before"),
        pytest.param("Mux(inside, y[:FACTOR_BITS], 1)", "Mux(inside, y[:FACTOR_BITS], 0)", id="outside of the image"),
    ],
)
def test_a_wrong_factor_is_seen(old, new, monkeypatch):
    mutate(monkeypatch, post_lane, LANE, "_reduce_taps", old, new)
    assert any("writes" in differences((4, 2, 2), seed, 40, 1500, (Reduce.MUL,)) for seed in range(6))
