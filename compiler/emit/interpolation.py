"""POSTs of bilinear resizing: one for all outputs whose neighbours advance alike and weigh alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

from accel.machine.config import ArchConfig
from accel.machine.isa import Instruction, Opcode, Source
from compiler.emit.compute import PostBlocks, destination_strides, result_fields
from compiler.emit.records import VectorWork
from compiler.lower.geometry import Tile
from compiler.lower.layers import InterpolationLayer, Neighbours
from compiler.plan.tiles import View


@dataclass(frozen=True)
class Run:
    """Outputs `start`, `start + step`, .. whose first neighbours are `first`, `first + advance`, .. ."""

    start: int
    first: int
    distance: int
    weight: int
    count: int = 1
    step: int = 0
    advance: int = 0

    def extended(self, output: int, first: int) -> Run | None:
        """The run with one output more, if it goes on regularly."""
        step, advance = output - self.start, first - self.first
        if self.count == 1:
            return replace(self, count=2, step=step, advance=advance)
        regular = (step, advance) == (self.count * self.step, self.count * self.advance)
        return replace(self, count=self.count + 1) if regular else None


def runs(neighbours: tuple[Neighbours, ...], begin: int, end: int) -> list[Run]:
    """Outputs [begin, end) along one axis as few runs, each of one distance and weight.

    Resizing by a power of two has few classes of weights, whose outputs and inputs are evenly spaced: two runs for a
    factor of two, and one at each border. Other factors have nearly as many weights as outputs.
    """
    classes: dict[tuple[int, int], list[Run]] = {}
    for output in range(begin, end):
        first, distance, weight = neighbours[output]
        found = classes.setdefault((distance, weight), [])
        longer = found[-1].extended(output, first) if found else None
        if longer is None:
            found.append(Run(output, first, distance, weight))
        else:
            found[-1] = longer
    return [run for found in classes.values() for run in found]


def post_interpolation(
    config: ArchConfig, work: VectorWork, layer: InterpolationLayer, blocks: PostBlocks
) -> list[Instruction]:
    """POSTs that compute a tile: one for every run of rows and run of columns in it."""
    channels, tile, (view,) = layer.output_shape[2], work.tile, work.sources
    common = {
        "source": Source.SPAD,
        "reduce": layer.reduce,
        "left_shift": layer.left_shift,
        "shift0": layer.operands[0].shift,
        "shift1": layer.operands[1].shift,
        "group_count": -(-min(channels, config.rows) // config.post_lanes),
        "param_address": blocks.param_row,
        "table": blocks.table,
    }
    words, columns, result = -(-channels // config.rows), runs(layer.columns, tile.x0, tile.x1), []
    for y in runs(layer.rows, tile.y0, tile.y1):
        for x in columns:
            part = Tile(0, y.count, 0, x.count)
            fields = common | result_fields(layer, part)
            fields |= _taps(y, x, view, words) | _outputs(y, x, work.output, part, words)
            result.append(Instruction(Opcode.POST, fields))
    return result


def _taps(y: Run, x: Run, view: View, words: int) -> dict[str, int]:
    """The window: all taps exist, each output's at one position, (0, 0)."""
    row, column = view.strides
    return {
        "word_count": words,
        "ky_count": 2 if y.distance else 1,
        "kx_count": 2 if x.distance else 1,
        "height": 1,
        "width": 1,
        "src_address": view.word(0, y.first, x.first),
        "src_word_stride": view.chunk_stride if words > 1 else 0,
        "src_oy_stride": y.advance * row,
        "src_ox_stride": x.advance * column,
        "src_ky_stride": y.distance * row,
        "src_kx_stride": x.distance * column,
        "y_weight": y.weight,
        "x_weight": x.weight,
    }


def _outputs(y: Run, x: Run, view: View, part: Tile, words: int) -> dict[str, int]:
    row, column = view.strides
    origin = view.word(0, y.start, x.start)
    spaced = View(origin, view.chunk_stride, part, (y.step * row, x.step * column))
    return {"dst_address": origin, **destination_strides(spaced, part, words)}
