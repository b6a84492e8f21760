"""DEPTHWISE against loops written from the documentation: every read, every sum and every cycle."""

from __future__ import annotations

import dataclasses
import random

import pytest
from support.mutants.rtl_mutation import mutate
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
from accel.machine.depthwise import row_stream
from accel.machine.isa import Instruction, Opcode, table_of
from accel.machine.rules.rows import Rows
from accel.machine.rules.sums import engine_rules
from rtl import depthwise_lane, depthwise_reader, depthwise_sequencer, tile_control, weight_sequencer
from rtl.depthwise_unit import DepthwiseUnit

pytestmark = pytest.mark.rtl


def machine(rows: int, cols: int, taps: int) -> ArchConfig:
    return dataclasses.replace(
        preset("tiny"), rows=rows, cols=cols, post_lanes=1, depthwise_taps=taps, depthwise_words=32, spad_banks=2,
        spad_bank_words=16, acc_banks=2, acc_bank_words=16,
    )  # fmt: skip


def random_depthwise(rng: random.Random, config: ArchConfig) -> Instruction:
    """A few rows of windows, most of them over an edge of the image."""
    taps = rng.randint(1, config.depthwise_taps)
    move, dilation, stride = rng.randint(1, min(2, taps)), rng.choice((1, 1, 3)), rng.randrange(-9, 10, 2)
    outputs, width, start = rng.choice((1, 2, 5)), rng.choice((1, 4, 9)), rng.randrange(-taps * dilation, 4)
    lead, steps = row_stream(start, dilation, move, width, taps, outputs)
    oy_count = rng.choice((1, 2, 3))
    instruction = Instruction(
        Opcode.DEPTHWISE,
        {
            "wait": rng.choice((0, 0, 1, 17)), "signal": rng.getrandbits(5), "spad_address": rng.randrange(-8, 32),
            "spad_byte": rng.randint(0, config.rows - config.depthwise_lanes),
            "ky_count": rng.choice((1, 2, 3)) if oy_count * steps >= taps else 1, "kx_count": taps,
            "oy_count": oy_count, "ox_count": outputs, "ky_stride": rng.randrange(-40, 40), "kx_stride": stride,
            "oy_stride": rng.randrange(-40, 40), "ox_stride": move * stride, "y_start": rng.randrange(-2, 1),
            "x_start": start, "y_step": rng.randrange(3), "x_step": move * dilation, "y_dilation": rng.randrange(3),
            "x_dilation": dilation, "height": rng.choice((2, 9)), "width": width,
            "pad_value": rng.randrange(-128, 128), "tap_address": rng.randrange(config.depthwise_words),
            "acc_address": rng.randrange(config.acc_words), "accumulate": rng.getrandbits(1), "lead_steps": lead,
            "row_steps": steps,
        },
    )  # fmt: skip
    assert not list(engine_rules(config, Rows.of(Opcode.DEPTHWISE, table_of([instruction]))))
    return instruction


class Expected:
    """The DEPTHWISE section of docs/timing.md and docs/architecture.md, loop by loop."""

    def __init__(self, config: ArchConfig, stimulus: Stimulus, spad: list[list[int]], tap_words: list[list[int]]):
        self.config, self.spad, self.tap_words = config, spad, tap_words
        self.sums = ExpectedSums(config.acc_words, skew=0)
        self.record = Record(reads={"spad_read": [], "spad_read_earlier": [], "taps_read": []})
        self.intervals: dict[str, list[tuple[int, int]]] = {"occupied": [], "in flight": []}
        self.stream_end = free = 0
        for index, fields in enumerate(stimulus.instructions):
            issue = issue_cycle(stimulus, index, free)
            free = self.run(fields, issue)
            completion = self.stream_end - 1 + latencies.DEPTHWISE_LATENCY
            self.record.issues.append(issue)
            self.record.completions.append((completion, fields["signal"]))
            self.intervals["occupied"].append((issue, self.stream_end - 1))
            self.intervals["in flight"].append((issue + 1, completion))

    def run(self, f: Instruction, issue: int) -> int:
        """One instruction; returns from when on the unit is free."""
        taps, load = f["kx_count"], issue + 1
        first = f["lead_steps"] + max(load + taps, self.stream_end)
        for ky in range(f["ky_count"]):
            words = [(f["tap_address"] + ky * taps + kx) % self.config.depthwise_words for kx in range(taps)]
            self.record.reads["taps_read"] += [(load + kx, word) for kx, word in enumerate(words)]
            load = first
            for oy in range(f["oy_count"]):
                self.read_row(f, ky, oy, first)
                for ox in range(f["ox_count"]):
                    sums = self.output(f, ky, oy, ox, words)
                    address = f["acc_address"] + oy * f["ox_count"] + ox
                    self.sums.add(first + ox + latencies.DEPTHWISE_LATENCY, address, sums, ky > 0 or f["accumulate"])
                self.stream_end = first + f["ox_count"]
                first += f["row_steps"]
        return load

    def output(self, f: Instruction, ky: int, oy: int, ox: int, words: list[int]) -> list[int]:
        """Each lane's sum over the taps of one row."""
        sums, move = [0] * self.config.depthwise_lanes, f["x_step"] // f["x_dilation"]
        for kx, weights in enumerate(words):
            address = self.row_word(f, ky, oy, ox * move + kx)
            for lane in range(len(sums)):
                byte = f["pad_value"] if address is None else self.spad[address][f["spad_byte"] + lane]
                sums[lane] += byte * self.tap_words[weights][lane]
        return sums

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


def differences(rows: int, cols: int, taps: int, seed: int, instructions: int = 16, cycles: int = 1100) -> list[str]:
    """Names of what differs between the unit and the loops."""
    rng, config = random.Random(seed), machine(rows, cols, taps)
    stimulus = random_stimulus(rng, [random_depthwise(rng, config) for _ in range(instructions)], cycles)
    spad = extreme_words(rng, config.spad_words, rows)
    tap_words = extreme_words(rng, config.depthwise_words, config.depthwise_lanes)
    expected = Expected(config, stimulus, spad, tap_words)
    assert expected.record.completions[-1][0] < cycles - 2, "the stimulus needs more cycles"
    dut = DepthwiseUnit(config)
    model = AccumulatorModel(dut.accumulate, config.depthwise_lanes, skew=0)
    words = [pack(word) for word in spad]
    memories = {"spad_read": words, "spad_read_earlier": words, "taps_read": [pack(word) for word in tap_words]}
    record = simulate(dut, stimulus, memories, model.observe)
    idle = [1 - flying for flying in span(cycles, expected.intervals["in flight"])]
    checks = {
        "latency": dut.latency == latencies.DEPTHWISE_LATENCY,
        "issues": record.issues == expected.record.issues,
        "completions": record.completions == expected.record.completions,
        "occupied": record.occupied == span(cycles, expected.intervals["occupied"]),
        "idle": record.idle == idle,
        "spad reads": record.reads["spad_read"] == expected.record.reads["spad_read"],
        "earlier reads": record.reads["spad_read_earlier"] == expected.record.reads["spad_read_earlier"],
        "tap reads": record.reads["taps_read"] == expected.record.reads["taps_read"],
        "writes": model.writes == expected.sums.writes,
    }
    return [name for name, equal in checks.items() if not equal]


@pytest.mark.parametrize(("rows", "cols", "taps"), [(2, 1, 7), (3, 3, 3), (2, 6, 5), (4, 2, 2), (4, 4, 1)])
def test_every_read_sum_and_cycle(rows, cols, taps):
    assert differences(rows, cols, taps, seed=rows * 10 + cols) == []


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "cols", "taps"), [(4, 16, 3), (16, 4, 3), (8, 8, 7), (2, 2, 4), (7, 14, 6)])
def test_every_read_sum_and_cycle_at_length(rows, cols, taps):
    for seed in range(3):
        assert differences(rows, cols, taps, seed, instructions=48, cycles=4000) == []


SEQUENCER, READER = (depthwise_sequencer, "DepthwiseSequencer"), (depthwise_reader, "DepthwiseReader")
LANE, WEIGHTS = (depthwise_lane, "DepthwiseLane", "build"), (weight_sequencer, "WeightSequencer", "elaborate")
FAULTS = {
    "a tap beyond the edge": (*SEQUENCER, "_taps", "position < width", "position <= width"),
    "outputs beyond their row": (*SEQUENCER, "_pace", "column_end[-1]", "column_end <= 0"),
    "previous end ignored": (*SEQUENCER, "_pace", "self.ready & free", "self.ready & (leading <= 1)"),
    "previous end a cycle late": (*SEQUENCER, "elaborate", "~self.streaming | self.last", "~self.streaming"),
    "no step ahead": (*SEQUENCER, "_pace", "(leading == 2)", "(leading == 3)"),
    "no next tile": (*SEQUENCER, "_pace", "first_start | next_tile", "first_start"),
    "swap a cycle late": (
        *SEQUENCER,
        "_control",
        "delayed(m, tile_begins, READ_LATENCY,",
        "delayed(m, tile_begins, READ_LATENCY + 1,",
    ),
    "further tap rows overwrite": (*SEQUENCER, "_control", "first.ky & ~current", "~current"),
    "wrong second word": (*READER, "_read", "spad - current.kx_stride", "spad + current.kx_stride"),
    "a word before the row": (*READER, "_read", "& ~outside", "& 1"),
    "a narrow kernel keeps old weights": (*LANE, "Mux(first, 0,", "Mux(0, 0,"),
    "two words as one": (*LANE, "Mux(self.double,", "Mux(0,"),
    "padding with zeros": (*LANE, "self.pad_value.as_signed()", "0"),
    "no wait for tokens": (tile_control, None, "drive_control", "& ~(head.wait & ~control.tokens).any()", ""),
    "tiles share their weights": (*WEIGHTS, "address + self.read.en", "address"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen(fault, monkeypatch):
    mutate(monkeypatch, *FAULTS[fault])
    assert any(differences(3, 3, 3, seed) for seed in range(33, 38))
