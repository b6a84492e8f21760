"""The depthwise engine's row stream: the steps in which words enter the windows, each in time for its output."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def row_stream(start: int, dilation: int, words_per_step: int, width: int, taps: int, outputs: int) -> tuple[int, int]:
    """How the engine streams the rows of a window: its only legal `lead_steps` and `row_steps`.

    Word j of a row has position ``start + j * dilation``; output t needs words ``t * words_per_step ..`` of number
    `taps`, those that exist. In a row's step t, counted from its first output, word ``taps - 1 + t * words_per_step``
    is read, and the one before it if there are two words per step.

    Parameters
    ----------
    start : int
        Position of the first output's first tap (`x_start`).
    dilation : int
        Positions from one tap to the next, at least 1 (`x_dilation`).
    words_per_step : int
        1 or 2: how many taps the window moves from one output to the next (``x_step / x_dilation``).
    width : int
        Positions 0 .. width - 1 exist.
    taps, outputs : int
        Tap columns and output columns, at least 1 (`kx_count`, `ox_count`).

    Returns
    -------
    lead_steps, row_steps : int
        Steps from the row's first word to its first output, and from one row's first output to the next row's: as few
        as let each word that exists enter after the last word of the row before, and in time for its first output.
    """
    lead, steps = row_streams(start, dilation, words_per_step, width, taps, outputs)
    return int(lead), int(steps)


def row_streams(
    start: Any, dilation: Any, words_per_step: Any, width: Any, taps: Any, outputs: Any
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """`row_stream` of many windows: each argument an int64 array, broadcast against the others."""
    first = np.maximum(0, -(start // dilation))
    last = np.minimum((width - 1 - start) // dilation, words_per_step * (outputs - 1) + taps - 1)
    lead = np.maximum(0, (taps - 1 - first) // words_per_step)
    steps = np.maximum(outputs, lead + 1 - (taps - 1 - last) // words_per_step)
    some = first <= last
    return np.where(some, lead, 0), np.where(some, steps, outputs)
