"""The compiler's equality suite sees faults: one thing wrong in a module makes some case fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.networks.equality import assert_equal
from support.networks.random_graphs import random_graph
from test_compile import CASES, TINY

from accel.errors import AccelError
from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode, Reduce
from accel.network.graph import Graph
from compiler.emit import blocks, instructions, progress
from compiler.emit import compute as emit_compute
from compiler.emit import depthwise as depthwise_steps
from compiler.emit import dma as emit_dma
from compiler.lower import registry
from compiler.lower import vector as lower_vector
from compiler.plan import allocate, plan, tiles, weights
from compiler.schedule import block_cache, schedule

Patch = Callable[[pytest.MonkeyPatch], None]


def _always_at_zero(patch: pytest.MonkeyPatch) -> None:
    def careless(self: allocate.Scratchpad, request: allocate.Request) -> allocate.Grant | None:
        return allocate.Grant(allocate.Area(0, *request), self) if request.words <= self.words else None

    patch.setattr(allocate.Scratchpad, "allocate", careless)


def _weights_of_other_channels(patch: pytest.MonkeyPatch) -> None:
    original = weights.pack_block
    patch.setattr(blocks, "pack_block", lambda layer, pieces, part: original(layer, pieces[::-1], part))
    patch.setattr(weights, "pack_block", blocks.pack_block)


def _transposed_taps(patch: pytest.MonkeyPatch) -> None:
    original = weights.pack_block

    def flipped(layer: Any, pieces: Any, part: Any) -> bytes:
        turned = replace(layer, weight=np.ascontiguousarray(layer.weight[:, ::-1]))
        return original(turned, pieces, part)

    patch.setattr(blocks, "pack_block", flipped)


def _changes(module: Any, function: str, opcode: Opcode, **changes: int) -> Patch:
    """Every `opcode` that `function` emits has some fields changed."""

    def patch_it(patch: pytest.MonkeyPatch) -> None:
        original = getattr(module, function)

        def altered(*args: Any) -> Any:
            result = original(*args)
            several = result if isinstance(result, list) else [result]
            several = [i.replace(**changes) if i.opcode is opcode else i for i in several]
            return several if isinstance(result, list) else several[0]

        patch.setattr(module, function, altered)

    return patch_it


def _shorter_tiles(patch: pytest.MonkeyPatch) -> None:
    def one_row_less(layer: Any, tile: tiles.Tile) -> tiles.Tile:
        part = tiles.input_tile(layer, tile)
        return tiles.Tile(part.y0, max(part.y1 - 1, part.y0 + 1), part.x0, part.x1)

    patch.setattr(plan, "input_tile", one_row_less)
    patch.setattr(emit_compute, "input_tile", one_row_less)


def _stores_of_first_chunk(patch: pytest.MonkeyPatch) -> None:
    original = emit_dma.transfer_tile

    def forgetful(opcode: Opcode, *args: Any) -> Any:
        result = original(opcode, *args)
        return result[:1] if opcode is Opcode.STORE else result

    patch.setattr(emit_dma, "transfer_tile", forgetful)


def _bias_without_zero_point(patch: pytest.MonkeyPatch) -> None:
    original = registry.lower_weighted

    def unfolded(scope: Any, node: Any) -> Any:
        layer = original(scope, node)
        records = tuple(record._replace(bias=int(b)) for b, record in zip(node.bias, layer.records, strict=True))
        return replace(layer, records=records)

    patch.setattr(registry, "lower_weighted", unfolded)


def _mean_rounded_down(patch: pytest.MonkeyPatch) -> None:
    original = lower_vector.mean_record

    def smaller(count: int, mode: Any) -> Any:
        record = original(count, mode)
        return record._replace(multiplier=record.multiplier - 1) if count > 1 else record

    patch.setattr(lower_vector, "mean_record", smaller)


def _tiles_loaded_too_early(patch: pytest.MonkeyPatch) -> None:
    for bound in ("written", "last_use"):
        patch.setattr(progress.Progress, bound, lambda *args: -1)


def _blocks_forgotten(patch: pytest.MonkeyPatch) -> None:
    original = block_cache.BlockCache.use
    patch.setattr(block_cache.BlockCache, "use", lambda self, key, step: original(self, key, step) and 0)


def _no_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(schedule, "synchronized", lambda config, program: program)


def _columns_beside_each_other(patch: pytest.MonkeyPatch) -> None:
    original = depthwise_steps.post_columns
    patch.setattr(
        instructions,
        "post_columns",
        lambda post, columns, offset: original(post, columns, offset).replace(dst_ox_stride=1),
    )


def _depthwise_upside_down(patch: pytest.MonkeyPatch) -> None:
    original = depthwise_steps.pack_parts
    patch.setattr(blocks, "pack_parts", lambda layer, parts, *channels: original(layer, parts[::-1], *channels)[::-1])


def _always_the_first_table(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(instructions, "table_field", lambda *_: 1)


_ONLY_SUMS = SimpleNamespace(SUM=Reduce.SUM, SUB=Reduce.SUM, MUL=Reduce.SUM, MAX=Reduce.MAX)

MUTANTS: dict[str, Patch] = {
    "no waits": _no_waits,
    "areas overlap": _always_at_zero,
    "blocks of weights in reverse": _weights_of_other_channels,
    "kernel upside down": _transposed_taps,
    "padding with zeros": _changes(emit_compute, "exec_piece", Opcode.EXEC, pad_value=0),
    "folded rows of padding with zeros": _changes(instructions, "load_folded", Opcode.LOAD, dram_row_stride=0),
    "folded padding with zeros": _changes(instructions, "load_folded", Opcode.LOAD, pad_value=0),
    "one weight row": _changes(emit_compute, "exec_piece", Opcode.EXEC, k_rows=1),
    "never accumulate": _changes(emit_compute, "exec_piece", Opcode.EXEC, accumulate=0),
    "every result in byte 0": _changes(emit_compute, "post_accumulators", Opcode.POST, dst_byte=0),
    "one accumulator bank": _changes(emit_compute, "exec_piece", Opcode.EXEC, acc_address=0),
    "no clamp": _changes(emit_compute, "post_accumulators", Opcode.POST, act_min=-128, act_max=127),
    "one row too few": _shorter_tiles,
    "first chunk stored only": _stores_of_first_chunk,
    "no tables": _changes(emit_compute, "post_accumulators", Opcode.POST, table=0),
    "always the first table": _always_the_first_table,
    "sums for products": lambda patch: patch.setattr(lower_vector, "Reduce", _ONLY_SUMS),
    "classes of columns beside each other": _columns_beside_each_other,
    "kernel rows of depthwise upside down": _depthwise_upside_down,
    "zero point not in the bias": _bias_without_zero_point,
    "mean rounded down": _mean_rounded_down,
    "tiles loaded too early": _tiles_loaded_too_early,
    "blocks at address 0": _blocks_forgotten,
}


def suite() -> Iterator[tuple[Graph, ArchConfig]]:
    """Directed and random cases, quick ones."""
    for case in (*list(CASES)[:15], "pools beside each other"):
        yield CASES[case][0](), CASES[case][1]
    for seed in range(10):
        yield random_graph(np.random.default_rng(seed), "tflite", layers=3, channels=12, size=8), TINY


def run_suite() -> None:
    for graph, config in suite():
        assert_equal(graph, config, np.random.default_rng(5), ("fast",))


def test_the_suite_passes_unmutated() -> None:
    run_suite()


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_of_the_compiler_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[mutant](monkeypatch)
    with pytest.raises((AssertionError, AccelError)):
        run_suite()
