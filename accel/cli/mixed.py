"""Mixed precision on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.cli.console import echo_lines, print_table, progress
from accel.cli.tables import make_table
from accel.report.layers import Column

if TYPE_CHECKING:
    from accel.analysis.mixed import MixedPrecision
    from accel.quantizer.samples import Calibration

COLUMNS = (Column("4 bits, too", is_text=True), Column("weight B"), Column("bits"), Column("SQNR (dB)"))


def mixed(model: Path, calibration: Calibration, curve: Path | None, *, quiet: bool, **options: Any) -> MixedPrecision:
    """Quantize within a budget; print the trade-off unless `quiet`, and draw it."""
    from accel.analysis.curve import to_curve
    from accel.analysis.mixed import quantize_mixed
    from accel.files import write_atomic
    from accel.page import check_library

    if curve:
        check_library()
    with progress() as stage:
        result = quantize_mixed(model, calibration, stage=stage, **options)
    if curve:
        write_atomic(curve, to_curve(result).encode())
    if not quiet:
        _print(result, model.name)
    return result


def _print(result: MixedPrecision, name: str) -> None:
    def cells(layer: str, size: int, found: float) -> list[str]:
        return [layer or "none", f"{size:,}", f"{8 * size / result.weights:.2f}", f"{found:.2f}"]

    title = f"{name}: weights of 4 bits, layer after layer; budget {result.budget_bytes:,} bytes"
    print_table(make_table(title, COLUMNS, [[cells(*point) for point in result.points]], wide=False), wide=False)
    size, found = result.chosen.weight_bytes, result.chosen.sqnr
    layers = ", ".join(result.narrow) or "none"
    echo_lines([f"chosen: {size:,} bytes, {8 * size / result.weights:.2f} bits, {found:.2f} dB; 4 bits: {layers}"])
