"""Commands that execute programs: demo, run, estimate, verify."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from accel.cli.console import counted, echo_json, echo_lines, print_layers, progress
from accel.cli.options import (
    CONFIG,
    ENERGY,
    FILE,
    FOLDER,
    JSON,
    LAYOUT,
    MODEL_CONFIG,
    REPORT,
    TRACE,
    VCD,
    WIDE,
    check_report,
    output,
    with_model,
)
from accel.cli.relations import excludes, needs, related

if TYPE_CHECKING:
    from accel.api import Estimate
    from accel.coverify import Verification
    from accel.frontends.onnx.file import Shapes
    from accel.machine.config import ArchConfig
    from accel.program.program import Program


@click.command()
@CONFIG
@click.option(
    "-o", "--output", type=FOLDER, default=Path("build/demo"), show_default=True,
    help="Folder to write Verilog, graph and program to; made if it does not exist.",
)  # fmt: skip
@WIDE
@JSON
@related(excludes("wide", "as_json"))
def demo(config: str, output: Path, wide: bool, as_json: bool) -> None:
    """Run all steps on the small network in the package.

    Quantize, compile, simulate and co-verify (in Verilator) a network that reads handwritten digits.
    """
    from accel.demo.run import run_demo
    from accel.machine.config import load_config

    machine = load_config(config)
    _announce_kernels()
    _announce_model(machine, "verilator")
    with progress() as stage:
        result = run_demo(machine, output, stage)
    if as_json:
        echo_json(result)
        return
    print_layers(result.layers, f"digits on {machine.name}: one inference, {result.cycles:,} cycles", wide=wide)
    lines = [
        f"float accuracy  {result.float_accuracy:.2%} of {result.images} test images (onnxruntime)",
        f"INT8 accuracy   {result.int8_accuracy:.2%} of {result.images} test images (simulator)",
        f"Verilog         {result.verilog}",
        f"co-verification {_comparison([result.verification])} (1 image in Verilator)",
    ]
    echo_lines(lines, indent=16)


@click.command()
@with_model
@MODEL_CONFIG
@click.option("--input", "input_path", type=FILE, required=True, help="Inputs: .npy (.npz for several), samples first.")
@LAYOUT
@output("Outputs to write: .npy (.npz for several).", required=False)
@click.option("--dequantize", is_flag=True, help="Write real outputs, not int8.")
@click.option("--engine", default="fast", show_default=True, help="Simulator's engine: fast or stepped.")
@ENERGY
@TRACE
@REPORT
@VCD
@WIDE
@JSON
@related(excludes("wide", "as_json"), needs("dequantize", "output"))
def run(
    model: Path, shapes: Shapes, config: str | None, input_path: Path, layout: str | None, output: Path | None,
    dequantize: bool, engine: str, energy: Path | None, trace: Path | None, report: Path | None,
    vcd: tuple[Path, int, int] | None, wide: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run a MODEL in the simulator: exact values and cycles.

    Each sample of the input is a run, which starts from the states that the one before left, if the network has states;
    the table shows the first.
    """
    from accel import api
    from accel.cli.arrays import check_target, naming_file, read_arrays, write_arrays
    from accel.program.samples import join_samples, split_samples
    from accel.report.energy import energy_table
    from accel.report.placement import host_share, operator_lines

    table = energy_table(energy)
    check_report(report)
    data = read_arrays(input_path)
    program = api.load_program(model, config, shapes=shapes)
    if output:
        check_target(output, [slot.name for slot in program.outputs])
    with naming_file(input_path):
        samples = split_samples(program, data, layout)
    results, state = list[api.RunResult](), None
    _announce_kernels()
    with progress() as stage:
        advance = stage("simulate", len(samples))
        for sample in samples:
            results.append(api.run(program, sample, state=state, engine=engine))
            state = results[-1].state
            advance()
    if output:
        write_arrays(output, join_samples(program, [result.outputs for result in results], layout, real=dequantize))
    host_seconds, host = sum(result.host_seconds for result in results) / len(results), host_share(program.operators)
    figures = api.Estimate(program, results[0].simulations, table, host_seconds)
    _write_pictures(figures, model.name, trace, report)
    if vcd:
        _write_registers(program, samples[0], *vcd)
    if as_json:
        names = [slot.name for slot in program.outputs]
        facts = {"samples": len(results), "outputs": names, "states": program.states}
        echo_json({**figures.facts(), **facts, "operators": program.operators, "host": host})
        return
    title = f"{model.name} on {program.config.name}: {figures.cycles:,} cycles a sample"
    print_layers(figures.layers, f"{title}; {host}" if host.operators else title, host=host.operators, wide=wide)
    echo_lines([str(figures.speed), *operator_lines(program.operators)])
    if program.states:
        echo_lines([f"{counted(len(program.states), 'state')}, carried from each sample to the next"])
    if output:
        echo_lines([f"{output}: {counted(len(results), 'sample')}"])


@click.command()
@with_model
@MODEL_CONFIG
@ENERGY
@TRACE
@REPORT
@WIDE
@JSON
@related(excludes("wide", "as_json"))
def estimate(
    model: Path, shapes: Shapes, config: str | None, energy: Path | None, trace: Path | None, report: Path | None,
    wide: bool, as_json: bool,
) -> None:  # fmt: skip
    """Count the cycles and energy of a MODEL, without values.

    Also traffic and stalls: all are the same for any input, as `accel run` counts them.
    """
    from accel import api
    from accel.report.energy import energy_table

    table = energy_table(energy)
    check_report(report)
    program = api.load_program(model, config, shapes=shapes)
    _announce_kernels()
    result = api.estimate(program, energies=table)
    _write_pictures(result, model.name, trace, report)
    if as_json:
        echo_json(result.facts())
        return
    print_layers(result.layers, f"{model.name} on {result.program.config.name}: {result.cycles:,} cycles", wide=wide)
    energies, size = result.energies, result.area
    parts = (sum(getattr(one, part) for one in energies) / 1e6 for part in ("arithmetic", "on_chip", "external"))
    arithmetic, on_chip, external = (f"{part:,.1f}" for part in parts)
    total = sum(one.total for one in energies) / 1e6
    energy_line = f"energy: {total:,.1f} uJ: arithmetic {arithmetic}, on-chip memories {on_chip}, external {external}"
    area_line = (
        f"area: {size.multipliers:,} multipliers of 8 x 8 bits, {size.requantizers:,} of 32 x 32, "
        f"{size.register_bits:,} bits of registers, {size.sram_bits:,} of memory"
    )
    echo_lines([str(result.speed), energy_line, area_line])


@click.command()
@with_model
@MODEL_CONFIG
@click.option("--input", "input_path", type=FILE, default=None, help="As for `accel run`; default: one random sample.")
@LAYOUT
@click.option("--simulator", default="verilator", show_default=True, help="verilator, icarus or amaranth.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the random sample.")
@JSON
@related(needs("layout", "input_path"), excludes("seed", "input_path"))
def verify(
    model: Path, shapes: Shapes, config: str | None, input_path: Path | None, layout: str | None, simulator: str,
    seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Compare a MODEL in the simulator and in the Verilog.

    Every byte of memory, the number of cycles, and the issue and completion cycle of every instruction must be equal.
    A network with states runs at least twice.
    """
    from accel import api, coverify
    from accel.cli.arrays import naming_file, read_arrays
    from accel.program.samples import split_samples

    data = None if input_path is None else read_arrays(input_path)
    program = api.load_program(model, config, shapes=shapes)
    with naming_file(input_path or model):
        samples = None if data is None else split_samples(program, data, layout)
    _announce_kernels()
    _announce_model(program.config, simulator)
    # Samples of a network with states belong together.
    batches: list[Any] = [samples] if samples is None or program.states else list(samples)
    results = []
    with progress() as stage:
        advance = stage(f"co-verify in {simulator}", len(batches))
        for batch in batches:
            results.append(coverify.verify(program, batch, simulator=simulator, seed=seed))
            advance()
    samples_run = _total(results, "samples")
    if as_json:
        sizes = {
            name: getattr(results[0], name) for name in ("cycles", "instructions", "memory_bytes", "on_chip_bytes")
        }
        differing = ("differing_bytes", "differing_cycles", "differing_stamps")
        echo_json({"samples": samples_run, **sizes, **{name: _total(results, name) for name in differing}})
    else:
        echo_lines([f"{_comparison(results)} ({counted(samples_run, 'sample')} in {simulator})"])


def _write_pictures(result: Estimate, name: str, trace: Path | None, report: Path | None) -> None:
    from accel.files import write_atomic
    from accel.report.trace import trace as to_trace

    if trace:
        write_atomic(trace, to_trace(result.program, result.timings))
    if report:
        write_atomic(report, result.page(f"{name} on {result.program.config.name}").encode())


def _announce_kernels() -> None:
    """Say why the first run after an installation takes long."""
    from sim.jit import IS_COLD

    if IS_COLD:
        click.echo("First run: Numba compiles the simulator's kernels, once, in about 20 seconds", err=True)


def _announce_model(config: ArchConfig, simulator: str) -> None:
    """Say why the first co-verification of a machine takes long."""
    from rtl.testbench import verilate

    if simulator == "verilator" and not verilate.is_built(config):
        click.echo(f"First run of {config.name}: Verilator compiles the model of the machine, once", err=True)


def _write_registers(program: Program, sample: Any, path: Path, first: int, last: int) -> None:
    from accel import api
    from accel.files import write_atomic
    from accel.report.vcd import dump

    write_atomic(path, dump(program.config, api.snapshots(program, sample, first, last)))


def _comparison(results: Sequence[Verification]) -> str:
    """Sizes of all that was compared in all samples, and counts of the differences."""
    sizes = ("memory_bytes", "on_chip_bytes", "cycles", "instructions")
    external, on_chip, cycles, instructions = (_total(results, name) for name in sizes)
    return (
        f"{_total(results, 'differing_bytes'):,} differing bytes of {external + on_chip:,}, "
        f"{_total(results, 'differing_cycles'):,} differing cycles of {cycles:,}, "
        f"{_total(results, 'differing_stamps'):,} differing stamps of {2 * instructions:,}"
    )


def _total(results: Sequence[Verification], name: str) -> int:
    return sum(getattr(result, name) for result in results)


COMMANDS = (demo, run, estimate, verify)
