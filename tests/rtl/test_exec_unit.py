"""EXEC against loops written from the documentation: every read, every sum and every cycle."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import random
import textwrap
from collections import defaultdict

import pytest
from amaranth.hdl import Const, Module
from unit_bench import Record, Stimulus, issue_cycle, random_stimulus, simulate, span

from accel import timing
from accel.config import ArchConfig, preset
from accel.depthwise import row_stream
from accel.isa import Instruction, Opcode
from rtl import activation_sequencer, array, depthwise_lane
from rtl.activation_sequencer import ActivationSequencer
from rtl.depthwise_sequencer import DepthwiseSequencer
from rtl.exec_unit import ExecUnit

pytestmark = pytest.mark.rtl

SHAPES = [(1, 1), (1, 4), (4, 1), (3, 3), (2, 6), (4, 2)]


def machine(rows: int, cols: int, taps: int = 0) -> ArchConfig:
    return dataclasses.replace(
        preset("tiny"), rows=rows, cols=cols, post_lanes=1, depthwise_taps=taps, spad_banks=2,
        spad_bank_words=16, wbuf_words=32, acc_banks=2, acc_bank_words=16,
    )  # fmt: skip


def random_exec(rng: random.Random, config: ArchConfig) -> Instruction:
    """Few tiles and pixels; addresses anywhere; about half of the taps outside of the image."""
    if config.depthwise_taps and rng.random() < 0.6:
        return random_depthwise(rng, config)
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


def random_depthwise(rng: random.Random, config: ArchConfig) -> Instruction:
    """A few rows of windows, most of them over an edge of the image."""
    taps = rng.randint(1, config.depthwise_taps)
    move, dilation, stride = rng.randint(1, min(2, taps)), rng.choice((1, 1, 3)), rng.randrange(-9, 10, 2)
    outputs, width, start = rng.choice((1, 2, 5)), rng.choice((1, 4, 9)), rng.randrange(-taps * dilation, 4)
    lead, steps = row_stream(start, dilation, move, width, taps, outputs)
    oy_count = rng.choice((1, 2, 3))
    return Instruction(
        Opcode.EXEC,
        {
            "wait": rng.choice((0, 0, 1, 9)), "signal": rng.getrandbits(4), "depthwise": 1,
            "spad_address": rng.randrange(-8, 32), "spad_byte": rng.randint(0, config.rows - config.depthwise_lanes),
            "ky_count": rng.choice((1, 2, 3)) if oy_count * steps >= taps else 1, "kx_count": taps,
            "oy_count": oy_count, "ox_count": outputs, "ky_stride": rng.randrange(-40, 40), "kx_stride": stride,
            "oy_stride": rng.randrange(-40, 40), "ox_stride": move * stride, "y_start": rng.randrange(-2, 1),
            "x_start": start, "y_step": rng.randrange(3), "x_step": move * dilation, "y_dilation": rng.randrange(3),
            "x_dilation": dilation, "height": rng.choice((2, 9)), "width": width,
            "pad_value": rng.randrange(-128, 128), "wbuf_address": rng.randrange(32), "acc_address": rng.randrange(16),
            "accumulate": rng.getrandbits(1), "lead_steps": lead, "row_steps": steps,
        },
    )  # fmt: skip


class Expected:
    """The EXEC section of docs/timing.md and docs/architecture.md, loop by loop."""

    def __init__(self, config: ArchConfig, stimulus: Stimulus, spad: list[list[int]], wbuf: list[list[int]]):
        self.config, self.spad, self.wbuf = config, spad, wbuf
        self.acc = defaultdict(int)
        self.record = Record(reads={"spad_read": [], "spad_read_earlier": [], "wbuf_read": []})
        self.writes: set[tuple[int, int, int, int]] = set()
        self.intervals: dict[str, list[tuple[int, int]]] = {"occupied": [], "in flight": []}
        self.stream_end = self.sums_end = free = 0
        for index, fields in enumerate(stimulus.instructions):
            issue = issue_cycle(stimulus, index, free)
            free, latency = (self.run_rows if fields["depthwise"] else self.run)(fields, issue)
            self.sums_end = self.stream_end + latency
            completion = self.sums_end - 1 + config.cols
            self.record.issues.append(issue)
            self.record.completions.append((completion, fields["signal"]))
            self.intervals["occupied"].append((issue, self.stream_end - 1))
            self.intervals["in flight"].append((issue + 1, completion))
        self.record.reads["wbuf_read"].sort()

    def run(self, f: Instruction, issue: int) -> tuple[int, int]:
        """One instruction; returns from when on the unit is free, and cycles from a pixel to its sum in column 0."""
        R = self.config.rows
        tiles = list(itertools.product(range(f["chunk_count"]), range(f["ky_count"]), range(f["kx_count"])))
        pixels = f["oy_count"] * f["ox_count"]
        load = issue + 1
        for k, (chunk, ky, kx) in enumerate(tiles):
            start = max(load + R, self.stream_end)
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
                self.add(start + p + R + 1, f["acc_address"] + p, sums, keep)
            load, self.stream_end = start, start + pixels
        return start, R

    def run_rows(self, f: Instruction, issue: int) -> tuple[int, int]:
        """One depthwise instruction, likewise."""
        taps, lead, latency = f["kx_count"], f["lead_steps"], timing.DEPTHWISE_LATENCY
        load = issue + 1
        first = lead + max(load + taps, self.stream_end, self.sums_end - latency - lead)
        for ky in range(f["ky_count"]):
            words = [(f["wbuf_address"] + ky * taps + kx) % self.config.wbuf_words for kx in range(taps)]
            self.record.reads["wbuf_read"] += [(load + kx, word) for kx, word in enumerate(words)]
            load = first
            for oy in range(f["oy_count"]):
                self.read_row(f, ky, oy, first)
                for ox in range(f["ox_count"]):
                    sums, move = [0] * self.config.cols, f["x_step"] // f["x_dilation"]
                    for kx, weights in enumerate(words):
                        address = self.row_word(f, ky, oy, ox * move + kx)
                        for c in range(self.config.depthwise_lanes):
                            byte = f["pad_value"] if address is None else self.spad[address][f["spad_byte"] + c]
                            sums[c] += byte * self.wbuf[weights][c]
                    pixel, keep = oy * f["ox_count"] + ox, ky > 0 or f["accumulate"]
                    self.add(first + ox + latency + 1, f["acc_address"] + pixel, sums, keep)
                self.stream_end = first + f["ox_count"]
                first += f["row_steps"]
        return load, latency

    def read_row(self, f: Instruction, ky: int, oy: int, first: int) -> None:
        """SPAD reads of one row, whose first output is in cycle `first`."""
        move = f["x_step"] // f["x_dilation"]
        for t in range(-f["lead_steps"], f["row_steps"] - f["lead_steps"]):
            j = f["kx_count"] - 1 + move * t
            for port, word in (("spad_read", j), ("spad_read_earlier", j - 1))[:move]:
                address = self.row_word(f, ky, oy, word)
                if word >= 0 and address is not None:
                    self.record.reads[port].append((first + t, address))

    def row_word(self, f: Instruction, ky: int, oy: int, j: int) -> int | None:
        """Address of word j of a row; None if there is none."""
        y = f["y_start"] + oy * f["y_step"] + ky * f["y_dilation"]
        x = f["x_start"] + j * f["x_dilation"]
        address = f["spad_address"] + ky * f["ky_stride"] + oy * f["oy_stride"] + j * f["kx_stride"]
        return address % self.config.spad_words if 0 <= y < f["height"] and 0 <= x < f["width"] else None

    def read_weights(self, f: Instruction, k: int, load: int) -> list[list[int]]:
        weights = []
        for r in range(self.config.rows):
            address = (f["wbuf_address"] + k * f["k_rows"] + r) % self.config.wbuf_words
            if r < f["k_rows"]:
                self.record.reads["wbuf_read"].append((load + r, address))
            weights.append(self.wbuf[address] if r < f["k_rows"] else [0] * self.config.cols)
        return weights

    def add(self, cycle: int, address: int, sums: list[int], keep: bool) -> None:
        address %= self.config.acc_words
        for c, product in enumerate(sums):
            total = product + keep * self.acc[address, c]
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


def differences(rows: int, cols: int, seed: int, instructions: int = 8, cycles: int = 700, taps: int = 0) -> list[str]:
    """Names of what differs between the unit and the loops."""
    rng, config = random.Random(seed), machine(rows, cols, taps)
    stimulus = random_stimulus(rng, [random_exec(rng, config) for _ in range(instructions)], cycles)
    spad = [[rng.choice((-128, 127, rng.randrange(-128, 128))) for _ in range(rows)] for _ in range(config.spad_words)]
    wbuf = [[rng.choice((-128, 127, rng.randrange(-128, 128))) for _ in range(cols)] for _ in range(config.wbuf_words)]
    expected = Expected(config, stimulus, spad, wbuf)
    assert expected.record.completions[-1][0] < cycles - 2, "the stimulus needs more cycles"
    dut = ExecUnit(config)
    model = AccumulatorModel(config, dut)
    words = [pack(word) for word in spad]
    memories = {"spad_read": words, "wbuf_read": [pack(word) for word in wbuf]}
    if taps:
        memories["spad_read_earlier"] = words
    record = simulate(dut, stimulus, memories, model.observe)
    idle = [1 - flying for flying in span(cycles, expected.intervals["in flight"])]
    checks = {
        "latency": dut.latency == timing.accumulate_latency(config),
        "issues": record.issues == expected.record.issues,
        "completions": record.completions == expected.record.completions,
        "occupied": record.occupied == span(cycles, expected.intervals["occupied"]),
        "idle": record.idle == idle,
        "spad reads": record.reads["spad_read"] == expected.record.reads["spad_read"],
        "earlier reads": record.reads.get("spad_read_earlier", []) == expected.record.reads["spad_read_earlier"],
        "wbuf reads": record.reads["wbuf_read"] == expected.record.reads["wbuf_read"],
        "writes": model.writes == expected.writes,
    }
    return [name for name, equal in checks.items() if not equal]


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_every_read_sum_and_cycle(rows, cols):
    assert differences(rows, cols, seed=rows * 10 + cols) == []


@pytest.mark.parametrize(("rows", "cols", "taps"), [(2, 1, 7), (3, 3, 3), (2, 6, 5), (4, 2, 2), (4, 4, 1)])
def test_depthwise_and_plain_instructions_in_turn(rows, cols, taps):
    assert differences(rows, cols, seed=rows * 10 + cols, instructions=16, cycles=1100, taps=taps) == []


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "cols", "taps"), [(4, 16, 3), (16, 4, 3), (8, 8, 7), (2, 2, 4), (7, 14, 6)])
def test_depthwise_and_plain_instructions_in_turn_at_length(rows, cols, taps):
    for seed in range(3):
        assert differences(rows, cols, seed, instructions=32, cycles=3000, taps=taps) == []


FAULTS = {
    "a tap beyond the edge": (ActivationSequencer, "_taps", "position < current.width", "position <= current.width"),
    "outputs before their row": (ActivationSequencer, "_pace", "& (gap != 0)", "& 0"),
    "wrong second word": (DepthwiseSequencer, "_read", "spad - current.kx_stride", "spad + current.kx_stride"),
    "a word before the row": (DepthwiseSequencer, "_read", "& ~outside", "& 1"),
    "sums of the array are overtaken": (DepthwiseSequencer, "_begin", "& (draining <= lead)", "& 1"),
    "no step ahead": (DepthwiseSequencer, "_begin", "left == 1", "left <= 2"),
    "the last tap row's weights": (depthwise_lane, "build_lane", "If(left.swap)", "If(right.swap)"),
    "a narrow kernel keeps old weights": (depthwise_lane, "build_lane", "Mux(left.first, 0,", "Mux(0, 0,"),
    "two words as one": (depthwise_lane, "build_lane", "Mux(left.double,", "Mux(0,"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_depthwise_engine_are_seen(fault, monkeypatch):
    owner, name, old, new = FAULTS[fault]
    source = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    assert source.count(old) == 1
    scope = dict(vars(inspect.getmodule(owner)))
    exec(source.replace(old, new), scope)
    monkeypatch.setattr(owner, name, scope[name])
    assert any(differences(3, 3, seed, instructions=16, cycles=1100, taps=3) for seed in range(33, 38))


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "cols"), [*SHAPES, (7, 14), (4, 16), (16, 4), (8, 8)])
def test_every_read_sum_and_cycle_at_length(rows, cols):
    for seed in range(3):
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
