"""Footprints equal what a literal enumeration of the loops in docs/architecture.md touches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from support.machine.random_instructions import InstructionDraw
from support.machine.random_programs import random_config

from accel.errors import ProgramError
from accel.machine.config import ArchConfig, preset
from accel.machine.isa import Instruction, Memory, Opcode, Source
from accel.machine.memories import Space
from accel.machine.numerics import RequantMode
from compiler.schedule.footprint import Footprint, footprint
from compiler.schedule.intervals import Intervals, merge
from compiler.schedule.parts import Access

TINY = preset("tiny")
Touch = tuple[Access, Space, int]
R, W = Access.READ, Access.WRITE


def naive(config: ArchConfig, i: Instruction) -> set[Touch]:
    """Every word and byte, loop by loop."""
    kinds = {
        Opcode.LOAD: naive_load, Opcode.EXEC: naive_exec, Opcode.POST: naive_post, Opcode.STORE: naive_store,
        Opcode.DEPTHWISE: naive_depthwise,
    }  # fmt: skip
    return set(kinds[i.opcode](config, i))


def naive_load(config: ArchConfig, i: Instruction) -> Iterator[Touch]:
    for o, r in product(range(i["outer_count"]), range(i["row_count"])):
        dram = i["dram_address"] + o * i["dram_outer_stride"] + r * i["dram_row_stride"]
        word = i["address"] + o * i["outer_stride"] + r * i["row_stride"]
        yield from ((R, Space.DRAM, dram + n) for n in range(i["row_bytes"]))
        yield from ((W, Space[Memory(i["memory"]).name], word + n) for n in range(i["row_words"]))


def naive_store(config: ArchConfig, i: Instruction) -> Iterator[Touch]:
    for o, r in product(range(i["outer_count"]), range(i["row_count"])):
        dram = i["dram_address"] + o * i["dram_outer_stride"] + r * i["dram_row_stride"]
        word = i["address"] + o * i["outer_stride"] + r * i["row_stride"]
        yield from ((W, Space.DRAM, dram + n) for n in range(i["row_words"] * i["word_bytes"]))
        yield from ((R, Space.SPAD, word + n) for n in range(i["row_words"]))


def taps(i: Instruction) -> Iterator[tuple[int, int, int, int]]:
    ranges = (range(i[name]) for name in ("oy_count", "ox_count", "ky_count", "kx_count"))
    for oy, ox, ky, kx in product(*ranges):
        y = i["y_start"] + oy * i["y_step"] + ky * i["y_dilation"]
        x = i["x_start"] + ox * i["x_step"] + kx * i["x_dilation"]
        if 0 <= y < i["height"] and 0 <= x < i["width"]:
            yield oy, ox, ky, kx


def naive_exec(config: ArchConfig, i: Instruction) -> Iterator[Touch]:
    for tile, r in product(range(i["chunk_count"] * i["ky_count"] * i["kx_count"]), range(i["k_rows"])):
        per_word = 1 + i["int4"]
        yield R, Space.WBUF, i["wbuf_address"] + tile * -(-i["k_rows"] // per_word) + r // per_word
    for chunk, (oy, ox, ky, kx) in product(range(i["chunk_count"]), list(taps(i))):
        spad = i["spad_address"] + chunk * i["chunk_stride"] + ky * i["ky_stride"] + kx * i["kx_stride"]
        yield R, Space.SPAD, spad + oy * i["oy_stride"] + ox * i["ox_stride"]
    for p, access in product(range(i["oy_count"] * i["ox_count"]), Access):
        yield access, Space.ACC, i["acc_address"] + p


def naive_depthwise(config: ArchConfig, i: Instruction) -> Iterator[Touch]:
    yield from ((R, Space.TAPS, i["tap_address"] + n) for n in range(i["ky_count"] * i["kx_count"]))
    for oy, ox, ky, kx in taps(i):
        spad = i["spad_address"] + ky * i["ky_stride"] + kx * i["kx_stride"]
        yield R, Space.SPAD, spad + oy * i["oy_stride"] + ox * i["ox_stride"]
    for p, access in product(range(i["oy_count"] * i["ox_count"]), Access):
        yield access, Space.ACC, i["acc_address"] + p


def naive_post(config: ArchConfig, i: Instruction) -> Iterator[Touch]:
    lanes = config.post_lanes
    for w, oy, ox in product(range(i["word_count"]), range(i["oy_count"]), range(i["ox_count"])):
        dst = i["dst_address"] + w * i["dst_word_stride"]
        yield W, Space.SPAD, dst + oy * i["dst_oy_stride"] + ox * i["dst_ox_stride"]
        if i["source"] == Source.ACC:
            yield R, Space.ACC, i["src_address"] + oy * i["src_oy_stride"] + ox * i["src_ox_stride"]
        for g, lane in product(range(i["group_count"]), range(lanes)):
            row = i["param_address"] + (w * (config.rows // lanes) + g if i["per_channel"] else 0)
            yield R, Space.PARAM, row * lanes + lane
    if i["table"]:
        yield from ((R, Space.TABLE, 256 * (i["table"] - 1) + n) for n in range(256))
    if i["source"] == Source.SPAD:
        for w, (oy, ox, ky, kx) in product(range(i["word_count"]), list(taps(i))):
            src = i["src_address"] + w * i["src_word_stride"] + ky * i["src_ky_stride"] + kx * i["src_kx_stride"]
            yield R, Space.SPAD, src + oy * i["src_oy_stride"] + ox * i["src_ox_stride"]


def expand(touched: Footprint) -> set[Touch]:
    return {
        (access, space, word)
        for access, accesses in ((R, touched.reads), (W, touched.writes))
        for space, intervals in accesses.items()
        for start, stop in intervals.tolist()
        for word in range(start, stop)
    }


def draws(seed: int, count: int) -> Iterator[tuple[ArchConfig, Instruction]]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        config = random_config(rng)
        draw = InstructionDraw(config, rng, 0, 1000, [RequantMode(config.requant_modes[0])])
        for opcode in Opcode:
            if opcode is not Opcode.DEPTHWISE or config.depthwise_taps:
                yield config, draw.instruction(opcode)


def is_canonical(intervals: Intervals) -> bool:
    flat = intervals.reshape(-1)
    return intervals.dtype == np.int64 and len(flat) > 0 and bool((np.diff(flat) > 0).all())


@pytest.mark.parametrize("seed", range(5))
def test_equals_enumeration(seed: int) -> None:
    for config, instruction in draws(seed, 12):
        touched = footprint(config, instruction)
        assert expand(touched) == naive(config, instruction), str(instruction)
        assert all(is_canonical(a) for accesses in (touched.reads, touched.writes) for a in accesses.values())


def test_ports_are_the_banks_of_the_words() -> None:
    for config, instruction in draws(99, 40):
        touched = footprint(config, instruction)
        ports: dict[tuple[Space, Access], int] = {}
        for access, space, word in naive(config, instruction):
            if space in (Space.SPAD, Space.ACC):
                bank = word // (config.spad_bank_words if space is Space.SPAD else config.acc_bank_words)
                ports[space, access] = ports.get((space, access), 0) | 1 << bank
        assert touched.ports == ports


def test_a_wrong_stride_is_seen() -> None:
    """The equality above can fail: one changed field changes the enumeration, and only that."""
    i = Instruction(Opcode.STORE, {"row_count": 3, "row_words": 2, "word_bytes": 4, "row_stride": 5})
    assert expand(footprint(TINY, i)) != naive(TINY, i.replace(row_stride=6))


def test_exec_that_sees_only_padding_reads_no_activations() -> None:
    i = Instruction(Opcode.EXEC, {"spad_address": -100, "height": 0, "width": 9, "ox_count": 4, "ox_stride": 1})
    assert set(footprint(TINY, i).reads) == {Space.WBUF, Space.ACC}


def test_merge_unites_overlapping_and_adjacent_intervals() -> None:
    intervals = np.array([[9, 12], [0, 3], [3, 4], [1, 2], [11, 13], [20, 21]], np.int64)
    assert merge(intervals).tolist() == [[0, 4], [9, 13], [20, 21]]


@pytest.mark.parametrize(
    ("opcode", "fields", "message"),
    [
        (Opcode.LOAD, {"memory": 1, "address": 2047, "row_words": 2},
         "LOAD address and its strides must stay within WBUF 0..2047, got 2047..2048"),
        (Opcode.LOAD, {"memory": 2, "address": 256},
         "LOAD address and its strides must stay within PARAM 0..255, got 256..256"),
        (Opcode.LOAD, {"dram_address": 5, "row_count": 2, "dram_row_stride": -6},
         "LOAD dram_address and its strides must stay within DRAM 0..4294967295, got -1..5"),
        (Opcode.LOAD, {"memory": 3, "address": 511, "row_words": 2},
         "LOAD address and its strides must stay within TABLE 0..511, got 511..512"),
        (Opcode.EXEC, {"spad_address": -1, "height": 1, "width": 1},
         "EXEC spad_address and its strides must stay within SPAD 0..8191, got -1..-1"),
        (Opcode.EXEC, {"wbuf_address": 2040, "k_rows": 4, "chunk_count": 3},
         "EXEC wbuf_address and its strides must stay within WBUF 0..2047, got 2040..2051"),
        (Opcode.EXEC, {"acc_address": 511, "ox_count": 2},
         "EXEC acc_address and its strides must stay within ACC 0..511, got 511..512"),
        (Opcode.DEPTHWISE, {"tap_address": 127, "ky_count": 2},
         "DEPTHWISE tap_address and its strides must stay within TAPS 0..127, got 127..128"),
        (Opcode.POST, {"src_address": -3}, "POST src_address and its strides must stay within ACC 0..511, got -3..-3"),
        (Opcode.POST, {"param_address": 64},
         "POST param_address and its strides must stay within PARAM 0..255, got 256..259"),
        (Opcode.POST, {"dst_address": 8191, "oy_count": 2, "dst_oy_stride": 1},
         "POST dst_address and its strides must stay within SPAD 0..8191, got 8191..8192"),
        (Opcode.STORE, {"dram_address": (1 << 32) - 1, "word_bytes": 2},
         "STORE dram_address and its strides must stay within DRAM 0..4294967295, got 4294967295..4294967296"),
    ],
)  # fmt: skip
def test_out_of_bounds(opcode: Opcode, fields: dict[str, int], message: str) -> None:
    with pytest.raises(ProgramError) as error:
        footprint(TINY, Instruction(opcode, fields))
    assert str(error.value) == message
