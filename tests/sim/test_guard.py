"""Programs that the simulator refuses, and calls it does not understand."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest

import sim
from accel.errors import AccelError, InputError, ProgramError
from accel.machine.config import preset
from accel.machine.isa import FIELDS, Instruction, Opcode, Unit, column
from accel.machine.loops import LOOPS

TINY = preset("tiny")
MEMORY = np.zeros(4096, np.uint8)
LOAD = Instruction(Opcode.LOAD, {"row_words": 4, "word_bytes": 4, "step_bytes": 4, "row_bytes": 16})
EXEC = Instruction(Opcode.EXEC, {"ox_count": 4, "ox_stride": 1, "x_step": 1, "height": 1, "width": 4, "k_rows": 4})
POST = Instruction(Opcode.POST, {"ox_count": 4, "src_ox_stride": 1, "dst_ox_stride": 1})
MIX = POST.replace(source=1, reduce=4)
DEPTHWISE = Instruction(
    Opcode.DEPTHWISE,
    {
        "kx_count": 3, "ox_count": 4, "kx_stride": 1, "ox_stride": 1, "x_start": -1, "x_step": 1, "x_dilation": 1,
        "height": 1, "width": 4, "lead_steps": 1, "row_steps": 4,
    },
)  # fmt: skip
STORE = Instruction(Opcode.STORE, {"row_words": 4, "word_bytes": 4})

REFUSED = [
    (LOAD.replace(memory=3), "LOAD byte_offset + word_bytes must be at most 1, got 4"),
    (LOAD.replace(byte_offset=1), "LOAD byte_offset + word_bytes must be at most 4, got 5"),
    (LOAD.replace(memory=2), "LOAD word_bytes must be 9 for PARAM, got 4"),
    (LOAD.replace(step_bytes=10), "LOAD step_bytes must be at most 9, got 10"),
    (LOAD.replace(pad_bytes=1), "LOAD pad_bytes + row_bytes must be at most 16, got 17"),
    (LOAD.replace(address=8190), "LOAD address and its strides must stay within SPAD 0..8191, got 8190..8193"),
    (
        LOAD.replace(memory=3, address=509, word_bytes=1, step_bytes=5),
        "LOAD address and its strides must stay within TABLE 0..511, got 509..512",
    ),
    (LOAD.replace(memory=4, address=126), "LOAD address and its strides must stay within TAPS 0..127, got 126..129"),
    (LOAD.replace(memory=4, byte_offset=1), "LOAD byte_offset + word_bytes must be at most 4, got 5"),
    (LOAD.replace(memory=5), "LOAD memory must be at most 4, got 5"),
    (LOAD.replace(row_count=2, row_stride=-1), "LOAD address and its strides must stay within SPAD 0..8191, got -1..3"),
    (
        LOAD.replace(dram_address=4090),
        "LOAD dram_address and its strides must stay within DRAM 0..4095, got 4090..4105",
    ),
    (EXEC.replace(k_rows=5), "EXEC k_rows must be at most 4, got 5"),
    (
        EXEC.replace(wbuf_address=2047, int4=1),
        "EXEC wbuf_address and its strides must stay within WBUF 0..2047, got 2047..2048",
    ),
    (
        EXEC.replace(wbuf_address=2046),
        "EXEC wbuf_address and its strides must stay within WBUF 0..2047, got 2046..2049",
    ),
    (EXEC.replace(acc_address=510), "EXEC acc_address and its strides must stay within ACC 0..511, got 510..513"),
    (EXEC.replace(spad_address=-1), "EXEC spad_address and its strides must stay within SPAD 0..8191, got -1..2"),
    (POST.replace(table=3), "POST table must be at most 2, got 3"),
    (DEPTHWISE.replace(row_steps=5), "DEPTHWISE lead_steps and row_steps must be 1 and 4, got 1 and 5"),
    (DEPTHWISE.replace(spad_byte=1), "DEPTHWISE spad_byte + min(rows, cols) must be at most 4, got 5"),
    (
        DEPTHWISE.replace(tap_address=126),
        "DEPTHWISE tap_address and its strides must stay within TAPS 0..127, got 126..128",
    ),
    (
        DEPTHWISE.replace(acc_address=510),
        "DEPTHWISE acc_address and its strides must stay within ACC 0..511, got 510..513",
    ),
    (
        DEPTHWISE.replace(spad_address=-2),
        "DEPTHWISE spad_address and its strides must stay within SPAD 0..8191, got -1..2",
    ),
    (POST.replace(mode=3), "POST mode must be one of tflite, single, fp32, got 3"),
    (POST.replace(dst_byte=1), "POST dst_byte + group_count * post_lanes must be at most 4, got 5"),
    (POST.replace(act_min=1), "POST act_min (with act_max as the limit) must be at most 0, got 1"),
    (POST.replace(kx_count=2), "POST ky_count * kx_count of source ACC must be at most 1, got 2"),
    (POST.replace(word_count=2), "POST accumulator columns (word_count, group_count) must be at most 4, got 8"),
    (
        POST.replace(source=1, multiplier1=1),
        "POST multiplier1 and shift1 must be 0 and 0, or in 1073741824..2147483647 and -31..30 for mode tflite, "
        "got 1 and 0",
    ),
    (POST.replace(source=1, left_shift=30), "POST left_shift must be at most 23, got 30"),
    (POST.replace(reduce=5), "POST reduce must be at most 4, got 5"),
    *(
        (
            POST.replace(source=1, reduce=3, ky_count=ky, kx_count=kx),
            f"POST ky_count * kx_count of a product must be at most 2, got {ky * kx}",
        )
        for ky, kx in ((1, 3), (3, 1), (2, 2))
    ),
    (MIX.replace(mode=2), "POST mode must be tflite or single for an interpolation, got fp32"),
    (MIX.replace(ky_count=3), "POST ky_count of an interpolation must be at most 2, got 3"),
    (MIX.replace(kx_count=3), "POST kx_count of an interpolation must be at most 2, got 3"),
    (MIX.replace(y_weight=1025), "POST y_weight of an interpolation must be at most 1024, got 1025"),
    (MIX.replace(x_weight=1025), "POST x_weight of an interpolation must be at most 1024, got 1025"),
    (
        MIX.replace(multiplier0=1 << 30),
        "POST multiplier0 and shift0 must be 0 and in -31..30 for an interpolation, got 1073741824 and 0",
    ),
    (
        MIX.replace(shift1=31),
        "POST multiplier1 and shift1 must be 0 and in -31..30 for an interpolation, got 0 and 31",
    ),
    (POST.replace(param_address=64), "POST param_address and its strides must stay within PARAM 0..255, got 256..259"),
    (POST.replace(dst_address=8190), "POST dst_address and its strides must stay within SPAD 0..8191, got 8190..8193"),
    (POST.replace(src_address=510), "POST src_address and its strides must stay within ACC 0..511, got 510..513"),
    (STORE.replace(byte_offset=1), "STORE byte_offset + word_bytes must be at most 4, got 5"),
    (STORE.replace(address=8190), "STORE address and its strides must stay within SPAD 0..8191, got 8190..8193"),
    (
        STORE.replace(dram_address=4090),
        "STORE dram_address and its strides must stay within DRAM 0..4095, got 4090..4105",
    ),
]


@pytest.mark.parametrize(("instruction", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_each_escape_is_named(instruction: Instruction, message: str) -> None:
    code = LOAD.encode() + instruction.encode()
    with pytest.raises(ProgramError, match=re.escape(f"instruction 1: {message}")):
        sim.execute(TINY, code, 0, MEMORY)


def test_int4_weights_need_a_machine_that_has_them() -> None:
    message = "instruction 0: EXEC int4 must be 0 on a machine without int4 weights (int4_weights = false), got 1"
    with pytest.raises(ProgramError, match=re.escape(message)):
        sim.execute(dataclasses.replace(TINY, int4_weights=False), EXEC.replace(int4=1).encode(), 0, MEMORY)


@pytest.mark.parametrize(
    ("instruction", "steps"),
    [
        (
            EXEC.replace(chunk_count=1023, ky_count=255, kx_count=255, oy_count=4095, ox_count=4095),
            1023 * 255**2 * 4095**2,
        ),
        (
            POST.replace(source=1, word_count=1023, oy_count=4095, ox_count=4095, group_count=255, ky_count=255,
                         kx_count=255),
            1023 * 4095**2 * 255**3,
        ),
        (LOAD.replace(outer_count=4095, row_count=4095, row_words=257), 4095**2 * 257),
        (STORE.replace(outer_count=4095, row_count=4095, row_words=257), 4095**2 * 257),
    ],
    ids=["EXEC", "POST", "LOAD", "STORE"],
)  # fmt: skip
def test_instructions_that_would_hardly_end_are_refused(instruction: Instruction, steps: int) -> None:
    name = instruction.opcode.name
    with pytest.raises(ProgramError) as caught:
        sim.execute(TINY, LOAD.encode() + instruction.encode(), 0, MEMORY)
    assert str(caught.value) == (
        f"instruction 1: {name} must have at most 4294967296 steps to be simulated, got {steps}"
    )


@pytest.mark.parametrize("opcode", Opcode)
def test_steps_fit_in_their_integers(opcode: Opcode) -> None:
    """An absurd instruction must not look small because its steps wrap."""
    most = math.prod(FIELDS[opcode][column(opcode, field)].maximum for field in LOOPS[opcode])
    assert most < 1 << 58


def test_a_machine_without_engine_has_no_taps() -> None:
    plain = dataclasses.replace(TINY, depthwise_taps=0)
    assert sim.execute(plain, LOAD.encode(), 0, MEMORY).taps.size == 0
    assert sim.execute(TINY, LOAD.encode(), 0, MEMORY).taps.shape == (128, 4)
    with pytest.raises(ProgramError, match="instruction 0: LOAD memory must not be TAPS on a machine without"):
        sim.execute(plain, LOAD.replace(memory=4).encode(), 0, MEMORY)
    with pytest.raises(ProgramError, match="instruction 0: DEPTHWISE must not appear on a machine without depthwise"):
        sim.execute(plain, DEPTHWISE.encode(), 0, MEMORY)


def test_invalid_taps_may_point_anywhere() -> None:
    program = EXEC.replace(spad_address=-2, x_start=-2)
    assert sim.execute(TINY, program.encode(), 0, MEMORY).total_cycles > 0


def test_records_that_are_no_multipliers_are_refused() -> None:
    load = LOAD.replace(memory=2, word_bytes=9, step_bytes=9, row_bytes=36, signal=1 << Unit.POST)
    code = load.encode() + POST.replace(wait=1 << Unit.LOAD).encode()
    with pytest.raises(ProgramError, match="instruction 1: POST reads a parameter record"):
        sim.execute(TINY, code, 0, np.full_like(MEMORY, 255))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            [LOAD, EXEC.replace(wait=1)],
            "instruction 1: EXEC waits for LOAD, but no earlier signal of LOAD is left for it",
        ),
        ([EXEC.replace(wait=1), LOAD.replace(signal=2)], "instruction 0: EXEC waits for LOAD, but no earlier"),
        ([LOAD.replace(wait=1 << 5)], "instruction 0: LOAD wait bits must be at most 31, got 32"),
    ],
)
def test_waits_need_signals(program: list[Instruction], message: str) -> None:
    with pytest.raises(ProgramError, match=re.escape(message)):
        sim.execute(TINY, b"".join(i.encode() for i in program), 0, MEMORY)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((b"", 0, MEMORY), ProgramError, "code must be at least one instruction, got none"),
        ((LOAD.encode(), 32, MEMORY), ProgramError, "program address must be a multiple of 64, got 32"),
        ((LOAD.encode(), 0, MEMORY.view(np.int8)), InputError, "memory must be a one-dimensional array of uint8"),
        ((LOAD.encode(), 0, b""), InputError, "memory must be a one-dimensional array of uint8, got bytes"),
    ],
)
def test_arguments_are_checked(arguments: tuple, error: type[AccelError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        sim.execute(TINY, *arguments)


def test_engine_must_exist() -> None:
    with pytest.raises(InputError, match="engine must be one of fast, stepped, got 'slow'"):
        sim.execute(TINY, LOAD.encode(), 0, MEMORY, engine="slow")


@pytest.mark.parametrize("engine", sim.ENGINES)
def test_progress_is_told_and_may_interrupt(engine: str) -> None:
    seen: list[tuple[int, int]] = []
    sim.execute(TINY, LOAD.encode() * 600, 0, MEMORY, engine=engine, progress=lambda *at: seen.append(at))
    assert seen[-1] == (600, 600)
    assert len(seen) >= 3

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sim.execute(TINY, LOAD.encode() * 600, 0, MEMORY, engine=engine, progress=interrupt)


def test_depthwise_products_are_counted_by_lane() -> None:
    assert sim.execute(TINY, DEPTHWISE.encode(), 0, MEMORY).macs == 3 * 4 * 4


def test_counters_and_stamps() -> None:
    load = LOAD.replace(row_count=2, row_stride=4, signal=1 << Unit.STORE)
    result = sim.execute(TINY, load.encode() + EXEC.encode() + STORE.replace(wait=1).encode(), 0, MEMORY)
    assert (result.macs, result.fetch_bytes, result.load_bytes, result.store_bytes) == (4 * 4 * 4, 192, 32, 16)
    assert np.all(result.causes.sum(axis=1) == result.total_cycles)
    assert result.cause("LOAD", "busy") == 8
    assert result.cause("FETCH", "busy") == 3
    issue, complete = result.stamps(Unit.STORE)
    assert issue[0] == result.complete[0] + 1
    assert result.total_cycles == complete[0] + 2
