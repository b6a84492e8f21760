"""Energy of programs, layer by layer: counts of operations and bytes times a table of energies.

Counts are those of the machine (docs/architecture.md): every multiplication of the array's rows that hold weights,
every word that a unit reads from or writes to a memory on the chip, every byte on the external channels.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError
from accel.machine import isa
from accel.machine.config import PARAM_RECORD_BYTES, ArchConfig
from accel.machine.isa import FIELDS, INSTRUCTION_BYTES, Memory, Opcode, Source
from accel.machine.memories import memories
from accel.machine.weight_words import tile_words
from accel.program.program import Program

Row = Mapping[str, int]
"""Fields of one instruction."""


@dataclass(frozen=True)
class EnergyTable:
    """Picojoules of each event; the default is 45 nm and 0.9 V.

    Parameters
    ----------
    mac : float
        An 8-bit multiplication (0.2) and a 32-bit addition (0.1).
    requantize : float
        A 32-bit multiplication (3.1) and two 32-bit additions.
    sram_8k, sram_32k, sram_1m : float
        A byte read from or written to a memory of at most so many bytes per bank: an eighth of a 64-bit access to a
        cache of that size (10, 20, 100). Larger banks count as the last.
    dram : float
        A byte of external memory: an eighth of the lower bound of a 64-bit access (1,300).

    References
    ----------
    Horowitz, "Computing's Energy Problem (and what we can do about it)", ISSCC 2014, figure 1.1.9.
    """

    mac: float = 0.3
    requantize: float = 3.3
    sram_8k: float = 1.25
    sram_32k: float = 2.5
    sram_1m: float = 12.5
    dram: float = 162.5

    @classmethod
    def load(cls, path: Path) -> EnergyTable:
        """A TOML file with some of the fields, numbers of at least 0; InputError for anything else."""
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: must be a readable TOML file of energies, got {error}") from None
        names = [field.name for field in fields(cls)]
        for key, value in values.items():
            if key not in names:
                raise InputError(f"{path}: unknown key {key!r}; known keys are {', '.join(names)}")
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
                raise InputError(f"{path}: {key} must be a number of picojoules of at least 0, got {value!r}")
        return cls(**values)

    def sram(self, bank_bytes: int) -> float:
        """A byte of a memory with banks of `bank_bytes`."""
        if bank_bytes <= 8 << 10:
            return self.sram_8k
        return self.sram_32k if bank_bytes <= 32 << 10 else self.sram_1m


def energy_table(path: Path | None) -> EnergyTable:
    """The table in a file, or the built-in one."""
    return EnergyTable() if path is None else EnergyTable.load(path)


@dataclass(frozen=True)
class Counts:
    """Events of one layer: operations, bytes that cross each memory's ports, bytes on the external channels."""

    macs: int = 0
    requantizations: int = 0
    spad: int = 0
    wbuf: int = 0
    taps: int = 0
    acc: int = 0
    param: int = 0
    table: int = 0
    external: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True)
class LayerEnergy:
    """Energy of one layer in picojoules by where it is spent; `counts` are the events behind it."""

    name: str
    arithmetic: float
    on_chip: float
    external: float
    counts: Counts

    @property
    def total(self) -> float:
        """All of it."""
        return self.arithmetic + self.on_chip + self.external


def layer_energies(program: Program, table: EnergyTable | None = None) -> list[LayerEnergy]:
    """Energy of each layer of a program in one run; without that of clocks, leakage and the host."""
    energies, config = table or EnergyTable(), program.config
    counts = [Counts() for _ in program.layers]
    for values, layer in zip(isa.decode_table(program.code).tolist(), program.instruction_layers, strict=True):
        opcode = Opcode(values[0])
        row = dict(zip((field.name for field in FIELDS[opcode]), values, strict=False))
        counts[layer] += Counts(external=INSTRUCTION_BYTES) + _COUNTS[opcode](config, row)
    return [_energy(layer.name, mine, config, energies) for layer, mine in zip(program.layers, counts, strict=True)]


def _energy(name: str, counts: Counts, config: ArchConfig, table: EnergyTable) -> LayerEnergy:
    on_chip = sum(
        getattr(counts, space.name.lower()) * table.sram(memory.bank_words * memory.word_bytes)
        for space, memory in memories(config).items()
    )
    arithmetic = counts.macs * table.mac + counts.requantizations * table.requantize
    return LayerEnergy(name, arithmetic, on_chip, counts.external * table.dram, counts)


def _count_load(config: ArchConfig, row: Row) -> Counts:
    rows = row["outer_count"] * row["row_count"]
    written = rows * row["row_words"] * row["word_bytes"]
    return Counts(external=rows * row["row_bytes"], **{Memory(row["memory"]).name.lower(): written})


def _count_store(config: ArchConfig, row: Row) -> Counts:
    words = row["outer_count"] * row["row_count"] * row["row_words"]
    return Counts(external=words * row["word_bytes"], spad=words * config.rows)


def _count_exec(config: ArchConfig, row: Row) -> Counts:
    taps, pixels = row["chunk_count"] * row["ky_count"] * row["kx_count"], row["oy_count"] * row["ox_count"]
    return Counts(
        macs=taps * pixels * row["k_rows"] * config.cols,
        spad=row["chunk_count"] * _valid_taps(row) * config.rows,
        wbuf=taps * tile_words(row["k_rows"], row["int4"]) * config.cols,
        acc=_sums_bytes(config, row, taps),
    )


def _count_depthwise(config: ArchConfig, row: Row) -> Counts:
    lanes, pixels = config.depthwise_lanes, row["oy_count"] * row["ox_count"]
    words = row["kx_count"] + row["x_step"] // row["x_dilation"] * (row["ox_count"] - 1)
    read = _valid(row["x_start"], row["x_dilation"], words, 0, 1, row["width"])
    rows = _valid(row["y_start"], row["y_step"], row["oy_count"], row["y_dilation"], row["ky_count"], row["height"])
    return Counts(
        macs=row["ky_count"] * row["kx_count"] * pixels * lanes,
        spad=rows * read * config.rows,
        taps=row["ky_count"] * row["kx_count"] * lanes,
        acc=_sums_bytes(config, row, row["ky_count"]),
    )


def _sums_bytes(config: ArchConfig, row: Row, tiles: int) -> int:
    """Bytes of accumulator words: each tile writes its sums, and reads the old ones unless it is the first."""
    accesses = 2 * tiles - (1 - row["accumulate"])
    return accesses * row["oy_count"] * row["ox_count"] * config.cols * 4


def _count_post(config: ArchConfig, row: Row) -> Counts:
    outputs = row["word_count"] * row["oy_count"] * row["ox_count"] * row["group_count"]
    lanes, from_acc = config.post_lanes, row["source"] == Source.ACC
    taps = 0 if from_acc else row["word_count"] * row["group_count"] * _valid_taps(row)
    return Counts(
        requantizations=(outputs + taps) * lanes,
        spad=taps * config.rows + outputs * lanes,
        acc=outputs * lanes * 4 * from_acc,
        param=outputs * lanes * PARAM_RECORD_BYTES,
        table=outputs * lanes * (row["table"] > 0),
    )


_COUNTS = {
    Opcode.LOAD: _count_load,
    Opcode.EXEC: _count_exec,
    Opcode.POST: _count_post,
    Opcode.STORE: _count_store,
    Opcode.DEPTHWISE: _count_depthwise,
}


def _valid_taps(row: Row) -> int:
    """Pairs of an output and a tap that exists."""
    ys = _valid(row["y_start"], row["y_step"], row["oy_count"], row["y_dilation"], row["ky_count"], row["height"])
    return ys * _valid(row["x_start"], row["x_step"], row["ox_count"], row["x_dilation"], row["kx_count"], row["width"])


@lru_cache(maxsize=4096)
def _valid(start: int, step: int, count: int, dilation: int, taps: int, size: int) -> int:
    """Pairs of an output and a tap along one axis whose position lies in 0 .. size - 1."""
    positions: NDArray[Any] = start + step * np.arange(count)[:, None] + dilation * np.arange(taps)
    return int(((positions >= 0) & (positions < size)).sum())
