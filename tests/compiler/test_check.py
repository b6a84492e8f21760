"""The checker accepts what is safe, names what is not, and is right in every timing that was tried."""

from __future__ import annotations

import importlib
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from support.machine.random_programs import random_config, random_program
from support.machine.random_timing import conflicts, run
from support.mutants.compiler_mutants import with_wrong_field, without_token

from accel.errors import EncodingError, ProgramError
from accel.machine.config import ArchConfig, preset
from accel.machine.isa import Instruction, Memory, Opcode, Reduce, Source, Unit, encode
from compiler.check import order
from compiler.check.check import check
from compiler.schedule.footprint import footprint

checker = importlib.import_module(check.__module__)
TINY = preset("tiny")
WINDOW = {"x_step": 1, "height": 1, "width": 4}
LOAD = Instruction(Opcode.LOAD, {"row_words": 4, "word_bytes": 4, "step_bytes": 4, "row_bytes": 16})
EXEC = Instruction(Opcode.EXEC, {"ox_count": 4, "ox_stride": 1, "k_rows": 4, **WINDOW})
POST = Instruction(
    Opcode.POST, {"ox_count": 4, "src_ox_stride": 1, "dst_address": 2048, "dst_ox_stride": 1, "act_max": 127}
)
MIX = POST.replace(source=Source.SPAD, reduce=Reduce.INTERPOLATE, **WINDOW)
STORE = Instruction(Opcode.STORE, {"address": 2048, "row_words": 4, "word_bytes": 4, "dram_address": 64})
CHAIN = (
    LOAD.replace(signal=1 << Unit.EXEC),
    EXEC.replace(wait=1 << Unit.LOAD, signal=1 << Unit.POST),
    POST.replace(wait=1 << Unit.EXEC, signal=1 << Unit.STORE),
    STORE.replace(wait=1 << Unit.POST),
)
OVERLAP = "must not overlap in time"
ORDER = "order them with a semaphore"


def message(program: Sequence[Instruction], config: ArchConfig = TINY, **limits: int) -> str:
    with pytest.raises(ProgramError) as error:
        check(config, program, **limits)
    return str(error.value)


def test_report_of_a_safe_chain() -> None:
    report = check(TINY, encode(CHAIN))
    assert report.instructions == {"LOAD": 1, "EXEC": 1, "POST": 1, "STORE": 1, "DEPTHWISE": 0}
    assert report.pairs == 0
    assert str(report) == "4 instructions, 0 pairs that may overlap in time, at most 1 tokens in a semaphore"
    assert report.tokens == {"LOAD -> EXEC": 1, "EXEC -> POST": 1, "POST -> STORE": 1}


def test_empty_and_undecodable_programs() -> None:
    assert message([]) == "program must hold at least 1 instruction, got 0"
    with pytest.raises(EncodingError, match="opcode must be one of"):
        check(TINY, bytes(64))


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ([LOAD, EXEC],
         f"instruction 0 (LOAD) and instruction 1 (EXEC) {OVERLAP}: the first writes and the second reads "
         f"SPAD words 0..3; {ORDER}"),
        ([EXEC, LOAD.replace(memory=Memory.WBUF, address=2)],
         f"instruction 0 (EXEC) and instruction 1 (LOAD) {OVERLAP}: the first reads and the second writes "
         f"WBUF words 2..3; {ORDER}"),
        ([EXEC, POST.replace(src_address=3)],
         f"instruction 0 (EXEC) and instruction 1 (POST) {OVERLAP}: the first writes and the second reads "
         f"ACC words 3..3; {ORDER}"),
        ([EXEC, POST.replace(src_address=8)],
         f"instruction 0 (EXEC) and instruction 1 (POST) {OVERLAP}: both use the read port of ACC bank 0; {ORDER}"),
        ([LOAD, POST.replace(dst_address=100)],
         f"instruction 0 (LOAD) and instruction 1 (POST) {OVERLAP}: both use the write port of SPAD bank 0; {ORDER}"),
        ([STORE.replace(address=9), EXEC],
         f"instruction 0 (STORE) and instruction 1 (EXEC) {OVERLAP}: both use the read port of SPAD bank 0; {ORDER}"),
        ([STORE, LOAD.replace(dram_address=79)],
         f"instruction 0 (STORE) and instruction 1 (LOAD) {OVERLAP}: the first writes and the second reads "
         f"DRAM bytes 79..79; {ORDER}"),
        ([POST.replace(src_address=500), LOAD.replace(memory=Memory.PARAM, address=3, row_words=1, row_bytes=9,
                                                      word_bytes=9, step_bytes=9)],
         f"instruction 0 (POST) and instruction 1 (LOAD) {OVERLAP}: the first reads and the second writes "
         f"PARAM records 3..3; {ORDER}"),
        ([POST.replace(src_address=500, table=2), LOAD.replace(memory=Memory.TABLE, address=300, word_bytes=1,
                                                               step_bytes=5)],
         f"instruction 0 (POST) and instruction 1 (LOAD) {OVERLAP}: the first reads and the second writes "
         f"TABLE words 300..303; {ORDER}"),
        ([POST, POST.replace(source=Source.SPAD, src_address=2051, dst_address=0, **WINDOW)],
         f"instruction 0 (POST) and instruction 1 (POST) {OVERLAP}: the first writes and the second reads "
         f"SPAD words 2051..2051; {ORDER}"),
        ([EXEC.replace(wait=1 << Unit.POST), POST.replace(signal=1 << Unit.EXEC)],
         "instruction 0: EXEC waits for POST, but no earlier signal of POST is left for it: the machine would stop for "
         "ever; let an earlier POST signal EXEC"),
        ([LOAD.replace(signal=1 << Unit.EXEC), LOAD.replace(signal=1 << Unit.EXEC), EXEC.replace(wait=1 << Unit.LOAD)],
         "instruction 1: LOAD signals EXEC, but no later EXEC waits for LOAD: every token must be taken, "
         "1 would be left"),
    ],
)  # fmt: skip
def test_messages_between_instructions(program: list[Instruction], expected: str) -> None:
    assert message(program) == expected


def test_two_units_that_wait_for_each_other_first_are_a_deadlock() -> None:
    program = [
        LOAD.replace(wait=1 << Unit.EXEC, signal=1 << Unit.EXEC),
        EXEC.replace(wait=1 << Unit.LOAD, signal=1 << Unit.LOAD),
    ]
    assert "the machine would stop for ever" in message(program)
    with pytest.raises(LookupError):
        run(TINY, program, np.random.default_rng(0))


def test_a_unit_cannot_wait_for_the_instruction_itself() -> None:
    assert "no earlier signal of POST" in message([POST.replace(wait=1 << Unit.POST, signal=1 << Unit.POST)])


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        (LOAD.replace(wait=32), "LOAD wait bits must be at most 31, got 32"),
        (LOAD.replace(signal=32), "LOAD signal bits must be at most 31, got 32"),
        (LOAD.replace(byte_offset=1), "LOAD byte_offset + word_bytes must be at most 4, got 5"),
        (LOAD.replace(memory=Memory.PARAM), "LOAD word_bytes must be 9 for PARAM, got 4"),
        (LOAD.replace(memory=Memory.TABLE), "LOAD byte_offset + word_bytes must be at most 1, got 4"),
        (LOAD.replace(step_bytes=10), "LOAD step_bytes must be at most 9, got 10"),
        (LOAD.replace(pad_bytes=1), "LOAD pad_bytes + row_bytes must be at most 16, got 17"),
        (EXEC.replace(k_rows=5), "EXEC k_rows must be at most 4, got 5"),
        (POST.replace(table=3), "POST table must be at most 2, got 3"),
        (POST.replace(mode=3), "POST mode must be one of tflite, single, fp32, got 3"),
        (POST.replace(dst_byte=1), "POST dst_byte + group_count * post_lanes must be at most 4, got 5"),
        (POST.replace(act_min=1, act_max=0), "POST act_min (with act_max as the limit) must be at most 0, got 1"),
        (POST.replace(ky_count=2), "POST ky_count * kx_count of source ACC must be at most 1, got 2"),
        (POST.replace(word_count=2), "POST accumulator columns (word_count, group_count) must be at most 4, got 8"),
        (POST.replace(source=Source.SPAD, left_shift=24), "POST left_shift must be at most 23, got 24"),
        (POST.replace(source=Source.SPAD, multiplier1=5),
         "POST multiplier1 and shift1 must be 0 and 0, or in 1073741824..2147483647 and -31..30 for mode tflite, "
         "got 5 and 0"),
        (POST.replace(source=Source.SPAD, multiplier0=1 << 30, shift0=-32),
         "POST multiplier0 and shift0 must be 0 and 0, or in 1073741824..2147483647 and -31..30 for mode tflite, "
         "got 1073741824 and -32"),
        (POST.replace(source=Source.SPAD, mode=2, multiplier0=(1 << 30) + 64),
         "POST multiplier0 must be a multiple of 128 for mode fp32, got 1073741888"),
        (POST.replace(reduce=5), "POST reduce must be at most 4, got 5"),
        (POST.replace(source=Source.SPAD, reduce=Reduce.MUL, ky_count=2, kx_count=2),
         "POST ky_count * kx_count of a product must be at most 2, got 4"),
        (MIX.replace(mode=2), "POST mode must be tflite or single for an interpolation, got fp32"),
        (MIX.replace(ky_count=3), "POST ky_count of an interpolation must be at most 2, got 3"),
        (MIX.replace(kx_count=3), "POST kx_count of an interpolation must be at most 2, got 3"),
        (MIX.replace(y_weight=1025), "POST y_weight of an interpolation must be at most 1024, got 1025"),
        (MIX.replace(x_weight=1025), "POST x_weight of an interpolation must be at most 1024, got 1025"),
        (MIX.replace(multiplier1=1 << 30),
         "POST multiplier1 and shift1 must be 0 and in -31..30 for an interpolation, got 1073741824 and 0"),
        (MIX.replace(shift0=31),
         "POST multiplier0 and shift0 must be 0 and in -31..30 for an interpolation, got 0 and 31"),
        (POST.replace(source=Source.SPAD, src_address=2047, **WINDOW),
         "POST must not read SPAD word 2048 for the output that writes it or later; "
         "use another dst_address or split the instruction"),
        (STORE.replace(byte_offset=2), "STORE byte_offset + word_bytes must be at most 4, got 6"),
        (STORE.replace(address=8190), "STORE address and its strides must stay within SPAD 0..8191, got 8190..8193"),
        (STORE.replace(dram_address=4090),
         "STORE dram_address and its strides must stay within DRAM 0..4095, got 4090..4105"),
    ],
)  # fmt: skip
def test_messages_about_one_instruction(instruction: Instruction, expected: str) -> None:
    program = [LOAD.replace(memory=Memory.WBUF), instruction]
    assert message(program, dram_bytes=4096) == f"instruction 1: {expected}"


def test_mode_must_be_built_in() -> None:
    config = ArchConfig.from_toml(TINY.to_toml().replace('["tflite", "single", "fp32"]', '["single"]'))
    assert message([POST], config) == "instruction 0: POST mode must be one of single, got tflite"


def test_in_place_is_allowed_where_no_word_is_read_after_its_write() -> None:
    in_place = POST.replace(source=Source.SPAD, src_address=2048, **WINDOW)
    check(TINY, [in_place])
    check(TINY, [in_place.replace(src_address=2049)])
    check(TINY, [in_place.replace(src_address=2047, src_ox_stride=0)])


def test_program_and_constants_must_not_be_overwritten() -> None:
    check(TINY, [STORE], read_only=[(0, 64), (80, 90)])
    with pytest.raises(ProgramError, match=r"^instruction 0 \(STORE\): DRAM bytes 0..64 are read-only, got a write to"):
        check(TINY, [STORE], read_only=[(0, 65)])


def test_semaphores_are_bounded_by_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token back, LOAD runs ahead of EXEC by the length of EXEC's queue and one instruction more."""
    round_ = [LOAD.replace(memory=Memory.WBUF, address=8, signal=1 << Unit.EXEC), EXEC.replace(wait=1 << Unit.LOAD)]
    assert check(TINY, round_ * 30).tokens == {"LOAD -> EXEC": TINY.queue_depth + 1}
    monkeypatch.setattr(order, "SEMAPHORE_BITS", 3)
    assert message(round_ * 30) == (
        "semaphore LOAD -> EXEC must hold at most 7 tokens, got up to 9: let LOAD wait for EXEC in between"
    )


def verdicts(seeds: int, fraction: float) -> Counter[str]:
    """Check random programs and some of their mutants, run those that pass, and count what happened."""
    found: Counter[str] = Counter()
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        config = random_config(rng)
        program = random_program(config, rng, 16).instructions
        mutants = [*without_token(program), *with_wrong_field(program, rng)]
        for mutant in [program, *(m for m in mutants if rng.random() < fraction)]:
            try:
                bounds = check(config, mutant).tokens
            except ProgramError:
                found["caught"] += 1
                continue
            found["harmless"] += 1
            touched = [footprint(config, i) for i in mutant]
            for _ in range(2):
                times = run(config, mutant, rng)
                found["missed"] += bool(conflicts(mutant, touched, times))
                found["overflow"] += any(count > bounds[semaphore] for semaphore, count in times.tokens.items())
    return found


def test_no_timing_breaks_what_was_proven() -> None:
    """Mutants that the checker passes run without a conflict in every timing tried; it catches all others."""
    found = verdicts(seeds=4, fraction=0.15)
    print(dict(found))
    assert found["missed"] == found["overflow"] == 0
    assert found["caught"] > found["harmless"] / 4


@pytest.mark.parametrize("fault", ["words", "ports", "half the pairs", "all pairs", "bound"])
def test_a_wrong_checker_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: it sees seeded faults of the checker."""
    if fault in ("words", "ports"):
        monkeypatch.setattr(checker._Conflicts, f"_check_{fault}", lambda *_: None)
    elif fault == "half the pairs":
        monkeypatch.setattr(order, "_blocks", lambda lengths, block: iter([slice(0, len(lengths) // 2)]))
    elif fault == "all pairs":
        monkeypatch.setattr(order.Order, "concurrent", lambda self, block: iter([]))
    else:
        monkeypatch.setattr(checker, "bound_tokens", lambda *_: defaultdict(lambda: 1))
    found = verdicts(seeds=16 if fault == "bound" else 8, fraction=0.1)
    assert found["overflow" if fault == "bound" else "missed"]


def test_what_the_checker_refuses_does_break() -> None:
    """Random programs without their tokens: the checker refuses them, and most break in some timing of a few."""
    broken = refused = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        config = random_config(rng)
        program = [i.replace(wait=0, signal=0) for i in random_program(config, rng, 25).instructions]
        try:
            check(config, program)
        except ProgramError:
            refused += 1
            touched = [footprint(config, i) for i in program]
            broken += any(conflicts(program, touched, run(config, program, rng)) for _ in range(5))
    assert refused == 8
    assert broken >= 6
