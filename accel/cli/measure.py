"""Commands that measure quantization: analyze, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from accel.cli.console import echo_json, echo_lines, print_table, progress
from accel.cli.options import CONFIG, FILE, IMAGES, JSON, SOURCE, WIDE, SettingsCommand, output, with_model
from accel.cli.relations import excludes, needs, related

if TYPE_CHECKING:
    from accel.analysis import Analysis
    from accel.frontends.onnx.file import Shapes


@click.command(cls=SettingsCommand)
@with_model
@click.option(
    "--calibration", type=SOURCE, required=True,
    help=".npy or .npz of real inputs, samples first; or a folder of .npy files and images.",
)  # fmt: skip
@IMAGES
@output("Page to write: HTML with histograms and ranges.", required=False)
@click.option("--samples", default=16, show_default=True, help="Calibration samples to measure on.")
@click.option("--settings", "settings_file", type=FILE, help="TOML file of settings; options here win over it.")
@WIDE
@JSON
@related(excludes("wide", "as_json"))
def analyze(
    model: Path,
    calibration: Path,
    image_options: tuple[str, ...],
    output: Path | None,
    samples: int,
    settings_file: Path | None,
    shapes: Shapes,
    wide: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what quantizing each layer costs.

    MODEL is a float ONNX file; suspicious layers come with the advice that fits.
    """
    from accel.analysis import analyze as analyze_model
    from accel.analysis.page import to_html
    from accel.cli.settings import merged, sources_of
    from accel.files import write_atomic
    from accel.page import check_library

    if output:
        check_library()
    settings = merged(settings_file, options)
    source, _ = sources_of(image_options, calibration)
    with progress() as stage:
        analysis = analyze_model(model, source, samples=samples, shapes=shapes, stage=stage, **settings)
        if output:
            write_atomic(output, to_html(analysis, stage).encode())
    if as_json:
        echo_json(analysis)
        return
    _print_analysis(analysis, model.name, wide=wide)
    if output:
        echo_lines([f"{output}: histograms of {len(analysis.layers)} layers"])


def _print_analysis(analysis: Analysis, name: str, *, wide: bool) -> None:
    """The table, the claim about small weights, what stays real, and the advice."""
    from accel.cli.analysis_tables import analysis_table

    if not analysis.layers:
        echo_lines([f"{name}: {analysis.host}"])
        return
    print_table(analysis_table(analysis, name, wide=wide), wide=wide)
    echo_lines(filter(None, [analysis.claim, analysis.host]))
    advice = [f"{one.name}: {text}" for one in analysis.suspicious for text in one.advice]
    echo_lines(advice or ["no layer stands out"])
    echo_lines([str(analysis.choice)] if analysis.choice else [])


@click.command(cls=SettingsCommand)
@with_model
@click.option(
    "--data", type=SOURCE, required=True,
    help=".npy or .npz of inputs, samples first; or a folder of .npy files and images.",
)  # fmt: skip
@click.option("--labels", type=FILE, help=".npy of the class of each sample.")
@click.option("--calibration", type=SOURCE, help="Samples to quantize a float .onnx MODEL with; as --data.")
@IMAGES
@click.option("--top", default=5, show_default=True, help="The k of top-k.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that simulate (default: one for each core).")
@CONFIG
@click.option("--settings", "settings_file", type=FILE, help="TOML file of settings; options here win over it.")
@JSON
@related(needs("top", "labels"))
def evaluate(
    model: Path,
    data: Path,
    labels: Path | None,
    calibration: Path | None,
    image_options: tuple[str, ...],
    top: int,
    workers: int | None,
    config: str,
    settings_file: Path | None,
    shapes: Shapes,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare float, fake-quantized and simulated network.

    The simulated values are those of the hardware, bit for bit. A float .onnx file is quantized with --calibration
    first; what is quantized already has no float row.
    """
    from accel.cli.analysis_tables import evaluation_table
    from accel.cli.arrays import read_array, read_arrays
    from accel.cli.settings import merged, sources_of
    from accel.evaluation import evaluate as evaluate_model

    samples, others = sources_of(image_options, data, calibration)
    with progress() as stage:
        evaluation = evaluate_model(
            model, samples if data.is_dir() else read_arrays(data),
            labels=None if labels is None else read_array(labels), top=top, workers=workers,
            calibration=others, config=config, shapes=shapes or None, stage=stage, **merged(settings_file, options),
        )  # fmt: skip
    if as_json:
        echo_json(evaluation)
        return
    print_table(evaluation_table(evaluation, model.name), wide=False)


COMMANDS = (analyze, evaluate)
