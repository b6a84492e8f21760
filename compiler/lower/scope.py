"""What lowering a node needs to know of the graph around it."""

from __future__ import annotations

from dataclasses import dataclass, field

from accel.machine.config import ArchConfig
from accel.machine.layout import Hwc, hwc
from accel.machine.numerics import RequantMode
from accel.network.graph import Graph, Tensor


@dataclass
class Scope:
    """A graph that is being lowered for a machine.

    Parameters
    ----------
    aliases : dict of str to str
        Tensors that are another value under a different shape.
    """

    graph: Graph
    config: ArchConfig
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def mode(self) -> RequantMode:
        """The graph's requantization mode."""
        return self.graph.mode

    def tensor(self, name: str) -> Tensor:
        """A tensor of the graph."""
        return self.graph.tensors[name]

    def value(self, name: str) -> str:
        """The value behind a tensor's name."""
        return self.aliases.get(name, name)

    def shape(self, name: str) -> Hwc:
        """Height, width and channels of the value behind a tensor's name."""
        return hwc(self.graph.tensors[self.value(name)].shape)
