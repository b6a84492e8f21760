"""The bare-metal driver in C: compiled with all warnings as errors, and run on a register file in C."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks.host_graphs import random_segments
from support.rtl.bench import small

import accel
from accel.machine import isa, registers
from accel.machine.numerics import requant_mode
from accel.machine.registers import CAPABILITIES, REGISTERS
from accel.network.graph import Graph, Tensor
from accel.network.nodes import MaxPool2d
from accel.network.states import State
from accel.program.parts import MACHINE, Segment
from accel.program.program import Program
from accel.program.sections import join_sections, split_sections
from rtl import bundle
from rtl.bundle.c_headers import machine_file, machine_header, machine_macro, register_header

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

CONFIG = small(rows=2, cols=2, post_lanes=1, bus_bytes=4, param_channels=64, requant_modes=("tflite",))
BASE = 0x1_8000_0000
DRIVER = Path(bundle.__file__).parent / "driver"
SOURCES = sorted(DRIVER.glob("*.c"))
GCC = ("gcc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-O1")


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the generated headers."""
    folder = tmp_path_factory.mktemp("headers")
    (folder / "accel_registers.h").write_text(register_header())
    (folder / machine_file("npu")).write_text(machine_header("npu", CONFIG))
    return folder


@pytest.fixture(scope="module")
def program() -> Program:
    """Segments of machine and host by turns."""
    return accel.compile(random_segments(np.random.default_rng(5), "tflite"), CONFIG)


Run = Callable[..., list[str]]


def built(folder: Path, sources: list[Path], headers: Path) -> Path:
    """The driver with a mocked machine (driver/mocked.c), as a program."""
    main = Path(__file__).parent / "driver" / "mocked.c"
    command = [*GCC[:-2], "-O1", f"-I{headers}", f"-I{DRIVER}", "-o", "mocked", str(main), *map(str, sources)]
    subprocess.run(command, cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def run(headers: Path, program: Program, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What the mocked machine and the driver print for a file, by letters for what goes wrong."""
    folder = built(tmp_path_factory.mktemp("mocked"), SOURCES, headers)

    def call(faults: str = "", given: Program = program, **changes: Any) -> list[str]:
        (folder / "model.program").write_bytes(changes.get("data", given.to_bytes()))
        fingerprint = changes.get("fingerprint", CONFIG.fingerprint())[:16]
        arguments = ["./mocked", "model.program", fingerprint, str(CONFIG.rows), f"-{faults}"]
        lines = subprocess.run(arguments, cwd=folder, check=True, capture_output=True, text=True).stdout.splitlines()
        if (folder / "image").exists():
            image = np.fromfile(folder / "image", np.uint8)
            zeros = {slot.name: np.zeros(slot.shape, slot.dtype) for slot in given.inputs}
            np.testing.assert_array_equal(image, given.memory_image(zeros))
            os.remove(folder / "image")
        return lines

    return call


def walk(program: Program) -> list[list[str]]:
    """What the driver does for each segment."""

    def tensor(name: str) -> str:
        slot = program.slots[name]
        return name if slot.address is None else f"{name}@{slot.address}+{slot.size_bytes}"

    def one(segment: Segment) -> list[str]:
        if segment.unit != MACHINE:
            names = [f"in {' '.join(map(tensor, segment.inputs))}", f"out {' '.join(map(tensor, segment.outputs))}"]
            return [f"host {segment.first} {segment.count} {names[0]} {names[1]}"]
        places = [[(s.address, s.size_bytes) for s in map(program.slots.get, names) if s]
                  for names in (segment.inputs, segment.outputs)]  # fmt: skip
        return [
            *(f"clean {address} {size}" for address, size in places[0]),
            f"start {program.address_of(segment)} {segment.count} at 0x{BASE:x}",
            *(f"invalidate {address} {size}" for address, size in places[1]),
        ]

    return [one(segment) for segment in program.segments]


@pytest.mark.parametrize(("faults", "interrupts"), [("", 1), ("p", 0)])
def test_segments_are_walked_in_order(run: Run, program: Program, faults: str, interrupts: int) -> None:
    assert len(program.machine_segments) > 1
    assert len(program.segments) > len(program.machine_segments)
    steps = [line for lines in walk(program) for line in lines]
    assert run(faults) == [f"clean 0 {program.memory_bytes}", *steps, "ok", f"interrupts {interrupts}"]


MUTANTS = [
    ("accel_program.c", "ACCEL_INSTRUCTION_BYTES * segment->first", "ACCEL_INSTRUCTION_BYTES * 0 * segment->first"),
    ("accel_program.c", "segment->outputs, false)", "segment->inputs, false)"),
    ("accel_program.c", "status == ACCEL_OK && accel_program_segment", "accel_program_segment"),
    ("accel.c", "(uint32_t)(image_address >> 32)", "0"),
    ("accel.c", "    if (accel_running(machine))\n        return ACCEL_BUSY;\n", ""),
    ("accel.c", "    forget(machine); /*", "    /*"),
    ("accel_program.c", "    if (accel_running(machine))\n        return ACCEL_BUSY;\n", ""),
    ("accel_program.c", "    program->image = NULL;\n    if (!program->opened)", "    if (!program->opened)"),
    ("accel_program.c", "    if (!program->image)\n        return ACCEL_NOT_LOADED;\n", ""),
    ("accel_json.c", "for (; index; --index)", "for (; index > 1; --index)"),
    ("accel.c", "            listen(machine); /*", "            /*"),
]
"""A file, a text in it, and another one, with which what the driver does is wrong."""

SCENARIOS = ("", "f", "bg", "n", "bu")
"""What goes wrong for mutants, by letters."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "old", "new"), MUTANTS)
def test_mutants_are_found(
    name: str, old: str, new: str, run: Run, headers: Path, program: Program, tmp_path: Path
) -> None:
    text = (DRIVER / name).read_text()
    assert text.count(old) == 1
    (tmp_path / name).write_text(text.replace(old, new))
    (tmp_path / "model.program").write_bytes(program.to_bytes())
    built(tmp_path, [tmp_path / name, *(path for path in SOURCES if path.name != name)], headers)
    printed = []
    for faults in SCENARIOS:
        command = ["./mocked", "model.program", CONFIG.fingerprint()[:16], str(CONFIG.rows), f"-{faults}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
        printed += done.stdout.splitlines()
    assert printed != [line for faults in SCENARIOS for line in run(faults)]


def test_an_error_ends_the_walk_and_is_reported(run: Run, program: Program) -> None:
    *steps, status, report, _ = run("f")
    second = [lines for lines, segment in zip(walk(program), program.segments, strict=True) if segment.unit == MACHINE][
        1
    ]
    assert steps[-1] == next(line for line in second if line.startswith("start"))
    assert status == "the run ended with an error"
    assert report == f"bounds: instruction 7 of POST at {BASE + 64:#x}: {registers.ERRORS['bounds']}"


RUNNING, UNREPORTED = "a run still goes on", "the machine reported nothing within the limit"


@pytest.mark.parametrize("faults", ["bg", "bgp"], ids=["interrupts", "polling"])
def test_a_start_waits_for_the_run_before(run: Run, faults: str) -> None:
    """It is refused while that goes on, before anything is computed; its end is not taken for that of the next run."""
    lines = run(faults)
    hung = lines.index(UNREPORTED)
    answers = [line for line in lines[hung:-1] if not line.startswith("start")]
    assert answers == [UNREPORTED, RUNNING, RUNNING, "ok", "ok", UNREPORTED, "ok", "ok", "ok"]


@pytest.mark.parametrize(("faults", "listens"), [("bu", "1 1"), ("bup", "0 0")], ids=["interrupts", "polling"])
def test_after_a_stop_that_takes_long_the_end_can_be_waited_for(run: Run, faults: str, listens: str) -> None:
    assert run(faults)[-4:-1] == [UNREPORTED, f"listens {listens}", "ok"]


def test_what_was_refused_does_not_run(run: Run, program: Program) -> None:
    """After a load that was good, and with a file that was."""
    room, damaged = (
        "the image does not fit into its memory, or its address is not aligned",
        "the program file is damaged or none",
    )
    answers = run("n")[-8:-1]
    assert answers == [
        "ok",
        room,
        "the program is not loaded",
        "carry 0",
        damaged,
        damaged,
        "the program is not loaded",
    ]


def test_a_host_operator_may_refuse(run: Run) -> None:
    *_, last, status, _ = run("h")
    assert last.startswith("host ")
    assert status == "the callback for host operators refused"


def with_state() -> Program:
    """Three channels, which take two words."""
    tensors = {name: Tensor(name, (1, 2, 2, 3), 0.5, 3) for name in ("x", "y", "before", "after")}
    nodes = tuple(
        MaxPool2d(name=end, inputs=(start,), output=end, kernel=(1, 1), stride=(1, 1))
        for start, end in (("x", "y"), ("before", "after"))
    )
    states = (State("before", "after", -5),)
    graph = Graph("s", requant_mode("tflite"), tensors, nodes, ("x", "before"), ("y", "after"), states)
    return accel.compile(graph, CONFIG)


def test_states_begin_and_are_carried(run: Run) -> None:
    """The image of the first run holds the initial value."""
    *_, status, carried, _ = run("k", given=with_state())
    assert (status, carried) == ("ok", f"carry 1 {' '.join(map(str, range(12)))}")


@pytest.mark.parametrize(
    ("faults", "status"),
    [
        ("i", "there is no machine at these registers"),
        ("v", "the machine's register map has another major version than the driver"),
        ("c", "the machine is not the expected one"),
        ("s", "the image does not fit into its memory, or its address is not aligned"),
        ("a", "the image does not fit into its memory, or its address is not aligned"),
        ("bp", "the machine reported nothing within the limit"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(run: Run, faults: str, status: str) -> None:
    assert run(faults)[-2] == status


def test_a_program_for_another_machine_is_refused(run: Run) -> None:
    assert run(fingerprint="0123456789abcdef")[-2] == "the program was compiled for another machine"


def test_a_damaged_file_is_refused(run: Run, program: Program) -> None:
    data = program.to_bytes()
    for position in (0, 8, 12, 50, 80, len(data) - 1):
        damaged = bytearray(data)
        damaged[position] ^= 1
        assert run(data=bytes(damaged))[-2] == "the program file is damaged or none"
    assert run(data=data[:-1])[-2] == run(data=b"")[-2] == "the program file is damaged or none"


OVERFLOWS = [384773, 49477, 34724, 27905]
"""Extents whose product is 4 modulo 2**64."""


def with_header(program: Program, header: dict[str, Any]) -> bytes:
    """A program's file with another header, and a checksum that is right."""
    _, *sections = split_sections(program.to_bytes(), "")
    return join_sections((json.dumps(header, separators=(",", ":")).encode(), *sections))


def header_of(program: Program) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(split_sections(program.to_bytes(), "")[0])
    return found


@pytest.mark.parametrize(
    ("key", "index", "changes"),
    [
        ("segments", 0, {"first": 0xFFFFFFFF}),
        ("segments", 0, {"count": 0xFFFFFFFF}),
        ("segments", 0, {"count": 1 << 32}),
        ("segments", -1, {"count": None}),
        ("segments", None, []),
        ("tensors", 0, {"shape": OVERFLOWS}),
        ("tensors", 0, {"shape": [1, 0, 1, 1]}),
        ("tensors", 0, {"address": 1 << 31}),
        ("code_address", None, 3),
        ("memory_bytes", None, (1 << 32) + 1),
    ],
)
def test_a_header_that_says_what_cannot_be_is_refused(
    run: Run, program: Program, key: str, index: int | None, changes: Any
) -> None:
    found = header_of(program)
    assert run(data=with_header(program, found))[-2] == "ok"
    if index is None:
        found[key] = changes
    else:
        found[key][index].update(changes)
    assert run(data=with_header(program, found))[-2] == "the program file is damaged or none"


def test_states_of_two_sizes_are_not_carried(run: Run) -> None:
    given = with_state()
    found = header_of(given)
    (after,) = (slot for slot in found["tensors"] if slot["name"] == "after")
    after["shape"][-1] -= 1
    lines = run("k", given, data=with_header(given, found))
    assert lines[-2].startswith("carry 0")


def test_it_needs_no_library_and_a_pointer_of_any_width(headers: Path, tmp_path: Path) -> None:
    widths = ["-m32", "-m64"] if platform.machine() == "x86_64" else [""]
    for width in filter(None, widths):
        command = [*GCC, width, "-ffreestanding", "-fno-pic", f"-I{headers}", f"-I{DRIVER}", "-c", *map(str, SOURCES)]
        subprocess.run(command, cwd=tmp_path, check=True)
        symbols = subprocess.run(["nm", "-u", *tmp_path.glob("*.o")], check=True, capture_output=True, text=True).stdout
        assert all(name.startswith("accel_") for name in re.findall(r"^ +U (\w+)", symbols, re.MULTILINE))


@pytest.mark.parametrize(
    "name", ["accel", "accel_no", "accel_reg", "accel_registers", "host", "simulation", "stdio", "string", "uint8", "_"]
)
def test_no_name_of_a_machine_clashes(name: str, headers: Path, tmp_path: Path) -> None:
    """Neither its file with another header nor its macros with other names."""
    example = DRIVER.parent / "example"
    file, text = machine_file(name), machine_header(name, CONFIG)
    assert not any((folder / file).exists() for folder in (headers, DRIVER, example))
    (tmp_path / file).write_text(text)
    names = ["stdio.h", "string.h", *(path.name for folder in (DRIVER, example) for path in folder.glob("*.h")), file]
    includes = "".join(f'#include "{name}"\n' for name in names)
    machine = (
        f"struct accel_machine machine = {machine_macro(name)};\nenum accel_status all[] = {{ACCEL_NO_MACHINE}};\n"
    )
    (tmp_path / "checks.c").write_text(includes + machine)
    folders = (f"-I{folder}" for folder in (tmp_path, headers, DRIVER, example))
    subprocess.run([*GCC, *folders, "-c", "checks.c"], cwd=tmp_path, check=True)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_a_program_in_cpp_links_with_the_driver(headers: Path, tmp_path: Path) -> None:
    calls = ("accel_init", "accel_json_member", "accel_program_open", "accel_sha256_begin")
    includes = [f'#include "{path.name}"' for path in sorted(DRIVER.glob("*.h"))]
    uses = [f"reinterpret_cast<void *>({call})," for call in calls]
    machine = '#include "machine_npu.h"\nconst accel_machine expected = MACHINE_NPU_INITIALIZER;'
    main = ["void *const used[] = {", *uses, "};", "int main() { return !used[0] || !expected.fingerprint[0]; }\n"]
    (tmp_path / "main.cpp").write_text("\n".join([*includes, machine, *main]))
    folders = (f"-I{headers}", f"-I{DRIVER}")
    subprocess.run([*GCC, *folders, "-c", *map(str, SOURCES)], cwd=tmp_path, check=True)
    objects = [path.name for path in tmp_path.glob("*.o")]
    flags = ("-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror")
    subprocess.run(["g++", *flags, *folders, "main.cpp", *objects, "-o", "main"], cwd=tmp_path, check=True)
    subprocess.run(["./main"], cwd=tmp_path, check=True)


def test_the_header_is_the_register_map(headers: Path, tmp_path: Path) -> None:
    """The numbers as the C compiler sees them."""
    expected = {f"ACCEL_REG_{name}": register.address for name, register in REGISTERS.items()}
    expected |= {f"ACCEL_ERROR_{name.upper()}": 1 << bit for bit, name in enumerate(registers.ERRORS)}
    expected |= {"ACCEL_MAGIC": registers.MAGIC, "ACCEL_INSTRUCTION_BYTES": isa.INSTRUCTION_BYTES}
    expected |= {f"MACHINE_NPU_{name}": value for name, value in registers.capabilities(CONFIG).items()}
    first = REGISTERS["ROWS"].address
    assert [REGISTERS[name].address for name in CAPABILITIES] == [first + 4 * i for i in range(len(CAPABILITIES))]
    checks = "".join(f"typedef char is_{name}[{name} == {value}u ? 1 : -1];\n" for name, value in expected.items())
    machine = "struct accel_machine machine = MACHINE_NPU_INITIALIZER;\n"
    (tmp_path / "checks.c").write_text(f'#include "accel.h"\n#include "machine_npu.h"\n{checks}{machine}')
    subprocess.run([*GCC, f"-I{headers}", f"-I{DRIVER}", "-c", "checks.c"], cwd=tmp_path, check=True)
