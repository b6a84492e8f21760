"""Damaged program files: of any kind, and "smart" ones whose checksum and lengths are right again."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np

from accel.errors import AccelError
from accel.machine import isa
from accel.machine.config import ArchConfig
from accel.machine.isa import FIELDS, INSTRUCTION_BYTES, Opcode
from accel.program.sections import join_sections, split_sections

Rng = np.random.Generator

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 64, 4096, 1.5, -0.0, 1e308, float("nan"), float("inf"), 1 << 31, 1 << 40, 1 << 64,
    1 << 2000, 1e39, "", "t0", "image", "\ud800", "a\nb", [], [0], [1, 2, 3, 4], [[]], {}, {"a": 1},
)  # fmt: skip


def sections_of(data: bytes) -> tuple[bytes, ...]:
    """The sections of a valid file."""
    return split_sections(data, "file")


def damaged(rng: Rng, data: bytes) -> bytes:
    """Bits flipped, bytes overwritten, removed, inserted or repeated."""
    kind = int(rng.integers(6))
    at = int(rng.integers(max(len(data), 1)))
    size = int(rng.integers(1, 1 + min(64, max(len(data) - at, 1))))
    if kind == 0:
        out = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(max(len(out), 1)))
            out[place : place + 1] = bytes([out[place] ^ 1 << int(rng.integers(8))]) if out else b"\0"
        return bytes(out)
    middle = {1: rng.bytes(size), 2: b"", 3: rng.bytes(size) + data[at : at + size], 4: data[at : at + size] * 2}
    return data[:at] if kind == 5 else data[:at] + middle[kind] + data[at + size :]


def raw_mutant(rng: Rng, files: list[bytes]) -> bytes:
    """One file damaged, or the halves of two put together."""
    data = files[int(rng.integers(len(files)))]
    if rng.random() < 0.15:
        other = files[int(rng.integers(len(files)))]
        return data[: int(rng.integers(len(data)))] + other[int(rng.integers(len(other))) :]
    if rng.random() < 0.2:
        return damaged(rng, data[:100]) + data[100:]
    return damaged(rng, data)


def smart_mutant(rng: Rng, data: bytes) -> bytes:
    """One section altered, lengths and checksum made right."""
    sections = list(sections_of(data))
    kind = rng.choice(["text", "value", "config", "code", "field", "constants", "host"],
                      p=[0.1, 0.3, 0.1, 0.1, 0.25, 0.05, 0.1])  # fmt: skip
    if kind == "text":
        sections[0] = damaged(rng, sections[0])
    elif kind == "value":
        sections[0] = _with_odd_value(rng, sections[0])
    elif kind == "config":
        sections[0] = _with_other_config(rng, sections[0])
    elif kind == "code":
        sections[1] = damaged(rng, sections[1])
    elif kind == "field":
        sections[1] = _with_other_field(rng, sections[1])
    else:
        index = {"constants": 2, "host": 3}[kind]
        sections[index] = damaged(rng, sections[index])
    return join_sections(tuple(sections))


def _dump(header: Any) -> bytes:
    try:
        return json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()


def _with_odd_value(rng: Rng, text: bytes) -> bytes:
    """Somewhere in the header another value, a key less or a key more."""
    header = json.loads(text)
    node = header
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            node.update(colour=1) if isinstance(node, dict) else node.append(1)
            return _dump(header)
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(node[key], dict | list) and rng.random() < 0.9:
            node = node[key]
            continue
        action = rng.random()
        if action < 0.1:
            del node[key]
        elif action < 0.2 and isinstance(node, dict):
            node["colour"] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
        elif action < 0.5 and isinstance(node[key], int):
            node[key] += int(rng.choice([-64, -1, 1, 2, 64, 4096]))
        else:
            node[key] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
        return _dump(header)


def _with_other_config(rng: Rng, text: bytes) -> bytes:
    """One number of the configuration doubled, halved, or one off; the fingerprint made right where there is one."""
    header = json.loads(text)
    lines = header["config"].splitlines(True)
    at = int(rng.integers(1, len(lines) - 3))
    key, value = lines[at].split(" = ")
    other = rng.choice([int(value) * 2, int(value) // 2, int(value) + 1, int(value) - 1, -int(value)])
    lines[at] = f"{key} = {other}\n"
    header["config"] = "".join(lines)
    with suppress(AccelError):
        header["fingerprint"] = ArchConfig.from_toml(header["config"]).fingerprint()
    return _dump(header)


def _with_other_field(rng: Rng, code: bytes) -> bytes:
    """One field of one instruction with another legal value."""
    index = int(rng.integers(len(code) // INSTRUCTION_BYTES))
    part = slice(index * INSTRUCTION_BYTES, (index + 1) * INSTRUCTION_BYTES)
    (instruction,) = isa.decode(code[part])
    fields = FIELDS[Opcode(instruction.opcode)][1:]
    field = fields[int(rng.integers(len(fields)))]
    near = instruction[field.name] + int(rng.choice([-2, -1, 1, 2, 64]))
    low, high = field.minimum, field.maximum
    far = int(rng.choice([low, high, rng.integers(low, high, endpoint=True)]))
    value = near if rng.random() < 0.7 and low <= near <= high else far
    changed = instruction.replace(**{field.name: value})
    return code[: part.start] + changed.encode() + code[part.stop :]
