"""ResNet-50 in the simulator beside ONNX Runtime's own inference, in one run. Run: python benchmarks/resnet50.py

The light model of the package `onnx` with seeded weights. Simulator: `accel.run`, warm, exact values and cycles, on one
thread; `accel.estimate` on a program that has not been timed; a batch on one thread and on two. ONNX Runtime: u8s8, as
`quantize_static` writes it, on one thread. Rounds alternate between all of them; the best time of each is taken. Memory
is that of a process that loads a program and runs it once, with kernels that are compiled.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import light_networks
import numpy as np
import onnx
import onnxruntime
import onnxruntime_int8
from onnxruntime.quantization import QuantType

import accel
import sim
from accel.coverify import random_inputs
from accel.program.program import Program
from sim.fast.vectors import DOT

MACHINES = ("edge", "large", "datacenter")
BATCH = 8


def write_model(path: Path) -> None:
    """The float model; Sum of two tensors is Add."""
    model = light_networks.seeded(onnx.load(light_networks.FOLDER / "light_resnet50.onnx"))
    for node in model.graph.node:
        if node.op_type == "Sum":
            node.op_type = "Add"
    onnx.save(model, path)


def runtime(model: Path, folder: Path) -> Callable[[], object]:
    """One inference of ONNX Runtime on one thread."""
    samples = {onnx.load(model).graph.input[0].name: light_networks.images(4, light_networks.SHAPE, 3)}
    target = folder / "u8s8.onnx"
    onnxruntime_int8.quantize(model, samples, target, activation_type=QuantType.QUInt8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    one = {name: values[:1] for name, values in samples.items()}
    return lambda: session.run(None, one)


def time_alone(program: Program) -> None:
    """Cycles of a program that nothing has timed yet."""
    simulator = sim.Simulator(program.config, program.code, program.code_address, program.memory_bytes)
    if not simulator.timing.total_cycles:
        raise ValueError("a program must take cycles")


def peak_megabytes(program: Program, folder: Path) -> int:
    """Peak memory of a process that loads a program and runs it once."""
    path = folder / "network.program"
    program.save(path)
    code = (
        "import re, sys, accel, accel.coverify\n"
        "program = accel.load_program(sys.argv[1])\n"
        "accel.run(program, accel.coverify.random_inputs(program, 0))\n"
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return int(run.stdout) // 1024


def best_milliseconds(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Smallest wall time of each in `rounds` rounds, after one that warms up."""
    best = dict.fromkeys(runs, np.inf)
    for round_ in range(rounds + 1):
        for name, function in runs.items():
            start = time.perf_counter()
            function()
            if round_:
                best[name] = min(best[name], 1e3 * (time.perf_counter() - start))
    return best


def main() -> None:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "resnet50.onnx"
        write_model(model)
        graph = accel.quantize(model, light_networks.images(8, light_networks.SHAPE, 3))
        runs = {"ONNX Runtime": runtime(model, Path(folder))}
    programs = {name: accel.compile(graph, name) for name in MACHINES}
    for name, program in programs.items():
        inputs = random_inputs(program, 0)
        runs[name] = lambda program=program, inputs=inputs: accel.run(program, inputs)
        runs[f"{name} time"] = lambda program=program: time_alone(program)
    large = programs["large"]
    batch = {name: np.repeat(values, BATCH, axis=0) for name, values in random_inputs(large, 0).items()}
    for threads in (1, 2):
        runs[f"batch on {threads}"] = lambda threads=threads: accel.run(large, batch, threads=threads)
    best = best_milliseconds(runs, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        memory = {name: peak_megabytes(program, Path(folder)) for name, program in programs.items()}
    print(f"Byte product: {DOT}. ONNX Runtime u8s8: {best['ONNX Runtime']:.1f} ms.\n")
    print("| machine | cycles | values and cycles, ms | x ONNX Runtime | time alone, ms | peak memory, MB |")
    print("|---|---|---|---|---|---|")
    for name, program in programs.items():
        took, alone = best[name], best[f"{name} time"]
        ratio, cycles = took / best["ONNX Runtime"], accel.estimate(program).cycles
        print(f"| {name} | {cycles:,} | {took:.1f} | {ratio:.2f} | {alone:.1f} | {memory[name]:,} |")
    print(
        f"\nA batch of {BATCH} on `large`: two threads have {best['batch on 1'] / best['batch on 2']:.2f} times the "
        "throughput of one."
    )


if __name__ == "__main__":
    main()
