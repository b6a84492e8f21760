"""The trade-off of mixed precision as a drawing."""

from __future__ import annotations

from accel.analysis.mixed import MixedPrecision
from accel.analysis.page import RANGE, VALUES
from accel.page import check_library, new_figure, to_svg


def to_curve(mixed: MixedPrecision) -> str:
    """SVG of SQNR over the bytes of all weights, the same bytes each time.

    Raises
    ------
    ToolError
        matplotlib is not installed.
    """
    check_library()
    figure = new_figure(7, 4)
    axes = figure.subplots()
    sizes = [point.weight_bytes for point in mixed.points]
    axes.plot(sizes, [point.sqnr for point in mixed.points], marker=".", color=VALUES, label="layer by layer to 4 bits")
    axes.plot(mixed.chosen.weight_bytes, mixed.chosen.sqnr, "o", color=RANGE, label="chosen")
    axes.axvline(mixed.budget_bytes, color="#999", linestyle=":", label="budget")
    axes.set_xlabel("bytes of all weights")
    axes.set_ylabel("end-to-end SQNR in dB")
    axes.legend(fontsize=8)
    return to_svg(figure)
