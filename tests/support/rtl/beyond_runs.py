"""States that programs of bearable length do not reach: counters far from 0, registers written during a run."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from accel.errors import DivergenceError
from accel.machine.isa import Instruction, Opcode, Unit, decode, encode
from accel.machine.latencies import SEMAPHORE_BITS, reset_cycles
from accel.machine.registers import CONTROL_STOP, ERRORS, IMAGE_ALIGNMENT, REGISTERS, STATUS_DONE, STATUS_RUNNING
from rtl.testbench.result import COUNTERS as STALLS
from rtl.testbench.verilate import COUNTERS
from rtl.testbench.verilator import Access, Conditions, Powered
from support.machine.random_programs import RandomProgram
from support.rtl.first_errors import BEHIND
from support.rtl.hostile import LONG, MACHINE, MEMORY_BYTES
from support.rtl.lone_faults import fillers, legal_instructions
from support.rtl.matmul_program import HandWrittenProgram
from support.rtl.register_accesses import BITS, PLAIN, random_data

STABLE = ("IMAGE_ADDRESS_LO", "IMAGE_ADDRESS_HI", "PROGRAM_ADDRESS", "PROGRAM_COUNT")
"""Registers that keep their values while the machine runs."""

WAIT = encode([Instruction(Opcode.EXEC, {"wait": 1 << Unit.LOAD})])
"""A program that never ends."""

ACTS = 3
"""A register's write begins so many cycles before the one at whose end the register changes."""

LIMIT_BITS, SHORTEST = 13, 100
"""Limits of the watchdog are below a power of 2, and longer than what a run does before it stands still."""

STANDS, REST = 300, 500
"""A cycle in which such a run stands still, and from which on the bench makes the watchdog wait for less than this."""

STOPPING = 5
"""Cycles of a stop beside its reset, if all buses are at rest."""

TRAFFIC, HELD, LONG_TRAFFIC = 40, 3, 1 << 17
"""Instructions of a unit that post or take, tokens that are there all the time, and most cycles of such a program."""

TOKEN_BITS = 9
"""Programs post one token more than the powers of two below this many bits, one by one."""

POSTS, TAKES, BETWEEN = 3, 3, 16
"""Instructions that post to a full semaphore, those that take from it then, and those before that do neither."""


def check_stall_counters(seed: int, program: RandomProgram, machine: Powered) -> None:
    """Stall counters count what they count from 0, from random values on and past each power of 2; only those move
    whose causes the program has."""
    moved = np.random.default_rng(seed).integers(0, 1 << 32, len(STALLS), np.uint32)
    plain = _counted(program, machine, np.zeros_like(moved))
    past = [np.maximum((1 << bit) - (plain.astype(np.int64) + 1) // 2, 0).astype(np.uint32) for bit in range(1, 32)]
    for start in (moved, ~moved, *past):
        np.testing.assert_array_equal(_counted(program, machine, start), plain)


def _counted(program: RandomProgram, machine: Powered, start: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(COUNTERS), np.uint32)
    offsets[: len(start)] = start
    got = machine.run(program.code, program.program_address, program.memory, max_cycles=1 << 16, offsets=offsets)
    return np.array([got.counters[name] for name in STALLS], np.uint32) - offsets[: len(start)]


def check_full_semaphores(seed: int, machine: Powered) -> None:
    """A token is lost, and that is reported, exactly when a semaphore is full; those that it holds are not, and can be
    taken."""
    idle, full = fillers(np.random.default_rng(seed)), (1 << SEMAPHORE_BITS) - 1
    for place, (module, name) in enumerate(COUNTERS):
        if module != "semaphores":
            continue
        producer, consumer = (Unit[unit] for unit in name.split("_")[1:])
        post, rest = (decode(idle[Opcode[unit.name]])[0] for unit in (producer, consumer))
        take = rest.replace(wait=1 << producer)
        code = encode([post.replace(signal=1 << consumer)] * POSTS + [rest] * BETWEEN + [take] * TAKES)
        for room in (POSTS, POSTS - 1):
            offsets = np.zeros(len(COUNTERS), np.uint32)
            offsets[place] = full - room
            got = machine.run(code, 0, np.zeros(MEMORY_BYTES, np.uint8), max_cycles=LONG, offsets=offsets)
            if offsets[place] != full - room:
                continue  # a bit behind a mutant
            lost = got.error >> list(ERRORS).index("semaphore") & 1  # beside conflicts of the two units
            assert lost == (room < POSTS), name
            assert machine.counters[place] == full - TAKES, name


def check_semaphore_counts(seed: int, machine: Powered) -> None:
    """A token more is one more in each semaphore, before each power of two and wherever one bit is missing to be
    full; a token less is one less again."""
    idle = fillers(np.random.default_rng(seed))
    posts, takes = (
        [decode(idle[Opcode[unit.name]])[0].replace(**{mask: (1 << len(Unit)) - 1}) for unit in Unit]
        for mask in ("signal", "wait")
    )
    semaphores, full = np.array([module == "semaphores" for module, _ in COUNTERS]), (1 << SEMAPHORE_BITS) - 1
    for bit in range(SEMAPHORE_BITS):
        for start in ((1 << bit) - 1, full - (1 << bit)):
            offsets = np.where(semaphores, start, 0).astype(np.uint32)
            for program, more in ((posts, 1), (posts + takes, 0)):
                machine.run(encode(program), 0, np.zeros(MEMORY_BYTES, np.uint8), max_cycles=LONG, offsets=offsets)
                np.testing.assert_array_equal(machine.counters[semaphores], offsets[semaphores] + more)


def check_semaphore_traffic(seed: int, machine: Powered) -> None:
    """Each semaphore holds what was posted and not taken, however posts and takes follow each other: a unit's own ones
    often come together."""
    rng = np.random.default_rng(seed)
    drawn = {unit: list[Instruction]() for unit in Unit}
    for code in legal_instructions(rng):
        (instruction,) = decode(code)
        drawn[instruction.unit].append(instruction)
        if min(map(len, drawn.values())) >= TRAFFIC:
            break
    for place, (module, name) in enumerate(COUNTERS):
        if module != "semaphores":
            continue
        producer, consumer = (Unit[unit] for unit in name.split("_")[1:])
        post, take = {"signal": 1 << consumer}, {"wait": 1 << producer}
        first, then = drawn[producer], drawn[consumer]
        if producer is consumer:
            program = [each.replace(**post) for each in first[:HELD]] + [each.replace(**post, **take) for each in then]
        else:
            pairs = zip(first[HELD:], then, strict=False)
            program = [each.replace(**post) for each in first[:HELD]]
            program += [each for one, other in pairs for each in (one.replace(**post), other.replace(**take))]
        code = encode(program)
        machine.run(code, BEHIND, np.zeros(BEHIND + len(code), np.uint8), max_cycles=LONG_TRAFFIC)
        assert machine.counters[place] == HELD, name


def check_all_tokens(seed: int, machine: Powered) -> None:
    """All tokens of a semaphore but one are taken, from one more than each power of two down, of those that programs of
    bearable length reach."""
    idle = fillers(np.random.default_rng(seed))
    for place, (module, name) in enumerate(COUNTERS):
        if module != "semaphores":
            continue
        producer, consumer = (Unit[unit] for unit in name.split("_")[1:])
        post, take = (decode(idle[Opcode[unit.name]])[0] for unit in (producer, consumer))
        for bit in range(TOKEN_BITS):
            tokens = (1 << bit) + 1
            posts = [post.replace(signal=1 << consumer)] * tokens
            code = encode(posts + [take.replace(wait=1 << producer)] * (tokens - 1))
            got = machine.run(code, BEHIND, np.zeros(BEHIND + len(code), np.uint8), max_cycles=LONG_TRAFFIC)
            assert not got.error >> list(ERRORS).index("semaphore") & 1  # beside conflicts of the two units
            assert machine.counters[place] == 1, name


def check_watchdog(seed: int, machine: Powered) -> None:
    """A run that stands still ends by so many cycles later as the limit is larger, also as one that is written then; of
    a large one the bench makes most pass at once. A limit of 0 is none."""
    rng, longest = np.random.default_rng(seed), 1 << LIMIT_BITS
    limits = {1 << bit for bit in range(LIMIT_BITS)} | {(1 << bit) - 1 for bit in range(LIMIT_BITS)}
    beyond = set[int]()
    for limit in {*limits, *rng.integers(longest, size=LIMIT_BITS).tolist()}:
        if limit < SHORTEST:
            continue
        got = machine.run(
            WAIT, 0, np.zeros(64, np.uint8), max_cycles=longest + LONG, conditions=Conditions(watchdog=limit)
        )
        assert got.first_error.errors == ("watchdog",)
        beyond.add(got.total_cycles - limit)
    assert len(beyond) == 1
    left = COUNTERS.index(("stop_control", "left"))
    ends = set[int]()
    for limit in (*(1 << bit for bit in range(LIMIT_BITS, 32)), *rng.integers(longest, 1 << 32, LIMIT_BITS).tolist()):
        offsets = np.zeros(len(COUNTERS), np.uint32)
        offsets[left] = (REST - limit) % (1 << 32)
        conditions = Conditions(watchdog=limit, offset_cycle=STANDS)
        got = machine.run(
            WAIT, 0, np.zeros(64, np.uint8), max_cycles=LONG, conditions=conditions, offsets=offsets
        )  # fmt: skip
        assert got.first_error.errors == ("watchdog",)
        ends.add(got.total_cycles)
    assert len(ends) == 1
    ends = set[int]()
    for before, limit in ((1 << 30, SHORTEST), (1 << 30, 3 * STANDS), (2 * STANDS, 3 * STANDS)):
        with suppress(DivergenceError):
            conditions = Conditions(watchdog=before)
            machine.run(WAIT, 0, np.zeros(64, np.uint8), max_cycles=STANDS, conditions=conditions)
        machine.access(Access(REGISTERS["WATCHDOG"].address, limit, 15, write=1))
        while _read(machine, "STATUS") & STATUS_RUNNING:
            pass
        ends.add(_read(machine, "CYCLES") - limit)
    assert len(ends) == 1
    offsets = np.zeros(len(COUNTERS), np.uint32)
    offsets[left] = REST
    conditions = Conditions(watchdog=0, offset_cycle=STANDS, stop_cycles=STANDS + 2 * REST)
    got = machine.run(WAIT, 0, np.zeros(64, np.uint8), max_cycles=LONG, conditions=conditions, offsets=offsets)
    assert got.first_error.errors == ("stopped",)


def check_cleared_at_the_end(program: HandWrittenProgram, cycles: int, machine: Powered) -> None:
    """A write that clears the done bit in the last cycle of a run has no effect, in the next one it has."""
    for late, done in ((0, STATUS_DONE), (1, 0)):
        conditions = Conditions(clear_cycles=cycles - ACTS + late)
        got = machine.run(program.code, 0, program.memory, max_cycles=LONG, conditions=conditions)
        assert got.registers["STATUS"] == done


def check_registers_while_running(seed: int, count: int, machine: Powered) -> None:
    """Writes reach only what may change during a run; a stop takes as long as pipelines need to become empty."""
    rng = np.random.default_rng(seed)
    image, base = (int(rng.integers(1 << bits)) * IMAGE_ALIGNMENT for bits in (52, 20))
    with suppress(DivergenceError):
        machine.run(
            WAIT, 0, np.zeros(64, np.uint8), max_cycles=LONG, image_address=image,
            conditions=Conditions(watchdog=0, memory_base=base),
        )  # fmt: skip
    held = {name: _read(machine, name) for name in PLAIN}
    for _ in range(count):
        name, data = str(rng.choice(PLAIN)), random_data(rng)
        if name == "WATCHDOG":
            data = 0 if data < LONG else data
        machine.access(Access(REGISTERS[name].address, data, 15, write=1))
        held[name] = held[name] if name in STABLE else data & BITS.get(name, 0xFFFFFFFF)
        assert {name: _read(machine, name) for name in PLAIN} == held
    for name, data in (("ERROR_MASK", 0), ("CONTROL", CONTROL_STOP)):
        machine.access(Access(REGISTERS[name].address, data, 15, write=1))
    while _read(machine, "STATUS") & STATUS_RUNNING:
        pass
    for cycle in rng.integers(LONG // 4, LONG, 4):
        conditions = Conditions(watchdog=0, stop_cycles=int(cycle))
        got = machine.run(WAIT, 0, np.zeros(64, np.uint8), max_cycles=2 * LONG, conditions=conditions)
        assert got.first_error.errors == ("stopped",)
        assert got.total_cycles - cycle == reset_cycles(MACHINE) + STOPPING


def _read(machine: Powered, name: str) -> int:
    access = Access(REGISTERS[name].address)
    machine.access(access)
    return int(access.data)
