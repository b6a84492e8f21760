"""Damaged model files: a clear refusal or a graph, in little time and memory, never another exception."""

from __future__ import annotations

import resource
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest
from support.oracles import onnx_models

from accel.errors import ModelError
from accel.frontends.onnx.reader import read_quantized_onnx
from accel.frontends.tflite.file import parse
from accel.frontends.tflite.reader import read_tflite

pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")

from support.oracles import tflite_models as models

FEW, MANY = 500, 10_000
SLOWEST_SECONDS, MEMORY_BYTES = 10.0, 2**30
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF)


def damaged(rng: np.random.Generator, data: bytes) -> bytes:
    """A file with a few flipped bits, extreme numbers, moved pieces, or without its end."""
    result = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 2, 8]))):
        at = int(rng.integers(len(result)))
        kind = rng.choice(4, p=[0.4, 0.3, 0.25, 0.05])
        if kind == 0:
            result[at] ^= 1 << rng.integers(8)
        elif kind == 1:
            at = at // 4 * 4
            result[at : at + 4] = int(rng.choice(EXTREMES)).to_bytes(4, "little")
        elif kind == 2:
            source = int(rng.integers(len(result)))
            result[at : at + 4] = result[source : source + 4]
        else:
            del result[at : at + int(rng.choice([1, 4, len(result)]))]
            result.extend(b"\0" * (8 - len(result)))
    return bytes(result)


def count_refused(read: Callable[[bytes], object], originals: list[bytes], count: int) -> int:
    """How many of `count` damaged files are refused."""
    refused = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in range(count):
        rng = np.random.default_rng([3, index])
        data = damaged(rng, originals[index % len(originals)])
        start = time.process_time()
        try:
            read(data)
        except ModelError:
            refused += 1
        assert time.process_time() - start < SLOWEST_SECONDS, index
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < MEMORY_BYTES
    return refused


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.marathon)])
def test_damaged_tflite(count: int) -> None:
    originals = [make(np.random.default_rng(4)) for make in models.MODELS.values()]
    refused = count_refused(read_tflite, originals, count)
    print(f"tflite: {refused} of {count} damaged files refused")
    assert refused > count // 10


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.marathon)])
def test_damaged_onnx(count: int) -> None:
    makers = onnx_models.EXACT | onnx_models.NEAR
    originals = [make(np.random.default_rng(4)) for make in makers.values()]
    refused = count_refused(read_quantized_onnx, originals, count)
    print(f"onnx: {refused} of {count} damaged files refused")
    assert refused > count // 4


def test_a_reader_without_checks_is_caught() -> None:
    """The suite notices a reader that lets the flatbuffer library's own exceptions through."""
    originals = [make(np.random.default_rng(4)) for make in models.MODELS.values()]
    with pytest.raises((struct.error, LookupError, ValueError, TypeError)):
        count_refused(parse, originals, FEW)
