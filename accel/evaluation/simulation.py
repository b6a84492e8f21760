"""Simulating many samples, on several cores at once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from numpy.typing import NDArray

from accel import api
from accel.program.program import Program
from accel.program.samples import join_samples
from accel.quantizer.reconstruct import Stage, silent

FEWEST = 16
"""Fewer samples are done here before other processes have started."""
Sample = dict[str, NDArray[Any]]
_program: Program | None = None
"""The program of a worker process."""


def simulate(
    program: Program, samples: Sequence[Sample], workers: int | None = None, stage: Stage = silent
) -> dict[str, NDArray[Any]]:
    """The real outputs of the simulated machine, samples first, in the model's shapes.

    Parameters
    ----------
    program : Program
    samples : sequence of dict of str to ndarray
        As `accel.program.samples.split_samples` gives them.
    workers : int, optional
        Processes; as many as cores by default. With 1, or with fewer samples than `FEWEST`, all runs in this process.
    stage : callable, optional
        Announces progress.

    Notes
    -----
    The values are those of the hardware, bit for bit, whatever the number of processes.
    """
    count = min(workers or os.cpu_count() or 1, len(samples))
    advance, outputs = stage("simulate", len(samples)), list[Sample]()
    if count == 1 or len(samples) < FEWEST:
        for sample in samples:
            outputs.append(api.run(program, sample).outputs)
            advance()
        return join_samples(program, outputs, None, real=True)
    # A forked process would inherit the locks of the runtime's threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, initializer=_start, initargs=(program.to_bytes(),))
    try:
        for result in pool.map(_run, samples, chunksize=max(1, min(16, len(samples) // (4 * count)))):
            outputs.append(result)
            advance()
    finally:
        pool.shutdown(cancel_futures=True)
    return join_samples(program, outputs, None, real=True)


def _start(data: bytes) -> None:
    global _program
    _program = Program.from_bytes(data)


def _run(sample: Sample) -> Sample:
    assert _program is not None
    return api.run(_program, sample).outputs
