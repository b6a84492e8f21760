"""Value change dumps of the array, read back by an outside parser: recurrence, movement, accumulators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli.invoke import error, success
from support.networks.small_networks import conv, fully_connected, network
from vcdvcd import VCDVCD

import accel
from accel.machine import isa
from accel.machine.isa import Opcode

FIRST, LAST = 40, 400


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> accel.Program:
    monkeypatch.chdir(tmp_path)
    program = accel.compile(network((1, 4, 5, 3), conv(6, (2, 2)), fully_connected(4)), "tiny")
    program.save("a.program")
    np.save("x.npy", np.random.default_rng(0).integers(-128, 128, (2, 4, 5, 3)).astype(np.int8))
    return program


def registers(path: str, rows: int, cols: int, last: int) -> dict[str, Any]:
    """For each signal its values by cycle, row and column, shape (cycles, rows, cols)."""
    data, cycles = VCDVCD(path), range(FIRST, last + 1)
    found = {}
    for name, bits in (("weight", 8), ("shadow", 8), ("activation", 8), ("sum", 32)):
        values = np.zeros((len(cycles), rows, cols), np.int64)
        for r in range(rows):
            for c in range(cols):
                signal = data[f"array.row{r}.col{c}.{name}"]
                values[:, r, c] = [int(signal[cycle], 2) for cycle in cycles]
        found[name] = np.where(values >> (bits - 1), values - (1 << bits), values)
    return found


def test_registers_of_the_array(program: accel.Program) -> None:
    last = min(LAST, accel.estimate(program).cycles - 1)
    success("run", "a.program", "--input", "x.npy", "--vcd", "a.vcd", str(FIRST), str(LAST))
    found = registers("a.vcd", 4, 4, last)
    products = found["weight"] * found["activation"]
    above = np.concatenate([np.zeros_like(products[:, :1]), found["sum"][:, :-1]], axis=1)
    assert products.any()
    np.testing.assert_array_equal(found["sum"][1:], above[:-1] * (np.arange(4) > 0)[:, None] + products[1:])
    # Activations move to the right, one processing element a cycle.
    np.testing.assert_array_equal(found["activation"][1:, :, 1:], found["activation"][:-1, :, :-1])
    # Weights come from the shadows of the cycle before, or stay.
    changed = found["weight"][1:] != found["weight"][:-1]
    assert changed.any()
    np.testing.assert_array_equal(found["weight"][1:][changed], found["shadow"][:-1][changed])


def test_sums_at_the_bottom_are_the_products(program: accel.Program) -> None:
    """The fully connected layer has one pixel: all sums that leave the array for it are added in one word."""
    cycles = accel.estimate(program).cycles
    success("run", "a.program", "--input", "x.npy", "--vcd", "a.vcd", str(FIRST), str(cycles - 1))
    found = registers("a.vcd", 4, 4, cycles - 1)["sum"][:, -1]
    result = accel.run(program, np.load("x.npy")[:1], engine="stepped").simulation
    execs = np.flatnonzero(isa.decode_table(program.code)[:, 0] == Opcode.EXEC)
    mine = [i for i in execs if program.layers[program.instruction_layers[i]].op == "FullyConnected"]
    (word,) = {isa.decode(program.code)[i]["acc_address"] for i in mine}
    before = int(result.complete[execs[len(execs) - len(mine) - 1]])
    np.testing.assert_array_equal(found[before - FIRST :].sum(axis=0), result.acc[word])


def test_bad_windows(program: accel.Program) -> None:
    assert error("run", "a.program", "--input", "x.npy", "--vcd", "a.vcd", "90000", "90001") == (
        "Error: the window of cycles must lie in the run, got none of its cycles"
    )
    assert error("run", "a.program", "--input", "x.npy", "--vcd", "none/a.vcd", "0", "1") == (
        "Error: none/a.vcd: its folder does not exist"
    )
