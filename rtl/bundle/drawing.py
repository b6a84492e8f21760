"""The block diagram of a machine, and what drawings in SVG are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from accel.machine.config import PARAM_RECORD_BYTES, TABLE_ENTRIES, TABLES, ArchConfig

STYLE = """
  text { font: 13px sans-serif; fill: #1d1d1f; }
  .title { font-weight: bold; }
  .small { font-size: 11px; fill: #555; }
  .memory { fill: #e3eefb; stroke: #3b6ea8; }
  .unit { fill: #fdf0d9; stroke: #b07a1e; }
  .outside { fill: #eeeeee; stroke: #777777; }
  .wire { fill: none; stroke: #444; stroke-width: 1.3; marker-end: url(#head); }
  .grid { stroke: #dddddd; }
  .work { fill: #3b6ea8; }
  .latency { fill: #b9d0ea; }
"""
HEAD = (
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#444"/></marker>'
)


def svg(width: int, height: int, parts: Iterable[str]) -> str:
    """A drawing of `width` x `height` pixels."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    background = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", f"<defs>{HEAD}</defs>", background, *parts, "</svg>", ""])


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "middle") -> str:
    """One line of text at (x, y)."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}">{escape(content)}</text>'


@dataclass(frozen=True)
class Box:
    """A named block with lines of facts below its name; x, y, width and height in pixels."""

    kind: str
    x: int
    y: int
    width: int
    height: int
    title: str
    facts: tuple[str, ...] = ()

    def draw(self) -> list[str]:
        """Its rectangle and its texts."""
        middle, top = self.x + self.width / 2, self.y + self.height / 2 - 7 * len(self.facts) + 5
        rectangle = (
            f'<rect class="{self.kind}" x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="5"/>'
        )
        lines = [text(middle, top + 15 * (i + 1), fact, "small") for i, fact in enumerate(self.facts)]
        return [rectangle, text(middle, top, self.title, "title"), *lines]


def wire(*points: tuple[int, int], label: str = "", at: tuple[int, int] = (0, 0)) -> list[str]:
    """An arrow along `points`, its label at `at`."""
    path = "M" + "L".join(f"{x} {y}" for x, y in points)
    return [f'<path class="wire" d="{path}"/>', *([text(*at, label, "small")] if label else [])]


def size(byte_count: int) -> str:
    """A number of bytes in the largest unit that divides it evenly enough to read."""
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if byte_count >= factor:
            return f"{byte_count / factor:.4g} {unit}"
    return f"{byte_count} B"


def block_diagram(config: ArchConfig, name: str) -> str:
    """The units and memories that the machine has, with the sizes that `config` gives them, under its `name`."""
    rows, cols, bus = config.rows, config.cols, 8 * config.bus_bytes
    spad = (f"{config.spad_banks} banks, {size(config.spad_words * rows)}", f"words of {rows} int8")
    acc = (f"{config.acc_banks} banks, {size(config.acc_words * cols * 4)}", f"words of {cols} int32")
    taps = f"{size(config.depthwise_words * config.depthwise_lanes)}, words of {config.depthwise_lanes} int8"
    param = f"{config.param_channels} records, {size(config.param_channels * PARAM_RECORD_BYTES)}"
    lanes = (f"{config.depthwise_lanes} lanes of", f"{config.depthwise_taps} taps")
    maths = "add, subtract, multiply, pool, interpolate"
    boxes = [
        Box("outside", 20, 40, 110, 470, "DRAM", (f"AXI4, {bus} bit",)),
        Box("unit", 190, 40, 130, 70, "fetch", ("dispatch in order",)),
        Box("outside", 380, 40, 560, 70, "queues", (f"one per unit, {config.queue_depth} instructions deep",)),
        Box("unit", 190, 160, 130, 190, "LOAD", ("3-D patterns,", "padding, folding")),
        Box("unit", 190, 440, 130, 70, "STORE", ("3-D patterns",)),
        Box("memory", 390, 150, 160, 60, "WBUF", (f"{size(config.wbuf_words * cols)}, words of {cols} int8",)),
        Box("memory", 390, 300, 160, 130, "SPAD", spad),
        Box("memory", 390, 450, 160, 60, "PARAM, TABLE", (param, f"{TABLES} tables of {TABLE_ENTRIES} int8")),
        Box("unit", 620, 150, 150, 80, "EXEC", (f"{rows} x {cols} PEs,", "weight stationary")),
        Box("memory", 830, 180, 110, 130, "ACC", acc),
        Box("unit", 620, 400, 320, 110, "POST", (f"{config.post_lanes} lanes: bias, requantize, clamp, table,", maths)),
    ]  # fmt: skip
    wires = [
        wire((130, 75), (188, 75), label="program", at=(159, 68)),
        wire((320, 75), (378, 75)),
        wire((130, 255), (188, 255), label="read", at=(159, 248)),
        wire((190, 475), (132, 475), label="write", at=(159, 468)),
        *(wire((320, y), (388, y)) for y in (180, 330)),
        wire((340, 330), (340, 465), (388, 465)),
        wire((390, 415), (350, 415), (350, 475), (322, 475)),
        wire((550, 180), (618, 180)),
        wire((550, 320), (585, 320), (585, 215), (618, 215)),
        wire((770, 200), (828, 200)),
        wire((885, 310), (885, 398)),
        wire((620, 415), (552, 415), label="results", at=(575, 430)),
        wire((550, 370), (600, 370), (600, 435), (618, 435), label="operands", at=(586, 364)),
        wire((550, 480), (618, 480)),
    ]
    if config.depthwise_taps:
        boxes += [
            Box("memory", 390, 225, 160, 60, "TAPS", (taps,)),
            Box("unit", 620, 255, 150, 80, "DEPTHWISE", lanes),
        ]
        wires += [
            wire((320, 255), (388, 255)),
            wire((550, 265), (618, 265)),
            wire((585, 320), (618, 320)),
            wire((770, 295), (828, 295)),
        ]
    title = text(20, 24, f"The machine `{name}`: blue memories, yellow units", "title", "start")
    parts = [part for box in boxes for part in box.draw()]
    return svg(960, 530, [title, *parts, *(part for several in wires for part in several)])
