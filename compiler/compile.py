"""Graph and configuration to program: lower, plan, emit, schedule, encode, check; segment by segment."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

from accel.errors import CompileError
from accel.machine import isa
from accel.machine.config import ArchConfig
from accel.network.graph import Graph
from accel.program.parts import HOST, MACHINE
from accel.program.program import MEMORY_LIMIT_BYTES, LayerInfo, Program, Segment, TensorSlot
from compiler.check.check import check_program
from compiler.emit.emit import emit_network
from compiler.emit.memory import ALIGNMENT_BYTES, Constants, ExternalMemory, align, place_values
from compiler.emit.overlap import Overlap, Variant
from compiler.emit.records import Emission
from compiler.lower.layers import Network, product_shape
from compiler.lower.network import LoweredGraph, LoweredPart, lower_graph
from compiler.lower.partition import Part, subgraph
from compiler.lower.refusal import NoPlaceError
from compiler.plan.plan import Plan
from compiler.plan.planner import plan_network
from compiler.plan.tiles import STREAMED_TILES
from compiler.schedule.listing import schedule_text
from compiler.schedule.schedule import Schedule, schedule

CODE_ALIGNMENT_BYTES = 4096


@dataclass(frozen=True)
class SegmentPhases:
    """What each phase of the compiler made of a segment of the machine."""

    network: Network
    plan: Plan
    emission: Emission
    schedule: Schedule


@dataclass(frozen=True)
class Compilation:
    """What each phase of the compiler made of a graph."""

    segments: tuple[SegmentPhases, ...]
    program: Program

    def schedule_text(self) -> str:
        """The schedules of all segments, step by step, for people (`compiler.schedule.listing`)."""
        config = self.program.config
        texts = [schedule_text(s.network, s.plan, s.emission, s.schedule, config) for s in self.segments]
        return "\n".join(texts)


def compile_graph(
    graph: Graph, config: ArchConfig, overlap: Overlap | None = None, tiles: int = STREAMED_TILES
) -> Program:
    """Compile an integer graph for a machine; the program's outputs equal `accel.network.reference` bit for bit.

    Parameters
    ----------
    graph : Graph
    config : ArchConfig
    overlap : Overlap, optional
        How layers overlap (`EFFORTS` has a choice); None: one after the other, but for those that are planned together.
    tiles : int
        Tiles of an image that passes through the scratchpad at least, if they are not too small.

    Returns
    -------
    Program
        Proven by `compiler.check.check`.

    Raises
    ------
    CompileError
        The machine lacks the graph's mode, or external memory is too small.

    Notes
    -----
    What fits in no tiling or in no instruction is the host's: `Program.operators` names it, with the numbers.
    """
    return compile_phases(graph, config, overlap, tiles).program


def compile_phases(
    graph: Graph, config: ArchConfig, overlap: Overlap | None = None, tiles: int = STREAMED_TILES
) -> Compilation:
    """The same, with what each phase made."""
    refused = dict[str, str]()
    with _garbage_kept():
        while True:
            try:
                return _compiled(graph, config, Variant(overlap, tiles), refused)
            except NoPlaceError as error:
                refused[error.operator] = error.reason


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """No search for cycles of references: phases make millions of objects that live on, and hardly any cycle.

    Nor a search among all of them as soon as there may be one again: they become old at once.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def _compiled(graph: Graph, config: ArchConfig, variant: Variant, refused: Mapping[str, str]) -> Compilation:
    """All phases; NoPlaceError if the machine cannot compute another node than those of `refused`."""
    lowered, (overlap, tiles) = lower_graph(graph, config, refused), variant
    plans = [plan_network(network, config, overlap is not None, tiles) for network in lowered.networks]
    placement = place_values(zip(lowered.networks, plans, strict=True))
    constants, segments = Constants(placement.end), list[SegmentPhases]()
    for network, plan, addresses in zip(lowered.networks, plans, placement.addresses, strict=True):
        memory = ExternalMemory(network, addresses, constants, config.rows)
        emission = emit_network(network, plan, config, memory, overlap)
        names, passing = [layer.name for layer in network.layers], overlap is not None and overlap.passing
        scheduled = schedule(emission, config, names, passing)
        segments.append(SegmentPhases(network, plan, emission, scheduled))
    program = _program(graph, config, lowered, segments, constants)
    check_program(program)
    return Compilation(tuple(segments), program)


def _program(
    graph: Graph, config: ArchConfig, lowered: LoweredGraph, phases: Sequence[SegmentPhases], constants: Constants
) -> Program:
    code = b"".join(isa.encode_table(one.schedule.table) for one in phases)
    code_address = align(constants.address + len(constants.data), CODE_ALIGNMENT_BYTES)
    memory_bytes = max(align(code_address + len(code), ALIGNMENT_BYTES), ALIGNMENT_BYTES)
    if memory_bytes > MEMORY_LIMIT_BYTES:
        raise CompileError(
            f"graph {graph.name!r} must need at most {MEMORY_LIMIT_BYTES} bytes of external memory, got {memory_bytes}"
        )
    segments = _segments(lowered.parts, phases)
    return Program(
        config=config,
        mode=graph.mode,
        code=code,
        constants=bytes(constants.data),
        code_address=code_address,
        constants_address=constants.address,
        memory_bytes=memory_bytes,
        tensors=_tensors(graph, segments, phases),
        input_names=graph.inputs,
        output_names=graph.outputs,
        segments=segments,
        layers=tuple(LayerInfo(a.name, a.op, a.macs, *product_shape(a)) for a in lowered.layers),
        instruction_layers=_instruction_layers(phases),
        host=_host_graph(graph, [part for part, _ in lowered.parts if part.unit == HOST]),
        operators=lowered.operators,
        states=graph.states,
    )


def _segments(parts: Sequence[LoweredPart], phases: Sequence[SegmentPhases]) -> tuple[Segment, ...]:
    """The table of what machine and host compute in turns."""
    segments, done, schedules = list[Segment](), {MACHINE: 0, HOST: 0}, (one.schedule for one in phases)
    for part, network in parts:
        count = len(part.graph.nodes) if network is None else len(next(schedules).table)
        segments.append(Segment(part.unit, done[part.unit], count, part.graph.inputs, part.graph.outputs))
        done[part.unit] += count
    return tuple(segments)


def _tensors(graph: Graph, segments: Sequence[Segment], phases: Sequence[SegmentPhases]) -> tuple[TensorSlot, ...]:
    """All that crosses the border of a segment, with addresses for what the machine reads or writes."""
    machine = [segment for segment in segments if segment.unit == MACHINE]
    places: dict[str, int] = {}
    for segment, one in zip(machine, phases, strict=True):
        places |= {name: one.emission.addresses[name] for name in (*segment.inputs, *segment.outputs)}
    between = (name for segment in segments for name in (*segment.inputs, *segment.outputs))
    names = dict.fromkeys((*graph.inputs, *between, *graph.outputs))
    return tuple(TensorSlot(**vars(graph.tensors[name]), address=places.get(name)) for name in names)


def _instruction_layers(phases: Sequence[SegmentPhases]) -> tuple[int, ...]:
    """The layer of each instruction, counted through all segments."""
    firsts = accumulate((len(one.network.layers) for one in phases), initial=0)
    return tuple(
        first + layer for first, one in zip(firsts, phases, strict=False) for layer in one.schedule.instruction_layers
    )


def _host_graph(graph: Graph, parts: Sequence[Part]) -> Graph | None:
    """All nodes of the host as one graph; what it reads is what it does not make itself."""
    nodes = [node for part in parts for node in part.graph.nodes]
    if not nodes:
        return None
    own = {name for node in nodes for name in node.outputs}
    inputs = dict.fromkeys(name for part in parts for name in part.graph.inputs if name not in own)
    return subgraph(graph, nodes, list(inputs), [name for part in parts for name in part.graph.outputs])
