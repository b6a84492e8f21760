"""Random instructions that each keep the rules, with footprints that collide often in small memories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from accel.errors import ProgramError
from accel.machine import isa
from accel.machine.config import PARAM_RECORD_BYTES, TABLE_WORDS, TABLES, ArchConfig
from accel.machine.depthwise import row_stream
from accel.machine.isa import Instruction, Memory, Opcode, Reduce, Source
from accel.machine.memories import Space
from accel.machine.numerics import RequantMode
from compiler.schedule.footprint import Footprint, footprint
from support.machine.rules import check_alone

DATA_BYTES = 3072
RECORDS = 96


def random_multiplier(rng: np.random.Generator, fp32: bool) -> tuple[int, int]:
    """A legal multiplier and shift; with `fp32` one that every mode accepts."""
    if rng.random() < 0.05:
        return 0, 0
    q = int(rng.choice([1 << 30, (1 << 31) - 1, rng.integers(1 << 30, 1 << 31)], p=[0.05, 0.05, 0.9]))
    e = int(rng.integers(-31, 31) if rng.random() < 0.3 else rng.integers(-12, 2))
    return (q & ~127 if fp32 else q), e


@dataclass
class InstructionDraw:
    """Draws instructions.

    Parameters
    ----------
    config : ArchConfig
    rng : numpy Generator
    pool, data : int
        First byte in external memory of the RECORDS channel records, and of the bytes that may be overwritten.
    modes : list of RequantMode
        Requantization modes to use.
    data_bytes : int
    """

    config: ArchConfig
    rng: np.random.Generator
    pool: int
    data: int
    modes: list[RequantMode]
    data_bytes: int = DATA_BYTES

    def instruction(self, opcode: Opcode) -> Instruction:
        """The first draw that keeps all rules."""
        makers: dict[Opcode, Callable[[], dict[str, int]]] = {
            Opcode.LOAD: self._load,
            Opcode.EXEC: self._exec,
            Opcode.POST: self._post,
            Opcode.STORE: self._store,
            Opcode.DEPTHWISE: self._depthwise,
        }
        while True:
            fields = makers[opcode]()
            known = {field.name: field for field in isa.FIELDS[opcode]}
            if any(not known[name].minimum <= value <= known[name].maximum for name, value in fields.items()):
                continue
            instruction = Instruction(opcode, fields)
            touched = self.legal(instruction)
            if touched is None:
                continue
            only_padding = "height" in fields and Space.SPAD not in touched.reads
            if not only_padding or self.rng.random() < 0.15:
                return instruction

    def legal(self, instruction: Instruction) -> Footprint | None:
        """What the instruction touches, None if it breaks a rule or leaves the data."""
        try:
            check_alone(self.config, instruction)
        except ProgramError:
            return None
        touched = footprint(self.config, instruction)
        return touched if self._inside(instruction, touched) else None

    def depthwise_beside(self, other: Instruction) -> Instruction:
        """A DEPTHWISE, mostly one that uses other banks than `other`, so that both can run at the same time."""
        taken = footprint(self.config, other).ports
        for _ in range(20):
            instruction = self.instruction(Opcode.DEPTHWISE)
            ports = footprint(self.config, instruction).ports
            if not any(mask & taken.get(port, 0) for port, mask in ports.items()):
                break
        return instruction

    def _inside(self, i: Instruction, touched: Footprint) -> bool:
        """Whether external accesses stay within the data, or LOAD's from the pool within the pool, on its records."""
        start, size = self.data, self.data_bytes
        if i.opcode is Opcode.LOAD and i["memory"] == Memory.PARAM:
            start, size = self.pool, RECORDS * PARAM_RECORD_BYTES
        accesses = (touched.reads.get(Space.DRAM), touched.writes.get(Space.DRAM))
        return all(a is None or (start <= a[0, 0] and a[-1, 1] <= start + size) for a in accesses)

    def _count(self, high: int) -> int:
        """1..high, small values more often."""
        return int(self.rng.integers(1, self.rng.integers(1, max(high, 1) + 1) + 1))

    def _int(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def _often(self, usual: int, low: int, high: int) -> int:
        """`usual` in three of four draws, else low..high."""
        return usual if self.rng.random() < 0.75 else self._int(low, high)

    def _load(self) -> dict[str, int]:
        taps = 0.25 if self.config.depthwise_taps else 0.0
        memory = Memory(int(self.rng.choice(5, p=[0.4 - taps / 2, 0.3 - taps / 2, 0.2, 0.1, taps])))
        if memory is Memory.PARAM:
            return self._load_param()
        word, words = {
            Memory.SPAD: (self.config.rows, self.config.spad_words),
            Memory.WBUF: (self.config.cols, self.config.wbuf_words),
            Memory.TABLE: (1, TABLE_WORDS),
            Memory.TAPS: (self.config.depthwise_lanes, self.config.depthwise_words),
        }[memory]
        word_bytes = self._often(word, 1, word)
        step = self._often(word_bytes, 1, self.config.load_word_bytes)
        row_words = self._count(24)
        stream = (row_words - 1) * step + word_bytes
        pad = self._often(0, 0, min(stream - 1, 40))
        row_bytes = self._often(stream - pad, 1, stream - pad)
        rows = self._count(5)
        return {
            "memory": memory,
            "dram_address": self.data + self._int(0, self.data_bytes),
            "address": self._int(0, 1 if memory is Memory.TAPS else words - 1),
            "outer_count": self._count(3),
            "row_count": rows,
            "row_bytes": row_bytes,
            "dram_outer_stride": self._int(-300, 300),
            "dram_row_stride": self._often(row_bytes, -200, 300),
            "outer_stride": self._often(rows * row_words, -20, 40),
            "row_stride": self._often(row_words, -12, 30),
            "row_words": row_words,
            "word_bytes": word_bytes,
            "step_bytes": step,
            "byte_offset": self._int(0, word - word_bytes),
            "pad_bytes": pad,
            "pad_value": self._int(-128, 127),
        }

    def _load_param(self) -> dict[str, int]:
        size = PARAM_RECORD_BYTES
        row_words, pad = self._count(16), self._often(0, 0, 3)
        return {
            "memory": Memory.PARAM,
            "dram_address": self.pool + size * self._int(0, RECORDS - 1),
            "address": self._int(0, self.config.param_channels - 1),
            "outer_count": self._count(2),
            "row_count": self._count(3),
            "row_bytes": size * max(1, row_words - pad),
            "dram_outer_stride": size * self._int(-9, 9),
            "dram_row_stride": size * self._int(-9, 9),
            "outer_stride": self._int(-20, 20),
            "row_stride": self._often(row_words, -12, 20),
            "row_words": row_words,
            "word_bytes": size,
            "step_bytes": size,
            "pad_bytes": size * pad,
        }

    def _window(self, chunk: str) -> tuple[dict[str, int], dict[str, int]]:
        """Window fields and source strides: mostly an image of height x width pixels per chunk, else anything."""
        words = self.config.spad_words
        height = self._int(1, min(9, words))
        width = self._int(1, min(9, words // height))
        chunks = self._count(min(3, words // (height * width)))
        w = {
            "y_start": self._often(self._int(-1, 0), -2, min(3, height - 1)),
            "x_start": self._often(self._int(-1, 0), -2, min(3, width - 1)),
            "y_step": self._often(self._int(1, 2), 0, 4),
            "x_step": self._often(self._int(1, 2), 0, 4),
            "y_dilation": self._often(1, 0, 4),
            "x_dilation": self._often(1, 0, 4),
            "height": height,
            "width": width,
            f"{chunk}_count": chunks,
        }
        if self.rng.random() < 0.3:
            strides = {f"{name}_stride": self._int(-6, 9) for name in (chunk, "ky", "kx", "oy", "ox")}
            return w, strides | {"address": self._int(-4, words - 1)}
        image = self._int(0, words - chunks * height * width)
        return w, {
            f"{chunk}_stride": height * width,
            "ky_stride": w["y_dilation"] * width,
            "kx_stride": w["x_dilation"],
            "oy_stride": w["y_step"] * width,
            "ox_stride": w["x_step"],
            "address": image + w["y_start"] * width + w["x_start"],
        }

    def _depthwise(self) -> dict[str, int]:
        """Mostly a window over an image, like `_window`, with a row stream that fits it."""
        config = self.config
        window, strides = self._window("chunk")
        del window["chunk_count"], strides["chunk_stride"]
        taps = self._int(1, config.depthwise_taps)
        move = self._int(1, min(2, taps))
        dilation = self._often(1, 1, 3)
        stride = dilation if self.rng.random() < 0.7 else self._int(-5, 7)
        window |= {"x_dilation": dilation, "x_step": move * dilation}
        if self.rng.random() < 0.5:
            window["x_start"] = self._int(-taps * dilation, 2)
        strides |= {"kx_stride": stride, "ox_stride": move * stride}
        outputs = min(64, config.acc_bank_words if self.rng.random() < 0.75 else config.acc_words)
        oy = self._count(min(outputs, 9))
        ox = self._count(outputs // oy)
        lead, row_steps = row_stream(window["x_start"], dilation, move, window["width"], taps, ox)
        return {
            "spad_address": strides.pop("address"),
            "spad_byte": self._int(0, config.rows - config.depthwise_lanes),
            "ky_count": self._count(4),
            "kx_count": taps,
            "oy_count": oy,
            "ox_count": ox,
            **strides,
            **window,
            "lead_steps": lead,
            "row_steps": row_steps,
            "pad_value": self._int(-128, 127),
            "tap_address": self._often(0, 0, config.depthwise_words - 1),
            "acc_address": self._often(config.acc_words - config.acc_bank_words, 0, config.acc_words - 1),
            "accumulate": self._int(0, 1),
        }

    def _exec(self) -> dict[str, int]:
        config = self.config
        window, strides = self._window("chunk")
        pixels = min(config.acc_words, 64)
        oy = self._count(min(pixels, 9))
        return {
            "spad_address": strides.pop("address"),
            "ky_count": self._count(3),
            "kx_count": self._count(3),
            "oy_count": oy,
            "ox_count": self._count(pixels // oy),
            **strides,
            **window,
            "pad_value": self._int(-128, 127),
            "k_rows": self._often(config.rows, 1, config.rows),
            "wbuf_address": self._often(0, 0, config.wbuf_words - 1),
            "acc_address": self._often(0, 0, config.acc_words - 1),
            "accumulate": self._int(0, 1),
            "int4": self._int(0, config.int4_weights),
        }

    def _post(self) -> dict[str, int]:
        config, lanes = self.config, self.config.post_lanes
        from_acc = bool(self.rng.random() < 0.6)
        source = self._post_acc() if from_acc else self._post_spad()
        groups = self._often(min(config.rows, config.cols) // lanes, 1, config.rows // lanes)
        oy, ox = source["oy_count"], source["ox_count"]
        act = sorted((self._often(-128, -128, 127), self._often(127, -128, 127)))
        fields = {
            "mode": int(self.rng.choice([mode.code for mode in self.modes])),
            "per_channel": self._int(0, 1),
            "group_count": groups,
            "dst_address": self._int(0, config.spad_words - 1),
            "dst_word_stride": self._often(oy * ox, -9, 20),
            "dst_oy_stride": self._often(ox, -9, 12),
            "dst_ox_stride": self._often(1, -3, 4),
            "dst_byte": self._often(0, 0, config.rows - 1),
            "param_address": self._often(0, 0, config.param_rows - 1),
            "zero_point": self._int(-128, 127),
            "act_min": act[0],
            "act_max": act[1],
            "table": self._often(0, 0, TABLES),
            **source,
        }
        if not from_acc and self.rng.random() < 0.2:  # in place
            for name in ("address", "word_stride", "oy_stride", "ox_stride"):
                fields[f"dst_{name}"] = fields[f"src_{name}"]
        return fields

    def _post_acc(self) -> dict[str, int]:
        oy, ox = self._count(6), self._count(8)
        return {
            "source": Source.ACC,
            "word_count": self._count(-(-self.config.cols // self.config.rows)),
            "oy_count": oy,
            "ox_count": ox,
            "src_address": self._int(0, self.config.acc_words - 1),
            "src_oy_stride": self._often(ox, -6, 12),
            "src_ox_stride": self._often(1, -2, 3),
        }

    def _post_spad(self) -> dict[str, int]:
        window, strides = self._window("word")
        fp32 = RequantMode.FP32 in self.modes
        plain = self.rng.random() < 0.4  # taps of about nine bits, as an int8 minus its zero point has
        fields = {
            "source": Source.SPAD,
            "reduce": int(self.rng.choice(list(Reduce))),
            "oy_count": self._count(5),
            "ox_count": self._count(6),
            "ky_count": self._count(3),
            "kx_count": self._count(3),
            **window,
            "left_shift": 0 if plain else self._often(self._int(0, 20), 0, 23),
            **{f"src_{name}": value for name, value in strides.items()},
        }
        for tap in "01":
            fields[f"zero_point{tap}"] = self._int(-128, 127)
            fields[f"multiplier{tap}"], fields[f"shift{tap}"] = random_multiplier(self.rng, fp32)
            if plain and fields[f"multiplier{tap}"]:
                fields[f"shift{tap}"] = self._int(-1, 2)
        if fields["reduce"] == Reduce.INTERPOLATE:
            fields |= self._interpolation(fields["left_shift"])
        if fields["reduce"] == Reduce.MUL:
            fields["ky_count"], fields["kx_count"] = ((1, 1), (1, 2), (2, 1))[self._int(0, 2)]
        if self.rng.random() < 0.3:  # an addition: the second operand lies anywhere
            distance = self._int(-self.config.spad_words, self.config.spad_words)
            fields |= {"ky_count": 1, "kx_count": 2, "x_dilation": 0, "src_kx_stride": distance}
        return fields

    def _interpolation(self, left_shift: int) -> dict[str, int]:
        """At most 2 x 2 taps; shifts that mostly keep the weighted sum within an int32, or overflow anywhere."""
        shift = {f"shift{tap}": self._often(self._int(-2, 22 - left_shift), -31, 30) for tap in "01"}
        weights = {f"{axis}_weight": self._often(self._int(0, 1024), 0, 1024) for axis in "yx"}
        counts = {f"k{axis}_count": self._often(2, 1, 2) for axis in "yx"}
        return {"multiplier0": 0, "multiplier1": 0, **shift, **weights, **counts}

    def _store(self) -> dict[str, int]:
        config = self.config
        word_bytes = self._often(config.rows, 1, config.rows)
        row_words, rows = self._count(20), self._count(5)
        return {
            "dram_address": self.data + self._int(0, self.data_bytes),
            "address": self._int(0, config.spad_words - 1),
            "outer_count": self._count(3),
            "row_count": rows,
            "row_words": row_words,
            "word_bytes": word_bytes,
            "byte_offset": self._int(0, config.rows - word_bytes),
            "dram_outer_stride": self._int(-200, 300),
            "dram_row_stride": self._often(row_words * word_bytes, -100, 300),
            "outer_stride": self._often(rows * row_words, -20, 40),
            "row_stride": self._often(row_words, -12, 30),
        }
