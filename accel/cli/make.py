"""Commands that make files: quantize, compile, export, verilog, config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from accel.cli.console import echo_json, echo_lines, progress
from accel.cli.options import (
    CONFIG,
    FILE,
    FOLDER,
    IMAGES,
    JSON,
    MODEL_CONFIG,
    SOURCE,
    SettingsCommand,
    in_folder,
    output,
    with_model,
)
from accel.cli.relations import excludes, needs, related

if TYPE_CHECKING:
    from accel.analysis.mixed import MixedPrecision
    from accel.evaluation import Controlled
    from accel.frontends.onnx.file import Shapes
    from accel.network.graph import Tensor
    from accel.quantizer import Choice


@click.command(cls=SettingsCommand)
@with_model
@click.option(
    "--calibration", type=SOURCE, required=True,
    help=".npy or .npz of real inputs, samples first, or a folder of .npy files or images.",
)  # fmt: skip
@IMAGES
@output("Graph file to write.")
@click.option(
    "--max-drop", type=float,
    help="Points of top-1 that may be lost: other settings are tried, one after the other, until no more are.",
)  # fmt: skip
@click.option("--labels", type=FILE, help=".npy of the class of each sample, for --max-drop.")
@click.option("--data", type=SOURCE, help="Samples that --labels belong to; those of --calibration by default.")
@click.option("--weight-budget", type=int, help="Bytes of all weights: layers get 4 bits where that costs least.")
@click.option("--average-bits", type=float, help="The same as bits of a weight on average, 4 to 8.")
@click.option(
    "--curve", type=FILE, callback=in_folder, help="Also draw the trade-off of --weight-budget or --average-bits (SVG)."
)
@click.option("--settings", "settings_file", type=FILE, help="TOML file of settings; options here win over it.")
@JSON
@related(
    excludes("max_drop", "weight_budget", "average_bits"),
    excludes("weight_budget", "average_bits"),
    needs("labels", "max_drop"),
    needs("data", "max_drop"),
    needs("curve", "weight_budget", "average_bits"),
)
def quantize(
    model: Path,
    calibration: Path,
    image_options: tuple[str, ...],
    output: Path,
    max_drop: float | None,
    labels: Path | None,
    data: Path | None,
    weight_budget: int | None,
    average_bits: float | None,
    curve: Path | None,
    settings_file: Path | None,
    shapes: Shapes,
    as_json: bool,
    **options: Any,
) -> None:
    """Quantize a float ONNX MODEL to an integer graph."""
    from accel.cli.control import controlled
    from accel.cli.mixed import mixed
    from accel.cli.settings import merged, sources_of
    from accel.network.graph_file import save_graph
    from accel.network.nodes import Dequantize, HostOperator, Quantize
    from accel.quantizer import quantize as quantize_model

    settings = merged(settings_file, options)
    limits = {"weight_budget": weight_budget, "average_bits": average_bits}
    samples, others = sources_of(image_options, calibration, data)
    result: MixedPrecision | Controlled | None = None
    choices: list[Choice] = []
    if any(limit is not None for limit in limits.values()):
        result = mixed(model, samples, curve, quiet=as_json, shapes=shapes, **limits, **settings)
    elif max_drop is not None:
        result = controlled(model, samples, labels, others, max_drop, quiet=as_json, shapes=shapes, **settings)
    else:
        with progress() as stage:
            graph = quantize_model(model, samples, shapes=shapes, stage=stage, report=choices.append, **settings)
    if result:
        graph, choices = result.graph, [result.choice] if result.choice else []
    save_graph(graph, output)
    tensors = (*graph.input_tensors, *graph.output_tensors)
    if as_json:
        facts = {"graph": str(output), "nodes": len(graph.nodes), "tensors": {t.name: t for t in tensors}}
        echo_json({**facts, "choice": next(iter(choices), None)})
        return
    lines = [f"  {t.name}: {t.dtype} {t.shape}{_parameters(t)}" for t in tensors]
    if graph.nodes and all(isinstance(node, HostOperator | Quantize | Dequantize) for node in graph.nodes):
        lines.append("nothing became integers: the host computes the whole network; `accel compile` says why")
    echo_lines([f"{output}: {len(graph.nodes)} nodes, mode {graph.mode}", *lines, *map(str, choices)])


def _parameters(tensor: Tensor) -> str:
    """What the integers of a tensor stand for; nothing for numbers of the host."""
    return f", scale {tensor.scale:.9g}, zero point {tensor.zero_point}" if tensor.dtype == "int8" else ""


@click.command("compile")
@with_model
@MODEL_CONFIG
@output("Program file to write.")
@click.option(
    "--schedule", type=FILE, callback=in_folder,
    help="Also write the schedule as text: what each step loads, computes and stores.",
)  # fmt: skip
@click.option(
    "--effort", type=int, default=0, show_default=True,
    help="1 and 2 compile 3 and 13 further schedules: layers overlap, tiles are smaller; the fastest is taken.",
)  # fmt: skip
@JSON
def compile_command(
    model: Path, shapes: Shapes, config: str | None, output: Path, schedule: Path | None, effort: int, as_json: bool
) -> None:
    """Compile a quantized MODEL to a program."""
    from accel import api
    from accel.cli.phases import compiled_phases
    from accel.files import write_atomic
    from accel.report.placement import host_share, operator_lines

    if schedule or effort:
        phases = compiled_phases(model, config, shapes, effort)
    if schedule:
        write_atomic(schedule, phases.schedule_text().encode())
    program = phases.program if schedule or effort else api.load_program(model, config, shapes=shapes)
    program.save(output)
    host = host_share(program.operators)
    facts = {
        "program": str(output),
        "instructions": program.instruction_count,
        "constant_bytes": len(program.constants),
        "memory_bytes": program.memory_bytes,
        "fingerprint": program.config.fingerprint(),
        "host": host,
    }
    if as_json:
        echo_json(facts)
        return
    text = (
        f"{output}: {program.instruction_count} instructions, {len(program.constants)} constant bytes, "
        f"{program.memory_bytes} bytes of memory, for {program.config.name}"
    )
    echo_lines([text, *([str(host), *operator_lines(host.operators)] if host.operators else [])])


class FormatOption(click.Option):
    """An option whose help lists the formats, which are imported only when the help is printed."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option and its help text."""
        from accel.exports import FORMATS

        self.help = f"One of {', '.join(FORMATS)}."
        return super().get_help_record(ctx)


@click.command()
@with_model
@click.option("--format", "format_name", cls=FormatOption, required=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, callback=in_folder,
    help="File to write; a folder for the format c.",
)  # fmt: skip
@JSON
def export(model: Path, shapes: Shapes, format_name: str, output: Path, as_json: bool) -> None:
    """Write a quantized MODEL for other programs.

    MODEL is a graph, a .tflite file or a quantized .onnx file.
    """
    from accel.exports import export as export_model

    result = export_model(model, output, format=format_name, shapes=shapes)
    if as_json:
        echo_json({"files": [str(path) for path in result.files], "notes": result.notes})
        return
    echo_lines([*map(str, result.files), *(f"note: {note}" for note in result.notes)])


@click.command()
@CONFIG
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder to write to; made if it does not exist.")
@click.option("--prefix", default="", help="What the names of all modules begin with: several machines in one design.")
@click.option(
    "--bundle",
    is_flag=True,
    help="For an integrator: a file per part, driver in C, simulation, SDC, FuseSoC, SystemRDL.",
)
def verilog(config: str, output: Path, prefix: str, bundle: bool) -> None:
    """Write the synthesizable Verilog of a machine."""
    from accel.machine.config import load_config
    from rtl.bundle import write_bundle
    from rtl.verilog import write_verilog

    for path in (write_bundle if bundle else write_verilog)(load_config(config), output, prefix):
        click.echo(str(path))


@click.command()
@click.argument("config", default="edge")
def config(config: str) -> None:
    """Print a machine's configuration as TOML.

    CONFIG is a preset to start your own machine from, or a TOML file, which the command checks.
    """
    from accel.machine.config import load_config

    machine = load_config(config)
    click.echo(machine.to_toml(), nl=False)
    click.echo(f"# fingerprint {machine.fingerprint()}")


COMMANDS = (quantize, compile_command, export, verilog, config)
