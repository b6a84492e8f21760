"""The graph around a node that is being lowered."""

from __future__ import annotations

from dataclasses import dataclass, field

from accel.machine.config import ArchConfig
from accel.machine.layout import Hwc, hwc
from accel.machine.numerics import RequantMode
from accel.network.graph import Graph, Tensor
from accel.network.nodes import Weighted
from compiler.lower.layers import AnyLayer
from compiler.lower.movement import Movement
from compiler.lower.refusal import NoPlaceError


@dataclass
class Scope:
    """A graph that is being lowered for a machine.

    Parameters
    ----------
    movement : Movement
        Where values lie that are only moved.
    layers : list of layers
        Those of the nodes so far.
    """

    graph: Graph
    config: ArchConfig
    movement: Movement
    layers: list[AnyLayer] = field(default_factory=list)

    @property
    def mode(self) -> RequantMode:
        """The graph's requantization mode."""
        return self.graph.mode

    def mode_of(self, node: Weighted) -> RequantMode:
        """The mode in which a node with weights requantizes; NoPlaceError if the machine lacks it."""
        mode = RequantMode.SINGLE if node.single_rounding else self.mode
        if mode not in self.config.requant_modes:
            raise NoPlaceError(node.name, f"it needs {str(mode)!r} in requant_modes of the config")
        return mode

    def is_int4(self, node: Weighted) -> bool:
        """Whether the array takes a node's weights as int4; other machines hold the same values as int8."""
        return node.weight_bits == 4 and self.config.int4_weights

    def tensor(self, name: str) -> Tensor:
        """A tensor of the graph."""
        return self.graph.tensors[name]

    def value(self, name: str) -> str:
        """The value behind a tensor's name."""
        return self.movement.aliases.get(name, name)

    def shape(self, name: str) -> Hwc:
        """Height, width and channels of the value behind a tensor's name."""
        return hwc(self.graph.tensors[self.value(name)].shape)
