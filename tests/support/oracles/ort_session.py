"""ONNX Runtime on whole models, and their integers as those of graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from accel.network.graph import Tensor


def session(model: bytes, *, optimized: bool = True) -> onnxruntime.InferenceSession:
    """The runtime on one thread, with integer kernels for int8 too, which x86 takes for uint8 only by default."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])


def as_graph(value: NDArray[Any], tensor: Tensor) -> NDArray[np.int8]:
    """Integers of ONNX as those of a graph's input or output: shifted to int8, in the graph's order."""
    shifted = (value.astype(np.int16) - 128).astype(np.int8) if value.dtype == np.uint8 else value
    assert tensor.source is not None
    assert tensor.source.shape == (value.shape or (1,))
    return tensor.source.to_graph(shifted.reshape(tensor.source.shape), tensor.shape)


def random_samples(runtime: onnxruntime.InferenceSession, rng: np.random.Generator) -> list[dict[str, NDArray[Any]]]:
    """Three random inputs, of which one holds extremes only."""
    samples = []
    for values in (range(-128, 128), range(-128, 128), [-128, 127]):
        sample = {}
        for x in runtime.get_inputs():
            integers = rng.choice(values, x.shape)
            is_int8 = x.type == "tensor(int8)"
            sample[x.name] = integers.astype(np.int8) if is_int8 else (integers + 128).astype(np.uint8)
        samples.append(sample)
    return samples
