"""Speed of both simulator engines (CPU time): a 512 x 512 x 512 matrix product on `edge`, as a hand-built stream.

Run: python benchmarks/bench_engines.py
"""

from __future__ import annotations

import platform
import time
from pathlib import Path

import numba
import numpy as np

import sim
from accel import isa
from accel.config import ArchConfig, preset
from accel.isa import Instruction, Memory, Opcode, Unit

SIZE = 512
REPEATS = 20


def gemm(config: ArchConfig) -> tuple[bytes, np.ndarray]:
    """Activations to SPAD once; for each block of columns its weights to one half of WBUF, then one EXEC."""
    chunks, half = SIZE // config.rows, config.wbuf_words // 2
    load = {"row_words": SIZE, "word_bytes": config.rows, "step_bytes": config.rows, "row_bytes": SIZE * config.rows}
    activations = {**load, "row_count": chunks, "dram_row_stride": load["row_bytes"], "row_stride": SIZE}
    program = [Instruction(Opcode.LOAD, activations)]
    execs = {"chunk_count": chunks, "chunk_stride": SIZE, "ox_count": SIZE, "ox_stride": 1, "x_step": 1}
    execs |= {"height": 1, "width": SIZE, "k_rows": config.rows, "wait": 1 << Unit.LOAD, "signal": 1 << Unit.LOAD}
    for block in range(SIZE // config.cols):
        weights = {**load, "memory": Memory.WBUF, "dram_address": SIZE * SIZE + block * load["row_bytes"]}
        weights |= {"address": block % 2 * half, "signal": 1 << Unit.EXEC, "wait": int(block > 1) << Unit.EXEC}
        program.append(Instruction(Opcode.LOAD, weights))
        place = {"wbuf_address": block % 2 * half, "acc_address": block % 2 * SIZE}
        program.append(Instruction(Opcode.EXEC, {**execs, **place}))
    memory = np.random.default_rng(1).integers(0, 256, 2 * SIZE * SIZE, np.uint8)
    return isa.encode(program), memory


def main() -> None:
    config = preset("edge")
    code, memory = gemm(config)
    print(f"{_processor()}, {platform.system()}, Python {platform.python_version()}, numba {numba.__version__}")
    for engine in sim.ENGINES:
        start = time.process_time()
        result = sim.execute(config, code, 0, memory, engine=engine)
        first = time.process_time() - start
        seconds = []
        for _ in range(REPEATS):
            start = time.process_time()
            sim.execute(config, code, 0, memory, engine=engine)
            seconds.append(time.process_time() - start)
        best, pes = min(seconds), config.rows * config.cols
        print(
            f"{engine:8s} {best * 1e3:8.2f} ms (first call {first:.1f} s): {result.macs / best / 1e9:7.2f} GMAC/s, "
            f"{result.total_cycles / best / 1e6:8.2f} M cycles/s, "
            f"{result.total_cycles * pes / best / 1e9:6.2f} G PE updates/s of {result.total_cycles} cycles, "
            f"array busy {result.macs / pes / result.total_cycles:.1%}"
        )


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
