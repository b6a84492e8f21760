"""The synchronizer inserts enough tokens (random programs are proven safe) and none too many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from support.machine.random_programs import random_config, random_program, with_semaphores
from support.mutants.compiler_mutants import without_token

from accel.errors import ProgramError
from accel.machine.config import ArchConfig, preset
from accel.machine.isa import Instruction, Memory, Opcode, Source, Table, Unit
from accel.machine.memories import Space
from compiler.check.check import check
from compiler.schedule import hazards, synchronize
from compiler.schedule.footprint import Footprints, footprints
from compiler.schedule.parts import Access

TINY = preset("tiny")


def tokens(program: Sequence[Instruction]) -> list[str]:
    """`UNIT <waits >signals` of each instruction."""

    def names(mask: int) -> str:
        return "+".join(unit.name for unit in Unit if mask >> unit & 1) or "-"

    return [f"{i.unit.name} <{names(i['wait'])} >{names(i['signal'])}" for i in with_semaphores(TINY, program)]


def load(address: int, words: int = 4, memory: Memory = Memory.SPAD, dram: int = 0) -> Instruction:
    return Instruction(
        Opcode.LOAD,
        {"memory": memory, "address": address, "row_words": words, "word_bytes": 4, "step_bytes": 4,
         "row_bytes": 4 * words, "dram_address": dram},
    )  # fmt: skip


def execute(spad: int, acc: int, wbuf: int = 0, pixels: int = 4) -> Instruction:
    return Instruction(
        Opcode.EXEC,
        {"spad_address": spad, "ox_count": pixels, "ox_stride": 1, "x_step": 1, "height": 1, "width": pixels,
         "k_rows": 4, "wbuf_address": wbuf, "acc_address": acc},
    )  # fmt: skip


def post(acc: int, dst: int, pixels: int = 4) -> Instruction:
    return Instruction(
        Opcode.POST,
        {"ox_count": pixels, "src_address": acc, "src_ox_stride": 1, "dst_address": dst, "dst_ox_stride": 1},
    )


def post_spad(src: int, dst: int, pixels: int = 4) -> Instruction:
    return Instruction(
        Opcode.POST,
        {"source": Source.SPAD, "ox_count": pixels, "x_step": 1, "height": 1, "width": pixels, "src_address": src,
         "src_ox_stride": 1, "dst_address": dst, "dst_ox_stride": 1},
    )  # fmt: skip


def store(address: int, dram: int = 0, words: int = 4) -> Instruction:
    return Instruction(Opcode.STORE, {"address": address, "row_words": words, "word_bytes": 4, "dram_address": dram})


def test_a_chain_passes_one_token_per_step() -> None:
    chain = [load(0), load(0, memory=Memory.WBUF), execute(0, 0), post(0, 2048), store(2048)]
    assert tokens(chain) == ["LOAD <- >-", "LOAD <- >EXEC", "EXEC <LOAD >POST", "POST <EXEC >STORE", "STORE <POST >-"]


def test_double_buffering_waits_only_for_the_buffer_of_two_rounds_before() -> None:
    """Banks: input 0 and 1, output 2 and 3; one accumulator bank per round."""
    program = []
    for n, b in enumerate([0, 1, 0, 1]):
        out = 4096 + 2048 * b
        program += [load(2048 * b), execute(2048 * b, 256 * b), post(256 * b, out), store(out, 1000 * (n + 1))]
    first = ["LOAD <- >EXEC", "EXEC <LOAD >LOAD+POST", "POST <EXEC >EXEC+STORE", "STORE <POST >POST"]
    # EXEC overwrites accumulators that POST has read two rounds before; POST overwrites what STORE has read.
    second = ["LOAD <EXEC >EXEC", "EXEC <LOAD+POST >POST", "POST <EXEC+STORE >STORE", "STORE <POST >-"]
    assert tokens(program) == [*first, *first, *second, *second]


def test_no_token_where_nothing_is_shared() -> None:
    assert tokens([load(0), execute(2048, 0), post(256, 4096), store(6144, 100)]) == [
        "LOAD <- >-", "EXEC <- >-", "POST <- >-", "STORE <- >-",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("program", "hazard"),
    [
        ([load(0), execute(0, 0)], True),  # read after write
        ([execute(0, 0), load(3)], True),  # write after read
        ([execute(0, 0), load(4)], False),  # neighbours; LOAD writes, EXEC reads: other ports
        ([load(0), post(0, 3)], True),  # write after write
        ([load(0), post(0, 8)], True),  # write port of bank 0
        ([load(0), post(0, 2048)], False),
        ([execute(0, 0), store(8)], True),  # read port of bank 0
        ([execute(0, 0), post(4, 4096)], True),  # read port of accumulator bank 0
        ([execute(0, 0), post(256, 4096)], False),
        ([post(0, 4096), post_spad(4096, 0)], True),  # POST reads what the pipeline has not yet written
        ([post_spad(4096, 0), post(0, 4096)], False),  # but writes stay behind earlier reads
        ([post(0, 4096), post(0, 4096)], False),
        ([store(0, 64), load(2048, dram=70)], True),  # external memory, read after write
        ([load(2048, dram=70), store(0, 64)], True),
        ([store(0, 64), load(2048, dram=80)], False),
        ([load(0, 4, Memory.WBUF), execute(2048, 0)], True),
        ([execute(2048, 0), load(4, 4, Memory.WBUF)], False),
    ],
)
def test_hazards(program: list[Instruction], hazard: bool) -> None:
    program = with_semaphores(TINY, program)
    assert [i["wait"] for i in program] == [0, hazard << program[0].unit]
    assert [i["signal"] for i in program] == [hazard << program[1].unit, 0]


def test_knowledge_travels_with_tokens() -> None:
    """STORE waits for POST only: POST has waited for EXEC, and EXEC for LOAD."""
    program = [load(0), execute(0, 0), post(0, 4), store(0, words=8)]
    assert tokens(program)[3] == "STORE <POST >-"


def test_existing_token_bits_are_replaced() -> None:
    assert tokens([load(0).replace(wait=15, signal=15)]) == ["LOAD <- >-"]


def test_out_of_bounds_is_refused() -> None:
    with pytest.raises(ProgramError, match="LOAD address"):
        with_semaphores(TINY, [load(8190)])


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_are_proven(seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = random_config(rng)
    program = random_program(config, rng, 40)
    code = (program.program_address, program.program_address + len(program.code))
    report = check(config, program.code, dram_bytes=len(program.memory), read_only=[code])
    assert sum(report.instructions.values()) == 40


@pytest.mark.parametrize("seed", range(4))
def test_every_token_is_needed(seed: int) -> None:
    """Without any single pair of signal and wait the program is not safe."""
    rng = np.random.default_rng(100 + seed)
    config = random_config(rng)
    program = random_program(config, rng, 25).instructions
    for mutant in without_token(program):
        with pytest.raises(ProgramError, match="must not overlap in time"):
            check(config, mutant)


Footprinter = Callable[[ArchConfig, Table], Footprints]


def without(reads: Space | None = None, writes: Space | None = None, ports: bool = False) -> Footprinter:
    """Footprints that overlook some accesses."""
    overlooked = [(reads, Access.READ), (writes, Access.WRITE)]

    def blind(config: ArchConfig, table: Table) -> Footprints:
        touched = footprints(config, table)
        kinds = zip(touched.space.tolist(), touched.access.tolist(), strict=True)
        seen = np.array([kind not in overlooked for kind in kinds], bool)
        names = ("owner", "space", "access", "low", "high", "ports", "part", "base")
        columns = {name: getattr(touched, name)[seen] for name in names}
        return replace(touched, **columns | {"ports": columns["ports"] * np.uint64(not ports)})

    return blind


@pytest.mark.parametrize(
    "blind",
    [
        pytest.param(without(ports=True), id="ports"),
        pytest.param(without(reads=Space.SPAD, ports=True), id="spad reads"),
        pytest.param(without(writes=Space.SPAD), id="spad writes"),
        pytest.param(without(reads=Space.WBUF), id="wbuf reads"),
        pytest.param(without(reads=Space.TAPS), id="tap reads"),
        pytest.param(without(writes=Space.PARAM), id="param writes"),
        pytest.param(without(reads=Space.TABLE), id="table reads"),
        pytest.param(without(writes=Space.ACC, ports=True), id="acc writes"),
        pytest.param(without(reads=Space.DRAM), id="dram reads"),
        pytest.param(without(writes=Space.DRAM), id="dram writes"),
    ],
)
def test_a_blind_synchronizer_is_caught(blind: Footprinter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synchronize, "footprints", blind)
    assert any(refused(seed) for seed in range(20))


def refused(seed: int) -> bool:
    rng = np.random.default_rng(seed)
    config = random_config(rng)
    try:
        check(config, random_program(config, rng, 30).instructions)
    except ProgramError:
        return True
    return False


def test_a_synchronizer_that_forgets_the_pipeline_of_post_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hazards, "_is_late", lambda unit, kind: False)
    with pytest.raises(ProgramError, match=r"instruction 0 \(POST\) and instruction 1 \(POST\)"):
        check(TINY, with_semaphores(TINY, [post(0, 4096), post_spad(4096, 0)]))
