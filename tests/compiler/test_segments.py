"""Networks with host operators in the middle: machine and host take turns, on one memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks.equality import assert_equal
from support.networks.host_graphs import float_head, random_segments, top_k
from support.networks.small_networks import conv, every_compiled_operation, network, softmax
from support.oracles import tflite_runtime

import accel
from accel.coverify import verify
from accel.errors import InputError, ProgramError
from accel.machine.config import preset
from accel.network import reference
from accel.program.execution import Execution
from accel.program.parts import HOST, MACHINE
from accel.program.program import Program
from accel.program.samples import join_samples, split_samples
from compiler import check_program, compile_graph
from compiler.emit import memory as emit_memory

TINY, EDGE = preset("tiny"), preset("edge")


def middle() -> Program:
    """A softmax between two layers of the machine."""
    return compile_graph(network((1, 4, 4, 3), conv(5, (2, 2)), softmax(), conv(4, (1, 1))), TINY)


def image(program: Program, seed: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {slot.name: rng.integers(-128, 128, slot.shape, dtype=np.int8) for slot in program.inputs}


# The table ------------------------------------------------------------------------------------------------------------


def test_only_the_softmax_runs_on_the_host() -> None:
    program = middle()
    units = [(s.unit, s.inputs, s.outputs) for s in program.segments]
    assert units == [(MACHINE, ("t0",), ("t1",)), (HOST, ("t1",), ("t2",)), (MACHINE, ("t2",), ("t3",))]
    assert [s.first for s in program.segments] == [0, 0, program.segments[0].count]
    assert sum(s.count for s in program.machine_segments) == program.instruction_count
    assert program.code == b"".join(map(program.code_of, program.machine_segments))
    assert [o.unit for o in program.operators] == ["array", "host", "array"]


def test_a_tensor_between_segments_has_one_address() -> None:
    program = middle()
    places = [(s.address, s.address + s.size_bytes) for s in program.tensors if s.address is not None]
    assert [slot.name for slot in program.tensors] == ["t0", "t1", "t2", "t3"]
    assert len(places) == 4
    assert all(a[1] <= b[0] for a, b in zip(sorted(places), sorted(places)[1:], strict=False))


def test_what_only_the_host_has_has_no_address() -> None:
    program = compile_graph(every_compiled_operation(), TINY)
    assert {slot.name: slot.address is None for slot in program.tensors} == {"t0": False, "t6": False, "t7": True}


def test_a_network_of_the_host_alone_is_a_program_without_instructions() -> None:
    for graph in (top_k(9, 4), network((1, 9), softmax())):
        program = Program.from_bytes(compile_graph(graph, TINY).to_bytes())
        assert (program.instruction_count, [s.unit for s in program.segments]) == (0, [HOST])
        x = np.random.default_rng(1).integers(-128, 128, (1, 9), dtype=np.int8)
        result = accel.run(program, x)
        assert (result.cycles, result.layers) == (0, [])
        for name, values in result.outputs.items():
            np.testing.assert_array_equal(values, reference.run(graph, x)[name])
        assert sum(check_program(program).instructions.values()) == 0
        with pytest.raises(InputError, match=r"^program must have 1 machine segment, got 0: see `simulations`$"):
            _ = result.simulation


def test_real_inputs_are_the_hosts() -> None:
    graph = float_head((1, 5), "fp32")
    program = compile_graph(graph, TINY)
    x = np.linspace(-3, 3, 5, dtype=np.float32)[None]
    np.testing.assert_array_equal(accel.run(program, x).outputs["q"], reference.run(graph, x)["q"])
    with pytest.raises(InputError, match=r"^input 'x' must be float32 of shape \(samples, 5\), got int8 \(1, 5\)$"):
        accel.run(program, np.zeros((1, 5), np.int8))


# Values and cycles ----------------------------------------------------------------------------------------------------


def test_cycles_and_layers_are_those_of_all_segments() -> None:
    program = middle()
    result = accel.run(program, image(program))
    assert len(result.simulations) == 2
    assert result.cycles == sum(one.total_cycles for one in result.simulations)
    assert sum(row.cycles for row in result.layers) == result.cycles
    assert [row.name for row in result.layers] == ["n0", "n2"]
    assert sum(row.read_bytes for row in result.layers) == sum(one.load_bytes for one in result.simulations)
    assert result.host_seconds > 0


def test_a_program_file_runs_as_the_program() -> None:
    program = middle()
    loaded = Program.from_bytes(program.to_bytes())
    np.testing.assert_array_equal(
        accel.run(loaded, image(program)).outputs["t3"], accel.run(program, image(program)).outputs["t3"]
    )


def run_random(seeds: range) -> dict[str, int]:
    """Random networks with host operators in the middle; counts of what was seen."""
    seen = {"segments": 0, "of three and more": 0}
    for seed in seeds:
        rng = np.random.default_rng([seed, 0x5E6])
        config = EDGE if seed % 3 == 0 else TINY
        graph = random_segments(rng, str(rng.choice(config.requant_modes)))
        program = assert_equal(graph, config, rng, ("fast", "stepped"))
        count = len(program.machine_segments)
        seen["segments"] += count
        seen["of three and more"] += count > 2
    return seen


def test_random_networks_equal_the_reference() -> None:
    assert min(run_random(range(12)).values()) > 3


@pytest.mark.slow
def test_many_random_networks_equal_the_reference() -> None:
    assert min(run_random(range(12, 120)).values()) > 30


def test_nothing_but_the_softmax_of_the_shared_case(shared_cases: Path) -> None:
    path = shared_cases / "softmax_in_the_middle.tflite"
    program = accel.compile(path, "edge")
    assert [o.op for o in program.operators if o.unit == "host"] == ["Softmax"]
    interpreter = tflite_runtime.interpreter(path.read_bytes())
    for seed in range(10):
        inputs = image(program, seed)
        (x,) = inputs.values()
        interpreter.set_input(x, 0)
        interpreter.invoke()
        (outputs,) = accel.run(program, inputs).outputs.values()
        np.testing.assert_array_equal(outputs, interpreter.get_output(0).reshape(outputs.shape))


# Proofs and mutants ---------------------------------------------------------------------------------------------------


def test_every_segment_is_proven() -> None:
    program = middle()
    report = check_program(program)
    assert sum(report.instructions.values()) == program.instruction_count
    t1, t3 = program.slots["t1"], program.slots["t3"]
    swapped = [replace(s, address={"t1": t3.address, "t3": t1.address}.get(s.name, s.address)) for s in program.tensors]
    with pytest.raises(ProgramError, match=r"are read-only, got a write to byte"):
        check_program(replace(program, tensors=tuple(swapped)))


def test_a_segment_that_overwrites_the_network_input_is_refused() -> None:
    program = middle()
    t0, t1 = program.slots["t0"], program.slots["t1"]
    changed = [replace(s, address={"t0": t1.address, "t1": t0.address}.get(s.name, s.address)) for s in program.tensors]
    with pytest.raises(ProgramError, match=r"are read-only, got a write to byte"):
        check_program(replace(program, tensors=tuple(changed)))


def _address_of_its_own(patch: pytest.MonkeyPatch) -> None:
    """Every segment places its inputs anew."""
    original = emit_memory.place_values

    def forgetful(networks: Any) -> Any:
        every = list(networks)
        placement = original(every)
        moved = [{name: a + 64 * (i > 0) for name, a in one.items()} for i, one in enumerate(placement.addresses)]
        return emit_memory.Placement(tuple(moved), placement.end + 64)

    patch.setattr("compiler.compile.place_values", forgetful)
    patch.setattr("compiler.compile.check_program", lambda program: None)


def _host_does_not_write(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Program, "write_tensor", lambda self, memory, slot, value: None)


def _host_reads_what_was_there_before(patch: pytest.MonkeyPatch) -> None:
    original = Execution.run_host

    def stale(self: Execution, segment: Any) -> None:
        zeros = {slot.name: np.zeros(slot.shape, slot.dtype) for slot in self.program.inputs}
        memory, self.memory = self.memory, self.program.memory_image(zeros)
        original(self, segment)
        self.memory, written = memory, self.memory
        for name in segment.outputs:
            slot = self.program.slots[name]
            if slot.address is not None:
                part = slice(slot.address, slot.address + slot.size_bytes)
                self.memory[part] = written[part]

    patch.setattr(Execution, "run_host", stale)


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "inputs of segments at other addresses": _address_of_its_own,
    "the host writes nothing": _host_does_not_write,
    "the host reads stale memory": _host_reads_what_was_there_before,
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[mutant](monkeypatch)
    with pytest.raises((AssertionError, ProgramError)):
        run_random(range(8))


# Users' arrays --------------------------------------------------------------------------------------------------------


def test_real_inputs_and_outputs_of_the_host_pass_as_they_are(tmp_path: Path) -> None:
    program = compile_graph(float_head((1, 5), "fp32"), TINY)
    x = np.linspace(-3, 3, 10, dtype=np.float32).reshape(2, 5)
    first, second = split_samples(program, x)
    np.testing.assert_array_equal(np.concatenate([first["x"], second["x"]]), x)
    np.testing.assert_array_equal(accel.quantize_input(program, x[:1]), x[:1])
    top = compile_graph(top_k(9, 4), TINY)
    outputs = accel.run(top, np.arange(-4, 5, dtype=np.int8)[None]).outputs
    joined = join_samples(top, [outputs], None, real=True)
    assert {name: (array.dtype.name, array.shape) for name, array in joined.items()} == {
        "values": ("float32", (1, 4)),
        "indices": ("int64", (1, 4)),
    }
    assert joined["indices"].tolist() == [[8, 7, 6, 5]]
    assert verify(program).outputs["q"].shape == (1, 5)
