"""How long compiling takes, and what comes out. Run: python benchmarks/compile_speed.py

CPU seconds from integer graph to proven program, the best of `--rounds`, in one process: the light ResNet-50 and VGG-19
of the package `onnx` with seeded weights, and a fully-connected layer of 70,000 outputs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import light_networks
import onnx
import resnet50

import accel
from accel.network.graph import Graph

OUTPUTS, INPUTS = 70_000, 256


class Case(NamedTuple):
    """A network and the machines that it is compiled for."""

    name: str
    graph: Graph
    machines: tuple[str, ...]


def cases(folder: Path) -> Iterator[Case]:
    """Everything that is compiled."""
    samples = light_networks.images(4, light_networks.SHAPE, 3)
    resnet50.write_model(folder / "resnet50.onnx")
    yield Case("ResNet-50", accel.quantize(folder / "resnet50.onnx", samples), resnet50.MACHINES)
    onnx.save(light_networks.seeded(onnx.load(light_networks.FOLDER / "light_vgg19.onnx")), folder / "vgg19.onnx")
    yield Case("VGG-19", accel.quantize(folder / "vgg19.onnx", samples), ("edge",))
    table = folder / "fc.csv"
    table.write_text(f"Layer, M, N, K,\nfc, 1, {OUTPUTS}, {INPUTS},\n")
    graph = accel.load_model(table)
    yield Case(f"fully connected, {INPUTS} to {OUTPUTS:,}", graph, ("edge",))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    print("| network | machine | instructions | CPU seconds | cycles |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, graph, machines in cases(Path(folder)):
            for machine in machines:
                seconds = []
                for _ in range(rounds):
                    start = time.process_time()
                    program = accel.compile(graph, machine)
                    seconds.append(time.process_time() - start)
                cycles = accel.estimate(program).cycles
                print(f"| {name} | {machine} | {program.instruction_count:,} | {min(seconds):.1f} | {cycles:,} |")


if __name__ == "__main__":
    main()
