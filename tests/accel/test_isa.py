"""The instruction table: encoder, decoder and disassembler agree, and so does the layout that the RTL uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accel.errors import EncodingError
from accel.machine import isa
from accel.machine.isa import FIELDS, INSTRUCTION_BYTES, Instruction, Memory, Opcode, Reduce, Source, Unit
from accel.machine.numerics import RequantMode

BITS = 8 * INSTRUCTION_BYTES


def draw(seed: int) -> Instruction:
    """An instruction with fields anywhere in their ranges, often at the ends."""
    rng = np.random.default_rng(seed)
    opcode = Opcode(int(rng.integers(1, len(Opcode) + 1)))
    fields = {}
    for field in FIELDS[opcode][1:]:
        inner = int(rng.integers(field.minimum, field.maximum, endpoint=True))
        fields[field.name] = int(rng.choice([field.minimum, field.maximum, inner, field.low or 0]))
    return Instruction(opcode, fields)


instructions = st.integers(0, 2**32 - 1).map(draw)


def naive_bits(instruction: Instruction) -> str:
    """The encoding as text, lowest bit first."""
    fields = FIELDS[instruction.opcode]
    text = "".join(np.binary_repr(instruction[f.name] % 2**f.width, f.width)[::-1] for f in fields)
    return text.ljust(BITS, "0")


@given(st.lists(instructions, max_size=6))
def test_decoding_undoes_encoding(program: list[Instruction]) -> None:
    code = isa.encode(program)
    assert len(code) == INSTRUCTION_BYTES * len(program)
    assert isa.decode(code) == program
    table = isa.decode_table(code)
    assert table.shape == (len(program), isa.COLUMNS)
    assert np.array_equal(isa.table_of(program), table)
    for row, instruction in zip(table, program, strict=True):
        for name, value in instruction.fields.items():
            assert row[isa.column(instruction.opcode, name)] == value


@given(instructions)
def test_fields_are_packed_from_bit_zero(instruction: Instruction) -> None:
    assert f"{int.from_bytes(instruction.encode(), 'little'):0{BITS}b}"[::-1] == naive_bits(instruction)


@given(st.binary(max_size=200) | st.binary(min_size=64, max_size=64))
@example(bytes(64))
@example(b"\x06" + bytes(63))
def test_garbage_is_refused_or_encodes_back_to_itself(data: bytes) -> None:
    try:
        program = isa.decode(data)
    except EncodingError:
        return
    assert isa.encode(program) == data


@given(instructions, st.integers(0, BITS - 1))
def test_a_flipped_bit_changes_what_decodes(instruction: Instruction, bit: int) -> None:
    flipped = int.from_bytes(instruction.encode(), "little") ^ 1 << bit
    data = flipped.to_bytes(INSTRUCTION_BYTES, "little")
    used = sum(field.width for field in FIELDS[instruction.opcode])
    if bit >= used:
        with pytest.raises(EncodingError, match=r"^instruction 0: bits beyond the fields must be zero$"):
            isa.decode(data)
        return
    try:
        assert isa.decode(data) != [instruction]
    except EncodingError:
        assert data != instruction.encode()


@pytest.mark.parametrize("opcode", Opcode)
def test_the_bit_behind_the_last_field_is_reserved(opcode: Opcode) -> None:
    used = sum(field.width for field in FIELDS[opcode])
    assert used < BITS
    for bit in (used, BITS - 1):
        word = int.from_bytes(Instruction(opcode, {}).encode(), "little") | 1 << bit
        with pytest.raises(EncodingError, match=r"^instruction 0: bits beyond the fields must be zero$"):
            isa.decode_table(word.to_bytes(INSTRUCTION_BYTES, "little"))


@pytest.mark.parametrize("opcode", Opcode)
def test_values_out_of_range_are_refused_by_the_encoder(opcode: Opcode) -> None:
    for field in FIELDS[opcode][1:]:
        for value in (field.minimum - 1, field.maximum + 1, 1 << 70, 1.5, "1", None):
            with pytest.raises(EncodingError) as caught:
                Instruction(opcode, {field.name: value})
            assert str(caught.value) == (
                f"{opcode.name} field {field.name} must be an integer in {field.minimum}..{field.maximum}, "
                f"got {value!r}"
            )
        for value in (field.minimum, field.maximum, np.int64(field.maximum)):
            assert Instruction(opcode, {field.name: int(value)})[field.name] == value


def test_counts_of_zero_are_refused_by_the_decoder() -> None:
    for opcode in Opcode:
        for field in FIELDS[opcode]:
            if field.low != 1:
                continue
            position = sum(f.width for f in FIELDS[opcode][: isa.column(opcode, field.name)])
            word = int.from_bytes(Instruction(opcode, {}).encode(), "little") ^ 1 << position
            code = Instruction(Opcode.LOAD, {}).encode() + word.to_bytes(INSTRUCTION_BYTES, "little")
            with pytest.raises(EncodingError) as caught:
                isa.decode(code)
            assert str(caught.value) == (
                f"instruction 1: {opcode.name} field {field.name} must be in 1..{field.maximum}, got 0"
            )


def test_unknown_fields_and_opcodes_are_refused() -> None:
    with pytest.raises(EncodingError, match=r"^LOAD has no field 'colour'$"):
        Instruction(Opcode.LOAD, {"colour": 1})
    with pytest.raises(EncodingError, match=r"^LOAD has no field 'opcode'$"):
        Instruction(Opcode.LOAD, {"opcode": 1})
    with pytest.raises(EncodingError, match=r"^instruction 0: opcode must be one of 1\.\.5, got 0$"):
        isa.decode(bytes(64))
    with pytest.raises(EncodingError, match=r"^code must be a multiple of 64 bytes, got 65$"):
        isa.decode(bytes(65))


def test_the_table_is_sound() -> None:
    for opcode, fields in FIELDS.items():
        names = [field.name for field in fields]
        assert len(set(names)) == len(names)
        assert sum(field.width for field in fields) <= BITS
        assert [(f.name, f.width) for f in fields[:3]] == [("opcode", 4), ("wait", 6), ("signal", 6)]
        assert all(field.width <= 32 and field.doc for field in fields)
        assert isa.columns(opcode)._asdict() == {name: isa.column(opcode, name) for name in names}
    for values, opcode, name in (
        (Memory, Opcode.LOAD, "memory"),
        (Source, Opcode.POST, "source"),
        (Reduce, Opcode.POST, "reduce"),
        ([mode.code for mode in RequantMode], Opcode.POST, "mode"),
    ):
        assert max(values) <= FIELDS[opcode][isa.column(opcode, name)].maximum
        doc = FIELDS[opcode][isa.column(opcode, name)].doc
        assert all(str(int(member)) in doc for member in values)
    assert [opcode.unit for opcode in Opcode] == list(Unit)


def test_replace_keeps_everything_else() -> None:
    instruction = Instruction(Opcode.STORE, {"address": 5, "row_count": 7, "wait": 4})
    changed = instruction.replace(address=9)
    assert changed == Instruction(Opcode.STORE, {"address": 9, "row_count": 7, "wait": 4})
    assert instruction["address"] == 5


GOLDEN = """\
    0  LOAD  memory=1 dram_address=4096 row_bytes=64 row_words=16 word_bytes=4 step_bytes=4
    1  EXEC  wait=LOAD+STORE signal=POST spad_address=-9 ky_count=3 kx_count=3 y_start=-1 x_start=-1 pad_value=-128
    2  POST  wait=EXEC signal=STORE+5 mode=2 multiplier0=1073741824 shift0=1
    3  STORE wait=POST dram_row_stride=-16
    4  LOAD
    5  DEPTHWISE wait=LOAD signal=DEPTHWISE tap_address=9 row_steps=4
"""


def test_disassembly_shows_what_is_not_default() -> None:
    program = [
        Instruction(
            Opcode.LOAD,
            {"memory": 1, "dram_address": 4096, "row_bytes": 64, "row_words": 16, "word_bytes": 4, "step_bytes": 4},
        ),
        Instruction(
            Opcode.EXEC,
            {"wait": 9, "signal": 4, "spad_address": -9, "ky_count": 3, "kx_count": 3, "y_start": -1, "x_start": -1,
             "pad_value": -128},
        ),
        Instruction(Opcode.POST, {"wait": 2, "signal": 40, "mode": 2, "multiplier0": 1 << 30, "shift0": 1}),
        Instruction(Opcode.STORE, {"wait": 4, "dram_row_stride": -16}),
        Instruction(Opcode.LOAD, {}),
        Instruction(Opcode.DEPTHWISE, {"wait": 1, "signal": 16, "tap_address": 9, "row_steps": 4}),
    ]  # fmt: skip
    assert isa.disassemble(isa.encode(program)) == GOLDEN


@given(st.lists(instructions, min_size=2, max_size=2))
def test_different_instructions_read_differently(pair: list[Instruction]) -> None:
    assert (str(pair[0]) == str(pair[1])) == (pair[0] == pair[1])


@pytest.mark.rtl
@given(instructions)
def test_the_rtl_layout_is_the_encoding(instruction: Instruction) -> None:
    from rtl.interfaces import layout

    shape = layout(instruction.opcode)
    assert shape.size == BITS
    values: dict[str, Any] = dict(instruction.fields)
    assert shape.const(values).as_bits() == int.from_bytes(instruction.encode(), "little")
    for name, value in instruction.fields.items():
        field, declared = shape[name], FIELDS[instruction.opcode][isa.column(instruction.opcode, name)]
        assert (field.width, field.shape.signed) == (declared.width, declared.signed)
        bits = int.from_bytes(instruction.encode(), "little") >> field.offset & (1 << field.width) - 1
        assert bits == value % 2**field.width
