"""The depthwise engine's area is what docs/presets.md says."""

from __future__ import annotations

import re

import pytest
from amaranth.back import rtlil
from support.rtl.bench import small

from rtl.depthwise_lane import DepthwiseLanes

pytestmark = pytest.mark.rtl


@pytest.mark.parametrize(("rows", "cols", "taps"), [(4, 4, 3), (8, 2, 7), (2, 8, 1), (3, 3, 4)])
def test_registers_and_multipliers(rows: int, cols: int, taps: int) -> None:
    config = small(rows=rows, cols=cols, post_lanes=1, param_channels=64, depthwise_taps=taps)
    text = rtlil.convert(DepthwiseLanes(config))
    widths = re.findall(r"parameter \\WIDTH (\d+)\n(?:(?!end\n).*\n)*?", "".join(cells(text, "$dff")))
    assert sum(map(int, widths)) == config.depthwise_register_bits
    assert len(cells(text, "$mul")) == config.depthwise_multipliers


def cells(text: str, kind: str) -> list[str]:
    """The text of all cells of one kind."""
    return re.findall(rf"cell \{kind} .*?\n  end\n", text, re.DOTALL)
