"""Lower bounds: the cycles that a layer, and a network, take on a machine at least, whatever the schedule.

Each unit needs a number of steps for the arithmetic alone, and the bus a number of beats for weights; no schedule can
do with less, because a step is a cycle. Layers may overlap, so that a network's bound is that of its busiest unit.

References
----------
Williams, Waterman, Patterson, "Roofline: An Insightful Visual Performance Model", 2009: compute or memory, whichever
takes longer. Array cycles are those of `accel.machine.timing.exec_time`, with whole tiles (ceil) and weight loads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.machine import isa
from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode, column
from accel.machine.loops import LOOPS
from accel.machine.weight_words import tile_words
from accel.program.program import LayerInfo, Program


class Bound(NamedTuple):
    """Cycles that each unit needs at least; a unit that is not used needs 0.

    Parameters
    ----------
    array, depthwise, post : int
        Steps of the units that compute.
    memory : int
        Beats of the bus: of a layer its weights, of a network its inputs and outputs, too.
    """

    array: int
    depthwise: int
    post: int
    memory: int

    @property
    def cycles(self) -> int:
        """The busiest unit's: the units may work at the same time."""
        return max(self)


def layer_bounds(program: Program) -> list[Bound]:
    """A bound for each layer alone, in order: its weights are not there before it begins.

    In a network that has them loaded ahead, a layer may take less than its `memory`, but not less than the rest.
    """
    table, owner = isa.decode_table(program.code), np.array(program.instruction_layers, np.int64)
    return [_layer_bound(program.config, layer, table[owner == i]) for i, layer in enumerate(program.layers)]


def network_bound(program: Program) -> Bound:
    """The bound of all layers together: what a unit needs for all of them, and what crosses the bus once.

    The machine's segments follow each other, the host between them; their cycles add up to no less than this.
    """
    array, depthwise, post, memory = (sum(cycles) for cycles in zip(*layer_bounds(program), strict=True))
    names = dict.fromkeys((*program.input_names, *program.output_names))
    slots = (program.slots[name] for name in names)
    ends = sum(slot.size_bytes for slot in slots if slot.address is not None)
    return Bound(array, depthwise, post, memory + ends // program.config.bus_bytes)


def _layer_bound(config: ArchConfig, layer: LayerInfo, table: NDArray[np.int64]) -> Bound:
    """The bound of a layer with these decoded instructions, which show its unit and the width of its weights."""
    execs, engine = table[table[:, 0] == Opcode.EXEC], table[table[:, 0] == Opcode.DEPTHWISE]
    if len(engine):
        per_step = int(engine[:, column(Opcode.DEPTHWISE, "kx_count")].max())
        lanes = -(-layer.n // config.depthwise_lanes)
        steps = layer.m * lanes * -(-layer.taps // per_step)
        return Bound(0, steps, _post_steps(config, layer), layer.k * layer.n // config.bus_bytes)
    if len(execs):
        int4 = int(execs[:, column(Opcode.EXEC, "int4")].max())
        tiles = _weight_tiles(layer, config)
        cycles = tiles * max(_words(layer, config.cols), int(tile_words(config.rows, int4)))
        return Bound(cycles, 0, _post_steps(config, layer), (layer.k * layer.n >> int4) // config.bus_bytes)
    return Bound(0, 0, _steps(table, Opcode.POST), 0)


def _weight_tiles(layer: LayerInfo, config: ArchConfig) -> int:
    """Tiles of rows x cols weights: of a grouped layer those on the diagonal alone, with full words."""
    depth, width = layer.k, layer.n // layer.groups
    starts = range(0, layer.n, config.cols)
    groups = ((min(first + config.cols, layer.n) - 1) // width - first // width + 1 for first in starts)
    return sum(-(-depth * count // config.rows) for count in groups)


def _post_steps(config: ArchConfig, layer: LayerInfo) -> int:
    """One step for each output word and `post_lanes` channels."""
    return _words(layer, config.post_lanes) * -(-layer.n // config.post_lanes)


def _words(layer: LayerInfo, width: int) -> int:
    """Words of `width` channels that hold a layer's outputs; narrow ones may share them (`compiler.lower.packing`)."""
    return layer.m if layer.groups > 1 else -(-layer.m // max(1, width // layer.n))


def _steps(table: NDArray[np.int64], opcode: Opcode) -> int:
    """Steps of all instructions of one opcode."""
    columns = [column(opcode, name) for name in LOOPS[opcode]]
    return int(np.prod(table[table[:, 0] == opcode][:, columns], axis=1).sum())
