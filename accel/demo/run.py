"""The demo: quantize, compile, simulate, write Verilog and co-verify the network that comes with the package."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel import api, demo
from accel.coverify import Verification, verify
from accel.machine.config import ArchConfig
from accel.network.real import dequantize_output, quantize_input
from accel.program.program import Program
from accel.quantizer import quantize
from accel.report.layers import LayerRow

Stage: TypeAlias = Callable[[str, int], Callable[[], None]]
"""Announces a stage and its number of parts; returns the function to call after each part."""


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo.

    Parameters
    ----------
    images : int
        Test images simulated.
    float_accuracy, int8_accuracy : float
        Share of test images classified right, by onnxruntime and by the simulator.
    cycles : int
        Of one inference.
    verification : Verification
        Of the first image.
    verilog : str
        File that was written.
    """

    images: int
    float_accuracy: float
    int8_accuracy: float
    cycles: int
    layers: list[LayerRow]
    verification: Verification
    verilog: str


def run_demo(config: ArchConfig, folder: Path, step: Stage) -> DemoResult:
    """Run the demo.

    Parameters
    ----------
    config : ArchConfig
    folder : Path
        Where Verilog, graph and program are written; made if it does not exist.
    step : Stage

    Raises
    ------
    VerificationError
        Simulator and Verilog differ.
    """
    from rtl.testbench.verilate import build

    # The Verilog model builds in a process of its own while this one quantizes and simulates.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        model = pool.submit(build, config)
        return _run(config, folder, step, model)


def _run(config: ArchConfig, folder: Path, step: Stage, model: Future[Path]) -> DemoResult:
    """The stages one after the other; `model` is the Verilog model being built."""
    from accel.network.graph_file import save_graph
    from rtl.verilog import write_verilog

    data = demo.load()
    advance = step("quantize", 1)
    graph = quantize(data.model_path, data.calibration, name="digits")
    advance()
    advance = step(f"compile for {config.name}", 1)
    program = api.compile(graph, config)
    folder.mkdir(parents=True, exist_ok=True)
    save_graph(graph, folder / "digits.graph")
    program.save(folder / "digits.program")
    advance()
    images = [quantize_input(graph, image[None]) for image in data.test_images]
    advance = step("simulate test images", len(images))
    results = []
    for image in images:
        results.append(api.run(program, image))
        advance()
    scores = [dequantize_output(graph, next(iter(result.outputs.values()))) for result in results]
    advance = step("write Verilog", 1)
    path, _ = write_verilog(config, folder)
    advance()
    advance = step("compile the Verilog model (kept for the next run)", 1)
    model.result()
    advance()
    verification = _coverify(program, images[0], step)
    right = np.argmax(np.concatenate(scores), axis=1) == data.test_labels
    return DemoResult(
        images=len(images),
        float_accuracy=_float_accuracy(data),
        int8_accuracy=float(right.mean()),
        cycles=results[0].cycles,
        layers=results[0].layers,
        verification=verification,
        verilog=str(path),
    )


def _coverify(program: Program, image: NDArray[np.int8], step: Stage) -> Verification:
    advance = step("co-verify in Verilator", 1)
    verification = verify(program, image)
    advance()
    return verification


def _float_accuracy(data: demo.DemoData) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(data.model_path), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: data.test_images})
    return float((np.argmax(scores, axis=1) == data.test_labels).mean())
