"""Float ONNX networks from quantizer to cycles, beside ONNX Runtime's own quantization of them.

Run: python benchmarks/float_networks.py [FOLDER] [--only NAME ...] [--samples N] [--output PAGE]

FOLDER holds NAME.onnx with NAME.cal.npz and NAME.eval.npz (arrays by input name, samples first);
`make_float_networks.py` writes such files. Without FOLDER the networks are made one after the other: the nine light
models of the `onnx` package and, where torchvision and onnxscript are installed (``pip install -e '.[networks]'``),
those of `make_float_networks.py` in their real sizes. For each network and mode, at the default settings: accepted or
the sentence that refuses it, the share of its MACs on the machine `edge`, cycles, and signal to quantization noise
(SQNR) against the float network on samples that calibration has not seen, the worst of its outputs, beside ONNX
Runtime's `quantize_static` on the same calibration samples: both as QDQ models in ONNX Runtime. The first sample runs
on the simulated machine, too. Where a Softmax ends the network, its inputs are compared as well: behind it few samples
hold all noise. The page is a table; beside it, with the ending .json, lies the same for machines. Rows of the page that
are not measured again stay, and so does what follows the table under a heading.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import light_networks
import numpy as np
import onnx
import onnxruntime_int8
from numpy.typing import NDArray
from onnxruntime_int8 import Arrays

import accel
from accel.errors import AccelError
from accel.files import write_atomic
from accel.frontends.onnx.reader import read_onnx
from accel.machine.numerics import requant_mode
from accel.quantized.lower import lower
from accel.quantizer import Choice, QuantizationConfig, quantize_network
from accel.quantizer.choose import measured
from accel.quantizer.runner import Runner
from accel.report.placement import host_share

MODES = ("tflite", "fp32")
Outputs: TypeAlias = list[list[NDArray[Any]]]
"""For each sample, each of the network's outputs."""
HEADER = (
    "| network | MACs | on the machine | mode | cycles | samples | SQNR (dB) | ONNX Runtime (dB) | difference (dB) | "
    "median difference (dB) | before a last Softmax | first sample: machine, QDQ (dB) | commit |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
)
NOTES = "\n## "
"""Begins what stays below the table."""
BETWEEN = ("Reshape", "Flatten", "Squeeze", "Identity", "QuantizeLinear", "DequantizeLinear")
"""What may lie between a last Softmax and the output."""


@dataclass(frozen=True)
class Figures:
    """Signal to quantization noise, ours and ONNX Runtime's, in dB.

    Parameters
    ----------
    ours, theirs : float
        Over all samples, the worst of the outputs.
    deviation : float
        Standard error of their difference (jackknife over the samples).
    median : float
        Median over the samples of the difference in each.
    """

    ours: float
    theirs: float
    deviation: float
    median: float

    def __str__(self) -> str:
        return f"{self.ours:.2f}, {self.theirs:.2f}: {self.ours - self.theirs:+.2f} ± {self.deviation:.2f}"


@dataclass(frozen=True)
class Outcome:
    """A network in one mode: measured, or the sentence that refuses it."""

    refusal: str | None = None
    host_share: float = 0.0
    cycles: int = 0
    sqnr: float = 0.0
    beside: Figures | None = None
    before_softmax: Figures | None = None
    machine: float = 0.0
    first: float = 0.0
    choice: str = ""


@dataclass(frozen=True)
class Row:
    """A network: its MACs, ONNX Runtime's refusal if there is one, and the outcome in both modes."""

    name: str
    macs: int
    samples: int
    commit: str
    onnxruntime_refusal: str | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    seconds: float = 0.0


def noise(expected: Outputs, found: Outputs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Power of signal and noise of each sample and output.

    Raises
    ------
    ValueError
        The outputs have other shapes.
    """
    for reference, values in zip(expected, found, strict=True):
        for a, b in zip(reference, values, strict=True):
            if a.shape != b.shape:
                raise ValueError(f"an output must have shape {a.shape}, got {b.shape}")
    signal = [[np.square(a, dtype=np.float64).sum() for a in sample] for sample in expected]
    error = [
        [np.square(a.astype(np.float64) - b).sum() for a, b in zip(*pair, strict=True)]
        for pair in zip(expected, found, strict=True)
    ]
    return np.array(signal), np.array(error)


def decibels(signal: NDArray[np.float64], error: NDArray[np.float64]) -> float:
    """The worst output over some samples."""
    return float(np.min(10 * np.log10(signal.sum(axis=0) / np.maximum(error.sum(axis=0), 1e-30))))


def beside(expected: Outputs, ours: Outputs, theirs: Outputs) -> Figures:
    """Both over all samples, and how sure their difference is."""
    signal, errors = noise(expected, ours)[0], [noise(expected, found)[1] for found in (ours, theirs)]

    def difference(chosen: NDArray[np.int64]) -> float:
        return decibels(signal[chosen], errors[0][chosen]) - decibels(signal[chosen], errors[1][chosen])

    every = np.arange(len(signal))
    left_out = np.array([difference(np.delete(every, i)) for i in every]) if len(every) > 1 else np.zeros(1)
    deviation = float(np.sqrt((len(every) - 1) * np.mean(np.square(left_out - left_out.mean()))))
    median = float(np.median([difference(every[i : i + 1]) for i in every]))
    return Figures(decibels(signal, errors[0]), decibels(signal, errors[1]), deviation, median)


def logits_of(model: onnx.ModelProto) -> str:
    """What enters a Softmax that ends a network of one output; empty if none does."""
    writers = {name: node for node in model.graph.node for name in node.output}
    node = writers.get(model.graph.output[0].name)
    while node and node.op_type in BETWEEN:
        node = writers.get(node.input[0])
    return node.input[0] if node and node.op_type == "Softmax" and len(model.graph.output) == 1 else ""


def outputs(path: Path, samples: Arrays) -> Outputs:
    """The outputs of a model for each sample, and, behind them, what enters a last Softmax."""
    model = onnx.load(path)
    if logits := logits_of(model):
        model.graph.output.append(onnx.helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, None))
    return onnxruntime_int8.outputs(model.SerializeToString(), samples)


def outcome(model: Path, mode: str, calibration: Arrays, evaluation: Arrays, expected: Outputs, theirs: Any) -> Outcome:
    """Quantize, compile for `edge`, run one sample there, and all samples of `evaluation` in ONNX Runtime."""
    try:
        choices: list[Choice] = []
        config = QuantizationConfig(mode=mode)
        network = quantize_network(read_onnx(model), calibration, config, report=choices.append)
        graph = lower(network, requant_mode(mode))
        program = accel.compile(graph, "edge")
        split = onnxruntime_int8.split(evaluation)
        run = accel.run(program, {n: accel.quantize_input(graph, values, n) for n, values in split[0].items()})
        machine = [accel.dequantize_output(graph, run.outputs[name], name) for name in graph.outputs]
        names = [*network.outputs, *(name for name in measured(network) if len(expected[0]) > len(network.outputs))]
        runner = Runner(network, names)
        ours = [[found[name] for name in names] for found in map(runner, split)]
        count = len(network.outputs)
        ends = [[sample[:count] for sample in found] for found in (expected, ours, theirs or expected)]
        begins = [  # of which the reader may have left other axes of size 1
            [[value.reshape(-1) for value in sample[count:]] for sample in found]
            for found in (expected, ours, theirs or expected)
        ]
        return Outcome(
            None,
            host_share(program.operators).share,
            run.cycles,
            decibels(*noise(*ends[:2])),
            beside(*ends) if theirs else None,
            beside(*begins) if theirs and begins[0][0] else None,
            decibels(*noise(ends[0][:1], [machine])),
            decibels(*noise(ends[0][:1], ends[1][:1])),
            str(choices[0]) if choices else "",
        )
    except AccelError as error:
        return Outcome(refusal=str(error).removeprefix(f"{model}: "))
    except Exception as error:  # a defect, and the other networks are still wanted
        return Outcome(refusal=f"CRASH: {type(error).__name__}: {error}")


def measure(model: Path, samples: int) -> Row:
    """One network in both modes."""
    start = time.perf_counter()
    calibration, evaluation = (_load(model.with_suffix(f".{kind}.npz")) for kind in ("cal", "eval"))
    evaluation = {name: values[:samples] for name, values in evaluation.items()}
    expected, theirs, refusal = outputs(model, evaluation), None, None
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantized.onnx"
        try:
            onnxruntime_int8.quantize(model, calibration, target)
            theirs = outputs(target, evaluation)
        except Exception as error:  # the runtime raises what it likes
            refusal = f"{type(error).__name__}: {error}".splitlines()[0]
    return Row(
        model.stem,
        onnxruntime_int8.macs(model, evaluation),
        len(expected),
        _commit(),
        refusal,
        {mode: outcome(model, mode, calibration, evaluation, expected, theirs) for mode in MODES},
        time.perf_counter() - start,
    )


def _commit() -> str:
    """The repository's, with a star if files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=*", "--abbrev=7"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _load(path: Path) -> dict[str, NDArray[np.float32]]:
    with np.load(path) as data:
        return {name: data[name] for name in data.files}


def lines(row: dict[str, Any]) -> Iterator[str]:
    """One line of the table for each mode, from a row as JSON has it."""
    for mode, result in row["outcomes"].items():
        start = f"| {row['name']} | {row['macs']:,} |"
        if result["refusal"] is not None:
            sentence = result["refusal"].replace("|", "\\|").replace("\n", " ")
            yield f"{start} {sentence} | {mode} |{' - |' * 8} {row['commit']} |"
            continue
        beside, before = (Figures(**found) if (found := result[key]) else None for key in ("beside", "before_softmax"))
        compared = "- | - | -" if beside is None else (
            f"{beside.theirs:.2f} | {beside.ours - beside.theirs:+.2f} ± {beside.deviation:.2f} | {beside.median:+.2f}"
        )  # fmt: skip
        yield (
            f"{start} {1 - result['host_share']:.1%} | {mode} | {result['cycles']:,} | {row['samples']} | "
            f"{result['sqnr']:.2f} | {compared} | {before or ''} | {result['machine']:.2f}, {result['first']:.2f} | "
            f"{row['commit']} |"
        )


def write_page(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the table, and the JSON beside it."""
    page = [
        "# Float networks on `edge`\n",
        "Written by `python benchmarks/float_networks.py`. Default settings; ONNX Runtime: `quantize_static` (QDQ, "
        "int8, per channel, MinMax) on the same calibration samples; both run as QDQ models in ONNX Runtime on samples "
        "that calibration has not seen. SQNR: the worst of the outputs, against the float network. Behind ±: standard "
        "error of the difference (jackknife over the samples).\n",
        f"{_accepted(rows)} of {len(rows)} networks accepted.",
        "",
        *HEADER,
        *(line for row in rows for line in lines(row)),
    ]
    notes = path.read_text(encoding="utf-8").partition(NOTES) if path.exists() else ("", "", "")
    write_atomic(path, ("\n".join(page) + "\n" + "".join(notes[1:])).encode())
    write_atomic(path.with_suffix(".json"), json.dumps(list(rows), indent=1).encode())


def _accepted(rows: Sequence[dict[str, Any]]) -> int:
    return sum(all(result["refusal"] is None for result in row["outcomes"].values()) for row in rows)


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
    kept = options.output.with_suffix(".json")
    rows = {row["name"]: row for row in json.loads(kept.read_bytes())} if kept.exists() else dict[str, Any]()
    print(*HEADER, sep="\n", flush=True)
    for model in made_networks(options.only) if options.folder is None else sorted(options.folder.glob("*.onnx")):
        if options.only and model.stem not in options.only:
            continue
        row = asdict(measure(model, options.samples))
        rows[model.stem] = row
        print(*lines(row), sep="\n", flush=True)
        write_page(options.output, sorted(rows.values(), key=lambda one: str(one["name"])))


if __name__ == "__main__":
    main()
