"""One network on one machine: its figures, or why there are none."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from accel import api
from accel.errors import AccelError, brief
from accel.machine.area import area
from accel.machine.config import ArchConfig
from accel.network.graph import Graph
from accel.network.graph_file import dump_graph
from accel.report.energy import EnergyTable
from accel.report.placement import host_share

OK, REFUSED, LOST, FAILED = "ok", "refused", "lost", "failed"
"""Figures are there; the network cannot be mapped to the machine; the worker died; the toolchain raised an error."""


@dataclass(frozen=True)
class Network:
    """A network and what tells it from others.

    Parameters
    ----------
    name : str
    graph : Graph
    """

    name: str
    graph: Graph

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the graph's file, 64 hexadecimal digits."""
        return hashlib.sha256(dump_graph(self.graph)).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Point:
    """One network on one machine.

    Parameters
    ----------
    network, digest : str
        Name and `Network.digest`.
    config : ArchConfig
    status : str
        `OK`, `REFUSED`, `LOST` or `FAILED`.
    error : str
        One sentence unless `OK`.
    multipliers, requantizers, register_bits, sram_bits, mm2
        `accel.machine.area.Area`.
    cycles, lower_bound, energy_pj, read_bytes, written_bytes, macs
        Of one inference on the machine; 0 unless `OK`.
    host_operators, host_macs : int
        What the machine leaves to the host: cycles of machines that leave more are not comparable.
    """

    network: str
    digest: str
    config: ArchConfig
    status: str = OK
    error: str = ""
    multipliers: int
    requantizers: int
    register_bits: int
    sram_bits: int
    mm2: float
    cycles: int = 0
    lower_bound: int = 0
    energy_pj: float = 0.0
    read_bytes: int = 0
    written_bytes: int = 0
    macs: int = 0
    host_operators: int = 0
    host_macs: int = 0

    @classmethod
    def without_figures(cls, name: str, digest: str, config: ArchConfig, status: str, error: object) -> Point:
        """A point that has no figures but the machine's sizes."""
        return cls(network=name, digest=digest, config=config, status=status, error=brief(error), **_sizes(config))

    @property
    def key(self) -> tuple[str, str]:
        """What tells the point from others: digest and fingerprint."""
        return self.digest, self.config.fingerprint()

    def row(self) -> dict[str, Any]:
        """A flat row: the point's members, and in place of `config` its fingerprint and keys."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "config"}
        keys = dataclasses.asdict(self.config)
        modes, int4 = " ".join(self.config.requant_modes), int(self.config.int4_weights)
        return {
            "fingerprint": self.config.fingerprint(), **values, **keys, "requant_modes": modes, "int4_weights": int4,
        }  # fmt: skip

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Point:
        """The point of such a row."""
        keys = {field.name: row[field.name] for field in fields(ArchConfig)}
        keys |= {"requant_modes": tuple(row["requant_modes"].split()), "int4_weights": bool(row["int4_weights"])}
        values = {field.name: row[field.name] for field in fields(cls) if field.name != "config"}
        return cls(config=ArchConfig(**keys), **values)


def measure(name: str, digest: str, graph: Graph, config: ArchConfig, energies: EnergyTable) -> Point:
    """Compile a network for a machine and time it."""
    try:
        program = api.compile(graph, config)
    except AccelError as error:
        return Point.without_figures(name, digest, config, REFUSED, error)
    result, host = api.estimate(program, energies=energies), host_share(program.operators)
    return Point(
        network=name,
        digest=digest,
        config=config,
        cycles=result.cycles,
        lower_bound=result.bound.cycles,
        energy_pj=sum(layer.total for layer in result.energies),
        read_bytes=sum(row.read_bytes for row in result.layers),
        written_bytes=sum(row.written_bytes for row in result.layers),
        macs=sum(row.macs for row in result.layers),
        host_operators=len(host.operators),
        host_macs=host.macs,
        **_sizes(config),
    )


def _sizes(config: ArchConfig) -> dict[str, Any]:
    size = area(config)
    return {**dataclasses.asdict(size), "mm2": size.mm2}
