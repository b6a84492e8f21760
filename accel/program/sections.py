"""The container of a program file: four byte strings behind a checksum.

Layout (little-endian): magic, format version, lengths of the sections, SHA-256 of version, lengths and sections, then
the sections.
"""

from __future__ import annotations

import hashlib
import struct

from accel.errors import ProgramError

MAGIC = b"ACCELPRG"
VERSION = 5
SECTIONS = 4
PREFIX = struct.Struct(f"<8sI{SECTIONS}Q32s")


def join_sections(sections: tuple[bytes, ...]) -> bytes:
    """The file's content."""
    lengths = tuple(len(section) for section in sections)
    return PREFIX.pack(MAGIC, VERSION, *lengths, _checksum(lengths, sections)) + b"".join(sections)


def split_sections(data: bytes, where: str) -> tuple[bytes, ...]:
    """The sections of a file that `join_sections` made; ProgramError names the damage in any other file."""
    if len(data) < PREFIX.size or data[: len(MAGIC)] != MAGIC:
        raise ProgramError(f"{where}: must be a program file (magic {MAGIC.decode()}), got something else")
    _, version, *lengths, checksum = PREFIX.unpack_from(data)
    if version != VERSION:
        raise ProgramError(f"{where}: format version must be {VERSION}, got {version}; compile the graph again")
    if PREFIX.size + sum(lengths) != len(data):
        raise ProgramError(
            f"{where}: must be {PREFIX.size + sum(lengths)} bytes long, got {len(data)}; the file is damaged"
        )
    sections, position = [], PREFIX.size
    for length in lengths:
        sections.append(data[position : position + length])
        position += length
    if _checksum(tuple(lengths), tuple(sections)) != checksum:
        raise ProgramError(f"{where}: the checksum does not match; the file is damaged")
    return tuple(sections)


def _checksum(lengths: tuple[int, ...], sections: tuple[bytes, ...]) -> bytes:
    digest = hashlib.sha256(struct.pack(f"<I{SECTIONS}Q", VERSION, *lengths))
    for section in sections:
        digest.update(section)
    return digest.digest()
