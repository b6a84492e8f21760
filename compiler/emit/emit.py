"""A planned network as records of steps and loads."""

from __future__ import annotations

from itertools import chain

from accel.machine.config import ArchConfig
from compiler.emit.memory import ExternalMemory
from compiler.emit.order import GroupItem, Item, JoinItem, TileItem, work_order
from compiler.emit.overlap import Overlap, overlapped
from compiler.emit.progress import Build, Progress, Turns
from compiler.emit.records import Emission
from compiler.emit.steps import emit_gather, emit_group, emit_joined, emit_vector_tile
from compiler.lower.layers import Network
from compiler.plan.plan import Plan


def emit_network(
    network: Network, plan: Plan, config: ArchConfig, memory: ExternalMemory, overlap: Overlap | None = None
) -> Emission:
    """Steps and loads of a network, in which layers may overlap; the constants are placed in `memory`."""
    build = Build(network, plan, config, memory, Progress(), Turns(), {}, {})
    order = work_order(plan, config)
    for item in chain.from_iterable(order) if overlap is None else overlapped(plan, config, order, overlap):
        _emit_item(build, item)
        build.progress.note_layer(item.layer)
    return Emission(tuple(build.progress.steps), build.progress.loads, memory.addresses)


def _emit_item(build: Build, item: Item) -> None:
    if isinstance(item, GroupItem):
        emit_group(build, item)
    elif isinstance(item, JoinItem):
        emit_joined(build, item)
    elif isinstance(item, TileItem):
        emit_vector_tile(build, item)
    else:
        emit_gather(build, item)
