"""The table of memories against the configuration, and against the table in docs/architecture.md."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from accel.machine import config as parameters
from accel.machine.config import PRESETS, ArchConfig
from accel.machine.isa import Memory
from accel.machine.memories import DRAM_BYTES, OnChipMemory, Space, memories, space_words

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
ROWS = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if re.match(r"\| [A-Z]+ \|", line)]


def documented(config: ArchConfig, row: list[str]) -> OnChipMemory:
    """A row of the page's table on a machine."""
    _, word, words, writers, readers, address = row
    letters = {"R": config.rows, "C": config.cols, "L": min(config.rows, config.cols), "9": 9, "1": 1}
    count, kind = word.split(":")[0].split(",")[0].split()
    (product,) = re.findall("`([A-Za-z_ *]+)`", words.split(";")[0])
    names = product.split(" * ")
    bank = re.fullmatch("bank = address / `(.*)_bank_words`", address)
    return OnChipMemory(
        math.prod(getattr(config, name, None) or getattr(parameters, name) for name in names),
        letters[count],
        {"int8": 1, "int32": 4}[kind],
        tuple(writers.split(", ")),
        tuple(readers.split(", ")),
        getattr(config, f"{bank[1]}_banks") if bank else 1,
    )


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_says_what_the_table_says(name: str) -> None:
    table = memories(PRESETS[name])
    assert [row[0] for row in ROWS] == [space.name for space in table]
    for row, memory in zip(ROWS, table.values(), strict=True):
        named = [tuple(unit.name for unit in units) for units in (memory.writers, memory.readers)]
        expected = documented(PRESETS[name], row)
        assert named == [expected.writers, expected.readers]
        for field in ("words", "lanes", "lane_bytes", "banks"):
            assert getattr(memory, field) == getattr(expected, field), (row[0], field)


def test_every_destination_of_load_is_a_memory_that_load_writes() -> None:
    table = memories(PRESETS["tiny"])
    assert {space for space, memory in table.items() if any(unit.name == "LOAD" for unit in memory.writers)} == {
        Space(memory) for memory in Memory
    }
    assert [Space(memory).name for memory in Memory] == [memory.name for memory in Memory]


def test_words_of_each_space() -> None:
    tiny = PRESETS["tiny"]
    assert {space.name: space_words(tiny, space) for space in Space} == {
        "SPAD": 8192, "WBUF": 2048, "PARAM": 256, "TABLE": 512, "TAPS": 128, "ACC": 512, "DRAM": DRAM_BYTES,
    }  # fmt: skip
