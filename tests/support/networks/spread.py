"""A depthwise network whose channels differ a hundredfold, though it computes the same as one whose channels do not."""

from __future__ import annotations

import numpy as np

from support.networks.float_models import FloatArray, onnx_model

SHAPE = (1, 3, 12, 12)


def spread_network(spread: float = 100.0, clip: float | None = None, seed: int = 0) -> bytes:
    """Layers before, of and after a depthwise convolution, with factors of their channels that cancel out.

    Parameters
    ----------
    spread : float
        Factor between the depthwise weights of two of the 16 channels and those of the others. Values after them differ
        by its fourth root only, so that they are not what is lost.
    clip : float, optional
        Upper bound of the activations, as in Relu6; none by default.
    seed : int
    """
    rng = np.random.default_rng(seed)
    n = 16
    first = np.ones(n)
    first[rng.choice(n, 2, replace=False)] = spread**-0.75
    second = np.where(first < 1, spread**0.25, 1)

    def normal(*shape: int) -> FloatArray:
        return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)

    constants = {
        "w0": normal(n, 3, 3, 3) * first.reshape(-1, 1, 1, 1),
        "b0": rng.normal(0, 0.1, n) * first,
        "w1": normal(n, 1, 3, 3) * (second / first).reshape(-1, 1, 1, 1),
        "b1": rng.normal(0, 0.1, n) * second,
        "w2": normal(n, n, 1, 1) / second.reshape(1, -1, 1, 1),
        "w3": normal(10, n),
    }
    arrays = {name: value.astype(np.float32) for name, value in constants.items()}
    arrays |= {} if clip is None else {"low": np.float32(0), "high": np.float32(clip)}
    act = ("Relu", [], {}) if clip is None else ("Clip", ["low", "high"], {})
    nodes = [
        ("Conv", ["x", "w0", "b0"], "c0", {"pads": [1] * 4}),
        (act[0], ["c0", *act[1]], "a0", act[2]),
        ("Conv", ["a0", "w1", "b1"], "c1", {"pads": [1] * 4, "group": n}),
        (act[0], ["c1", *act[1]], "a1", act[2]),
        ("Conv", ["a1", "w2"], "c2", {}),
        ("GlobalAveragePool", ["c2"], "p", {}),
        ("Flatten", ["p"], "f", {}),
        ("Gemm", ["f", "w3"], "y", {"transB": 1}),
    ]
    return onnx_model(nodes, arrays, SHAPE)
