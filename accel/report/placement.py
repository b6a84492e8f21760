"""Placement: where the operators of a network run, and the host's share of the work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accel.program.program import OperatorInfo


@dataclass(frozen=True)
class HostShare:
    """The host's part of a network, which the machine's cycle counts leave out.

    Parameters
    ----------
    operators : tuple of OperatorInfo
        Operators on the host, with the reason for each.
    macs : int
        Its products of a weight and an input.
    share : float
        Part of the whole network's, from 0 to 1; 0 for a network without weights.
    """

    operators: tuple[OperatorInfo, ...]
    macs: int
    share: float

    def __str__(self) -> str:
        count = f"{len(self.operators)} operator{'s' * (len(self.operators) != 1)}"
        return f"{count} on the host ({self.macs:,} MACs, {self.share:.1%} of the network's)"


def host_share(operators: Iterable[OperatorInfo]) -> HostShare:
    """The host's part of the operators of a program."""
    everything = tuple(operators)
    mine = tuple(operator for operator in everything if operator.unit == "host")
    macs, total = (sum(operator.macs for operator in group) for group in (mine, everything))
    return HostShare(mine, macs, macs / total if total else 0.0)


def operator_lines(operators: Iterable[OperatorInfo]) -> list[str]:
    """Where every operator runs and why: a line per unit and reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for operator in operators:
        groups.setdefault((operator.unit, operator.why), []).append(operator.name)
    return [f"{unit}, {why}: {', '.join(names)}" for (unit, why), names in groups.items()]
