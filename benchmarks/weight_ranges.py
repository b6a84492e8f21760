"""Plot the weights of the example recipe's network before and after its training with fake quantization.

Run: python benchmarks/weight_ranges.py [-o docs/weight_ranges.svg]

One bar for each output channel from its smallest to its largest weight, BatchNormalization folded in; lines where
the 4-bit integers of a layer end, by post-training quantization and as learned.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray

from accel.train import PreparedModule, prepare
from accel.train.loop import fit
from accel.train.recipe import read_recipe

RECIPE = Path(__file__).parents[1] / "examples" / "training" / "recipe.toml"


def ranges(prepared: PreparedModule) -> list[tuple[NDArray[np.float32], float]]:
    """For each layer the smallest and largest weight of each channel (2, channels), and the largest number."""
    found = []
    for path in prepared.layers.values():
        layer = prepared.layer(path)
        rows = layer.folded()[0].detach().flatten(1).numpy()
        quantizer = layer.weight_quantizer
        assert quantizer is not None
        found.append((np.stack([rows.min(axis=1), rows.max(axis=1)]), quantizer.high * float(quantizer.scale.detach())))
    return found


def draw(before: list[Any], after: list[Any], names: list[str], target: Path) -> None:
    """Write the plot; equal weights give equal bytes."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "accel", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot as plt

    figure, rows = plt.subplots(2, 1, figsize=(7.5, 4.2), sharex=True, sharey=True, layout="constrained")
    for axes, layers, title in zip(rows, (before, after), ("float, and PTQ", "after QAT"), strict=True):
        start = 0
        for limits, largest in layers:
            places = start + np.arange(limits.shape[1])
            axes.vlines(places, *limits, color="0.35", linewidth=2)
            axes.hlines([-largest, largest], places[0] - 0.5, places[-1] + 0.5, color="tab:red", linewidth=1.2)
            start = int(places[-1]) + 4
        axes.set_ylabel("weight")
        axes.set_title(f"{title}: ranges of channels, and where the 4-bit integers of a layer end", fontsize=8)
    middles, start = [], 0
    for limits, _ in before:
        middles.append(start + (limits.shape[1] - 1) / 2)
        start += limits.shape[1] + 3
    rows[1].set_xticks(middles, names)
    figure.savefig(target, metadata={"Date": None})


def main() -> None:
    """Train as the recipe says, and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/weight_ranges.svg"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = read_recipe(RECIPE)
    data, model = recipe.make_data(), recipe.make_model()
    fit(model, data.train, recipe.float_training, seed=recipe.seed)
    prepared = prepare(model, torch.from_numpy(data.train.inputs[: recipe.calibration]), recipe.training_config())
    before = ranges(prepared)
    fit(prepared, data.train, recipe.training, seed=recipe.seed)
    kinds = [f"{path}\n{type(prepared.layer(path).layer).__name__}" for path in prepared.layers.values()]
    draw(before, ranges(prepared), kinds, arguments.output)


if __name__ == "__main__":
    main()
