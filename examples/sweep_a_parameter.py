"""Sweep one parameter of the machine, the width of its bus: `python examples/sweep_a_parameter.py`."""

from __future__ import annotations

from dataclasses import replace

import accel
from accel import demo

BUS_BYTES = (4, 8, 16, 32)


def main() -> None:
    """Compile and simulate the demo network for machines that differ in the width of the bus."""
    data = demo.load()
    graph = accel.quantize(data.model_path, data.calibration)
    sample = accel.quantize_input(graph, data.test_images[:1])
    print("bus bytes   cycles   waiting for memory")
    for bus_bytes in BUS_BYTES:
        machine = replace(accel.preset("edge"), name=f"edge_bus{bus_bytes}", bus_bytes=bus_bytes)
        result = accel.run(accel.compile(graph, machine), sample)
        waiting = result.simulation.cause("LOAD", "memory")
        print(f"{bus_bytes:9} {result.cycles:8,} {waiting:20,}")


if __name__ == "__main__":
    main()
