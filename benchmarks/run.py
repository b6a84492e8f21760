"""All benchmarks in one run, written to benchmarks/RESULTS.md. Run: python benchmarks/run.py

Simulation speed of `fast`, `stepped` and the Verilog in Verilator on one program (one thread each, the same run), and
the cycles of whole networks beside Vela's estimates (extra `bench`), their accuracy, and their depthwise layers.
Models are read from ../shared/models if that folder lies beside the checkout.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import re
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import accuracy
import depthwise
import ethos
import int4
import numpy as np

import sim
from accel import api, demo
from accel.coverify import random_inputs
from accel.files import write_atomic
from accel.frontends import load_model
from accel.machine.numerics import quantize_multiplier
from accel.network.graph import Graph, Tensor
from accel.network.nodes import Conv2d
from accel.program.program import Program
from accel.quantizer import quantize
from rtl.testbench import verilator

FOLDER = Path(__file__).resolve().parent
MODELS = FOLDER.parents[1] / "shared" / "models"
NETWORKS = ("mlperf_tiny/resnet8_int8.tflite", "mlperf_tiny/dscnn_kws_int8.tflite", "imagenet/mobilenet_v2_int8.tflite")


def gemm(size: int) -> Graph:
    """A matrix product of `size` in all three directions, as a 1x1 convolution."""
    rng = np.random.default_rng(0)
    multiplier, shift = quantize_multiplier(0.01 / np.sqrt(size))
    node = Conv2d(
        name="gemm",
        inputs=("x",),
        output="y",
        weight=rng.integers(-127, 128, (size, 1, 1, size)).astype(np.int8),
        bias=np.zeros(size, np.int32),
        multiplier=np.full(size, multiplier, np.int32),
        shift=np.full(size, shift, np.int8),
    )
    tensors = {name: Tensor(name, (1, size, 1, size), 0.0625, 0) for name in "xy"}
    return Graph(f"GEMM {size}x{size}x{size}", "tflite", tensors, (node,), ("x",), ("y",))


def best_seconds(function: Callable[[], object], repeats: int) -> float:
    """Smallest wall time of `repeats` calls after one that warms up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def engines_table(program: Program, *, with_verilog: bool) -> list[str]:
    """Speed of the two engines and of Verilator on one program."""
    config, code, address = program.config, program.code, program.code_address
    memory = program.memory_image(random_inputs(program, 0))
    result = sim.execute(config, code, address, memory)
    limit = result.total_cycles + 1
    runs: dict[str, tuple[Callable[[], object], int]] = {
        "fast": (lambda: sim.execute(config, code, address, memory), 10),
        "stepped": (lambda: sim.execute(config, code, address, memory, engine="stepped"), 3),
        "Verilator": (lambda: verilator.run(config, code, address, memory, max_cycles=limit), 1),
    }
    if not with_verilog:
        del runs["Verilator"]
    seconds = {name: best_seconds(function, repeats) for name, (function, repeats) in runs.items()}
    lines = ["| engine | ms | GMAC/s | M cycles/s | G PE updates/s | times Verilator |", "|---|---|---|---|---|---|"]
    for name, s in seconds.items():
        cycles, pes = result.total_cycles / s, config.rows * config.cols
        lines.append(
            f"| {name} | {s * 1e3:,.1f} | {result.macs / s / 1e9:.2f} | {cycles / 1e6:.3f} | "
            f"{cycles * pes / 1e9:.2f} | {seconds.get('Verilator', np.nan) / s:,.0f} |"
        )
    return lines


def network_row(graph: Graph, program: Program, outside: ethos.Estimate | None) -> tuple[str, list[str]]:
    """One line for the network, and the table of its layers."""
    config = program.config
    run = api.run(program, random_inputs(program, 0))
    macs, traffic = sum(r.macs for r in run.layers), sum(r.read_bytes + r.written_bytes for r in run.layers)
    floor = max(macs / (config.rows * config.cols), traffic / config.bus_bytes)
    utilization = macs / run.cycles / config.rows / config.cols
    vela = f"{outside.npu:,} | {outside.total:,} | {run.cycles / outside.npu:.2f}" if outside else "- | - | -"
    line = (
        f"| {graph.name} | {macs:,} | {run.cycles:,} | {utilization:.1%} | {traffic:,} | {run.cycles / floor:.2f} | "
        f"{sum(r.scalesim_cycles for r in run.layers):,} | {vela} |"
    )
    table = [
        "| layer | operator | MACs | cycles | hidden | utilization | bound | bytes | SCALE-Sim |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    table += [
        f"| {r.name} | {r.op} | {r.macs:,} | {r.cycles:,} | {r.hidden_cycles:,} | {r.utilization:.1%} | {r.bound} | "
        f"{r.read_bytes + r.written_bytes:,} | {r.scalesim_cycles:,} |"
        for r in run.layers
    ]
    return line, table


def networks_section(networks: list[tuple[Graph, Path | None]], programs: list[Program]) -> list[str]:
    """The table of networks, then one of layers for each."""
    lines, tables = [], []
    for (graph, path), program in zip(networks, programs, strict=True):
        outside = ethos.estimate(path) if path and ethos.is_installed() else None
        line, table = network_row(graph, program, outside)
        lines.append(line)
        tables += [f"\n### {graph.name}\n", *table]
    vela = (
        f"Vela {version('ethos-u-vela')}: its estimate for Ethos-U55-256, cycles of the NPU, and with its memories' "
        'stalls; the last column is our cycles over those of the NPU. "-": no .tflite file.'
        if ethos.is_installed()
        else "Vela: not measured, the package `ethos-u-vela` (extra `bench`) is not installed."
    )
    return [
        "\n## Networks on `edge`\n",
        "Roofline: the larger of MACs / peak and bytes / bus bytes per cycle; the column is cycles over roofline. "
        "SCALE-Sim: its weight-stationary formula, without memory stalls, summed over layers with weights; depthwise "
        "layers as in its own topology of MobileNet, one filter over all channels. "
        "Hidden: further cycles in which the depthwise engine works for a layer beside the array. "
        f"Bound: what a layer's own instructions occupy for most of its cycles. {vela}\n",
        "| network | MACs | cycles | utilization | bytes | x roofline | SCALE-Sim | Vela NPU | Vela total | x Vela |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *lines,
        *tables,
    ]


def accuracy_section(networks: list[tuple[Graph, Path | None]], programs: list[Program]) -> list[str]:
    """The table of accuracies on real samples."""
    rows = [
        accuracy.row(path, program, MODELS / "samples")
        for (_, path), program in zip(networks, programs, strict=True)
        if path
    ]
    return [
        "\n## Accuracy on real samples\n",
        'The compiled network in the simulator beside TensorFlow Lite Micro ("-": not installed); samples with any '
        "differing output byte.\n",
        "| network | samples | simulator | tflite-micro | differing |",
        "|---|---|---|---|---|",
        *filter(None, rows),
    ]


def depthwise_section(networks: list[tuple[Graph, Path | None]], programs: list[Program]) -> list[str]:
    """The gain of the depthwise engine in whole networks."""
    rows = [depthwise.row(graph, program) for (graph, _), program in zip(networks, programs, strict=True)]
    return [
        "\n## Depthwise layers on `edge`: engine and array\n",
        "The same networks compiled for `edge` and for `edge` without its engine (`depthwise_taps` = 0), which puts "
        "every channel on the array's diagonal. Cycles of a layer: those in which the engine (or array) works for it, "
        "beside other units or alone, and those in which it alone holds the machine up. Whole: the network's cycles.\n",
        *depthwise.HEADER,
        *filter(None, rows),
    ]


def int4_section() -> list[str]:
    """Weights of 4 bits on the presets."""
    return [
        "\n## Weights of 4 bits\n",
        "`python benchmarks/int4.py` prints this table. The int4 networks have the upper halves of the int8 weights; "
        "`autoencoder` has the layers of MLPerf Tiny's anomaly detection, fully connected, with random weights. "
        "Depthwise taps stay int8.\n",
        *int4.HEADER,
        *(int4.row(graph, preset) for graph in int4.networks() for preset in int4.PRESETS),
    ]


def networks(quick: bool) -> list[tuple[Graph, Path | None]]:
    """All networks, with the .tflite file of those that come from one."""
    data = demo.load()
    found: list[tuple[Graph, Path | None]] = [
        (gemm(64 if quick else 512), None),
        (quantize(data.model_path, data.calibration, name="digits (accel demo)"), None),
    ]
    for path in (MODELS / name for name in NETWORKS):
        if path.is_file() and not quick:
            found.append((dataclasses.replace(load_model(path), name=path.stem), path))
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER / "RESULTS.md", help="page to write")
    parser.add_argument("--quick", action="store_true", help="small networks only, no Verilog: to try the script")
    options = parser.parse_args(arguments)
    chosen = networks(options.quick)
    programs = [api.compile(graph, "edge") for graph, _ in chosen]
    page = [
        "# Results\n",
        "Written by `python benchmarks/run.py`, in one run on one machine, one thread; "
        "sections that name another command are kept.\n",
        f"Machine: {_processor()}, {platform.system()}; Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("numba", "numpy", "verilator"))
        + ".\n",
        f"## Simulation speed: {chosen[0][0].name} on `edge`\n",
        "The same program in both engines and in the Verilog (compiled by Verilator, compilation not counted).\n",
        *engines_table(programs[0], with_verilog=not options.quick),
        *accuracy_section(chosen, programs),
        *depthwise_section(chosen, programs),
        *([] if options.quick else int4_section()),
        *networks_section(chosen, programs),
    ]
    written = "\n".join(page) + "\n"
    write_atomic(options.output, (written + others(options.output, written)).encode())


def others(path: Path, written: str) -> str:
    """The sections of the page at `path` that are not among those `written`."""
    sections = re.split(r"^(?=## )", path.read_text(), flags=re.MULTILINE)[1:] if path.is_file() else []
    made = {line for line in written.splitlines() if line.startswith("## ")}
    kept = [section.strip() for section in sections if section.splitlines()[0] not in made]
    return "".join(f"\n{section}\n" for section in kept)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
