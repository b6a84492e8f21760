"""Co-verification sees faults: each seeded change of the RTL makes some program diverge from the simulator.

The machine is small and runs in Amaranth's own simulator, which needs no compilation of each mutant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from support.machine.random_programs import random_program
from support.mutants.rtl_mutation import mutate

import accel
from accel.coverify import execute_both, first_divergence
from accel.errors import AccelError
from accel.machine.config import ArchConfig
from accel.network.graph import Graph, Tensor
from accel.network.nodes import Conv2d, Node, ResizeBilinear
from rtl import (
    accumulators,
    activation_sequencer,
    array,
    bursts,
    control,
    depthwise_lane,
    depthwise_sequencer,
    exec_unit,
    load_writer,
    post_lane,
    post_unit,
    requantize,
    weight_sequencer,
    window,
)

pytestmark = pytest.mark.rtl

MACHINE = ArchConfig(
    name="small",
    rows=2,
    cols=2,
    spad_banks=2,
    spad_bank_words=16,
    wbuf_words=16,
    acc_banks=2,
    acc_bank_words=16,
    param_channels=16,
    post_lanes=1,
    depthwise_taps=0,
    depthwise_words=8,
    queue_depth=2,
    bus_bytes=4,
    outstanding_bursts=2,
    read_latency_cycles=3,
    write_latency_cycles=2,
    requant_modes=("tflite", "fp32"),
    int4_weights=True,
)
ENGINE = replace(MACHINE, name="engine", depthwise_taps=2)
"""The same with a depthwise engine, for its faults."""
PROGRAMS = 9
INSTRUCTIONS = 64

# (what is wrong, module, class or None, function, text, its replacement)
MUTANTS = [
    ("shadow weights swap a pixel late", array, "PE", "build", "m.If(left.swap)", "m.If(self.right.swap)"),
    ("a row captures its neighbour's weight", array, "SystolicArray", "_captures",
     '~self.int4, "capture", [2', '~self.int4, "capture", [1'),
    ("even and odd rows of int4 change places", array, "PE", "_weight", "row % 2", "1 - row % 2"),
    ("int4 weights are unsigned", array, "PE", "_weight", ".as_signed()", ""),
    ("rows of int4 are captured one cycle late", array, "SystolicArray", "_captures", "1 + r % 2", "2"),
    ("a row too many of int4 is read", weight_sequencer, "WeightSequencer", "elaborate", "self.half & (", "0 & ("),
    ("int4 tiles take as long as int8", exec_unit, "ExecUnit", "_tile_words", "Mux(int4, tile_words(rows, 1), rows)",
     "rows"),
    ("sums are not passed down", array, "PE", "build", "above.psum + product", "product"),
    ("padding is read one row too late", window, None, "drive_positions", "- instruction.height",
     "- instruction.height - 1"),
    ("the first tile accumulates", activation_sequencer, "ActivationSequencer", "_control", "first.chunk & ", "0 & "),
    ("accumulators are never cleared", accumulators, "Accumulators", "_chain",
     "~port.overwrite", "port.overwrite | ~port.overwrite"),
    ("a semaphore keeps what is taken", control, "Semaphores", "elaborate", "Mux(taken, more, counted)", "counted"),
    ("rows of a DMA pattern use the outer stride", bursts, "RowWalker", "elaborate",
     "Mux(next_last_row, held.outer_stride, held.row_stride)", "held.outer_stride"),
    ("the last word of a row leaves too much in the buffer", load_writer, "LoadWriter", "_emit",
     "Mux(last_word, held.word_bytes, held.step_bytes)", "held.step_bytes"),
    ("negative ties of tflite go up", requantize, "Requantizer", "_round", "tflite & ~number[-1]", "tflite"),
    ("the zero point is subtracted", post_lane, "PostLane", "_finish", "+ control.zero_point", "- control.zero_point"),
    ("the first tap of a window is forgotten", post_lane, "PostLane", "_reduce_taps",
     "added & ~first.replicate(32)", "added & 0"),
    ("rows of an interpolation weigh like columns", post_unit, "PostUnit", "_step",
     "Mux(nest.first.ky", "Mux(nest.first.kx"),
    ("the tables change places", post_lane, "PostLane", "_look_up", "table == 2", "table == 1"),
    ("the engine always overwrites", depthwise_sequencer, "DepthwiseSequencer", "_control",
     "first.ky & ~current.accumulate", "first.ky"),
    ("the engine rests between instructions", depthwise_sequencer, "DepthwiseSequencer", "elaborate",
     "~self.streaming | self.last", "~self.streaming"),
    ("the engine has the taps in reverse", depthwise_lane, "DepthwiseLane", "build", "factors, weights,",
     "factors, weights[::-1],"),
    ("the engine's shadow weights keep the tile before", depthwise_lane, "DepthwiseLane", "build",
     "Mux(first, 0, shadows[slot + 1])", "Mux(first, shadows[slot], shadows[slot + 1])"),
]  # fmt: skip


def quarters() -> accel.Program:
    """Pixels divided by four: ties of both signs, which random programs rarely store."""
    ones, weight = np.ones(2, np.int32), np.eye(2, dtype=np.int8).reshape(2, 1, 1, 2)
    node = Conv2d(
        name="n", inputs=("x",), output="y", weight=weight, bias=0 * ones, multiplier=ones << 30,
        shift=np.full(2, -1, np.int8),
    )  # fmt: skip
    return compiled(node)


def mixes() -> accel.Program:
    """Pixels weighed otherwise along rows than along columns, which random programs rarely store."""
    rows, columns = (np.array([[0, 1, weight]] * 4, np.int32) for weight in (256, 896))
    return compiled(ResizeBilinear(name="n", inputs=("x",), output="y", rows=rows, columns=columns))


def compiled(node: Node) -> accel.Program:
    tensors = {name: Tensor(name, (1, 4, 4, 2), 0.5, 0) for name in "xy"}
    return accel.compile(Graph("directed", "tflite", tensors, (node,), ("x",), ("y",)), MACHINE)


def runs(config: ArchConfig) -> Iterator[tuple[bytes, int, NDArray[np.uint8]]]:
    """Code, its address and the memory of every program."""
    for seed in range(PROGRAMS):
        program = random_program(config, np.random.default_rng(seed), INSTRUCTIONS, framed=True)
        yield program.code, program.program_address, program.memory
    if config is not MACHINE:
        return
    image = np.arange(-32, 32, 2, dtype=np.int8).reshape(1, 4, 4, 2)
    for directed in (quarters(), mixes()):
        yield directed.code, directed.code_address, directed.memory_image(image)


def diverges(config: ArchConfig) -> str | None:
    """The first difference that co-verification finds, None if there is none."""
    for code, address, memory in runs(config):
        try:
            results = execute_both(config, code, address, memory, "amaranth")
        except AccelError as error:
            return str(error)
        divergence = first_divergence(code, *results)
        if divergence is not None:
            return str(divergence)
    return None


LATE = ("rows of an interpolation weigh like columns", "negative ties of tflite go up")
"""Mutants that few programs notice: they take a minute each."""


@pytest.mark.slow
@pytest.mark.parametrize("config", [MACHINE, ENGINE], ids=lambda config: config.name)
def test_without_a_mutant_all_is_equal(config: ArchConfig) -> None:
    assert diverges(config) is None


@pytest.mark.parametrize(
    ("what", "module", "owner", "name", "old", "new"),
    [
        pytest.param(*row, id=row[0], marks=pytest.mark.marathon if row[0] in LATE else pytest.mark.slow)
        for row in MUTANTS
    ],
)
def test_mutants_are_seen(
    what: str, module: ModuleType, owner: str | None, name: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch, module, owner, name, old, new)
    found = diverges(ENGINE if module in (depthwise_lane, depthwise_sequencer) else MACHINE)
    assert found is not None, f"co-verification must notice that {what}"
    print(f"{what}: {found}")
