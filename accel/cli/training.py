"""The command train."""

from __future__ import annotations

from pathlib import Path

import click

from accel.cli.console import echo_json, echo_lines, progress
from accel.cli.options import FILE, FOLDER, JSON


@click.command()
@click.option("--recipe", type=FILE, required=True, help="TOML file that names the model, the data and the steps.")
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder of the run: checkpoints and results.")
@JSON
def train(recipe: Path, output: Path, as_json: bool) -> None:
    """Train and quantize a network as a recipe says.

    Float training, post-training quantization, and training with fake quantization where that loses too much.

    A run that was interrupted goes on where it was. Needs the extra `train`.
    """
    from accel.train.pipeline import run_recipe
    from accel.train.recipe import read_recipe

    with progress() as stage:
        outcome = run_recipe(read_recipe(recipe), output, stage)
    if as_json:
        echo_json(outcome)
        return
    lines = [f"float            {outcome.float_accuracy:6.2f} % top-1"]
    for row in outcome.rows:
        lines.append(
            f"{row.stage} fake-quantized {row.fake:6.2f} %, simulated {row.simulated:6.2f} %, "
            f"same class {row.same_class:.2f} %"
        )
    echo_lines([*lines, f"{output}: {', '.join(outcome.files)}", *(f"note: {note}" for note in outcome.notes)])


COMMANDS = (train,)
