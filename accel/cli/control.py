"""Quantizing within a limit of accuracy, on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from accel.cli.arrays import read_array
from accel.cli.console import echo_lines, progress
from accel.errors import InputError

if TYPE_CHECKING:
    from accel.evaluation import Controlled, Rung
    from accel.quantizer.samples import Calibration


def controlled(
    model: Path, calibration: Calibration, labels: Path | None, data: Calibration | None, max_drop: float, *,
    quiet: bool, **options: Any,
) -> Controlled:  # fmt: skip
    """Climb the ladder and print each rung as it is measured, unless `quiet`; exit with 1 if no rung holds."""
    from accel.evaluation import quantize_within

    if labels is None:
        raise InputError("--max-drop must have the class of each sample, got no --labels")

    def report(rung: Rung) -> None:
        source = "fake-quantized" if rung.simulated is None else "simulated"
        value = rung.metric if rung.simulated is None else rung.simulated
        if not quiet:
            echo_lines([f"{rung.name}: top-1 {value:.2%} ({source}), {rung.drop:.2f} points lost"])

    with progress() as stage:
        result = quantize_within(
            model, calibration, read_array(labels), max_drop=max_drop, workers=None, stage=stage, data=data,
            report=report, **options,
        )  # fmt: skip
    if not result.rungs[-1].holds:
        best = min(result.rungs, key=lambda rung: rung.drop)
        click.echo(
            f"Short: no settings lose at most {max_drop:g} points of {result.reference:.2%}; the best is "
            f"{best.name!r}, {best.drop - max_drop:.2f} points more; no file is written",
            err=True,
        )
        click.get_current_context().exit(1)
    return result
