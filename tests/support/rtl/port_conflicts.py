"""Two instructions side by side in one bank of SPAD or ACC, which is reported, or in different ones, which is not, and
leaves what the simulator says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from accel.machine.isa import Instruction, Memory, Opcode, Source, encode
from accel.machine.registers import ERRORS
from rtl.testbench.verilator import Powered
from support.machine.random_programs import with_semaphores
from support.machine.rules import check_alone
from support.rtl.hostile import LONG, MACHINE, MEMORY_BYTES

PIXELS = {"oy_count": 8, "ox_count": 8}
WINDOW = PIXELS | {"height": 1, "width": 1}
ROW = PIXELS | {"height": 1, "width": 8, "x_dilation": 1, "x_step": 1, "row_steps": 8}
ROWS = {"row_count": 60, "row_words": 1, "word_bytes": MACHINE.rows, "dram_address": 1 << 12}
SPAD, ACC, HALF = MACHINE.spad_bank_words, MACHINE.acc_bank_words, MACHINE.spad_banks // 2


def reading_spad(bank: int, word: int) -> list[Instruction]:
    """Of each unit that reads SPAD an instruction that reads a word of `bank` for long, with nothing else in common."""
    address, elsewhere = bank * SPAD + word, (bank + HALF) % MACHINE.spad_banks * SPAD
    return [
        Instruction(Opcode.EXEC, WINDOW | {"spad_address": address}),
        Instruction(Opcode.DEPTHWISE, ROW | {"spad_address": address, "acc_address": ACC}),
        Instruction(Opcode.POST, WINDOW | {"source": Source.SPAD, "src_address": address, "dst_address": elsewhere}),
        Instruction(Opcode.STORE, ROWS | {"address": address}),
    ]


def writing_spad(bank: int, word: int) -> list[Instruction]:
    """The same of those that write it."""
    address = bank * SPAD + word
    load = ROWS | {"memory": Memory.SPAD, "row_bytes": MACHINE.rows, "step_bytes": MACHINE.rows}
    return [
        Instruction(Opcode.LOAD, load | {"address": address}),
        Instruction(Opcode.POST, PIXELS | {"source": Source.ACC, "dst_address": address}),
    ]


def using_acc(bank: int, word: int) -> list[Instruction]:
    """The same of ACC."""
    address = bank * ACC
    return [
        Instruction(Opcode.EXEC, WINDOW | {"acc_address": address}),
        Instruction(Opcode.DEPTHWISE, ROW | {"spad_address": SPAD, "acc_address": address}),
        Instruction(Opcode.POST, PIXELS | {"source": Source.ACC, "src_address": address + word, "dst_address": 0}),
    ]


USERS = {
    "spad_read": (MACHINE.spad_banks, reading_spad),
    "spad_write": (MACHINE.spad_banks, writing_spad),
    "acc_port": (MACHINE.acc_banks, using_acc),
}


def conflicts(seed: int) -> Iterator[tuple[bytes, str]]:
    """Programs of two instructions, and the error of each, "" for none: every pair of units in every bank."""
    rng = np.random.default_rng(seed)
    for error, (banks, users) in USERS.items():
        for bank in range(banks):
            other, (word, another) = (bank + int(rng.integers(1, banks))) % banks, rng.integers(0, 60, 2).tolist()
            for one, two in combinations(range(len(users(0, 0))), 2):
                for place, name in ((bank, error), (other, "")):
                    pair = [users(bank, word)[one], users(place, another)[two]]
                    yield encode([pair[i] for i in rng.permutation(2)]), name


def beside(seed: int, count: int) -> Iterator[bytes]:
    """Programs of two instructions in different banks: every pair of units, `count` times each, that use words of the
    same number in their banks at any distance in time; one waits for the other only if it uses what that one writes."""
    rng = np.random.default_rng(seed)
    for banks, users in USERS.values():
        for one, two in combinations(range(len(users(0, 0))), 2):
            for _ in range(count):
                first, second = (int(bank) for bank in rng.choice(banks, 2, replace=False))
                pair = [users(first, int(rng.integers(5)))[one], users(second, int(rng.integers(5)))[two]]
                yield encode(with_semaphores(MACHINE, [_smaller(pair[i], rng) for i in rng.permutation(2)]))


def _smaller(instruction: Instruction, rng: np.random.Generator) -> Instruction:
    """The instruction with fewer outputs or rows, from any word of its banks on."""
    if instruction.opcode in (Opcode.LOAD, Opcode.STORE):
        return instruction.replace(row_count=int(rng.integers(1, 60)))
    changes = {"oy_count": int(rng.integers(1, 8))}
    if instruction.opcode is not Opcode.POST:
        changes |= {"accumulate": int(rng.integers(2))}
        changes |= {"acc_address": instruction["acc_address"] + int(rng.integers(8 * (8 - changes["oy_count"]) + 1))}
    return instruction.replace(**changes)


def check_conflict(conflict: tuple[bytes, str], machine: Powered) -> None:
    """Units that use a bank at once are reported, with what is used; others are not."""
    code, name = conflict
    got = machine.run(code, 0, np.zeros(MEMORY_BYTES, np.uint8), max_cycles=LONG)
    assert [error for i, error in enumerate(ERRORS) if got.error >> i & 1] == [name] * bool(name), code.hex()


def check_legal() -> None:
    """Each instruction alone keeps the rules."""
    for banks, users in USERS.values():
        for bank in range(banks):
            for instruction in users(bank, 59):
                check_alone(MACHINE, instruction)
