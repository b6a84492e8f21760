"""Where integers start behind a sum that a Relu or a Clip limits."""

from __future__ import annotations

import numpy as np
import pytest
from support.networks.float_models import Node, onnx_model, sqnr

from accel.quantizer import quantize

RNG = np.random.default_rng(2)
WEIGHTS = {
    "w": RNG.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32),
    "v": RNG.normal(0, 0.3, (4, 4, 3, 3)).astype(np.float32),
    "zero": np.float32(0),
    "three": np.float32(3),
    "six": np.float32(6),
}
SAMPLES = RNG.normal(size=(20, 3, 8, 8)).astype(np.float32)

CHAINS: dict[str, tuple[list[Node], list[str]]] = {
    "Relu, Exp": ([("Relu", ["c"], "r", {}), ("Exp", ["r"], "a", {})], ["Table"]),
    "Relu, Add of itself": ([("Relu", ["c"], "r", {}), ("Add", ["r", "r"], "a", {})], ["Table"]),
    "Clip, Mul of itself": ([("Clip", ["c", "zero", "six"], "r", {}), ("Mul", ["r", "r"], "a", {})], ["Table"]),
    "Relu, SiLU": (
        [("Relu", ["c"], "r", {}), ("Sigmoid", ["r"], "s", {}), ("Mul", ["r", "s"], "a", {})], ["Table"],
    ),
    "Relu, Clip": ([("Relu", ["c"], "r", {}), ("Clip", ["r", "zero", "six"], "a", {})], []),
    "hard swish": (
        [
            ("Add", ["c", "three"], "p", {}), ("Clip", ["p", "zero", "six"], "r", {}), ("Mul", ["c", "r"], "m", {}),
            ("Div", ["m", "six"], "a", {}),
        ],
        ["Table"],
    ),
    "Relu, hard swish": (
        [
            ("Relu", ["c"], "q", {}), ("Add", ["q", "three"], "p", {}), ("Clip", ["p", "zero", "six"], "r", {}),
            ("Mul", ["q", "r"], "a", {}),
        ],
        ["Table"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("chain", CHAINS)
def test_functions_of_a_limited_sum_are_tables_on_the_machine(chain: str) -> None:
    nodes, between = CHAINS[chain]
    model = onnx_model([("Conv", ["x", "w"], "c", {}), *nodes, ("Conv", ["a", "v"], "y", {})], WEIGHTS, (1, 3, 8, 8))
    graph = quantize(model, SAMPLES, calibrate_method="minmax")
    assert [type(node).__name__ for node in graph.nodes] == ["Conv2d", *between, "Conv2d"]
    assert sqnr(model, graph, SAMPLES) > 25
