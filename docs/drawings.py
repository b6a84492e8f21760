"""The two drawings of the tour, made from the code: the block diagram of a machine and the timeline of one layer."""

from __future__ import annotations

import numpy as np

import accel
import sim
from accel.machine.config import ArchConfig, preset
from accel.machine.isa import Unit
from accel.machine.numerics import RequantMode, output_multipliers
from accel.network.graph import Graph, Tensor
from accel.network.nodes import Conv2d
from rtl.bundle.drawing import block_diagram, svg, text


def example_layer() -> Graph:
    """One 3x3 convolution of a 32x32 image, 16 to 32 channels, with seeded weights."""
    rng = np.random.default_rng(1)
    multiplier, shift = output_multipliers(2**-4, np.full(32, 2**-7), 2**-3, RequantMode.TFLITE)
    node = Conv2d(
        name="conv", inputs=("x",), output="y", padding=(1, 1, 1, 1), multiplier=multiplier, shift=shift,
        weight=rng.integers(-127, 128, (32, 3, 3, 16)).astype(np.int8),
        bias=np.zeros(32, np.int32),
    )  # fmt: skip
    tensors = {"x": Tensor("x", (1, 32, 32, 16), 2**-4, 0), "y": Tensor("y", (1, 32, 32, 32), 2**-3, 0)}
    return Graph("layer", RequantMode.TFLITE, tensors, (node,), ("x",), ("y",))


def timeline(config: ArchConfig) -> str:
    """Every instruction of `example_layer` from its issue to its completion, a row per unit."""
    program = accel.compile(example_layer(), config)
    run = sim.execute(config, program.code, program.code_address, np.zeros(program.memory_bytes, np.uint8))
    left, width, pitch = 110, 820, 58
    scale = width / run.total_cycles
    parts = [
        text(20, 24, f"One 3x3 convolution, 32x32 pixels, 16 to 32 channels, on `{config.name}`", "title", "start")
    ]
    step = 10 ** int(np.log10(run.total_cycles)) // 2
    bottom = 46 + pitch * len(Unit)
    for cycle in range(0, run.total_cycles + 1, step):
        x = left + cycle * scale
        parts += [f'<line class="grid" x1="{x:.1f}" y1="40" x2="{x:.1f}" y2="{bottom}"/>']
        parts += [text(round(x, 1), bottom + 16, f"{cycle:,}", "small")]
    for unit in Unit:
        y = 50 + pitch * unit
        mine = np.flatnonzero(run.units == unit)
        parts += [
            text(20, y + 17, unit.name, "title", "start"),
            text(20, y + 33, f"{len(mine)} instr.", "small", "start"),
        ]
        for lane, i in enumerate(mine.tolist()):
            start, busy, end = (left + scale * int(t) for t in (run.issue[i], run.occupied[i] + 1, run.complete[i] + 1))
            top = y + 20 * (lane % 2)
            parts += [
                f'<rect class="{kind}" x="{a:.1f}" y="{top}" width="{max(b - a, 0.4):.1f}" height="16"/>'
                for kind, a, b in (("work", start, busy), ("latency", busy, end))
                if b > a
            ]
    end = f"{run.total_cycles:,} cycles; dark: the instruction holds its unit; light: it writes its last results"
    return svg(960, bottom + 46, [*parts, text(20, bottom + 36, end, "small", "start")])


DRAWINGS = {
    "machine.svg": lambda: block_diagram(preset("edge"), "edge"),
    "timeline.svg": lambda: timeline(preset("edge")),
}
"""Files in docs/ and the functions that draw them."""
