"""Options that would have no effect are refused: with one sentence, before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.cli.invoke import error
from support.networks.float_networks import samples_of
from support.networks.spread import SHAPE, spread_network

QUANTIZE = ("quantize", "m.onnx", "--calibration", "x.npy", "-o", "new.graph")
ANALYZE = ("analyze", "m.onnx", "--calibration", "x.npy")
EVALUATE = ("evaluate", "m.onnx", "--data", "x.npy", "--calibration", "x.npy")
READY = ("evaluate", "a.graph", "--data", "x.npy")
RUN = ("run", "a.program", "--input", "x.npy")
VERIFY = ("verify", "a.program")
EXPLORE = ("explore", "a.graph", "--space", "s.toml", "-o", "e.db")
BUDGET = "--weight-budget or --average-bits"


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (QUANTIZE, "--labels x.npy", "--labels must be given with --max-drop"),
        (QUANTIZE, "--data x.npy", "--data must be given with --max-drop"),
        (QUANTIZE, "--curve c.svg", f"--curve must be given with {BUDGET}"),
        (QUANTIZE, "--max-drop 1 --average-bits 6", f"--max-drop must not be given with {BUDGET}"),
        (QUANTIZE, "--weight-budget 9 --average-bits 6", "--weight-budget must not be given with --average-bits"),
        (
            QUANTIZE, "--average-bits 6 --weight-bits 8",
            "weight_bits must not be given with weight_budget or average_bits, which choose them; overrides fix the "
            "bits of single layers",
        ),
        (
            QUANTIZE, "--adaround-steps 5 --prepare equalize",
            "adaround_steps must be given with prepare adaround, without which it has no effect",
        ),
        (
            ANALYZE, "--percentile 99 --calibrate-method mse",
            "percentile must be given with calibrate_method auto or percentile, without which it has no effect",
        ),
        (QUANTIZE, "--image crop=3", "x.npy: must be a folder of images"),
        (EVALUATE, "--image crop=3", "x.npy: must be a folder of images"),
        (QUANTIZE, "--image crop=3 --image crop=4", "image option crop must be given once, got '3' and '4'"),
        (ANALYZE, "--wide --json", "--wide must not be given with --json"),
        (EVALUATE, "--top 3", "--top must be given with --labels"),
        (READY, "--mode fp32", "mode must be given for float models only; this one is quantized already"),
        (READY, "--settings s.toml", "per_channel must be given for float models only; this one is quantized already"),
        (RUN, "--dequantize", "--dequantize must be given with --output"),
        (RUN, "--wide --json", "--wide must not be given with --json"),
        (VERIFY, "--layout NCHW", "--layout must be given with --input"),
        (VERIFY, "--seed 1 --input x.npy", "--seed must not be given with --input"),
        (EXPLORE, "--workers 1 --scheduler tcp://a", "--workers must not be given with --scheduler"),
    ],
)  # fmt: skip
def test_options_without_effect_are_refused(command: tuple[str, ...], options: str, message: str, files: Path) -> None:
    Path("m.onnx").write_bytes(spread_network())
    Path("s.toml").write_text("per_channel = true\n")
    if command in (QUANTIZE, ANALYZE, EVALUATE):
        np.save("x.npy", samples_of(SHAPE, 4))
    assert error(*command, *options.split()) == f"Error: {message}"


READS = "the command reads this file, it must write another one"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("quantize m.onnx --calibration x.npy -o m.onnx", f"m.onnx: {READS}"),
        ("quantize m.onnx --calibration x.npy -o ./x.npy", f"x.npy: {READS}"),
        ("quantize -o m.onnx --calibration x.npy m.onnx", f"m.onnx: {READS}"),
        ("compile a.graph -o a.graph", f"a.graph: {READS}"),
        ("compile a.graph --config s.toml -o s.toml", f"s.toml: {READS}"),
        ("compile a.graph -o b.prog --schedule b.prog", "b.prog: must be the place of one file, got it for two"),
        ("run a.program --input x.npy -o x.npy", f"x.npy: {READS}"),
        ("run a.program --input x.npy --trace a.program", f"a.program: {READS}"),
        ("export a.graph --format npz -o a.graph", f"a.graph: {READS}"),
        ("analyze m.onnx --calibration x.npy -o m.onnx", f"m.onnx: {READS}"),
        ("explore a.graph --space s.toml -o a.graph", f"a.graph: {READS}"),
    ],
)  # fmt: skip
def test_no_command_writes_over_what_it_reads(command: str, message: str, files: Path) -> None:
    Path("m.onnx").write_bytes(spread_network())
    Path("s.toml").write_text("")
    assert error(*command.split()) == f"Error: {message}"
