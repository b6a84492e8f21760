"""Exploring machines, timed. Run: python benchmarks/exploration.py tiny|shapes [--workers N] [--out FILE]

`tiny`: the MLPerf Tiny networks in ../shared/models on the 216 machines of machines.toml. `shapes`: MobileNetV2 from
there, and ResNet-50 (the light model of the package `onnx` with seeded weights), on the arrays of 256 multipliers of
array_shapes.toml; docs/exploring.md discusses the result.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import light_networks
import onnx
import resnet50

import accel
from accel.explore import Point, Space, explore
from accel.explore.pareto import by_network
from accel.explore.point import OK, Network

HERE = Path(__file__).parent
MODELS = HERE.parents[1] / "shared" / "models"
SPACES = {"tiny": "machines.toml", "shapes": "array_shapes.toml"}


def networks(study: str) -> list[Network]:
    """The networks of a study."""
    if study == "tiny":
        paths = sorted((MODELS / "mlperf_tiny").glob("*_int8.tflite"))
        return [Network(path.stem, accel.load_model(path)) for path in paths]
    mobilenet = accel.load_model(MODELS / "imagenet" / "mobilenet_v2_int8.tflite")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "resnet50.onnx"
        resnet50.write_model(model)
        name = onnx.load(model).graph.input[0].name
        resnet = accel.quantize(model, {name: light_networks.images(2, light_networks.SHAPE, 3)})
    return [Network("mobilenet_v2", mobilenet), Network("resnet50", resnet)]


def line(point: Point) -> str:
    """A row of Markdown."""
    config = point.config
    shape = f"{config.rows} x {config.cols} | {config.post_lanes}"
    figures = f"{point.cycles:,} | {point.cycles / point.lower_bound:.2f} | {point.energy_pj / 1e6:,.0f}"
    return f"| {point.network} | {shape} | {figures} | {point.mm2:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=SPACES)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    configs, loaded = Space.load(HERE / SPACES[arguments.study]).machines().configs, networks(arguments.study)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        points = explore(loaded, configs, arguments.out or Path(folder) / "r.sqlite", workers=arguments.workers)
        seconds = time.perf_counter() - start
    done = sum(point.status == OK for point in points)
    print(f"{len(loaded)} networks x {len(configs)} machines: {done} points with figures in {seconds:.0f} s")
    heads = ("network", "array", "lanes of POST", "cycles", "x lower bound", "energy (uJ)", "mm2")
    print(f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", sep="\n")
    for mine in by_network(points).values():
        for point in sorted((one for one in mine if one.status == OK), key=lambda one: one.cycles)[:12]:
            print(line(point))


if __name__ == "__main__":
    main()
