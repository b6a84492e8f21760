"""The sizes that `accel.machine.area` derives are those of the netlist that Amaranth makes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from amaranth.back import rtlil
from support.rtl.bench import small

from accel.machine.area import area, array_register_bits, requantizer_register_bits
from accel.machine.config import ArchConfig, preset
from rtl.array import SystolicArray
from rtl.depthwise_lane import DepthwiseLanes
from rtl.requantize import Requantizer
from rtl.top import Accelerator

pytestmark = pytest.mark.rtl

SHAPES = [(4, 4, 3), (8, 2, 7), (2, 8, 1), (3, 3, 4)]


def machine(rows: int, cols: int, taps: int, **changes: Any) -> ArchConfig:
    return small(rows=rows, cols=cols, post_lanes=1, param_channels=64, depthwise_taps=taps, **changes)


@pytest.mark.parametrize(("rows", "cols", "taps"), SHAPES)
def test_depthwise_engine(rows: int, cols: int, taps: int) -> None:
    config = machine(rows, cols, taps)
    text = rtlil.convert(DepthwiseLanes(config))
    assert register_bits(text) == config.depthwise_register_bits
    assert len(cells(text, "$mul")) == config.depthwise_multipliers


@pytest.mark.parametrize("int4", [False, True])
@pytest.mark.parametrize(("rows", "cols", "taps"), [*SHAPES, (1, 1, 0), (5, 5, 0)])
def test_array(rows: int, cols: int, taps: int, int4: bool) -> None:
    config = machine(rows, cols, taps, int4_weights=int4)
    text = rtlil.convert(SystolicArray(config))
    assert register_bits(text) == array_register_bits(config)
    assert len(cells(text, "$mul")) == rows * cols


@pytest.mark.parametrize("modes", ["tflite", "single", "fp32", "tflite single", "tflite fp32", "tflite single fp32"])
def test_requantizer(modes: str) -> None:
    config = machine(4, 4, 0, requant_modes=tuple(modes.split()))
    assert register_bits(rtlil.convert(Requantizer(config))) == requantizer_register_bits(config)


@pytest.mark.slow
def test_what_is_left_out() -> None:
    """docs/presets.md names the registers of `tiny` beyond the data path."""
    config = preset("tiny")
    left_out = register_bits(rtlil.convert(Accelerator(config))) - area(config).register_bits
    assert round(left_out, -3) == 27_000


def register_bits(text: str) -> int:
    return sum(int(re.findall(r"parameter \\WIDTH (\d+)\n", cell)[0]) for cell in cells(text, "$dff"))


def cells(text: str, kind: str) -> list[str]:
    """The text of all cells of one kind."""
    return re.findall(rf"cell \{kind} .*?\n  end\n", text, re.DOTALL)
