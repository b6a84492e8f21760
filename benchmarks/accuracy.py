"""Accuracy of int8 networks on real samples: compiled and simulated, and in TensorFlow Lite Micro."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accel import api
from accel.program.program import Program

SAMPLES = {"resnet8_int8": "cifar10_500.npz", "dscnn_kws_int8": "kws_1000.npz"}
"""Files beside the models with arrays x (int8, or uint8 that is larger by 128) and y (labels)."""
ARENA_BYTES = 2**24

Outputs = list[NDArray[np.int8]]


def row(model: Path, program: Program, folder: Path) -> str | None:
    """One line of the table; None if there are no samples for the model."""
    path = folder / SAMPLES.get(model.stem, "none")
    if not path.is_file():
        return None
    with np.load(path) as data:
        x, labels = data["x"], data["y"]
    x = (x ^ 0x80).view(np.int8) if x.dtype == np.uint8 else x
    ours = [api.run(program, sample[None]).outputs[program.output_names[0]] for sample in x]
    cells = [_accuracy(ours, labels), "-", "-"]
    if find_spec("tflite_micro"):
        runtime = _runtime(model)
        theirs = [runtime(sample[None]) for sample in x]
        different = sum(not np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
        cells[1:] = [_accuracy(theirs, labels), f"{different:,}"]
    return f"| {model.stem} | {len(x):,} | {' | '.join(cells)} |"


def _accuracy(outputs: Outputs, labels: NDArray[np.integer]) -> str:
    return f"{np.mean([output.argmax() for output in outputs] == labels):.1%}"


def _runtime(model: Path) -> Callable[[NDArray[np.int8]], NDArray[np.int8]]:
    """The outside runtime as a function."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(model.read_bytes(), arena_size=ARENA_BYTES)

    def run(sample: NDArray[np.int8]) -> NDArray[np.int8]:
        interpreter.set_input(sample, 0)
        interpreter.invoke()
        return np.asarray(interpreter.get_output(0))

    return run
