"""Run with NUMBA_DISABLE_JIT=1: the engines as plain Python, and mutants of them that the comparison must catch.

Prints one line per check: "digest <hex>" for the results of some programs, then "<mutant> caught" or "<mutant> missed"
for every n-th mutant, n being the argument.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

import numpy as np
from compare import MEMORIES, TIMES, differences
from random_programs import RandomProgram, random_config, random_program
from test_layers import random_layer

import sim
from accel import timing
from accel.config import ArchConfig, preset
from accel.errors import ProgramError
from accel.isa import Instruction, Opcode, Reduce, encode
from sim import depthwise, dma, lanes, matmul, post, sequencer, systolic, timeline

SEEDS = range(6)
MUTANT_SEEDS = range(90)

MUTANTS: list[tuple[ModuleType, str, str, str]] = [
    (timing, "store_time", "words * word > buffer", "words * word > buffer + word"),
    (timing, "exec_time", "issue + 1 + machine.rows", "issue + machine.rows"),
    (timing, "exec_time", "max(pixels, machine.rows)", "(pixels + machine.rows)"),
    (timing, "exec_time", "max(issue + 1 + machine.rows, state[STREAM_END])", "issue + 1 + machine.rows"),
    (timing, "depthwise_time", "issue + 1 + row[EXEC.kx_count]", "issue + row[EXEC.kx_count]"),
    (timing, "depthwise_time", ", state[SUMS_END] - latency - lead)", ")"),
    (timing, "depthwise_time", "(row[EXEC.oy_count] - 1) * row_steps", "(row[EXEC.oy_count] - 1) * row[EXEC.ox_count]"),
    (timing, "depthwise_time", "first = lead + ", "first = "),
    (timing, "load_time", "max(word, step)", "word"),
    (timing, "load_time", "filled <= machine.load_word_bytes", "filled < machine.load_word_bytes"),
    (timing, "load_time", "max(issue, state[LAST]) + 1", "issue + 1"),
    (timing, "store_time", "max(state[BEAT], handshake, read_cycle + 1)", "max(state[BEAT], handshake, read_cycle)"),
    (timing, "burst_beats", "min(BURST_BEATS, to_boundary,", "min(BURST_BEATS,"),
    (timing, "open_burst", "max(state[HANDSHAKE], ends[state[BURSTS] % len(ends)])", "state[HANDSHAKE]"),
    (timing, "fetch_time", ", first)", ")"),
    (timing, "count_causes", ">= cycle", "> cycle"),
    (timeline, "schedule", "state.issues[unit, ordinal % machine.queue_depth] + 1", "0"),
    (timeline, "schedule", "state.emissions[ordinal % machine.load_in_flight] + 1", "0"),
    (timeline, "schedule", "stamps[COMPLETE, producers[i, p]] + 1", "stamps[COMPLETE, producers[i, p]]"),
    (sequencer, "sequence", "s[WORD] == s[WORDS]", "s[WORD] >= s[WORDS] - 1"),
    (sequencer, "sequence", " and s[DRAIN] <= s[NEXT_LEAD]", ""),
    (sequencer, "_output", "s[PAUSE] = s[GAP]", "s[PAUSE] = 0"),
    (lanes, "control_output", "- taps + tap)", "- 1 - tap)"),
    (lanes, "control_output", "x < table[i, EXEC.width]", "x <= table[i, EXEC.width]"),
    (lanes, "read_step", "j - 1)", "j + 1)"),
    (lanes, "step", "control[SWAP, now]", "control[SWAP, before]"),
    (lanes, "step", "if control[CAPTURE, now] > 0 else 0", ""),
    (systolic, "_swap", "- 1\n", "- 2\n"),
    (systolic, "_capture", "cycle - loads[wave & mask] - 1", "cycle - loads[wave & mask] - 2"),
    (systolic, "_accumulate", "(cycle - rows) & mask", "(cycle - rows + 1) & mask"),
    (systolic, "_read_activations", "table[now, EXEC.pad_value] if pixel >= 0 else 0", "0"),
    (systolic, "_read_weights", "row < k_rows", "True"),
    (matmul, "execute", "= row[EXEC.pad_value]", "= 0"),
    (matmul, "_place_pixels", "step if inside else 0", "step"),
    (matmul, "_pack_weights", "second * paired", "second"),
    (depthwise, "_add_row", "(x < row[EXEC.width])", "(x <= row[EXEC.width])"),
    (depthwise, "_add_row", "ky * row[EXEC.kx_count] + kx", "kx * row[EXEC.ky_count] + ky"),
    (depthwise, "_add_row", "index(first + c)", "index(c)"),
    (depthwise, "_add_row", "else row[EXEC.pad_value]", "else 0"),
    (depthwise, "execute", "range(acc.shape[1])", "range(lanes)"),
    (post, "_finish", "wrap_int32(sums[ox, i] + records[0, i])", "sums[ox, i] + records[0, i]"),
    (post, "_reduce", "1 if ky or kx else 0", "0"),
    (post, "_tabulate", "+ 256) & 511) - 256", "+ 512) & 1023) - 512"),
    (post, "_tabulate", "_SUB and tap", "_SUB"),
    (post, "_weight", "y_weight if tap >> 1", "y_weight if tap & 1"),
    (post, "_reduce", "2 * ky + kx", "ky + kx"),
    (post, "_look_up", "(table - 1)", "(2 - table)"),
    (post, "_look_up", "+ 128", "+ 127"),
    (dma, "_load_row", "else pad_value", "else 0"),
    (dma, "_load_row", "- pad\n", "\n"),
]


def digest() -> str:
    """Hash of everything that both engines compute for some programs."""
    digest = hashlib.sha256()
    for seed in SEEDS:
        config, program = draw(seed)
        for engine in sim.ENGINES:
            result = sim.execute(config, program.code, program.program_address, program.memory, engine=engine)
            for name in (*MEMORIES, *TIMES):
                digest.update(np.ascontiguousarray(getattr(result, name)).tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def mutated(module: ModuleType, function: str, old: str, new: str) -> Iterator[None]:
    """`module.function` with `old` replaced by `new`, wherever it was imported."""
    original = getattr(module, function)
    source = inspect.getsource(original)
    if old not in source:
        raise ValueError(f"{function} must contain {old!r}; adapt the mutant")
    scope = vars(module)
    exec(source.replace(old, new), scope)
    users = [user for user in (module, timeline) if hasattr(user, function)]
    for user in users:
        setattr(user, function, scope[function])
    try:
        yield
    finally:
        for user in users:
            setattr(user, function, original)


def long_stores(rng: np.random.Generator) -> tuple[ArchConfig, RandomProgram]:
    """STOREs of words much narrower than the bus, in bursts that wait for each other: the buffer runs full and dry."""
    config = dataclasses.replace(preset("tiny"), bus_bytes=64, outstanding_bursts=1, write_latency_cycles=90)
    rows = [{"row_words": int(rng.integers(90, 400)), "word_bytes": int(rng.integers(1, 5))} for _ in range(3)]
    rows = [fields | {"row_count": 3, "dram_row_stride": int(rng.integers(1600, 1700))} for fields in rows]
    program = [Instruction(Opcode.STORE, fields) for fields in rows]
    code = encode(program)
    return config, RandomProgram(code, np.zeros(8192, np.uint8), 8192, program)


def with_reduce(layer: RandomProgram, reduce: Reduce) -> RandomProgram:
    """The layer with POSTs that all combine their taps by `reduce`."""
    posts = [i.replace(reduce=reduce) if i.opcode is Opcode.POST else i for i in layer.instructions]
    return dataclasses.replace(layer, code=encode(posts), instructions=posts)


def draw(seed: int) -> tuple[ArchConfig, RandomProgram]:
    """A random machine, or one whose queues and memory let many transfers be under way, and a program or a layer."""
    rng = np.random.default_rng(seed)
    if seed % 10 == 9:
        return long_stores(rng)
    config = random_config(rng)
    if seed % 10 in (7, 8):
        return config, with_reduce(random_layer(config, rng), Reduce.SUB if seed % 10 == 7 else Reduce.MUL)
    if seed % 3 == 1:
        config = dataclasses.replace(config, outstanding_bursts=1, write_latency_cycles=60)
    if seed % 3 == 2:
        config = dataclasses.replace(config, outstanding_bursts=16, read_latency_cycles=60, queue_depth=8)
    return config, random_program(config, rng, int(rng.integers(4, 24)))


def caught(mutant: tuple[ModuleType, str, str, str]) -> bool:
    """Whether some program shows the mutant."""
    with mutated(*mutant):
        for seed in MUTANT_SEEDS:
            try:
                if differences(*draw(seed)):
                    return True
            except (ArithmeticError, IndexError, ProgramError):
                return True
    return False


if __name__ == "__main__":
    warnings.simplefilter("error")
    print("digest", digest())
    for name in [name for name in vars(timeline) if hasattr(timing, name)]:
        setattr(timeline, name, getattr(timing, name))
    for mutant in MUTANTS[:: int(sys.argv[1])]:
        name = f"{mutant[1]}: {mutant[2].strip()} -> {mutant[3].strip()}"
        print(name, "caught" if caught(mutant) else "missed", flush=True)
