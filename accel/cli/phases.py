"""Compiling a MODEL for commands that show the results of the compiler's phases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from accel.errors import InputError

if TYPE_CHECKING:
    from accel.frontends.onnx.file import Shapes
    from compiler import Compilation


def compiled_phases(model: Path, config: str | None, shapes: Shapes, effort: int = 0) -> Compilation:
    """All phases of compiling a network file for a machine (default: edge); a program file is refused."""
    from accel import api
    from accel.network.graph import Graph

    network = api.load(model, shapes=shapes)
    if not isinstance(network, Graph):
        raise InputError(
            f"{model}: must be a network to have a schedule, got a program, which holds instructions only; "
            f"give the network that it was compiled from"
        )
    return api.best_phases(network, api.as_config(config or "edge"), effort)
