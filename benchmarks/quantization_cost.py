"""What quantizing a large network costs: seconds and peak memory, beside ONNX Runtime's `quantize_static`.

Run: python benchmarks/quantization_cost.py [--samples N] [--only light_resnet50 ...]

The networks are light models of the `onnx` package with seeded weights (`light_networks.py`). Each run is a process of
its own: weights by least square error, the default observer; ONNX Runtime with its MinMax calibrator, per channel.
Seconds are those of the call, without imports; CPU seconds and peak memory (resident, Linux) are those of the whole
process. The limit is 300 MB and three times the model's file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import light_networks
import numpy as np
import onnx

NETWORKS = ("light_resnet50", "light_vgg19")
TOOLS = ("accel", "onnxruntime")


class Cost(NamedTuple):
    """Of one process."""

    seconds: float
    cpu: float
    megabytes: float


def ours(model: Path, samples: Path) -> None:
    """Quantize by this project."""
    from accel.quantizer import quantize

    quantize(model, samples, weight_method="mse")


def theirs(model: Path, samples: Path) -> None:
    """Quantize by ONNX Runtime."""
    import onnxruntime_int8

    source = onnx.load(model, load_external_data=False).graph.input[0].name
    onnxruntime_int8.quantize(model, {source: np.load(samples)}, model.with_suffix(".quantized"))


def measured(tool: str, model: Path, samples: Path) -> Cost:
    """The cost of one tool in a process of its own."""
    command = [sys.executable, __file__, "--tool", tool, str(model), str(samples)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Cost(*json.loads(output.splitlines()[-1]))


def peak_megabytes() -> float:
    """The most memory that this process has had; not that of its parent, as `resource` tells."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1.024e-3


def rows(names: list[str], count: int) -> Iterator[str]:
    """The table's lines."""
    yield "| network | file (MB) | limit (MB) | tool | seconds | CPU seconds | peak memory (MB) |"
    yield "|---|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples.npy"
        np.save(samples, light_networks.images(count, light_networks.SHAPE, 100))
        for name in names:
            model = Path(folder) / f"{name}.onnx"
            onnx.save(light_networks.seeded(onnx.load(light_networks.FOLDER / f"{name}.onnx")), model)
            size = model.stat().st_size / 1e6
            for tool in TOOLS:
                cost = measured(tool, model, samples)
                yield (
                    f"| {name} | {size:.0f} | {300 + 3 * size:.0f} | {tool} | {cost.seconds:.1f} | {cost.cpu:.1f} | "
                    f"{cost.megabytes:.0f} |"
                )
            model.unlink()


def main() -> None:
    """Print the table, or be one of its processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4, help="calibration samples")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--tool", choices=TOOLS, help=argparse.SUPPRESS)
    parser.add_argument("paths", nargs="*", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tool:
        run = {"accel": ours, "onnxruntime": theirs}[options.tool]
        import_module("accel.quantizer")  # imports are not part of the seconds
        started = time.perf_counter()
        run(*options.paths)
        seconds = time.perf_counter() - started
        print(json.dumps(Cost(seconds, time.process_time(), peak_megabytes())))
        return
    for row in rows(options.only, options.samples):
        print(row, flush=True)


if __name__ == "__main__":
    main()
