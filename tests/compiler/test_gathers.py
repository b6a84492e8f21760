"""Gathers: any map of bytes is moved byte by byte, a regular one in few instructions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accel.machine.config import ArchConfig, preset
from compiler.emit import gather
from compiler.lower import movement as lower_movement
from compiler.lower.layers import FILL, SOURCE_SHIFT, MoveLayer

TINY = preset("tiny")


def gather_layer(locations: np.ndarray, sources: int = 1) -> MoveLayer:
    names = tuple(f"s{i}" for i in range(sources))
    shape = locations.shape
    return MoveLayer(name="g", op="G", output="o", output_shape=shape, sources=names, locations=locations)


def executed(config: ArchConfig, layer: MoveLayer, memory: np.ndarray, sources: list[int], words: int) -> np.ndarray:
    """External memory after the LOADs and STOREs of a gather, byte by byte."""
    fills = {value: len(memory) - 256 + value % 256 for value in gather.fill_values(layer.locations)}
    moves = gather.Gather(config, layer, sources, fills)
    spad, result = np.zeros((words, config.rows), np.int8), np.zeros(layer.locations.size, np.int8)
    for first, last in moves.parts(words):
        for i in moves.loads(first, last, 0):
            for outer, row in np.ndindex(i["outer_count"], i["row_count"]):
                start = i["dram_address"] + outer * i["dram_outer_stride"] + row * i["dram_row_stride"]
                stream = np.full((i["row_words"] - 1) * i["step_bytes"] + i["word_bytes"], i["pad_value"], np.int8)
                stream[: i["row_bytes"]] = memory[start : start + i["row_bytes"]]
                word = i["address"] + outer * i["outer_stride"] + row * i["row_stride"]
                for j in range(i["row_words"]):
                    part = stream[j * i["step_bytes"] :][: i["word_bytes"]]
                    spad[word + j, i["byte_offset"] : i["byte_offset"] + i["word_bytes"]] = part
        for i in moves.stores(first, last, 0, 0):
            taken = spad[: i["row_words"], : i["word_bytes"]].reshape(-1)
            result[i["dram_address"] : i["dram_address"] + len(taken)] = taken
    return result


def random_locations(rng: np.random.Generator, kind: str) -> np.ndarray:
    shape = tuple(int(n) for n in rng.integers(1, [7, 9, 12]))
    if kind == "noise":
        sources = rng.integers(0, 2, shape)
        return np.where(rng.random(shape) < 0.2, rng.integers(-256, 0, shape), (sources << SOURCE_SHIFT) | 7)
    y, x, c = (np.arange(n) * int(rng.integers(0, 40)) for n in shape)
    affine = (y[:, None, None] + x[:, None] + c // int(rng.integers(1, 4))).astype(np.int64)
    return np.where(rng.random(shape) < 0.05, -100, affine) if kind == "holes" else affine


@given(st.integers(0, 2**32), st.sampled_from(["noise", "affine", "holes"]), st.integers(1, 60))
def test_gathers_move_every_byte(seed: int, kind: str, words: int) -> None:
    rng = np.random.default_rng(seed)
    memory = np.append(rng.integers(-128, 128, 4096).astype(np.int8), np.arange(256).astype(np.uint8).view(np.int8))
    locations, sources = random_locations(rng, kind), [5, 1000]
    layer = gather_layer(locations, len(sources))
    at = np.array(sources)[np.maximum(locations, 0) >> SOURCE_SHIFT] + (locations & (1 << SOURCE_SHIFT) - 1)
    values = np.where(locations < 0, locations + FILL, memory[np.where(locations < 0, 0, at)]).astype(np.int8)
    rows = TINY.rows
    packed = [values[:, :, c : c + rows].reshape(-1) for c in range(0, values.shape[2], rows)]
    np.testing.assert_array_equal(executed(TINY, layer, memory, sources, words), np.concatenate(packed))


def test_regular_gathers_are_few_instructions() -> None:
    def count(locations: np.ndarray) -> int:
        moves = gather.Gather(TINY, gather_layer(locations), [0], {0: 0})
        return sum(len(moves.loads(first, last, 0)) for first, last in moves.parts(1 << 18))

    image = lower_movement.byte_offsets((6, 7, 8), 4)
    assert count(image) == 1
    assert count(image.transpose(1, 0, 2)) <= 5
    assert count(image[:, :, 2:6]) == 2
    assert count(image[::2, ::3]) == 1
    assert count(np.full((5000, 9, 4), -FILL)) == 2
    assert count(np.broadcast_to(image[:1, :1], (5, 6, 8))) == 1
