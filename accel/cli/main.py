"""The command line. Exit codes: 0 ok, 1 a mismatch was found, 2 bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from accel import __version__
from accel.cli.console import Group, echo_json, print_layers, print_table, progress
from accel.errors import InputError


def _in_folder(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file to write before the work for it begins."""
    if path and not path.parent.is_dir():
        raise InputError(f"{path}: its folder does not exist")
    return path


_FILE = click.Path(dir_okay=False, path_type=Path)
_CONFIG = click.option("--config", default="edge", show_default=True, help="Preset or TOML file.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


_MODEL = click.argument("model", type=_FILE)
_MODEL_CONFIG = click.option(
    "--config", default=None,
    help="Machine to compile for, preset or TOML file (default: edge); a program must be for it.",
)  # fmt: skip
_LAYOUT = click.option("--layout", default=None, help="Order of real images, NCHW or NHWC (default: what fits).")


def _output(what: str, *, required: bool = True) -> Callable[[Any], Any]:
    return click.option("-o", "--output", type=_FILE, required=required, callback=_in_folder, help=what)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="accel")
def main() -> None:
    """INT8 accelerator toolchain: quantize, compile, simulate, generate Verilog, and prove that they agree.

    A MODEL is a program, an integer graph, a .tflite file or a quantized .onnx file; it is compiled on the way.
    """


@main.command()
@_CONFIG
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=Path("accel-demo"), show_default=True,
    help="Folder for Verilog, graph and program.",
)  # fmt: skip
@_JSON
def demo(config: str, output: Path, as_json: bool) -> None:
    """Run the main job on a network that the package carries: no arguments, no network."""
    from accel.demo.run import run_demo
    from accel.machine.config import load_config

    machine = load_config(config)
    with progress() as stage:
        result = run_demo(machine, output, stage)
    if as_json:
        echo_json(result)
        return
    print_layers(result.layers, f"digits on {machine.name}: one inference, {result.cycles:,} cycles")
    click.echo(f"float accuracy  {result.float_accuracy:.2%} of {result.images} test images (onnxruntime)")
    click.echo(f"INT8 accuracy   {result.int8_accuracy:.2%} of {result.images} test images (simulator)")
    click.echo(f"Verilog         {result.verilog}")
    click.echo(
        f"co-verification {result.differing_bytes} differing bytes of {result.compared_bytes:,}, "
        f"{result.differing_cycles} differing cycles of {result.cycles:,}, all stamps of "
        f"{result.compared_instructions} instructions equal ({result.verified_images} image in Verilator)"
    )


@main.command()
@click.argument("model", type=_FILE)
@click.option("--calibration", type=_FILE, required=True, help=".npz or .npy of real float inputs, samples first.")
@_output("Graph file to write.")
@click.option("--mode", default="tflite", show_default=True, help="Requantization: tflite, single or fp32.")
@click.option("--calibrator", default="minmax", show_default=True, help="Activation ranges: minmax or percentile.")
@click.option("--percentile", default=99.99, show_default=True, help="For the percentile calibrator.")
@_JSON
def quantize(
    model: Path, calibration: Path, output: Path, mode: str, calibrator: str, percentile: float, as_json: bool
) -> None:
    """Quantize a float ONNX MODEL to an integer graph."""
    from accel.cli.arrays import read_arrays
    from accel.network.graph_file import save_graph
    from accel.quantizer import quantize as quantize_model

    graph = quantize_model(model, read_arrays(calibration), mode=mode, calibrator=calibrator, percentile=percentile)
    save_graph(graph, output)
    tensors = {name: graph.tensors[name] for name in (*graph.inputs, *graph.outputs)}
    if as_json:
        echo_json({"graph": str(output), "nodes": len(graph.nodes), "tensors": tensors})
        return
    click.echo(f"{output}: {len(graph.nodes)} nodes, mode {graph.mode}")
    for name, tensor in tensors.items():
        click.echo(f"  {name}: int8 {tensor.shape}, scale {tensor.scale:.9g}, zero point {tensor.zero_point}")


@main.command("compile")
@_MODEL
@_MODEL_CONFIG
@_output("Program file to write.")
@_JSON
def compile_command(model: Path, config: str | None, output: Path, as_json: bool) -> None:
    """Compile a quantized MODEL to a program."""
    from accel import api

    program = api.load_program(model, config)
    program.save(output)
    facts = {
        "program": str(output),
        "instructions": program.instruction_count,
        "constant_bytes": len(program.constants),
        "memory_bytes": program.memory_bytes,
        "fingerprint": program.config.fingerprint(),
    }
    if as_json:
        echo_json(facts)
    else:
        click.echo(
            f"{output}: {program.instruction_count} instructions, {len(program.constants)} constant bytes, "
            f"{program.memory_bytes} bytes of memory, for {program.config.name}"
        )


@main.command()
@_MODEL
@_MODEL_CONFIG
@click.option("--input", "input_path", type=_FILE, required=True, help=".npy (.npz for several inputs), samples first.")
@_LAYOUT
@_output(".npy (.npz for several outputs) to write.", required=False)
@click.option("--engine", default="fast", show_default=True, help="fast or stepped.")
@_JSON
def run(
    model: Path, config: str | None, input_path: Path, layout: str | None, output: Path | None, engine: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Run a MODEL in the simulator: values and cycles of every sample of the input."""
    import numpy as np

    from accel import api
    from accel.cli.arrays import check_target, read_arrays, split_samples, write_arrays
    from accel.report.layers import operator_lines

    data = read_arrays(input_path)
    program = api.load_program(model, config)
    if output:
        check_target(output, program.output_names)
    samples = split_samples(program, data, layout)
    results = []
    with progress() as stage:
        advance = stage("simulate", len(samples))
        for sample in samples:
            results.append(api.run(program, sample, engine=engine))
            advance()
    if output:
        names = results[0].outputs
        write_arrays(output, {name: np.concatenate([result.outputs[name] for result in results]) for name in names})
    if as_json:
        facts = {"samples": len(results), "cycles": results[0].cycles}
        echo_json({**facts, "layers": results[0].layers, "operators": program.operators})
        return
    print_layers(results[0].layers, f"{model.name} on {program.config.name}: {results[0].cycles:,} cycles a sample")
    for line in operator_lines(program.operators):
        click.echo(line)
    if output:
        click.echo(f"{output}: {len(results)} sample{'s' * (len(results) != 1)}")


@main.command()
@_CONFIG
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder.")
def verilog(config: str, output: Path) -> None:
    """Write the synthesizable Verilog of a machine."""
    from accel.machine.config import load_config
    from rtl.verilog import write_verilog

    for path in write_verilog(load_config(config), output):
        click.echo(str(path))


@main.command()
@_MODEL
@_MODEL_CONFIG
@click.option("--input", "input_path", type=_FILE, default=None, help="As for run; default: random.")
@_LAYOUT
@click.option("--simulator", default="verilator", show_default=True, help="verilator, icarus or amaranth.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For the random input.")
@_JSON
def verify(
    model: Path, config: str | None, input_path: Path | None, layout: str | None, simulator: str, seed: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Run a MODEL in the simulator and in the Verilog; compare bytes, cycles and every instruction's stamps."""
    from accel import api, coverify
    from accel.cli.arrays import read_arrays, split_samples

    data = None if input_path is None else read_arrays(input_path)
    program = api.load_program(model, config)
    samples = [None] if data is None else split_samples(program, data, layout)
    results = []
    with progress() as stage:
        advance = stage(f"co-verify in {simulator} (the first run of a machine compiles its model)", len(samples))
        for sample in samples:
            results.append(coverify.verify(program, sample, simulator=simulator, seed=seed))
            advance()
    first = results[0]
    facts = {
        "samples": len(results),
        "cycles": first.cycles,
        "instructions": first.instructions,
        "memory_bytes": first.memory_bytes,
        "differing_bytes": 0,
        "differing_cycles": 0,
    }
    if as_json:
        echo_json(facts)
    else:
        click.echo(
            f"equal: {first.memory_bytes:,} bytes, {first.cycles:,} cycles, stamps of {first.instructions} "
            f"instructions ({len(results)} sample{'s' * (len(results) != 1)} in {simulator})"
        )


@main.command()
@_MODEL
@_JSON
def inspect(model: Path, as_json: bool) -> None:
    """List the operators of a MODEL with shapes, scales, multipliers and sizes; of a program, its layers."""
    from accel import api
    from accel.cli import inspection_tables
    from accel.network.graph import Graph
    from accel.report.inspection import inspect_graph, inspect_program

    network = api.load(model)
    summary = inspect_graph(network) if isinstance(network, Graph) else inspect_program(network)
    if as_json:
        echo_json(summary)
        return
    table, lines = inspection_tables.summarize(summary, model.name)
    print_table(table)
    for line in lines:
        click.echo(line)


@main.command()
@_MODEL
@_MODEL_CONFIG
def disassemble(model: Path, config: str | None) -> None:
    """Print the instructions of a MODEL's program."""
    from accel import api
    from accel.machine import isa

    click.echo(isa.disassemble(api.load_program(model, config).code), nl=False)


@main.command()
@_MODEL
@_MODEL_CONFIG
@_JSON
def check(model: Path, config: str | None, as_json: bool) -> None:
    """Prove a MODEL's program free of deadlocks, data races, port conflicts and accesses out of bounds."""
    from accel import api
    from compiler import check_program

    report = check_program(api.load_program(model, config))
    if as_json:
        echo_json(report)
    else:
        click.echo(f"{model}: proven safe; {report}")


@main.command()
@click.argument("config", default="edge")
def config(config: str) -> None:
    """Print a preset (or check a file) as TOML, to start a configuration of your own from."""
    from accel.machine.config import load_config

    machine = load_config(config)
    click.echo(machine.to_toml(), nl=False)
    click.echo(f"# fingerprint {machine.fingerprint()}")
