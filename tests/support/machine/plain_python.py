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

import sim
from accel.errors import ProgramError
from accel.machine import causes, timing
from accel.machine.config import ArchConfig, preset
from accel.machine.isa import Instruction, Opcode, Reduce, encode
from sim import timeline
from sim.fast import depthwise, dma, matmul, post, weights
from sim.stepped import depthwise_sequencer, lanes, sequencer, systolic
from sim.stepped import units as stepped
from support.machine.compare import MEMORIES, TIMES, differences
from support.machine.random_layer import random_layer
from support.machine.random_programs import RandomProgram, random_config, random_program
from support.machine.rules import refusal

SEEDS = range(6)
MUTANT_SEEDS = range(120)

MUTANTS: list[tuple[ModuleType, str, str, str]] = [
    (timing, "store_time", "words * word > buffer", "words * word > buffer + word"),
    (timing, "exec_time", "issue + 1 + words", "issue + words"),
    (timing, "exec_time", "max(pixels, words)", "(pixels + words)"),
    (timing, "exec_time", "max(issue + 1 + words, previous_end)", "issue + 1 + words"),
    (timing, "depthwise_time", "issue + 1 + row[DEPTHWISE.kx_count]", "issue + row[DEPTHWISE.kx_count]"),
    (timing, "depthwise_time", ", previous_end)", ", 0)"),
    (timing, "depthwise_time", "further_rows * row_steps", "further_rows * row[DEPTHWISE.ox_count]"),
    (timing, "depthwise_time", "first = row[DEPTHWISE.lead_steps] + ", "first = "),
    (timing, "exec_completion", "end - 1", "end"),
    (timing, "depthwise_completion", "end - 1", "end"),
    (timing, "post_time", " * row[POST.group_count]", ""),
    (timing, "post_completion", "last_step + machine.post_latency", "last_step"),
    (timing, "load_completion", "emission + machine.load_write_latency", "emission"),
    (timing, "load_time", "max(word, step)", "word"),
    (timing, "load_time", "filled <= machine.load_word_bytes", "filled < machine.load_word_bytes"),
    (timing, "load_time", "max(issue + machine.load_start, state[LAST] + 1)", "issue + machine.load_start"),
    (timing, "store_time", "read_cycle + machine.memory_latency) + 1", "read_cycle) + 1"),
    (timing, "burst_beats", "min(BURST_BEATS, to_boundary,", "min(BURST_BEATS,"),
    (timing, "open_burst", "max(state[HANDSHAKE], ends[state[BURSTS] % len(ends)])", "state[HANDSHAKE]"),
    (timing, "fetch_time", ", first)", ")"),
    (timeline, "schedule", "max(full, stamps[DISPATCH, i - 1] + 1)", "full"),
    (timeline, "schedule", "i - machine.fetch_depth] + 1", "i - machine.fetch_depth]"),
    (causes, "count_causes", ">= cycle", "> cycle"),
    (timeline, "schedule", "issues[ordinal % machine.queue_depth] + machine.queue_latency", "0"),
    (timeline, "schedule", "issues[(ordinal - 1) % machine.queue_depth] + machine.queue_latency", "0"),
    (timeline, "schedule", "state.emissions[ordinal % machine.load_in_flight] + 1", "0"),
    (timeline, "schedule", "stamps[COMPLETE, producers[i, p]] + 1", "stamps[COMPLETE, producers[i, p]]"),
    (timeline, "_time_depthwise", "state.ends[_DEPTHWISE - 1], stamp", "state.ends[_EXEC - 1], stamp"),
    (sequencer, "sequence", "s[WORD] == s[WORDS]", "s[WORD] >= s[WORDS] - 1"),
    (depthwise_sequencer, "sequence", "s[WORD] == s[WORDS]", "s[WORD] >= s[WORDS] - 1"),
    (depthwise_sequencer, "issue", "+ row[DEPTHWISE.ox_count]", "+ row[DEPTHWISE.row_steps]"),
    (depthwise_sequencer, "sequence", "(OUTPUT, -1 - s[NEXT_LEAD])", "(OUTPUT, -1)"),
    (lanes, "_control_output", "- taps + tap)", "- 1 - tap)"),
    (lanes, "_control_output", "x < table[i, DEPTHWISE.width]", "x <= table[i, DEPTHWISE.width]"),
    (lanes, "_control_output", "ky > 0 or", ""),
    (lanes, "_read_words", "(j - place) * table[i, DEPTHWISE.x_dilation]", "j * table[i, DEPTHWISE.x_dilation]"),
    (lanes, "_read_taps", "s[sequencer.TILE] * table", "0 * table"),
    (lanes, "_capture", "control[READ_LATENCY, SWAP]", "control[0, SWAP]"),
    (lanes, "_capture", "if control[READ_LATENCY, CAPTURE] > 0 else 0", ""),
    (lanes, "_choose", "1 - exists", "0"),
    (lanes, "_accumulate", "oldest = control.shape[0] - 1", "oldest = control.shape[0] - 2"),
    (stepped, "run", "elif not array_idle", "elif False"),
    (stepped, "run", "written, cycle, cycle + 1)", "written, cycle, cycle)"),
    (systolic, "_swap", "- EXEC_LATENCY\n", "- EXEC_LATENCY - 1\n"),
    (systolic, "_capture", "wave & mask] - EXEC_LATENCY", "wave & mask] - EXEC_LATENCY - 1"),
    (systolic, "accumulate", "(cycle - rows) & mask", "(cycle - rows + 1) & mask"),
    (systolic, "_read_activations", "table[now, EXEC.pad_value] if pixel >= 0 else 0", "0"),
    (systolic, "_read_weights", "word < per_tile", "True"),
    (systolic, "_read_weights", "2 * word + 1 == k_rows", "False"),
    (systolic, "_capture", "r & 1", "1 - r & 1"),
    (systolic, "_capture", "twice = 4 - int4", "twice = 4"),
    (sequencer, "issue", "tile_words(rows, row[EXEC.int4])", "rows"),
    (timing, "exec_time", "tile_words(machine.rows, row[EXEC.int4])", "machine.rows"),
    (matmul, "execute", "row[EXEC.pad_value] + OFFSET", "OFFSET"),
    (matmul, "sum_block_plain", "np.int64(packed[biases + column]) +", ""),
    (matmul, "execute", "_copy(acc, word, base, sums, 0, 0, count, columns)", "pass"),
    (matmul, "_place_pixels", "step if inside else 0", "step"),
    (post, "_add_pairs", "left + apart * spad.shape[1]", "left"),
    (post, "_add_pairs", "row[POST.src_ky_stride] if row[POST.ky_count] == 2 else ", ""),
    (post, "_add_pairs", "if step == width:", "if True:"),
    (post, "_are_pairs", "last_x < row[POST.width]", "True"),
    (post, "_are_pairs", "y >= 0 and", ""),
    (post, "execute", "if whole and _is_one_row(row):", "if whole:"),
    (weights, "pack", "min(QUAD, k_rows - quad * QUAD)", "QUAD"),
    (weights, "pack", "- 128 * weight", "+ 128 * weight"),
    (weights, "_place", "packer > last and", ""),
    (weights, "pack", "high_nibble(weight) if shift else low_nibble", "low_nibble(weight) if shift else high_nibble"),
    (weights, "pack", "low_nibble(weight)", "weight & 15"),
    (weights, "_place_row", "tile_words(row[EXEC.k_rows], int4)", "row[EXEC.k_rows]"),
    (weights, "_place", "tile_words(row[EXEC.k_rows], row[EXEC.int4])", "tile_words(row[EXEC.k_rows], 1)"),
    (depthwise, "_place_taps", "(x < row[DEPTHWISE.width])", "(x <= row[DEPTHWISE.width])"),
    (depthwise, "_place_taps", "oy * row[DEPTHWISE.oy_stride]", "oy * row[DEPTHWISE.ky_stride]"),
    (depthwise, "_sum_taps", "row[DEPTHWISE.tap_address] + tap", "row[DEPTHWISE.tap_address]"),
    (depthwise, "_sum_taps", "index(first + c)", "index(c)"),
    (depthwise, "execute", "row[DEPTHWISE.pad_value] + OFFSET", "OFFSET"),
    (depthwise, "execute", "for c in range(acc.shape[1])", "for c in range(memories.taps.shape[1])"),
    (post, "_finish_lanes", "wrap_int32(np.int64(sums[source + i]) + ", "(np.int64(sums[source + i]) + "),
    (post, "_finish", "count if row[POST.dst_ox_stride] else 1", "count"),
    (post, "_is_one_row", "source and ", ""),
    (post, "_is_tabulated", "same &= tabulated", "same |= tabulated"),
    (post, "_reduce", "1 if ky or kx else 0", "0"),
    (post, "_tabulate", "+ 256) & 511) - 256", "+ 512) & 1023) - 512"),
    (post, "_tabulate", "_SUB and tap", "_SUB"),
    (post, "_weight", "y_weight if tap >> 1", "y_weight if tap & 1"),
    (post, "_reduce", "2 * ky + kx", "ky + kx"),
    (post, "_look_up", "(table - 1)", "(2 - table)"),
    (post, "_look_up", "first + spad", "first + 1 + spad"),
    (dma, "load", "octets(memories.taps)", "octets(memories.wbuf)"),
    (dma, "_load_row", "(row[LOAD.pad_value] & 255)", "0"),
    (dma, "_load_row", "word * step - pad", "word * step"),
    (dma, "_load_row", "    if pad:\n        block = 0\n", ""),
    (dma, "_load_row", "(words == 1 or step == count)", "True"),
    (dma, "_store_row", "if count == spad.shape[1]", "if True"),
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


def mutant_source(module: ModuleType, function: str, old: str, new: str) -> str:
    """Source of `module.function` with `old` replaced by `new`."""
    source = inspect.getsource(getattr(module, function))
    if old not in source:
        raise ValueError(f"{function} must contain {old!r}; adapt the mutant")
    return source.replace(old, new)


@contextlib.contextmanager
def mutated(module: ModuleType, function: str, old: str, new: str) -> Iterator[None]:
    """`module.function` with `old` replaced by `new`, wherever it was imported."""
    original, source = getattr(module, function), mutant_source(module, function, old, new)
    scope = vars(module)
    exec(source, scope)
    mutant = scope[function]
    before = {timeline: getattr(timeline, function)} if hasattr(timeline, function) else {}
    before[module] = original
    for user in before:
        setattr(user, function, mutant)
    try:
        yield
    finally:
        for user, own in before.items():  # timeline's own may be compiled
            setattr(user, function, own)


def long_stores(rng: np.random.Generator) -> tuple[ArchConfig, RandomProgram]:
    """STOREs of words much narrower than the bus, in bursts that wait for each other: the buffer runs full and dry."""
    config = dataclasses.replace(preset("tiny"), bus_bytes=64, outstanding_bursts=1, write_latency_cycles=90)
    rows = [{"row_words": int(rng.integers(90, 400)), "word_bytes": int(rng.integers(1, 5))} for _ in range(3)]
    rows = [fields | {"row_count": 3, "dram_row_stride": int(rng.integers(1600, 1700))} for fields in rows]
    program = [Instruction(Opcode.STORE, fields) for fields in rows]
    code = encode(program)
    return config, RandomProgram(code, np.zeros(8192, np.uint8), 8192, program)


def with_reduce(config: ArchConfig, layer: RandomProgram, reduce: Reduce) -> RandomProgram:
    """The layer with POSTs that all combine their taps by `reduce`, but for those that no rule allows it."""
    posts = list(layer.instructions)
    for place, each in enumerate(posts):
        if each.opcode is Opcode.POST and not refusal(config, each.replace(reduce=reduce)):
            posts[place] = each.replace(reduce=reduce)
    return dataclasses.replace(layer, code=encode(posts), instructions=posts)


def draw(seed: int) -> tuple[ArchConfig, RandomProgram]:
    """A random machine, or one whose queues and memory let many transfers be under way, and a program or a layer."""
    rng = np.random.default_rng(seed)
    if seed % 10 == 9:
        return long_stores(rng)
    config = random_config(rng)
    if seed % 10 in (7, 8):
        return config, with_reduce(config, random_layer(config, rng), Reduce.SUB if seed % 10 == 7 else Reduce.MUL)
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
            except (ArithmeticError, IndexError, ProgramError, RuntimeWarning):
                return True
    return False


if __name__ == "__main__":
    warnings.simplefilter("error")
    print("digest", digest())
    for module in (timing, causes):
        for name in [name for name in vars(timeline) if hasattr(module, name)]:
            setattr(timeline, name, getattr(module, name))
    for mutant in MUTANTS:  # also those that a short run leaves out
        mutant_source(*mutant)
    for mutant in MUTANTS[:: int(sys.argv[1])]:
        name = " ".join(f"{mutant[1]}: {mutant[2]} -> {mutant[3]}".split())
        print(name, "caught" if caught(mutant) else "missed", flush=True)
