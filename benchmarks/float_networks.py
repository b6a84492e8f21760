"""Float ONNX networks from quantizer to cycles, beside ONNX Runtime's own quantization of them.

Run: python benchmarks/float_networks.py [FOLDER] [--only NAME ...] [--output PAGE]

FOLDER holds NAME.onnx with NAME.cal.npz and NAME.eval.npz (arrays by input name, samples first);
`make_float_networks.py` writes such files. Without FOLDER the networks are made one after the other: the nine light
models of the `onnx` package and, where torchvision and onnxscript are installed (``pip install -e '.[networks]'``),
those of `make_float_networks.py` in their real sizes. For each network and each of `SETTINGS`: accepted or the sentence
that refuses it, the share of its MACs on the machine `edge`, cycles, and signal to quantization noise (SQNR) against
the float network, the worst of its outputs. The page is a table; beside it, with the ending .json, lies the same for
machines.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import light_networks
import numpy as np
import onnxruntime_int8
from numpy.typing import NDArray
from onnxruntime_int8 import Arrays

import accel
from accel.errors import AccelError
from accel.files import write_atomic
from accel.report.placement import host_share

SETTINGS: dict[str, dict[str, Any]] = {
    "tflite": {"mode": "tflite"},
    "fp32": {"mode": "fp32"},
    "fp32, minmax": {"mode": "fp32", "calibrate_method": "minmax"},
}
"""How networks are quantized: by default in both modes, and over the ranges that ONNX Runtime takes."""
Outputs: TypeAlias = Sequence[Sequence[NDArray[Any]]]
"""For each sample, each of the network's outputs."""
HEADER = (
    "| network | MACs | settings | accepted | MACs on the machine | cycles | SQNR (dB) | SQNR of ONNX Runtime (dB) |",
    "|---|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Outcome:
    """A network under some settings: measured, or the sentence that refuses it."""

    refusal: str | None = None
    host_share: float = 0.0
    cycles: int = 0
    sqnr: float = 0.0


@dataclass(frozen=True)
class Row:
    """A network: its MACs, what ONNX Runtime reaches (or why not), and the outcome under all settings."""

    name: str
    macs: int
    onnxruntime_sqnr: float | None
    onnxruntime_refusal: str | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    seconds: float = 0.0


def outcome(
    model: Path, settings: dict[str, Any], calibration: Arrays, evaluation: Arrays, expected: Outputs
) -> Outcome:
    """Quantize, compile for `edge` and run all samples of `evaluation`."""
    try:
        graph = accel.quantize(model, calibration, **settings)
        program = accel.compile(graph, "edge")
        results, cycles = [], 0
        for sample in onnxruntime_int8.split(evaluation):
            inputs = {name: accel.quantize_input(graph, values, name) for name, values in sample.items()}
            run = accel.run(program, inputs)
            results.append([accel.dequantize_output(graph, run.outputs[name], name) for name in graph.outputs])
            cycles = run.cycles
        sqnr = onnxruntime_int8.sqnr(expected, results)
    except AccelError as error:
        return Outcome(refusal=str(error).removeprefix(f"{model}: "))
    except Exception as error:  # a defect, and the other networks are still wanted
        return Outcome(refusal=f"CRASH: {type(error).__name__}: {error}")
    return Outcome(None, host_share(program.operators).share, cycles, sqnr)


def measure(model: Path, samples: int) -> Row:
    """One network under all settings."""
    start = time.perf_counter()
    calibration, evaluation = (_load(model.with_suffix(f".{kind}.npz")) for kind in ("cal", "eval"))
    evaluation = {name: values[:samples] for name, values in evaluation.items()}
    expected = onnxruntime_int8.outputs(model, evaluation)
    sqnr, refusal = None, None
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantized.onnx"
        try:
            onnxruntime_int8.quantize(model, calibration, target)
            sqnr = onnxruntime_int8.sqnr(expected, onnxruntime_int8.outputs(target, evaluation))
        except Exception as error:  # the runtime raises what it likes
            refusal = f"{type(error).__name__}: {error}".splitlines()[0]
    return Row(
        model.stem,
        onnxruntime_int8.macs(model, evaluation),
        sqnr,
        refusal,
        {name: outcome(model, chosen, calibration, evaluation, expected) for name, chosen in SETTINGS.items()},
        time.perf_counter() - start,
    )


def _load(path: Path) -> dict[str, NDArray[np.float32]]:
    with np.load(path) as data:
        return {name: data[name] for name in data.files}


def lines(row: Row) -> Iterator[str]:
    """One line of the table for each of the settings."""
    outside = "-" if row.onnxruntime_sqnr is None else f"{row.onnxruntime_sqnr:.2f}"
    for settings, result in row.outcomes.items():
        start = f"| {row.name} | {row.macs:,} | {settings} |"
        if result.refusal is None:
            yield f"{start} yes | {1 - result.host_share:.1%} | {result.cycles:,} | {result.sqnr:.2f} | {outside} |"
        else:
            sentence = result.refusal.replace("|", "\\|").replace("\n", " ")
            yield f"{start} {sentence} | - | - | - | {outside} |"


def write_page(path: Path, rows: Sequence[Row]) -> None:
    """Write the table, and the JSON beside it."""
    page = [
        "# Float networks on `edge`\n",
        "Written by `python benchmarks/float_networks.py`. ONNX Runtime: `quantize_static` (QDQ, int8, per channel, "
        "MinMax) on the same calibration data. SQNR: the worst of the outputs, against the float network.\n",
        f"{_accepted(rows)} of {len(rows)} networks accepted.",
        "",
        *HEADER,
        *(line for row in rows for line in lines(row)),
    ]
    write_atomic(path, ("\n".join(page) + "\n").encode())
    write_atomic(path.with_suffix(".json"), json.dumps([asdict(row) for row in rows], indent=1).encode())


def _accepted(rows: Sequence[Row]) -> int:
    return sum(all(result.refusal is None for result in row.outcomes.values()) for row in rows)


def made_networks(only: Sequence[str] | None) -> Iterator[Path]:
    """The light models and those of torchvision, each in a folder that holds no other."""
    for name in sorted(path.stem for path in light_networks.FOLDER.glob("light_*.onnx")):
        if only is None or name in only:
            with tempfile.TemporaryDirectory() as folder:
                light_networks.write_light_network(name, Path(folder))
                yield Path(folder) / f"{name}.onnx"
    try:
        import make_float_networks
    except (ImportError, RuntimeError) as error:  # a torchvision of another build than torch's raises the second
        print(f"Light models only, {error}: the others need `pip install -e '.[networks]'`", file=sys.stderr)
        return
    for name, recipe in make_float_networks.RECIPES.items():
        if only is None or not {name, f"{name}_dynamo"}.isdisjoint(only):
            with tempfile.TemporaryDirectory() as folder:
                for line in make_float_networks.files(Path(folder), {name: recipe}, small=False):
                    print(line, file=sys.stderr, flush=True)
                yield from sorted(Path(folder).glob("*.onnx"))


def main(arguments: list[str] | None = None) -> None:
    """Measure, print each line as it is known, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="networks and their data; all are made by default")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="networks of these names")
    parser.add_argument("--samples", type=int, default=light_networks.EVALUATION, help="samples to run of each")
    parser.add_argument("--output", type=Path, default=Path("float_networks.md"), help="page to write")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    print(*HEADER, sep="\n", flush=True)
    for model in made_networks(options.only) if options.folder is None else sorted(options.folder.glob("*.onnx")):
        if options.only and model.stem not in options.only:
            continue
        rows.append(measure(model, options.samples))
        print(*lines(rows[-1]), sep="\n", flush=True)
        write_page(options.output, rows)


if __name__ == "__main__":
    main()
