"""The row stream against a window register that is filled word by word, and every rule of a DEPTHWISE."""

from __future__ import annotations

import numpy as np
import pytest
from support.machine.rules import refusal

from accel.machine.config import ArchConfig, preset
from accel.machine.depthwise import row_stream
from accel.machine.isa import Instruction, Opcode

ROWS = 3
Word = tuple[int, int]


def stream(start: int, dilation: int, move: int, width: int, taps: int, outputs: int, given: tuple[int, int]) -> bool:
    """Whether a window that moves `move` words per step shows each output its taps, and reads no other words."""
    lead, steps = given
    exists = {(row, j) for row in range(ROWS) for j in range(200) if 0 <= start + j * dilation < width}
    needed = {(row, t * move + tap) for row in range(ROWS) for t in range(outputs) for tap in range(taps)} & exists
    reads: set[Word] = set()
    window: list[Word | None] = [None] * taps
    for step in range(-lead, ROWS * steps - lead + outputs):
        reading, t = divmod(step + lead, steps)
        for word in range(taps - move, taps):
            j = (t - lead) * move + word
            window = [*window[1:], (reading, j)]
            if reading < ROWS and j >= 0 and (reading, j) in exists:
                reads.add((reading, j))
        row, output = divmod(step, steps)
        if step >= 0 and row < ROWS and output < outputs:
            wanted: list[Word] = [(row, output * move + tap) for tap in range(taps)]
            if any(word in exists and word != slot for word, slot in zip(wanted, window, strict=True)):
                return False
    return reads == needed


def random_window(rng: np.random.Generator) -> tuple[int, int, int, int, int, int]:
    taps, dilation = int(rng.integers(1, 8)), int(rng.integers(1, 4))
    move = int(rng.integers(1, min(2, taps) + 1))
    start = int(rng.integers(-taps * dilation - 2, 4))
    return start, dilation, move, int(rng.integers(1, 24)), taps, int(rng.integers(1, 12))


def test_every_window_is_complete_in_time_and_no_fewer_steps_would_do() -> None:
    rng = np.random.default_rng(0)
    tight = 0
    for _ in range(4000):
        window = random_window(rng)
        lead, steps = row_stream(*window)
        assert stream(*window, (lead, steps)), f"{window}: {lead}, {steps}"
        assert steps <= window[5] + lead
        if lead:
            tight += 1
            assert not stream(*window, (lead - 1, steps)), window
        if steps > window[5]:
            assert not stream(*window, (lead, steps - 1)), window
    assert tight > 1000


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ((-1, 1, 1, 112, 3, 112), (1, 112)),
        ((-2, 1, 1, 14, 5, 14), (2, 14)),
        ((0, 1, 2, 112, 3, 56), (1, 57)),
        ((-1, 1, 2, 112, 3, 56), (0, 56)),
        ((0, 1, 1, 30, 3, 28), (2, 30)),
        ((-9, 1, 1, 3, 3, 4), (0, 4)),
    ],
    ids=["SAME 3", "SAME 5", "stride 2, padded after", "stride 2, padded before", "VALID", "only padding"],
)
def test_known_windows(window: tuple[int, int, int, int, int, int], expected: tuple[int, int]) -> None:
    assert row_stream(*window) == expected


DEPTHWISE = Instruction(
    Opcode.DEPTHWISE,
    {
        "ky_count": 3, "kx_count": 3, "oy_count": 2, "ox_count": 8, "x_start": -1, "x_step": 1,
        "x_dilation": 1, "kx_stride": 1, "ox_stride": 1, "height": 9, "width": 8, "lead_steps": 1, "row_steps": 8,
    },
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kx_count": 4}, "DEPTHWISE kx_count (with depthwise_taps as the limit) must be at most 3, got 4"),
        ({"spad_byte": 1}, "DEPTHWISE spad_byte + min(rows, cols) must be at most 4, got 5"),
        ({"x_dilation": 0}, "DEPTHWISE x_step must be x_dilation, or twice that with kx_count > 1, and not 0, "
         "got 1 and x_dilation = 0"),
        ({"x_step": 3}, "DEPTHWISE x_step must be x_dilation, or twice that with kx_count > 1, and not 0, "
         "got 3 and x_dilation = 1"),
        ({"kx_count": 1, "x_step": 2}, "DEPTHWISE x_step must be x_dilation, or twice that with kx_count > 1, and not "
         "0, got 2 and x_dilation = 1"),
        ({"ox_stride": 2}, "DEPTHWISE ox_stride must be 1, as x_step and kx_stride say, got 2"),
        ({"x_step": 2, "kx_stride": 2, "ox_stride": 4},
         "DEPTHWISE kx_stride must be odd if two words are read per step, got 2"),
        ({"lead_steps": 2}, "DEPTHWISE lead_steps and row_steps must be 1 and 8, got 2 and 8"),
        ({"row_steps": 9}, "DEPTHWISE lead_steps and row_steps must be 1 and 8, got 1 and 9"),
        ({"oy_count": 1, "ox_count": 1, "width": 1, "row_steps": 1}, "DEPTHWISE oy_count * row_steps must be at least "
         "kx_count = 3, so that the next tap row's weights are there, got 1"),
    ],
)  # fmt: skip
def test_each_rule_is_named(changes: dict[str, int], message: str) -> None:
    assert refusal(preset("tiny"), DEPTHWISE) == ""
    assert refusal(preset("tiny"), DEPTHWISE.replace(**changes)) == message


def test_a_machine_without_engine_refuses() -> None:
    config = ArchConfig.from_toml(preset("tiny").to_toml().replace("depthwise_taps = 3", "depthwise_taps = 0"))
    assert refusal(config, DEPTHWISE).startswith("DEPTHWISE must not appear on a machine without depthwise engine")
