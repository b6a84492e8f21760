"""Programs that break rules, and what must hold of the machine that runs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from accel.machine.config import REQUANT_MODES
from accel.machine.isa import INSTRUCTION_BYTES, Instruction, Memory, Opcode, decode_table, encode
from accel.machine.loops import LOOPS
from accel.machine.registers import ERRORS, IMAGE_ALIGNMENT, STOPPING
from accel.machine.rules.rows import Rows
from accel.machine.rules.sums import depthwise_stream
from rtl.testbench.result import SimulationResult
from rtl.testbench.verilate import Variant
from rtl.testbench.verilator import Conditions, Powered
from support.machine.random_programs import random_program
from support.rtl.bench import small
from support.rtl.depthwise_program import depthwise_program
from support.rtl.instruction_mutants import breaks_a_field_rule, breaks_a_use_rule, mutant
from support.rtl.matmul_program import HandWrittenProgram

MACHINE = small(
    rows=4, cols=2, spad_banks=8, acc_banks=4, acc_bank_words=64, post_lanes=1, depthwise_taps=3, int4_weights=True,
    requant_modes=REQUANT_MODES,
)  # fmt: skip
COUNTED = Variant(counters=True)
MEMORY_BYTES, MOST_BEFORE = 1 << 14, 48
LONG = 6000
"""Cycles after which the driver stops a run; a mutant may count to 2^58."""

BASES = (1 << 32) // IMAGE_ALIGNMENT - 16
"""Pages of an image at which a memory may begin."""

LEGAL = 100
"""Legal programs of which a seed's hostile ones are made."""

HOSTILE = Conditions(stop_cycles=LONG, watchdog=1000, answer_outside=True)


def words(code: bytes) -> list[bytes]:
    return [code[i : i + INSTRUCTION_BYTES] for i in range(0, len(code), INSTRUCTION_BYTES)]


def hostile_program(rng: np.random.Generator, legal: list[list[bytes]]) -> bytes:
    """Noise, instructions of legal programs in any order, or a legal program with mutants in it."""
    kind = rng.integers(4)
    if kind == 0:
        return rng.bytes(INSTRUCTION_BYTES * int(rng.integers(1, 6)))
    program = legal[int(rng.integers(len(legal)))]
    if kind == 1:
        return b"".join(program[i] for i in rng.permutation(len(program)))
    return b"".join(mutant(code, rng) if rng.random() < 0.2 else code for code in program)


def legal_programs(rng: np.random.Generator, count: int) -> list[list[bytes]]:
    """Random programs that keep all rules, as lists of instructions."""
    return [words(random_program(MACHINE, rng, int(rng.integers(2, 16))).code) for _ in range(count)]


def run(
    machine: Powered, code: bytes, memory: np.ndarray, base: int = 0, cycles: int = LONG, beyond: int = 0
) -> SimulationResult:
    conditions = replace(HOSTILE, memory_base=base, stop_cycles=cycles, beyond=beyond)
    return machine.run(code, 0, memory, max_cycles=3 * cycles, conditions=conditions)


def check_located(got: SimulationResult, code: bytes) -> str:
    """How the run ended; an error must name an instruction of the program."""
    if not got.error:
        return "done"
    first = got.first_error
    assert first.errors
    assert 0 <= first.index <= len(code) // INSTRUCTION_BYTES
    if first.unit and first.unit != "FETCH":
        assert Opcode(words(code)[first.index][0] & 15).name == first.unit
        assert not first.address or {*first.errors} & {"read_response", "write_response", "watchdog"}
    if first.unit == "FETCH":
        assert first.address == first.index * INSTRUCTION_BYTES
    return first.errors[0]


def check_right(machine: Powered, reference: HandWrittenProgram, cycles: int | None) -> None:
    """The machine runs a program right, in so many cycles; None: in any number."""
    got = machine.run(reference.code, 0, reference.memory, max_cycles=LONG if cycles else 20 * LONG)
    expected = reference.expected.copy()
    expected[: len(reference.code)] = np.frombuffer(reference.code, np.uint8)
    assert (got.error, got.total_cycles) == (0, cycles or got.total_cycles)
    np.testing.assert_array_equal(got.memory, expected)


def hostile_programs(seed: int, count: int) -> Iterator[tuple[bytes, np.ndarray]]:
    """Programs that may break any rule, and the external memory of each."""
    rng = np.random.default_rng(seed)
    legal = legal_programs(rng, LEGAL)
    for _ in range(count):
        yield hostile_program(rng, legal), rng.integers(0, 256, MEMORY_BYTES, np.uint8)


def fuzz(seed: int, programs: Iterable[tuple[bytes, np.ndarray]], machine: Powered, between: int = 1) -> Counter[str]:
    """Run hostile programs, a right one after each `between` of them; returns how often each end occurred."""
    reference, ends = depthwise_program(MACHINE, seed), Counter[str]()
    cycles = machine.run(reference.code, 0, reference.memory, max_cycles=LONG).total_cycles
    for number, (code, memory) in enumerate(programs, 1):
        ends[check_located(run(machine, code, memory), code)] += 1
        if number % between == 0:
            check_right(machine, reference, cycles)
    return ends


class AddressFault(NamedTuple):
    """A program that ends with a LOAD or STORE, the unit, and the address of the first burst outside of the memory, if
    there is one."""

    opcode: Opcode
    code: bytes
    missing: int | None


def address_faults(seed: int, count: int) -> Iterator[AddressFault]:
    """LOAD and STORE in two loops, anywhere in the image, some of them behind others."""
    rng = np.random.default_rng(seed)
    stored = {"row_words": 1, "word_bytes": MACHINE.rows}
    loaded = stored | {"memory": Memory.SPAD, "row_bytes": MACHINE.rows, "step_bytes": MACHINE.rows}
    words_of = {Opcode.LOAD: loaded, Opcode.STORE: stored}
    right = {opcode: encode([Instruction(opcode, {"dram_address": 0} | fields)]) for opcode, fields in words_of.items()}
    for number in range(count):
        opcode = (Opcode.LOAD, Opcode.STORE)[number % 2]
        counts, strides = rng.integers(1, 4, 2), rng.integers(-(1 << 28), 1 << 28, 2) * MACHINE.bus_bytes
        inside = rng.random() < 0.5
        start = int(rng.integers(MEMORY_BYTES if inside else 1 << 32)) // MACHINE.bus_bytes * MACHINE.bus_bytes
        fields = words_of[opcode] | {"dram_address": start}
        fields |= {"outer_count": int(counts[0]), "row_count": int(counts[1])}
        fields |= {"dram_outer_stride": int(strides[0]), "dram_row_stride": int(strides[1])}
        rows = (start + i * fields["dram_outer_stride"] + j * fields["dram_row_stride"] for i, j in np.ndindex(*counts))
        missing = [int(row) % (1 << 32) for row in rows if row % (1 << 32) >= MEMORY_BYTES]
        others = right[opcode] * (number % 4 // 2 * int(rng.integers(MOST_BEFORE)))
        yield AddressFault(opcode, others + encode([Instruction(opcode, fields)]), missing[0] if missing else None)


def check_address_fault(fault: AddressFault, machine: Powered) -> None:
    """The first burst with an error response is reported."""
    first = run(machine, fault.code, np.zeros(MEMORY_BYTES, np.uint8)).first_error
    error = "read_response" if fault.opcode is Opcode.LOAD else "write_response"
    assert first.errors == (() if fault.missing is None else (error,))
    index = len(fault.code) // INSTRUCTION_BYTES - 1
    assert fault.missing is None or first[1:] == (fault.opcode.name, index, fault.missing)


def single_mutants(seed: int, count: int, most_steps: int = LONG // 4) -> Iterator[tuple[bytes, set[str]]]:
    """Single instructions that take few steps, and which of the errors the checker's rules predict: one of the set."""
    rng = np.random.default_rng(seed)
    while count:
        legal = words(random_program(MACHINE, rng, 6).code)
        code = mutant(legal[int(rng.integers(len(legal)))], rng)
        if code[0] & 15 not in list(Opcode):
            continue
        expected = {"rule"}
        if not breaks_a_field_rule(MACHINE, code):
            rows = Rows.of(Opcode(code[0] & 15), decode_table(code))
            streams = rows.opcode is Opcode.DEPTHWISE and any(depthwise_stream(MACHINE, rows))
            if rows["wait"].any() or streams or rows.product(*LOOPS[rows.opcode])[0] > most_steps:
                continue
            expected = {"rule", "bounds"} if breaks_a_use_rule(MACHINE, code) else set()
        yield code, expected
        count -= 1


class Verdict(NamedTuple):
    """A program of which the last instruction may break a rule, where it begins, and which of the errors the checker's
    rules predict: one of the set."""

    code: bytes
    base: int
    expected: set[str]


def verdicts(instructions: Iterable[tuple[bytes, set[str]]]) -> list[Verdict]:
    """Programs and predictions; single instructions lie somewhere in the image, where they need no memory."""
    rng, result = np.random.default_rng(0), []
    for code, expected in instructions:
        page = int(rng.integers(BASES)) if len(code) == INSTRUCTION_BYTES else 0
        result.append(Verdict(code, page * IMAGE_ALIGNMENT, expected))
    return result


def check_verdict(verdict: Verdict, machine: Powered, cycles: int = LONG) -> set[str]:
    """The machine refuses an instruction if and only if the checker's rules on single instructions do, at its dispatch
    if a rule on fields is broken; returns the errors that it reports."""
    code, base, expected = verdict
    got = run(machine, code, np.zeros(MEMORY_BYTES, np.uint8), base, cycles)
    errors = {name for i, name in enumerate(ERRORS) if got.error >> i & 1}
    found = errors & {*STOPPING}
    assert found <= expected, code.hex()
    assert "semaphore" not in errors, code.hex()
    assert bool(found) == bool(expected), code.hex()
    if found and expected:
        last = len(code) - INSTRUCTION_BYTES
        assert got.first_error.index == last // INSTRUCTION_BYTES
        first = got.first_error
        expected_address = base + last if first.unit == "FETCH" else 0
        assert first.address == expected_address or {*first.errors} - {"rule", "bounds"}
        assert first.unit == "FETCH" or "bounds" in expected
    return found


def check_verdicts(instructions: Iterable[tuple[bytes, set[str]]], machine: Powered) -> None:
    """The same of many, some of which break rules on fields, some rules on uses, some none."""
    ends = Counter[str]()
    for verdict in verdicts(instructions):
        ends.update(check_verdict(verdict, machine) or {"done"})
    assert min(ends[name] for name in ("rule", "bounds", "done")) > ends.total() / 30
