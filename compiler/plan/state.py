"""What is settled while a network is planned, layer by layer. It never changes: a failed attempt leaves no trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from accel.machine.config import ArchConfig
from compiler.lower.layers import Network
from compiler.plan.allocate import Area, Request, Scratchpad
from compiler.plan.choices import Choices, NoRoom
from compiler.plan.plan import AnyPlan, Band


class Task(NamedTuple):
    """What is to be planned: a plan is a function of nothing else."""

    network: Network
    config: ArchConfig
    choices: Choices


@dataclass(frozen=True)
class State:
    """Residents and plans of the layers so far.

    Parameters
    ----------
    task : Task
    scratchpad : Scratchpad
        What is taken of it, as far as it matters to later layers.
    residents : mapping of str to Area
        By name of values that are no parts.
    plans : tuple of LayerPlan or MovePlan
        Of layers 0, 1, ... .
    pairs : mapping of int to tuple of Band
        By index of the array layer of a pair.
    """

    task: Task
    scratchpad: Scratchpad
    residents: Mapping[str, Area] = field(default_factory=lambda: MappingProxyType({}))
    plans: tuple[AnyPlan, ...] = ()
    pairs: Mapping[int, tuple[Band, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def area(self, value: str) -> Area | None:
        """Where the value that holds a value lies if it is resident."""
        return self.residents.get(self.task.network.place(value).whole)

    def streams(self, value: str) -> bool:
        """Whether a value passes through the scratchpad in tiles."""
        return self.area(value) is None

    def resident(self, value: str, index: int, last: int) -> State | None:
        """With all of a value in the scratchpad from layer `index` to layer `last`; None if there is no room."""
        height, width, channels = self.task.network.shapes[value]
        words = height * width * -(-channels // self.task.config.rows)
        grant = self.scratchpad.allocate(Request(words, self.task.choices.start(index), last))
        if grant is None:
            return None
        residents = MappingProxyType({**self.residents, value: grant.area})
        return replace(self, scratchpad=grant.scratchpad, residents=residents)

    def under(self, choices: Choices) -> State:
        """Going on with other choices, which would have led to the same state."""
        return replace(self, task=self.task._replace(choices=choices))

    def planned(self, scratchpad: Scratchpad, *plans: AnyPlan) -> State:
        """With the plans of the next layers, their areas taken."""
        return replace(self, scratchpad=scratchpad, plans=self.plans + plans)

    def no_room(self, index: int, words: int) -> NoRoom:
        """The refusal of a layer whose smallest tiling needs `words`."""
        alive = {value: area for value, area in self.residents.items() if area.first <= index <= area.last}
        return NoRoom(index, words, MappingProxyType(alive))
