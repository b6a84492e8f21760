"""The depthwise engine's row stream, and what a DEPTHWISE must keep so that every window is complete in time."""

from __future__ import annotations

from collections.abc import Mapping

from accel.errors import ProgramError
from accel.machine.config import ArchConfig


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
    first = max(0, -(start // dilation))
    last = min((width - 1 - start) // dilation, words_per_step * (outputs - 1) + taps - 1)
    if first > last:
        return 0, outputs
    lead = max(0, (taps - 1 - first) // words_per_step)
    last_step = -((taps - 1 - last) // words_per_step)
    return lead, max(outputs, last_step + 1 + lead)


def check_depthwise(config: ArchConfig, fields: Mapping[str, int]) -> None:
    """Refuse a DEPTHWISE that the engine of `config` cannot execute.

    Parameters
    ----------
    config : ArchConfig
    fields : mapping of str to int
        The instruction's fields by name.

    Raises
    ------
    ProgramError
        A rule of docs/architecture.md, "DEPTHWISE", is broken; the message names the fields.
    """
    taps, dilation, step = fields["kx_count"], fields["x_dilation"], fields["x_step"]
    if not config.depthwise_taps:
        raise ProgramError("DEPTHWISE must not appear on a machine without depthwise engine (depthwise_taps = 0)")
    if taps > config.depthwise_taps:
        raise ProgramError(f"DEPTHWISE kx_count must be at most depthwise_taps = {config.depthwise_taps}, got {taps}")
    last_byte = fields["spad_byte"] + config.depthwise_lanes
    if last_byte > config.rows:
        raise ProgramError(
            f"DEPTHWISE spad_byte + min(rows, cols) must be at most rows = {config.rows}, got {last_byte}"
        )
    moves = (dilation, 2 * dilation) if taps > 1 else (dilation,)
    if not dilation or step not in moves:
        raise ProgramError(
            "DEPTHWISE x_step must be x_dilation, or twice that with kx_count > 1, and not 0, "
            f"got {step} and x_dilation = {dilation}"
        )
    _check_row_stream(fields, step // dilation)


def _check_row_stream(fields: Mapping[str, int], words_per_step: int) -> None:
    stride = words_per_step * fields["kx_stride"]
    if fields["ox_stride"] != stride:
        raise ProgramError(
            f"DEPTHWISE ox_stride must be {stride}, as x_step and kx_stride say, got {fields['ox_stride']}"
        )
    if words_per_step == 2 and fields["kx_stride"] % 2 == 0:
        raise ProgramError(f"DEPTHWISE kx_stride must be odd if two words are read per step, got {fields['kx_stride']}")
    stream = row_stream(
        fields["x_start"], fields["x_dilation"], words_per_step, fields["width"], fields["kx_count"],
        fields["ox_count"],
    )  # fmt: skip
    given = (fields["lead_steps"], fields["row_steps"])
    if given != stream:
        raise ProgramError(f"DEPTHWISE lead_steps and row_steps must be {stream[0]} and {stream[1]}, got {given}")
    steps = fields["oy_count"] * fields["row_steps"]
    if fields["ky_count"] > 1 and steps < fields["kx_count"]:
        raise ProgramError(
            f"DEPTHWISE oy_count * row_steps must be at least kx_count = {fields['kx_count']}, so that the next tap "
            f"row's weights are there, got {steps}"
        )
