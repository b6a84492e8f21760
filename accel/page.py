"""The scaffold of HTML pages that need nothing else: style, tables, and figures of matplotlib as SVG in the text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from accel.errors import ToolError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-size: 13px; } th, td { padding: 2px 8px; text-align: right; }
th { border-bottom: 1px solid #999; } td:first-child, th:first-child { text-align: left; }
tr.bad { background: #fdecea; }
svg { width: 100%; height: auto; } h2 { margin-top: 2em; } h3 { margin-bottom: 0; } .note { color: #666; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page: `title` is text, `parts` are HTML."""
    text = escape(title)
    head = f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{text}</title>'
    return "\n".join([head, f"<style>{STYLE}</style></head><body><h1>{text}</h1>", *parts, "</body></html>\n"])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, bad: Sequence[bool] = ()) -> str:
    """A table of texts; rows that are `bad` stand out."""
    lines = []
    for index, cells in enumerate(rows):
        style = ' class="bad"' if index < len(bad) and bad[index] else ""
        lines.append(f"<tr{style}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def note(text: str) -> str:
    """A paragraph that explains a picture."""
    return f'<p class="note">{escape(text)}</p>'


def check_library() -> None:
    """Raise `ToolError` unless pages can be drawn."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise ToolError("the HTML page needs matplotlib, which is not installed: pip install 'accel[plot]'")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def to_svg(figure: Any) -> str:
    """A figure as SVG, the same bytes each time."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "accel", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def short_name(name: str, longest: int = 40) -> str:
    """A layer's name for an axis: its end, if it is long."""
    return name if len(name) <= longest else f"...{name[3 - longest :]}"
