"""The machine as docs/architecture.md and docs/timing.md say it, slowly: the reference of the simulator's tests.

Values are computed instruction by instruction in program order; where cycles go is read off a cycle-by-cycle run of
`naive_timing.Machine`.
"""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import numpy.typing as npt

from accel.machine.config import PARAM_RECORD_BYTES, TABLE_ENTRIES, TABLE_WORDS, ArchConfig
from accel.machine.isa import Instruction, Memory, Opcode, Reduce, Source, Unit
from accel.machine.latencies import DEPTHWISE_LATENCY, EXEC_LATENCY, POST_LATENCY
from accel.machine.numerics import RequantMode, requantize, wrap_int32
from accel.machine.registers import CAUSES, COUNTED_UNITS
from support.machine.naive_timing import Machine, Store, before


class Values:
    """All memories, and what instructions do to them."""

    def __init__(self, config: ArchConfig, memory: npt.NDArray[np.uint8]):
        self.config = config
        self.memory = memory.copy()
        self.spad = np.zeros((config.spad_words, config.rows), np.int8)
        self.wbuf = np.zeros((config.wbuf_words, config.cols), np.int8)
        self.taps = np.zeros((config.depthwise_words, min(config.rows, config.cols)), np.int8)
        if config.depthwise_taps == 0:
            self.taps = np.zeros((0, 0), np.int8)
        self.param = np.zeros((config.param_channels, PARAM_RECORD_BYTES), np.int8)
        self.table = np.zeros((TABLE_WORDS, 1), np.int8)
        self.acc = np.zeros((config.acc_words, config.cols), np.int32)

    def run(self, program: list[Instruction]) -> Values:
        """Execute all instructions."""
        run = {
            Opcode.LOAD: self._load, Opcode.EXEC: self._exec, Opcode.POST: self._post, Opcode.STORE: self._store,
            Opcode.DEPTHWISE: self._depthwise,
        }  # fmt: skip
        for instruction in program:
            run[instruction.opcode](instruction)
        return self

    def _load(self, i: Instruction) -> None:
        target = {
            Memory.SPAD: self.spad, Memory.WBUF: self.wbuf, Memory.PARAM: self.param, Memory.TABLE: self.table,
            Memory.TAPS: self.taps,
        }[Memory(i["memory"])]  # fmt: skip
        for outer, row in product(range(i["outer_count"]), range(i["row_count"])):
            source = i["dram_address"] + outer * i["dram_outer_stride"] + row * i["dram_row_stride"]
            word = i["address"] + outer * i["outer_stride"] + row * i["row_stride"]
            stream = np.full((i["row_words"] - 1) * i["step_bytes"] + i["word_bytes"], i["pad_value"], np.int8)
            row_bytes = self.memory[source : source + i["row_bytes"]].view(np.int8)
            stream[i["pad_bytes"] : i["pad_bytes"] + i["row_bytes"]] = row_bytes
            for j in range(i["row_words"]):
                start = j * i["step_bytes"]
                place = slice(i["byte_offset"], i["byte_offset"] + i["word_bytes"])
                target[word + j, place] = stream[start : start + i["word_bytes"]]

    def _depthwise(self, i: Instruction) -> None:
        lanes, first = min(self.config.rows, self.config.cols), i["spad_byte"]
        for p, (oy, ox) in enumerate(product(range(i["oy_count"]), range(i["ox_count"]))):
            total = self.acc[i["acc_address"] + p].astype(np.int64) * i["accumulate"]
            for k, (ky, kx) in enumerate(product(range(i["ky_count"]), range(i["kx_count"]))):
                values = np.full(lanes, i["pad_value"], np.int64)
                if self._exists(i, oy, ox, ky, kx):
                    address = i["spad_address"] + ky * i["ky_stride"] + kx * i["kx_stride"]
                    word = self.spad[address + oy * i["oy_stride"] + ox * i["ox_stride"]]
                    values = word[first : first + lanes].astype(np.int64)
                total[:lanes] += values * self.taps[i["tap_address"] + k]
            self.acc[i["acc_address"] + p] = wrap_int32(total)

    def _exec(self, i: Instruction) -> None:
        tiles = product(range(i["chunk_count"]), range(i["ky_count"]), range(i["kx_count"]))
        for k, (chunk, ky, kx) in enumerate(tiles):
            weights = np.zeros((self.config.rows, self.config.cols), np.int64)
            for r in range(i["k_rows"]):
                weights[r] = self._weights(i, k, r)
            for p, (oy, ox) in enumerate(product(range(i["oy_count"]), range(i["ox_count"]))):
                if self._exists(i, oy, ox, ky, kx):
                    address = i["spad_address"] + chunk * i["chunk_stride"] + ky * i["ky_stride"] + kx * i["kx_stride"]
                    word = self.spad[address + oy * i["oy_stride"] + ox * i["ox_stride"]].astype(np.int64)
                else:
                    word = np.full(self.config.rows, i["pad_value"], np.int64)
                total = word @ weights
                if i["accumulate"] or k > 0:
                    total = total + self.acc[i["acc_address"] + p]
                self.acc[i["acc_address"] + p] = wrap_int32(total)

    def _weights(self, i: Instruction, k: int, r: int) -> npt.NDArray[np.int8]:
        """Row r of weight tile k."""
        if not i["int4"]:
            return self.wbuf[i["wbuf_address"] + k * i["k_rows"] + r]
        word = self.wbuf[i["wbuf_address"] + k * -(-i["k_rows"] // 2) + r // 2].astype(np.int64) % 256
        nibble = word // 16 if r % 2 else word % 16
        return np.where(nibble < 8, nibble, nibble - 16).astype(np.int8)

    @staticmethod
    def _exists(i: Instruction, oy: int, ox: int, ky: int, kx: int) -> bool:
        y = i["y_start"] + oy * i["y_step"] + ky * i["y_dilation"]
        x = i["x_start"] + ox * i["x_step"] + kx * i["x_dilation"]
        return 0 <= y < i["height"] and 0 <= x < i["width"]

    def _post(self, i: Instruction) -> None:
        lanes, per_word = self.config.post_lanes, self.config.rows // self.config.post_lanes
        mode = RequantMode.of_code(i["mode"])
        outputs = (range(i[f"{name}_count"]) for name in ("word", "oy", "ox", "group"))
        for w, oy, ox, g in product(*outputs):
            row = i["param_address"] + (w * per_word + g if i["per_channel"] else 0)
            records = np.ascontiguousarray(self.param[row * lanes : (row + 1) * lanes])
            bias, multiplier = (records[:, n : n + 4].copy().view("<i4")[:, 0].astype(np.int64) for n in (0, 4))
            if i["source"] == Source.ACC:
                address = i["src_address"] + oy * i["src_oy_stride"] + ox * i["src_ox_stride"]
                first = (w * per_word + g) * lanes
                v = self.acc[address, first : first + lanes].astype(np.int64)
            else:
                v = self._taps(i, mode, w, oy, ox, g)
            v = requantize(wrap_int32(v + bias), multiplier, records[:, 8].astype(np.int64), mode)
            v = np.clip(v + i["zero_point"], i["act_min"], i["act_max"])
            if i["table"]:
                v = self.table[(i["table"] - 1) * TABLE_ENTRIES + v + 128, 0]
            target = i["dst_address"] + w * i["dst_word_stride"] + oy * i["dst_oy_stride"] + ox * i["dst_ox_stride"]
            byte = i["dst_byte"] + g * lanes
            self.spad[target, byte : byte + lanes] = v

    def _taps(self, i: Instruction, mode: str, w: int, oy: int, ox: int, g: int) -> npt.NDArray[np.int64]:
        lanes, reduce = self.config.post_lanes, Reduce(i["reduce"])
        v = np.full(lanes, {Reduce.MAX: -(2**31), Reduce.MUL: 1}.get(reduce, 0), np.int64)
        for ky, kx in product(range(i["ky_count"]), range(i["kx_count"])):
            if not self._exists(i, oy, ox, ky, kx):
                continue
            address = i["src_address"] + w * i["src_word_stride"] + oy * i["src_oy_stride"] + ox * i["src_ox_stride"]
            word = self.spad[address + ky * i["src_ky_stride"] + kx * i["src_kx_stride"]]
            n = "0" if ky == kx == 0 else "1"
            x = word[g * lanes : (g + 1) * lanes].astype(np.int64) - i[f"zero_point{n}"]
            multiplier = i[f"multiplier{n}"]
            if reduce is Reduce.INTERPOLATE:
                y_share, x_share = (
                    i[f"{a}_weight"] if k else 1024 - i[f"{a}_weight"] for a, k in (("y", ky), ("x", kx))
                )
                multiplier = y_share * x_share << 10
            t = requantize(x << i["left_shift"], multiplier, i[f"shift{n}"], mode)
            if reduce is Reduce.MAX:
                v = np.maximum(v, t)
            elif reduce is Reduce.MUL:
                v = wrap_int32(v * (t % 512 - 512 * (t % 512 >= 256)))
            else:
                v = wrap_int32(v - t if reduce is Reduce.SUB and n == "1" else v + t)
        return v

    def _store(self, i: Instruction) -> None:
        for outer, row in product(range(i["outer_count"]), range(i["row_count"])):
            target = i["dram_address"] + outer * i["dram_outer_stride"] + row * i["dram_row_stride"]
            word = i["address"] + outer * i["outer_stride"] + row * i["row_stride"]
            words = self.spad[word : word + i["row_words"], i["byte_offset"] : i["byte_offset"] + i["word_bytes"]]
            stream = words.reshape(-1).view(np.uint8)
            self.memory[target : target + len(stream)] = stream


class Cycles(Machine):
    """The machine cycle by cycle; `causes` says where they went."""

    def __init__(self, config: ArchConfig, program: list[Instruction], program_address: int):
        super().__init__(config, program, program_address)
        self.store = _RecordingStore(config)
        self.fetch_causes: list[str] = []
        self.total = self.run()

    def _fetch(self, t: int) -> None:
        full = bool(self.held) and t > self.held[0]
        dispatched = len(self.dispatched)
        super()._fetch(t)
        if len(self.dispatched) > dispatched:
            self.fetch_causes.append("busy")
        elif full:
            self.fetch_causes.append(f"wait.{self.program[dispatched].unit.name}")
        else:
            self.fetch_causes.append("memory" if dispatched < len(self.program) else "empty")

    def causes(self) -> npt.NDArray[np.int64]:
        """Cycles by unit and cause, shape (6, 8)."""
        table = np.zeros((len(COUNTED_UNITS), len(CAUSES)), np.int64)
        columns = {unit.name: [self._cause(unit, t) for t in range(self.total)] for unit in Unit}
        columns["FETCH"] = self.fetch_causes[: self.total]
        for row, unit in enumerate(COUNTED_UNITS):
            counts = Counter(columns[unit])
            table[row] = [counts[cause] for cause in CAUSES]
        return table

    def _cause(self, unit: Unit, t: int) -> str:
        for issue, complete in zip(self.issue[unit], self.complete[unit], strict=True):
            ends = {
                Unit.POST: complete - POST_LATENCY,
                Unit.EXEC: complete - EXEC_LATENCY - self.config.rows - self.config.cols + 1,
                Unit.DEPTHWISE: complete - DEPTHWISE_LATENCY,
            }
            if issue <= t <= ends.get(unit, complete):
                work = {Unit.LOAD: self.load.emissions, Unit.STORE: self.store.beat_cycles()}
                return "busy" if unit not in work or t in work[unit] else "memory"
        head = before(self.issue[unit], t)
        if head == len(self.pushed[unit]) or self.pushed[unit][head][0] >= t:
            return "empty"
        waits = [instruction["wait"] for _, instruction in self.pushed[unit][: head + 1]]
        for producer in Unit:
            if waits[-1] >> producer & 1:
                taken = sum(wait >> producer & 1 for wait in waits[:-1])
                if before(self.posted[producer, unit], t) <= taken:
                    return f"wait.{producer.name}"
        return "empty"


class _RecordingStore(Store):
    """Keeps the data beats of all instructions."""

    def __init__(self, config: ArchConfig):
        super().__init__(config)
        self._earlier: list[int] = []

    def issue(self, t: int, instruction: Instruction) -> None:
        self._earlier = self.beat_cycles()
        super().issue(t, instruction)

    def beat_cycles(self) -> list[int]:
        """Cycles with a data beat."""
        return self._earlier + [time for time, _ in self.sends]
