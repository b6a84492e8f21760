"""Graph and configuration to program: lower, plan, emit, schedule, encode, check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from accel.errors import CompileError
from accel.machine import isa
from accel.machine.config import ArchConfig
from accel.network.graph import Graph
from accel.program.program import MEMORY_LIMIT_BYTES, LayerInfo, Program, TensorSlot
from compiler.check.check import check_program
from compiler.emit.emit import emit_network
from compiler.emit.memory import ALIGNMENT_BYTES, align
from compiler.emit.records import Emission
from compiler.lower.layers import Network, product_shape
from compiler.lower.network import lower
from compiler.plan.plan import Plan
from compiler.plan.planner import plan_network
from compiler.schedule.listing import schedule_text
from compiler.schedule.schedule import Schedule, schedule

CODE_ALIGNMENT_BYTES = 4096


@dataclass(frozen=True)
class Compilation:
    """Results of the compiler's phases for a graph."""

    network: Network
    plan: Plan
    emission: Emission
    schedule: Schedule
    program: Program

    def schedule_text(self) -> str:
        """The schedule step by step, for people (`compiler.schedule.listing`)."""
        return schedule_text(self.network, self.plan, self.emission, self.schedule, self.program.config)


def compile_graph(graph: Graph, config: ArchConfig) -> Program:
    """Compile an integer graph for a machine; the program's outputs equal `accel.network.reference` bit for bit.

    Parameters
    ----------
    graph : Graph
    config : ArchConfig

    Returns
    -------
    Program
        Proven by `compiler.check.check`.

    Raises
    ------
    CompileError
        The machine lacks the graph's mode, or a layer fits in no tiling; the message names it, with the numbers.
    """
    return compile_phases(graph, config).program


def compile_phases(graph: Graph, config: ArchConfig) -> Compilation:
    """`compile_graph`, with the result of each phase."""
    network = lower(graph, config)
    plan = plan_network(network, config)
    emission = emit_network(network, plan, config)
    scheduled = schedule(emission, config, [layer.name for layer in network.layers])
    program = _program(graph, config, network, emission, scheduled)
    check_program(program)
    return Compilation(network, plan, emission, scheduled, program)


def _program(graph: Graph, config: ArchConfig, network: Network, emission: Emission, scheduled: Schedule) -> Program:
    code = isa.encode(scheduled.instructions)
    code_address = align(emission.constants_address + len(emission.constants), CODE_ALIGNMENT_BYTES)
    memory_bytes = align(code_address + len(code), ALIGNMENT_BYTES)
    if memory_bytes > MEMORY_LIMIT_BYTES:
        raise CompileError(
            f"graph {graph.name!r} must need at most {MEMORY_LIMIT_BYTES} bytes of external memory, got {memory_bytes}"
        )
    slots = {name: _slot(graph, name, emission.addresses) for name in (*graph.inputs, *network.outputs)}
    wanted = [name for name in graph.outputs if name in network.outputs]
    delivered = dict.fromkeys((*wanted, *network.outputs))
    return Program(
        config=config,
        mode=graph.mode,
        code=code,
        constants=emission.constants,
        code_address=code_address,
        constants_address=emission.constants_address,
        memory_bytes=memory_bytes,
        inputs=tuple(slots[name] for name in graph.inputs),
        outputs=tuple(slots[name] for name in delivered),
        layers=tuple(LayerInfo(a.name, a.op, a.macs, *product_shape(a)) for a in network.layers),
        instruction_layers=scheduled.instruction_layers,
        host=network.host,
        operators=network.operators,
    )


def _slot(graph: Graph, name: str, addresses: Mapping[str, int]) -> TensorSlot:
    tensor = graph.tensors[name]
    return TensorSlot(address=addresses[name], **asdict(tensor))
