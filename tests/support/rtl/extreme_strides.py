"""Instructions whose loops go anywhere: strides, steps and starts of any size, as far as each word in use exists.

Random programs have images of a few pixels; here taps leave the image by thousands of positions and come back, and
words of one instruction are anywhere in a memory. What does not exist has any address.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import prod
from typing import TypeAlias

import numpy as np

from accel.errors import ProgramError
from accel.machine import isa
from accel.machine.depthwise import row_stream
from accel.machine.isa import Instruction, Memory, Opcode, Source, decode, encode
from accel.machine.loops import LOOPS
from accel.machine.memories import Space, memories
from support.machine.random_programs import with_semaphores
from support.machine.rules import check_alone
from support.rtl.hostile import MACHINE, MEMORY_BYTES
from support.rtl.lone_faults import MOST_STEPS, legal_instructions

TRIES = 8
"""Of loops for a random instruction."""

FEW_BYTES = 100
"""Of padding, at most, behind a long row."""

CODE_BYTES = 1024
"""At the begin of external memory, where nothing is stored."""

Fields: TypeAlias = dict[str, int]
Offsets: TypeAlias = np.ndarray
Kind: TypeAlias = tuple[Opcode, int]
"""An opcode, and POST's source."""

_WORDS = {space: memory.words for space, memory in memories(MACHINE).items()}
_LIMITS = {opcode: {f.name: (f.minimum, f.maximum) for f in isa.FIELDS[opcode]} for opcode in Opcode}


def extreme_instructions(seed: int, count: int) -> dict[Kind, list[Instruction]]:
    """`count` legal instructions of each kind, without waits and signals."""
    rng = np.random.default_rng(seed)
    found = defaultdict[Kind, list[Instruction]](list)
    for code in legal_instructions(rng):
        (instruction,) = decode(code)
        kind = (instruction.opcode, instruction.fields.get("source", 0))
        tries = (_stretched(instruction, rng) for _ in range(TRIES * (len(found[kind]) < count)))
        found[kind] += islice(filter(None, tries), 1)
        if len(found) == len(Opcode) + 1 and min(map(len, found.values())) == count:
            return found
    raise AssertionError("the generator has no end")


def long_rows(seed: int, count: int) -> Iterator[bytes]:
    """LOADs of one row that fills most of SPAD from anywhere in a page: three bursts or more, of any lengths; half of
    the rows fill their words but for a few bytes."""
    rng, step = np.random.default_rng(seed), MACHINE.load_word_bytes
    for number in range(count):
        row_words = int(rng.integers(MACHINE.spad_words - 64, MACHINE.spad_words))
        fields = {
            "memory": Memory.SPAD, "word_bytes": MACHINE.rows, "step_bytes": step, "row_words": row_words,
            "row_bytes": step * row_words - int(rng.integers(1, (FEW_BYTES, step * row_words // 2)[number % 2])),
            "row_count": 1, "outer_count": 1,
            "dram_address": int(rng.integers(CODE_BYTES, MEMORY_BYTES - step * row_words)),
        }  # fmt: skip
        yield encode([Instruction(Opcode.LOAD, fields)])


def many_rows(seed: int, count: int) -> Iterator[bytes]:
    """LOADs and STOREs of thousands of short rows, by one loop or both, side by side in external memory."""
    rng, places = np.random.default_rng(seed), MEMORY_BYTES - CODE_BYTES
    for number in range(count):
        rows, width, some = (
            int(rng.integers(1 << 11, 1 << 12)),
            int(rng.integers(1, places >> 12)),
            int(rng.integers(2, 9)),
        )
        inside, outside = [(rows, 1), (1, rows), (some, rows // some), (rows // some, some)][number // 2 % 4]
        fields = {
            "address": int(rng.integers(MACHINE.spad_words)), "word_bytes": width, "row_words": 1,
            "row_count": inside, "dram_row_stride": width, "outer_count": outside, "dram_outer_stride": inside * width,
            "dram_address": CODE_BYTES,
        }  # fmt: skip
        load = {"memory": Memory.SPAD, "step_bytes": width, "row_bytes": width}
        yield encode([Instruction(Opcode.STORE, fields) if number % 2 else Instruction(Opcode.LOAD, fields | load)])


def extreme_programs(seed: int, count: int, longest: int = 3) -> Iterator[bytes]:
    """The same in any order, up to `longest` in a program, with the waits that they need."""
    rng = np.random.default_rng(seed)
    instructions = [each for kind in extreme_instructions(seed, count).values() for each in kind]
    rest = iter([instructions[place] for place in rng.permutation(len(instructions))])
    while some := [*islice(rest, int(rng.integers(1, longest + 1)))]:
        yield encode(with_semaphores(MACHINE, some))


def _stretched(instruction: Instruction, rng: np.random.Generator) -> Instruction | None:
    """The instruction with other loops, None if some word of it does not exist."""
    opcode, fields = instruction.opcode, dict(instruction.fields)
    fields.pop("opcode")
    draw = _Draw(opcode, fields, rng)
    {Opcode.LOAD: draw.load, Opcode.STORE: draw.store, Opcode.POST: draw.post}.get(opcode, draw.sums)()
    if draw.impossible or any(not low <= fields[name] <= high for name, (low, high) in draw.limits.items()):
        return None
    result = Instruction(opcode, fields)
    if prod(fields[loop] for loop in LOOPS[opcode]) > MOST_STEPS:
        return None
    try:
        check_alone(MACHINE, result)
    except ProgramError:
        return None
    return result


class _Draw:
    """Changes the loops in `fields`."""

    def __init__(self, opcode: Opcode, fields: Fields, rng: np.random.Generator):
        self.fields, self._rng = fields, rng
        self.limits: Mapping[str, tuple[int, int]] = {n: v for n, v in _LIMITS[opcode].items() if n != "opcode"}
        self.impossible = False

    def load(self) -> None:
        space = Space(Memory(self.fields["memory"]))
        self._counts("outer_count", "row_count", most=4)
        if space is not Space.PARAM:
            self._external()
        self._strides("outer_stride", "row_stride")
        rows = self._offsets(("outer_count", "outer_stride"), ("row_count", "row_stride"))
        self._place("address", rows, self.fields["row_words"], _WORDS[space])

    def store(self) -> None:
        self._counts("outer_count", "row_count", most=4)
        self._external()
        self._strides("outer_stride", "row_stride")
        rows = self._offsets(("outer_count", "outer_stride"), ("row_count", "row_stride"))
        self._place("address", rows, self.fields["row_words"], _WORDS[Space.SPAD])

    def post(self) -> None:
        fields = self.fields
        if fields["source"] == Source.SPAD:
            self._counts("word_count", "oy_count", "ox_count", most=4)
            self._window("src_", "word")
        else:
            self._counts("oy_count", "ox_count", most=4)
            self._strides("src_oy_stride", "src_ox_stride")
            rows = self._offsets(("oy_count", "src_oy_stride"), ("ox_count", "src_ox_stride"))
            self._place("src_address", rows, 1, _WORDS[Space.ACC])
        self._strides("dst_word_stride", "dst_oy_stride", "dst_ox_stride")
        loops = (("word_count", "dst_word_stride"), ("oy_count", "dst_oy_stride"), ("ox_count", "dst_ox_stride"))
        self._place("dst_address", self._offsets(*loops), 1, _WORDS[Space.SPAD])

    def sums(self) -> None:
        """EXEC, DEPTHWISE."""
        fields = self.fields
        has_chunks = "chunk_count" in fields
        self._counts("ky_count", "oy_count", "ox_count", most=4)
        self._window("", "chunk" if has_chunks else "")
        if has_chunks:
            fields["k_rows"] = int(self._rng.integers(1, MACHINE.rows + 1))
        self._place("acc_address", np.zeros(1, int), fields["oy_count"] * fields["ox_count"], _WORDS[Space.ACC])

    def _window(self, prefix: str, chunk: str) -> None:
        """Positions and source addresses of which at least one exists."""
        fields, depthwise = self.fields, "lead_steps" in self.fields
        for axis, size in (("y", "height"), ("x", "width")):
            for name in (f"{axis}_step", f"{axis}_dilation"):
                fields[name] = self._any(name) if self._rng.random() < 0.5 else self._uniform(name)
            if depthwise and axis == "x":
                move = 1 + (fields["kx_count"] > 1 and bool(self._rng.integers(2)))
                fields["x_dilation"] = max(1, fields["x_dilation"])
                fields["x_step"] = move * fields["x_dilation"]
            outputs, taps = (np.arange(fields[f"{loop}{axis}_count"]) for loop in "ok")
            moved = outputs[:, None] * fields[f"{axis}_step"] + taps * fields[f"{axis}_dilation"]
            fields[size] = self._any(size) or 1
            inside = min(self._any(size), fields[size] - 1)
            fields[f"{axis}_start"] = inside - int(self._rng.choice([*moved.ravel(), moved.max(), moved.max()]))
        self._strides(*(f"{prefix}{name}_stride" for name in ("ky", "kx", "oy", "ox", *filter(None, [chunk]))))
        if depthwise:
            move = fields["x_step"] // fields["x_dilation"]
            fields["kx_stride"] |= move - 1
            fields["ox_stride"] = move * fields["kx_stride"]
            positions = (fields["x_start"], fields["x_dilation"], move, fields["width"])
            fields["lead_steps"], fields["row_steps"] = row_stream(*positions, fields["kx_count"], fields["ox_count"])
        offsets = np.zeros(1, int)
        for axis, size in (("y", "height"), ("x", "width")):
            outputs, taps = (np.arange(fields[f"{loop}{axis}_count"]) for loop in "ok")
            step, dilation = fields[f"{axis}_step"], fields[f"{axis}_dilation"]
            positions = fields[f"{axis}_start"] + outputs[:, None] * step + taps * dilation
            strides = (fields[f"{prefix}{loop}{axis}_stride"] for loop in "ok")
            words = sum(np.ix_(outputs * next(strides), taps * next(strides)))
            offsets = np.add.outer(offsets, words[(positions >= 0) & (positions < fields[size])]).ravel()
        if chunk:
            chunks = np.arange(fields[f"{chunk}_count"]) * fields[f"{prefix}{chunk}_stride"]
            offsets = np.add.outer(chunks, offsets).ravel()
        self._place(f"{prefix}address" if prefix else "spad_address", offsets, 1, _WORDS[Space.SPAD])

    def _external(self) -> None:
        """Rows in external memory, behind the code."""
        fields = self.fields
        length = fields.get("row_bytes") or fields["row_words"] * fields["word_bytes"]
        fields |= {name: self._size(MEMORY_BYTES) for name in ("dram_outer_stride", "dram_row_stride")}
        rows = self._offsets(("outer_count", "dram_outer_stride"), ("row_count", "dram_row_stride"))
        self._place("dram_address", rows, length, MEMORY_BYTES, CODE_BYTES)

    def _counts(self, *names: str, most: int) -> None:
        """Small ones, by chance one of them large."""
        for name in names:
            self.fields[name] = int(self._rng.integers(1, self._rng.integers(1, most + 1) + 1))
        if self._rng.random() < 0.3:
            self.fields[str(self._rng.choice(names))] = int(self._rng.integers(1, MOST_STEPS // 4))

    def _strides(self, *names: str) -> None:
        for name in names:
            if self._rng.random() < 0.8:
                self.fields[name] = self._size(self.limits[name][1] if self._rng.random() < 0.3 else 256)

    def _size(self, most: int) -> int:
        """Of any length in bits, with any sign."""
        bits = int(self._rng.integers(most.bit_length() + 1))
        return int(self._rng.integers(1 << bits)) * int(self._rng.choice((1, -1)))

    def _any(self, name: str) -> int:
        """A value of any length in bits that the field may have."""
        return int(self._rng.integers(1 << self._rng.integers(self.limits[name][1].bit_length() + 1)))

    def _uniform(self, name: str) -> int:
        low, high = self.limits[name]
        return int(self._rng.integers(low, high + 1))

    def _offsets(self, *loops: tuple[str, str]) -> Offsets:
        """Sums of the indices of loops times their strides; loops by the fields of both."""
        result = np.zeros(1, int)
        for count, stride in loops:
            result = np.add.outer(np.arange(self.fields[count]) * self.fields[stride], result).ravel()
        return result

    def _place(self, name: str, offsets: Offsets | Sequence[int], length: int, words: int, first: int = 0) -> None:
        """An address from which `length` words at each of the offsets are in `first` .. `words` - 1."""
        low, high = first - int(np.min(offsets)), words - length - int(np.max(offsets))
        low, high = max(low, self.limits[name][0]), min(high, self.limits[name][1])
        self.impossible |= low > high
        self.fields[name] = int(self._rng.integers(low, high + 1)) if low <= high else 0
