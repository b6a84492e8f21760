"""Program files: one way to write each, one sentence for each kind of damage, and nothing accepted by accident."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.machine.program_mutants import raw_mutant, sections_of, smart_mutant
from support.networks.small_networks import conv, every_compiled_operation, fully_connected, network, pool

import accel
from accel.errors import AccelError, InputError, ProgramError
from accel.machine.config import preset
from accel.machine.numerics import RequantMode
from accel.network import reference
from accel.network.nodes import AveragePool2d
from accel.network.real import quantize_real
from accel.program.program import MEMORY_LIMIT_BYTES, LayerInfo, Program, TensorSlot
from accel.program.samples import split_samples
from accel.program.sections import PREFIX, join_sections

LARGEST_RUN_BYTES = 1 << 22
"""Mutants with larger memories are loaded, not run."""


@cache
def original() -> Program:
    """A small program with every operation, a host part, and two outputs."""
    return accel.compile(every_compiled_operation(), "tiny")


@cache
def plain() -> Program:
    """A program without a host part."""
    return accel.compile(network((1, 4, 5, 3), conv(6, (2, 2)), fully_connected(4)), "tiny")


def refusal(data: bytes) -> str:
    with pytest.raises(ProgramError) as caught:
        Program.from_bytes(data, "x")
    return str(caught.value)


def with_header(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The original file with an altered header and a checksum to match."""
    text, *rest = sections_of(original().to_bytes())
    header = json.loads(text)
    header = change(header) or header
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return join_sections((text, *rest))


# Round trips ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [original, plain])
def test_round_trip(make: Callable[[], Program], tmp_path: Path) -> None:
    program = make()
    data = program.to_bytes()
    again = Program.from_bytes(data)
    assert again.to_bytes() == data
    path = tmp_path / "a.program"
    program.save(path)
    assert path.read_bytes() == data
    loaded = Program.load(path)
    assert loaded.mode is program.mode
    for name in ("config", "code", "constants", "tensors", "segments", "layers", "instruction_layers", "memory_bytes"):
        assert getattr(loaded, name) == getattr(program, name)


def test_a_loaded_program_computes_the_graph() -> None:
    graph = every_compiled_operation()
    program = Program.from_bytes(original().to_bytes())
    image = np.random.default_rng(0).integers(-128, 128, graph.tensors["t0"].shape).astype(np.int8)
    expected = reference.run(graph, image)
    outputs = accel.run(program, image).outputs
    assert sorted(outputs) == sorted(graph.outputs)
    for name, values in outputs.items():
        np.testing.assert_array_equal(values, expected[name])


def test_the_mode_is_that_of_the_network_whatever_its_instructions_round_with() -> None:
    graph = network((1, 4, 4, 3), pool(AveragePool2d, (2, 2), (2, 2)), mode="fp32")
    program = accel.compile(graph, "tiny")
    assert program.mode is RequantMode.FP32
    loaded = Program.from_bytes(program.to_bytes())
    half = np.full((1, 4, 4, 3), 0.5 * graph.tensors["t0"].scale, np.float32)
    integers = quantize_real(half, loaded.inputs[0].tensor, loaded.mode)
    np.testing.assert_array_equal(integers, accel.quantize_input(graph, half, layout="NHWC"))
    assert set(integers.flat) == {graph.tensors["t0"].zero_point}


def test_names_in_other_scripts_survive(tmp_path: Path) -> None:
    graph = network((1, 3, 3, 2), conv(2, (1, 1)))
    layer = replace(graph.nodes[0], name="çonv 畳み込み")
    program = accel.compile(replace(graph, nodes=(layer,)), "tiny")
    assert Program.from_bytes(program.to_bytes()).layers[0].name == "çonv 畳み込み"


# Damage ---------------------------------------------------------------------------------------------------------------


def test_each_kind_of_damage_has_its_sentence(tmp_path: Path) -> None:
    data = original().to_bytes()
    size = len(data)
    altered = bytearray(data)
    altered[-5] ^= 1
    assert refusal(b"") == "x: must be a program file (magic ACCELPRG), got something else"
    assert refusal(data[: PREFIX.size - 1]) == "x: must be a program file (magic ACCELPRG), got something else"
    assert refusal(b"PK" + data[2:]) == "x: must be a program file (magic ACCELPRG), got something else"
    assert refusal(data[:8] + b"\x02" + data[9:]) == "x: format version must be 5, got 2; compile the graph again"
    assert refusal(data[:-1]) == f"x: must be {size} bytes long, got {size - 1}; the file is damaged"
    assert refusal(data + b"\0") == f"x: must be {size} bytes long, got {size + 1}; the file is damaged"
    assert refusal(bytes(altered)) == "x: the checksum does not match; the file is damaged"
    missing = tmp_path / "none"
    with pytest.raises(ProgramError, match=r"none: must be a readable program file, got No such file or directory$"):
        Program.load(missing)
    with pytest.raises(ProgramError, match=r"must be a readable program file, got Is a directory$"):
        Program.load(tmp_path)


def test_lengths_beyond_the_file_allocate_nothing() -> None:
    data = bytearray(original().to_bytes())
    data[12 : 12 + 8] = (1 << 63).to_bytes(8, "little")
    tracemalloc.start()
    message = refusal(bytes(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message.startswith("x: must be 92233720368547")
    assert peak < 1 << 20


def set_key(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: Any) -> None:
        for step in path[:-1]:
            header = header[step]
        header[path[-1]] = to

    return change


HEADER_DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "the fingerprint must be that of the configuration; compile the graph again": set_key("fingerprint", to="0" * 64),
    "config: must be TOML, got an error: Expected '=' after a key in a key/value pair (at end of document)": set_key(
        "config", to="colour"
    ),
    "config: unknown key 'colour'; known keys are name, rows, cols, spad_banks, spad_bank_words, wbuf_words, "
    "acc_banks, acc_bank_words, param_channels, post_lanes, depthwise_taps, depthwise_words, queue_depth, "
    "bus_bytes, outstanding_bursts, read_latency_cycles, write_latency_cycles, requant_modes, int4_weights, "
    "clock_mhz": set_key(
        "config", to="colour = 1"
    ),
    "requantization mode must be one of 'tflite', 'single', 'fp32', got 'double'": set_key("mode", to="double"),
    f"memory_bytes must be in 1..{MEMORY_LIMIT_BYTES}, got {1 << 40}": set_key("memory_bytes", to=1 << 40),
    f"memory_bytes must be an integer in 0..{2**63 - 1}, got 1.5": set_key("memory_bytes", to=1.5),
    f"memory_bytes must be an integer in 0..{2**63 - 1}, got True": set_key("memory_bytes", to=True),
    f"code_address must be an integer in 0..{2**63 - 1}, got -64": set_key("code_address", to=-64),
    "code_address must be a multiple of 64, got 4097": set_key("code_address", to=4097),
    "code and constants must not overlap in memory": set_key("code_address", to=0),
    "constants and tensor 't0' must not overlap in memory": set_key("constants_address", to=0),
    "constants and tensor 't6' must not overlap in memory": lambda header: set_key("tensors", 1, "address", to=header[
        "constants_address"])(header),
    "code must lie inside the memory of 64 bytes, got {code}": set_key("memory_bytes", to=64),
    "tensor 't0': shape must be (1, height, width, channels) or (1, features), got (1, 9, 8)": set_key(
        "tensors", 0, "shape", to=[1, 9, 8]
    ),
    "tensor 't0': scale must be a positive float32 value, got inf": set_key("tensors", 0, "scale", to=float("inf")),
    "tensor 't0': scale must be a positive float32 value, got 1e+308": set_key("tensors", 0, "scale", to=1e308),
    "tensor 't0': scale must be a positive float32 value, got nan": set_key("tensors", 0, "scale", to=float("nan")),
    "tensor 't0': zero_point must be an integer in [-128, 127], got 300": set_key(
        "tensors", 0, "zero_point", to=300
    ),
    "tensor name must be a text that is not empty, got 7": set_key("tensors", 0, "name", to=7),
    "a program must have at least one input and one output tensor": set_key("inputs", to=[]),
    "input names must be distinct, got t0, t0": lambda header: header["inputs"].append(header["inputs"][0]),
    "segment 0: tensor 't6' must be one of the program's tensors, in memory for the machine": set_key(
        "tensors", 1, "address", to=None
    ),
    "segment 1: tensor 't6' must be the same in the host graph": set_key("tensors", 1, "zero_point", to=4),
    "output 't6' must be one of the program's tensors": set_key("tensors", 1, "name", to="j"),
    "tensor names must be distinct, got t0, t0, t7": set_key("tensors", 1, "name", to="t0"),
    "segment unit must be 'machine' or 'host', got 'dsp'": set_key("segments", 0, "unit", to="dsp"),
    "segment 1 must read inputs or outputs of earlier segments, got 't6'": set_key("segments", 0, "outputs", to=[]),
    "segment 1 must list tensor 't6', which its nodes read": set_key("segments", 1, "inputs", to=[]),
    "segment 1: output 't6' must be made by its nodes": set_key("segments", 1, "outputs", to=["t6", "t7"]),
    "output 't7' must be an input or an output of a segment": set_key("segments", 1, "outputs", to=[]),
    "segment 0 must begin at number 0 of the machine's and have one or more, got {count} from 1": set_key(
        "segments", 0, "first", to=1
    ),
    "segments must hold all {count} instructions and 1 nodes of the host, got {count} and 0": lambda header: (
        header["segments"].pop(), header["outputs"].pop(), None)[-1],
    "instruction_layers must give the layer of each instruction": set_key("instruction_layers", 0, to=99),
    f"layer 'n0' macs must be an integer in 0..{2**63 - 1}, got '1'": set_key("layers", 0, "macs", to="1"),
    "layer name and op must be texts, got None and 'Conv2d'": set_key("layers", 0, "name", to=None),
    "header and host graph must be written as `Program.save` writes them": set_key("comment", to="hello"),
    "the header must be a program's, got KeyError 'layers'": lambda header: header.pop("layers") and None,
    "the header must be a program's, got TypeError list indices must be integers or slices, not str": lambda _: [1],
}  # fmt: skip


@pytest.mark.parametrize("message", HEADER_DAMAGE)
def test_headers_that_contradict_are_refused(message: str) -> None:
    code = original().code_address
    expected = message.replace("{code}", f"{code}..{code + len(original().code)}")
    expected = expected.replace("{count}", str(original().instruction_count))
    assert refusal(with_header(HEADER_DAMAGE[message])) == f"x: {expected}"


def test_other_sections_are_checked() -> None:
    text, code, constants, host = sections_of(original().to_bytes())
    assert refusal(join_sections((text, code[:-1], constants, host))).startswith("x: code must be a multiple of 64 ")
    assert refusal(join_sections((text, bytes(64) + code[64:], constants, host))) == (
        "x: instruction 0: opcode must be one of 1..5, got 0"
    )
    assert refusal(join_sections((text, b"", constants, host))) == (
        "x: instruction_layers must give the layer of each instruction"
    )
    assert refusal(join_sections((text, code[64:], constants, host))) == (
        "x: instruction_layers must give the layer of each instruction"
    )
    assert refusal(join_sections((text, code, constants, host[:-1]))).startswith("x: graph file must be ")
    assert refusal(join_sections((text, code, constants, b"hello"))).startswith("x: graph file must be ")
    assert refusal(join_sections((b"[" * 100_000, code, constants, host))).startswith("x: the header must be a program")
    assert refusal(join_sections((b"\xff", code, constants, host))).startswith("x: the header must be a program's, got")
    spaced = text.replace(b'"code_address":', b'"code_address": ')
    assert refusal(join_sections((spaced, code, constants, host))) == (
        "x: header and host graph must be written as `Program.save` writes them"
    )


def test_long_values_of_a_damaged_header_are_not_echoed_whole() -> None:
    message = refusal(with_header(set_key("mode", to="long " * 10_000)))
    assert message.startswith("x: ")
    assert len(message) < 500


def test_huge_memories_are_refused_before_they_are_made() -> None:
    program = replace(original(), memory_bytes=MEMORY_LIMIT_BYTES)
    assert Program.from_bytes(program.to_bytes()).memory_bytes == MEMORY_LIMIT_BYTES
    with pytest.raises(ProgramError, match=rf"^memory_bytes must be in 1..{MEMORY_LIMIT_BYTES}, got "):
        replace(original(), memory_bytes=MEMORY_LIMIT_BYTES + 1)


# Inputs ---------------------------------------------------------------------------------------------------------------


def test_memory_image_holds_everything_in_its_place() -> None:
    program = plain()
    image = np.arange(-30, 30, dtype=np.int8).reshape(1, 4, 5, 3)
    memory = program.memory_image(image)
    assert memory.shape == (program.memory_bytes,)
    assert memory[program.code_address :][: len(program.code)].tobytes() == program.code
    assert memory[program.constants_address :][: len(program.constants)].tobytes() == program.constants
    assert memory[program.inputs[0].address :][:60].tobytes() == image.tobytes()


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.zeros((1, 4, 5, 3), np.uint8), "uint8 (1, 4, 5, 3)"),
        (np.zeros((1, 4, 5, 3)), "float64 (1, 4, 5, 3)"),
        (np.zeros((4, 5, 3), np.int8), "int8 (4, 5, 3)"),
        ([1, 2], "list"),
        (None, "NoneType"),
    ],
)
def test_wrong_inputs_are_refused(value: Any, got: str) -> None:
    with pytest.raises(InputError) as caught:
        plain().memory_image(value)
    assert str(caught.value) == f"input 't0' must be int8 of shape (1, 4, 5, 3), got {got}"


def test_wrong_names_are_refused() -> None:
    good = np.zeros((1, 4, 5, 3), np.int8)
    with pytest.raises(InputError, match=r"^inputs must be named t0, got x$"):
        plain().memory_image({"x": good})
    with pytest.raises(InputError, match=r"^inputs must be named t0, got t0, x$"):
        plain().memory_image({"t0": good, "x": good})
    unread = TensorSlot("u", (1, 1), 1.0, 0, address=plain().memory_bytes)
    several = replace(plain(), tensors=(*plain().tensors, unread), input_names=("t0", "u"),
                      memory_bytes=plain().memory_bytes + 64)  # fmt: skip
    with pytest.raises(InputError, match=r"^the program has several inputs: give a mapping with the names t0, u$"):
        several.memory_image(good)
    with pytest.raises(InputError, match=r"^inputs must hold one number of samples .*, got 2 of 't0' and 3 of 'u'$"):
        split_samples(several, {"t0": np.repeat(good, 2, axis=0), "u": np.zeros((3, 1), np.int8)})
    with pytest.raises(
        InputError, match=r"^the model has several inputs: give them by the names t0, u, got one array$"
    ):
        split_samples(several, good)


def test_parts_are_checked_when_made() -> None:
    with pytest.raises(ProgramError, match=r"^layer 'a' k must be an integer in 0\.\.\d+, got -1$"):
        LayerInfo("a", "Conv2d", 1, 1, -1, 1)
    with pytest.raises(ProgramError, match=r"^layer 'a' must have at least one group, got 0$"):
        LayerInfo("a", "Conv2d", 1, 1, 1, 1, 1, 0)
    with pytest.raises(ProgramError, match=r"^tensor 'a' at an address must be int8, got float32$"):
        TensorSlot("a", (1, 1), 1.0, 0, dtype="float32", address=64)
    with pytest.raises(ProgramError, match=r"^tensor 'a' address must be an integer in 0\.\.\d+, got -1$"):
        TensorSlot("a", (1, 1), 1.0, 0, address=-1)


# Fuzzing --------------------------------------------------------------------------------------------------------------


def test_ten_thousand_damaged_files_are_refused() -> None:
    files = [original().to_bytes(), plain().to_bytes()]
    refused = 0
    for seed in range(10_000):
        data = raw_mutant(np.random.default_rng([seed, 1]), files)
        try:
            assert Program.from_bytes(data).to_bytes() in files, seed
        except ProgramError:
            refused += 1
    assert refused > 9_900


def run_smart_mutants(seeds: range) -> dict[str, int]:
    """Load and run mutants whose checksum is right; counts of what became of them."""
    programs = [original(), plain()]
    counts = {"refused": 0, "loaded": 0, "ran": 0, "failed": 0}
    for seed in seeds:
        rng = np.random.default_rng([seed, 2])
        data = smart_mutant(rng, programs[seed % 2].to_bytes())
        try:
            program = Program.from_bytes(data)
        except ProgramError:
            counts["refused"] += 1
            continue
        assert program.to_bytes() == data, seed
        counts["loaded"] += 1
        if program.memory_bytes > LARGEST_RUN_BYTES:
            continue
        inputs = {slot.name: rng.integers(-128, 128, slot.shape, dtype=np.int8) for slot in program.inputs}
        try:
            result = accel.run(program, inputs)
        except AccelError:
            counts["failed"] += 1
            continue
        counts["ran"] += 1
        assert sum(row.cycles for row in result.layers) == result.cycles, seed
        if program.host is None:
            assert {name: (a.shape, a.dtype) for name, a in result.outputs.items()} == {
                slot.name: (slot.shape, np.int8) for slot in program.outputs
            }, seed
    print(counts)
    return counts


def test_mutants_with_right_checksums_load_well_formed_or_not_at_all() -> None:
    counts = run_smart_mutants(range(300))
    assert min(counts.values()) > 15


@pytest.mark.parametrize(
    "part", [pytest.param(i, marks=pytest.mark.slow if i < 1 else pytest.mark.marathon) for i in range(4)]
)
def test_ten_thousand_mutants_with_right_checksums(part: int) -> None:
    run_smart_mutants(range(1000 + 2500 * part, 3500 + 2500 * part))


def test_a_reader_without_checksum_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accel.program.sections._checksum", lambda lengths, sections: bytes(32))
    data = bytearray(join_sections(sections_of(plain().to_bytes())))
    data[-3] ^= 255
    assert Program.from_bytes(bytes(data)).to_bytes() != plain().to_bytes()


def test_the_fingerprint_of_another_preset_is_refused() -> None:
    other = with_header(set_key("config", to=preset("edge").to_toml()))
    assert refusal(other) == "x: the fingerprint must be that of the configuration; compile the graph again"
