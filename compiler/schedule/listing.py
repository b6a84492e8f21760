"""A schedule as text: step by step what is loaded, what computes, what is stored, and which semaphores tie it.

Every line is derived from the records of the emission and from the instructions as they are executed: what an
instruction reads and writes is its footprint, waits and signals are its own bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np

from accel.machine.config import ArchConfig
from accel.machine.isa import Instruction, Opcode, Unit, instruction_of
from accel.machine.memories import Space
from compiler.emit.keys import ParamsKey, TapsKey, WeightsKey
from compiler.emit.records import (
    ArrayWork,
    BlockLoad,
    DepthwiseWork,
    Emission,
    FoldedLoad,
    GatherLoad,
    GatherWork,
    Load,
    Post,
    Step,
    TileLoad,
    VectorWork,
    Work,
)
from compiler.lower.geometry import Tile
from compiler.lower.layers import AnyLayer, Network
from compiler.plan.plan import LayerPlan, Plan
from compiler.schedule.footprint import footprint
from compiler.schedule.intervals import Intervals, merge
from compiler.schedule.schedule import Schedule

HEADING = """\
A line: instructions, opcode, what they write <- what they read (+= adds), units waited for, units signalled.
Spans are first:last, last not included; loads name v[rows, columns, chunks of channels].
Addresses are words; those of PARAM are channels, those of DRAM bytes. Gaps between addresses are not shown."""

_ADDRESSES_WIDTH = 52
"""Columns of what an instruction reads and writes."""

_NAME_WIDTH = 40
"""Longer names of values are cut."""


def schedule_text(network: Network, plan: Plan, emission: Emission, schedule: Schedule, config: ArchConfig) -> str:
    """The schedule of a network: where its values lie, how its layers are cut, and its steps in program order.

    Lines are at most 120 columns wide unless names or addresses are long.
    """
    numbers = {value: f"v{i}" for i, value in enumerate(_wholes(network))}
    counts = (len(network.layers), len(emission.steps), len(schedule.table))
    return "".join(
        line.rstrip() + "\n"
        for line in (
            "layers {}, steps {}, instructions {}, machine {}".format(*counts, config.name),
            HEADING,
            "",
            *(_value(network, plan, emission.addresses, value, number) for value, number in numbers.items()),
            "",
            *(line for index, layer in enumerate(network.layers) for line in _layer(plan, index, layer)),
            *_steps(network, schedule, config, numbers),
        )
    )


# Values and layers ----------------------------------------------------------------------------------------------------


def _wholes(network: Network) -> list[str]:
    """Values that are no parts of others."""
    return [value for value in network.shapes if network.place(value).whole == value]


def _value(network: Network, plan: Plan, addresses: Mapping[str, int], value: str, number: str) -> str:
    """Where a value lies in external memory, and in the scratchpad while it does."""
    dram = f"DRAM {addresses[value]:#x}" if value in addresses else ""
    area = plan.residents.get(value)
    spad = f"SPAD {area.base}:{area.base + area.words} in layers {area.first}-{area.last}" if area else ""
    name = value if len(value) <= _NAME_WIDTH else value[: _NAME_WIDTH - 3] + "..."
    return f"value {number:<4} {_shape(network.shapes[value]):<12} {dram:<16} {spad:<34} {name}"


def _layer(plan: Plan, index: int, layer: AnyLayer) -> Iterator[str]:
    """How a layer is cut, and its tile buffers."""
    planned, facts = plan.layers[index], [f"layer {index} {layer.name}: {layer.op} ({layer.unit})"]
    if isinstance(planned, LayerPlan):
        shapes = f"{_shape(planned.layer.input_shape)} to {_shape(layer.output_shape)}"
        facts.append(f"{shapes} in {len(planned.tiles)} tile{'s' * (len(planned.tiles) != 1)}")
        facts += ["input folded"] * planned.folded
    else:
        facts.append(f"to {_shape(layer.output_shape)}")
    if index in plan.pairs:
        facts.append(f"a pair with layer {index + 1} in {len(plan.pairs[index])} bands")
    if index in plan.followers:
        facts.append(f"between tiles of layer {index - 1}")
    if index in plan.trailing:
        facts.append(f"tail beside layer {index + 1}")
    yield ", ".join(facts)
    if planned.areas:
        yield "  buffers SPAD " + ", ".join(f"{area.base}:{area.base + area.words}" for area in planned.areas)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


# Steps ----------------------------------------------------------------------------------------------------------------


def _steps(network: Network, schedule: Schedule, config: ArchConfig, numbers: Mapping[str, str]) -> Iterator[str]:
    """For each step its own loads, its work, and the loads that are put ahead of later steps."""
    for _, several in groupby(schedule.placed, key=lambda placed: placed.step):
        section = list(several)
        step = next(placed.record for placed in section if isinstance(placed.record, Step))
        yield ""
        yield f"step {section[0].step}: {network.layers[step.layer].name}, {_part(step.work)}"
        for user, group in groupby(section, key=lambda placed: placed.user):
            if user != section[0].step:
                yield f"  ahead of step {user}"
            for placed in group:
                what = "" if isinstance(placed.record, Step) else _loaded(network, placed.record, numbers) + ": "
                numbered = [(i, instruction_of(schedule.table[i])) for i in placed.instructions]
                yield from _instructions(what, numbered, config)


def _part(work: Work) -> str:
    """The part of a layer that a step makes."""
    match work:
        case ArrayWork(accumulate=False, post=Post()) | DepthwiseWork():
            return f"{_tile(work.tile)}, channels {_span(work.channels)}"
        case ArrayWork():
            return f"{_tile(work.tile)}, channels {_span(work.channels)}, block {work.weights.block} of the contraction"
        case VectorWork():
            return _tile(work.tile)
        case GatherWork():
            return f"words {_span(work.part)}"


def _loaded(network: Network, load: Load, numbers: Mapping[str, str]) -> str:
    """Contents of a load."""
    match load:
        case BlockLoad(key=WeightsKey(channel=first, block=block)):
            return f"weights {first}:{first + load.word_bytes}, block {block}"
        case BlockLoad(key=TapsKey(channel=first)):
            return f"taps {first}:{first + load.word_bytes}"
        case BlockLoad(key=ParamsKey(part=int(first))):
            return f"parameters {first}:{first + load.count}"
        case BlockLoad(key=ParamsKey()):
            return "shared parameters"
        case BlockLoad():
            return "table"
        case TileLoad():
            rows, columns = (load.tile.y0, load.tile.y1), (load.tile.x0, load.tile.x1)
            return f"{numbers[load.home.place.whole]}[{_span(rows)}, {_span(columns)}, {_span(load.chunks)}]"
        case FoldedLoad():
            return f"{numbers[network.place(load.layer.inputs[0]).whole]} folded"
        case GatherLoad():
            return f"gathered words {_span(load.part)}"


def _instructions(what: str, numbered: Sequence[tuple[int, Instruction]], config: ArchConfig) -> Iterator[str]:
    """A line for each run of instructions of one kind that only its first waits and only its last signals."""
    for run in _runs(numbered):
        (first, opening), (last, closing) = run[0], run[-1]
        numbers = f"{first}-{last}" if last > first else str(first)
        touched = what + _moved([instruction for _, instruction in run], config)
        tokens = f"{_units('wait', opening['wait']):<15} {_units('signal', closing['signal'])}"
        yield f"{numbers:>8}  {opening.opcode.name:<9} {touched:<{_ADDRESSES_WIDTH}} {tokens}"


def _runs(numbered: Sequence[tuple[int, Instruction]]) -> list[list[tuple[int, Instruction]]]:
    runs: list[list[tuple[int, Instruction]]] = []
    for number, instruction in numbered:
        before = runs[-1][-1][1] if runs else None
        if before and before.opcode is instruction.opcode and not before["signal"] and not instruction["wait"]:
            runs[-1].append((number, instruction))
        else:
            runs.append([(number, instruction)])
    return runs


def _moved(instructions: Sequence[Instruction], config: ArchConfig) -> str:
    """Memories that instructions write and read, with addresses."""
    touched = [footprint(config, instruction) for instruction in instructions]
    written, read = _hulls([t.writes for t in touched]), _hulls([t.reads for t in touched])
    sums = instructions[0].opcode in (Opcode.EXEC, Opcode.DEPTHWISE)
    arrow = "+=" if sums and instructions[0]["accumulate"] else "<-"
    sources = [text for space, text in read.items() if not (sums and space is Space.ACC)]
    return f"{', '.join(written.values())} {arrow} {', '.join(sources)}"


def _hulls(sides: Sequence[Mapping[Space, Intervals]]) -> dict[Space, str]:
    """The span of addresses in each memory; of external memory, the first byte and how many there are."""
    hulls = {}
    for space in sorted({space for side in sides for space in side}):
        several = merge(np.concatenate([side[space] for side in sides if space in side]))
        first, last, words = int(several[0, 0]), int(several[-1, 1]), int((several[:, 1] - several[:, 0]).sum())
        hulls[space] = f"DRAM {first:#x}, {words} B" if space is Space.DRAM else f"{space.name} {first}:{last}"
    return hulls


def _units(name: str, mask: int) -> str:
    units = "+".join(unit.name for unit in Unit if mask >> unit & 1)
    return f"{name} {units}" if units else ""


def _tile(tile: Tile) -> str:
    return f"rows {tile.y0}:{tile.y1}, columns {tile.x0}:{tile.x1}"


def _span(span: Sequence[int]) -> str:
    return f"{span[0]}:{span[1]}"
