"""Each kind of divergence, made by changing the Verilog's results after the run; no Verilog runs here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.networks.small_networks import fully_connected, network

import accel
from accel.coverify import Divergence, first_divergence, random_inputs
from accel.machine import isa
from accel.machine.isa import Unit
from accel.machine.memories import Space, memories
from accel.machine.registers import CAUSES, COUNTED_UNITS

PROGRAM = accel.compile(network((1, 12), fully_connected(4)), "tiny")


def equal_results() -> tuple[Any, Any]:
    """A simulation, and the same as the Verilog's test bench would report it."""
    simulated = accel.run(PROGRAM, random_inputs(PROGRAM, 0)).simulation
    stamps = {unit: simulated.stamps(unit) for unit in Unit}
    counters = {
        f"{unit}_{cause}".replace(".", "_").upper(): simulated.causes[row, column]
        for row, unit in enumerate(COUNTED_UNITS)
        for column, cause in enumerate(CAUSES)
    }
    emulated = SimpleNamespace(
        memory=simulated.memory.copy(), total_cycles=simulated.total_cycles, error=0, counters=counters,
        on_chip=simulated.on_chip,
        issue={unit: issue for unit, (issue, _) in stamps.items()},
        complete={unit: complete for unit, (_, complete) in stamps.items()},
    )  # fmt: skip
    return simulated, emulated


def divergence(emulated: Any, simulated: Any) -> Divergence | None:
    return first_divergence(PROGRAM.code, simulated, emulated)


def test_equal_results_do_not_diverge() -> None:
    simulated, emulated = equal_results()
    assert divergence(emulated, simulated) is None


@pytest.mark.parametrize("kind", ["issue", "complete"])
@pytest.mark.parametrize("unit", Unit)
def test_more_stamps_than_instructions(unit: Unit, kind: str) -> None:
    simulated, emulated = equal_results()
    stamps = getattr(emulated, kind)
    stamps[unit] = np.append(stamps[unit], [700, 800])
    count = len(stamps[unit])
    found = divergence(emulated, simulated)
    assert found == Divergence(700, None, f"{unit.name} {kind} count", count - 2, count)
    assert str(found) == (
        f"cycle 700: {unit.name} {kind} count is {count - 2} in the simulator, {count} in the Verilog"
    )


def test_an_extra_stamp_after_a_differing_one_in_the_same_cycle() -> None:
    simulated, emulated = equal_results()
    late = int(emulated.complete[Unit.EXEC][0]) + 1
    emulated.complete[Unit.EXEC] = np.array([late, late - 1])
    index = next(i for i, instruction in enumerate(isa.decode(PROGRAM.code)) if instruction.unit is Unit.EXEC)
    found = divergence(emulated, simulated)
    assert found is not None
    assert (found.cycle, found.instruction, found.field) == (late - 1, index, "complete")


def test_fewer_stamps_than_instructions() -> None:
    simulated, emulated = equal_results()
    emulated.complete[Unit.STORE] = emulated.complete[Unit.STORE][:-1]
    found = divergence(emulated, simulated)
    assert found is not None
    assert (found.field, found.verilog) == ("complete", -1)


@pytest.mark.parametrize("what", ["memory", "total_cycles", "error", "counter"])
def test_everything_else(what: str) -> None:
    simulated, emulated = equal_results()
    if what == "memory":
        emulated.memory[PROGRAM.outputs[0].address] ^= 1
    elif what == "counter":
        emulated.counters["POST_BUSY"] += 1
    else:
        setattr(emulated, what, getattr(emulated, what) + 1)
    found = divergence(emulated, simulated)
    assert found is not None
    assert found.field.lower().startswith({"counter": "post_busy"}.get(what, what))


@pytest.mark.parametrize("space", list(memories(PROGRAM.config)))
def test_a_byte_on_the_chip(space: Space) -> None:
    simulated, emulated = equal_results()
    emulated.on_chip[space][1, 0] ^= 1
    held = emulated.on_chip[space][1, 0]
    expected = Divergence(simulated.total_cycles, None, f"{space.name}[1] byte 0", int(held) ^ 1, int(held))
    assert divergence(emulated, simulated) == expected
