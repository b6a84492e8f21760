"""The analysis as one HTML page that needs nothing else: tables, advice, and a histogram of every range."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from accel.analysis.analyze import Analysis, LayerAnalysis
from accel.analysis.statistics import Histogram
from accel.page import check_library, new_figure, note, page, short_name, table, to_svg
from accel.quantizer.reconstruct import Stage, silent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VALUES, RANGE = "#4c72b0", "#55a868"


def to_html(analysis: Analysis, stage: Stage = silent) -> str:
    """The page.

    Parameters
    ----------
    analysis : Analysis
    stage : callable, optional
        Announces progress.

    Raises
    ------
    ToolError
        matplotlib is not installed.
    """
    check_library()
    title = f"{analysis.name}: {analysis.sqnr:.1f} dB end to end"
    advance, parts = stage("draw", len(analysis.layers)), []
    for layer in analysis.layers:
        parts.append(_section(layer))
        advance()
    if not analysis.layers:
        return page(title, [f"<p>{escape(analysis.host)}.</p>"])
    facts = "".join(f"<p>{escape(fact)}.</p>" for fact in (analysis.claim, analysis.host) if fact)
    return page(
        title,
        [
            f"<p>Signal to quantization noise at the outputs, on {analysis.samples} samples.</p>{facts}",
            f"<p>{analysis.choice}.</p>" if analysis.choice else "",
            _advice(analysis),
            to_svg(_overview(analysis.layers)),
            _table(analysis.layers),
            "<h2>Histograms and ranges</h2>",
            note(
                "Counts are logarithmic. The green band is the range that the integers hold. "
                "With a weight scale per channel it is the widest channel's; dotted lines are the narrowest channel's."
            ),
            *parts,
        ],
    )


def _advice(analysis: Analysis) -> str:
    if not analysis.suspicious:
        return "<p>No layer stands out.</p>"
    lines = [f"<li><b>{escape(one.name)}</b>: {escape('; '.join(one.advice))}</li>" for one in analysis.suspicious]
    return f"<h2>Suspicious layers</h2><ul>{''.join(lines)}</ul>"


def _table(layers: Sequence[LayerAnalysis]) -> str:
    """All figures."""
    heads = (
        "layer", "operator", "weights dB", "values dB", "so far dB", "only this quantized dB", "only this float dB",
        "clipped", "unused integers", "weight spread", "value spread",
    )  # fmt: skip
    rows = []
    for one in layers:
        w, a = one.weights, one.activations
        cells = [
            one.name, one.kind, f"{w.sqnr:.1f}" if w else "", f"{a.sqnr:.1f}" if a else "",
            f"{a.sqnr_so_far:.1f}" if a else "", f"{one.only_quantized:.1f}", f"{one.only_float:.1f}",
            f"{a.clipped:.2%}" if a else "", f"{a.dead_codes:.0%}" if a else "", f"{w.spread:.1f}" if w else "",
            f"{a.spread:.1f}" if a else "",
        ]  # fmt: skip
        rows.append(cells)
    return f"<h2>Layers</h2>{table(heads, rows, bad=[bool(one.advice) for one in layers])}"


def _section(layer: LayerAnalysis) -> str:
    """Histograms of one layer."""
    figure = new_figure(10, 2.0)
    figure.subplots_adjust(left=0.05, right=0.98, top=0.88, bottom=0.12, wspace=0.12)
    places = figure.subplots(1, 2)
    if layer.weights is not None:
        w = layer.weights
        _histogram(places[0], f"weights, {w.bits} bits, {w.sqnr:.1f} dB", w.histogram, (-w.high, w.high))
        for limit in (-w.low, w.low) if w.scales > 1 else ():
            places[0].axvline(limit, color=RANGE, linestyle=":")
    else:
        places[0].axis("off")
    if layer.activations is not None:
        a = layer.activations
        text = f"values {a.seen_low:.3g} to {a.seen_high:.3g}, {a.sqnr:.1f} dB, {a.clipped:.2%} clipped"
        _histogram(places[1], text, a.histogram, (a.low, a.high))
    else:
        places[1].axis("off")
    return f"<h3>{escape(layer.name)} <span class='note'>{escape(layer.kind)}</span></h3>{to_svg(figure)}"


def _histogram(axes: Axes, title: str, histogram: Histogram, limits: tuple[float, float]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator

    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    axes.axvspan(*limits, color=RANGE, alpha=0.2, linewidth=0)
    axes.stairs(np.maximum(histogram.counts, 0.5), edges, baseline=0.5, fill=True, color=VALUES)
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(LogLocator(numticks=4))
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=7)


def _overview(layers: Sequence[LayerAnalysis]) -> Figure:
    """The noise of every layer alone."""
    height = 1.2 + 0.18 * len(layers)
    figure = new_figure(10, height)
    figure.subplots_adjust(left=0.3, right=0.98, top=1 - 0.1 / height, bottom=0.6 / height)
    axes = figure.subplots()
    names = [short_name(one.name) for one in layers]
    axes.barh(range(len(layers)), [one.noise for one in layers], color=VALUES)
    axes.set_yticks(range(len(layers)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("noise at the outputs with only this layer quantized, over that of the average layer", fontsize=8)
    return figure
