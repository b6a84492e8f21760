"""Energy and area: counts by hand, sums, tables of energies."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from support.networks.small_networks import conv, every_compiled_operation, network

import accel
from accel.errors import InputError
from accel.machine.area import Area, area
from accel.machine.config import preset
from accel.report.energy import Counts, EnergyTable, layer_energies


def test_counts_of_a_convolution_by_hand() -> None:
    """A 1x1 convolution of 16 to 16 channels on 6 pixels: one weight tile, one POST, one word for each pixel."""
    program = accel.compile(network((1, 2, 3, 16), conv(16, (1, 1))), "edge")
    (layer,) = layer_energies(program)
    pixels, word = 6, 16
    assert layer.counts == Counts(
        macs=pixels * 16 * 16,
        requantizations=pixels * 16,
        spad=4 * pixels * word,  # LOAD, EXEC, POST, STORE
        wbuf=2 * 16 * word,
        acc=2 * pixels * word * 4,
        param=16 * 9 + pixels * 16 * 9,
        external=2 * pixels * word + 16 * word + 16 * 9 + 64 * program.instruction_count,
    )
    table = EnergyTable()
    assert layer.arithmetic == pytest.approx(1536 * table.mac + 96 * table.requantize)
    assert layer.external == pytest.approx(layer.counts.external * 162.5)
    # SPAD banks are 32 KB, WBUF 64 KB, ACC banks 16 KB, PARAM 4.5 KB.
    expected = 2.5 * layer.counts.spad + 12.5 * layer.counts.wbuf + 2.5 * layer.counts.acc + 1.25 * layer.counts.param
    assert layer.on_chip == pytest.approx(expected)


def test_counts_agree_with_the_report() -> None:
    program = accel.compile(every_compiled_operation(), "edge")
    total = sum((layer.counts for layer in layer_energies(program)), Counts())
    estimate = accel.estimate(program)
    traffic = sum(row.read_bytes + row.written_bytes for row in estimate.layers)
    assert total.external == traffic + 64 * program.instruction_count
    assert total.macs >= sum(row.macs for row in estimate.layers)
    assert [layer.name for layer in estimate.energies] == [layer.name for layer in program.layers]


def test_padding_is_not_read() -> None:
    inside, padded = (
        layer_energies(accel.compile(network((1, 4, 4, 16), node), "edge"))[0].counts
        for node in (conv(16, (3, 3), padding=(0, 0, 0, 0)), conv(16, (3, 3), padding=(1, 1, 1, 1)))
    )
    loaded_and_stored = 16 * 16
    assert inside.spad - loaded_and_stored - 2 * 4 * 16 == 9 * 4 * 16
    assert padded.spad - loaded_and_stored - 2 * 16 * 16 == (4 + 3 + 3) ** 2 * 16


def test_tables_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("dram = 20\nmac = 0.5\n")
    table = EnergyTable.load(path)
    assert table == dataclasses.replace(EnergyTable(), dram=20, mac=0.5)
    for text, message in (
        ("dran = 20", "unknown key 'dran'; known keys are mac, requantize, sram_8k, sram_32k, sram_1m, dram"),
        ("dram = -1", "dram must be a number of picojoules of at least 0, got -1"),
        ("dram = inf", "dram must be a number of picojoules of at least 0, got inf"),
        ("dram", "must be a readable TOML file of energies, got"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
            EnergyTable.load(path)


def test_area_of_a_preset() -> None:
    bits = 8 * (16 * 16384 + 16 * 4096 + 16 * 256 + 4 * 16 * 1024 + 9 * 512 + 16 * 512)
    registers = 16 * 16 * 83 + 2 * 8 * 120 + 15 + 30 + 22 + 4304 + 32 * 740
    assert area(preset("edge")) == Area(256 + 80, 32, registers, bits)
