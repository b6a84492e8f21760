"""Single operators between DequantizeLinear and QuantizeLinear equal ONNX Runtime without optimizations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from support.oracles import qdq_models, qdq_others, qdq_windows
from support.oracles.ort_session import as_graph, random_samples

from accel.frontends.onnx import folding
from accel.frontends.onnx.reader import read_quantized_onnx
from accel.network import reference
from accel.quantized import elementwise, lowering, pools, recipes, slices, view
from accel.quantized.values import Known

FEW, MANY = 4, 200
SHARES = {"PRelu": 0.02}
"""Outputs that may differ by one step: slopes per channel have 7 bits."""
NEAR_TIE = 2.0**-12
"""Steps: means of 100 numbers have a relative error of about ``sqrt(100) * 2**-24`` in float32, and are 366 at most."""
TIES = {"GlobalAveragePool"}
"""Operators whose outputs may differ near ties only, but there in any number: their scales make ties common."""
EXACT = qdq_models.EXACT | qdq_windows.EXACT | qdq_others.EXACT
MODELS = EXACT | qdq_models.NEAR | qdq_windows.NEAR | qdq_others.NEAR


def plain_session(model: bytes) -> onnxruntime.InferenceSession:
    """The runtime without any rewriting of the model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])


def near_ties(model: bytes, sample: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Where the runtime's real numbers lie within `NEAR_TIE` of a tie before the last operator quantizes them."""
    cut = onnx.load_model_from_string(model)
    last = cut.graph.node.pop()
    assert last.op_type == "QuantizeLinear"
    scale = next(numpy_helper.to_array(t) for t in cut.graph.initializer if t.name == last.input[1])
    cut.graph.output[0].name = last.input[0]
    cut.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    steps = plain_session(cut.SerializeToString()).run(None, sample)[0] / np.float64(scale)
    return np.asarray(np.abs(steps - np.floor(steps) - 0.5) < NEAR_TIE)


def compare(
    make: Callable[[np.random.Generator], bytes], count: int, seed: int = 11, *, ties: bool = False
) -> NDArray[Any]:
    """Absolute differences of all outputs of `count` random models; one step near `ties` is none."""
    found = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        model = make(rng)
        runtime, graph = plain_session(model), read_quantized_onnx(model)
        for sample in random_samples(runtime, rng):
            tensor = graph.tensors[graph.outputs[0]]
            wanted = as_graph(runtime.run(None, sample)[0], tensor)
            inputs = {name: as_graph(x, graph.tensors[name]) for name, x in sample.items()}
            output = reference.run(graph, inputs)[graph.outputs[0]]
            steps = np.abs(output.astype(np.int64) - wanted)
            if ties:
                steps -= (steps == 1) & (as_graph(near_ties(model, sample).astype(np.int8), tensor) == 1)
            found.append(steps.reshape(-1))
    return np.concatenate(found)


@pytest.mark.parametrize("operator", MODELS)
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.marathon)])
def test_operator(operator: str, count: int) -> None:
    found = compare(MODELS[operator], count, ties=operator in TIES)
    print(f"onnxruntime, {count} models of {operator}: {np.count_nonzero(found)} of {found.size} outputs differ")
    assert found.max(initial=0) <= (0 if operator in EXACT or operator in TIES else 1)
    assert np.count_nonzero(found) <= found.size * SHARES.get(operator, 2e-3)


def first_of_each(low: Any, x: Any, axis: int, wanted: Any, name: str) -> Any:
    """The first elements instead of those wanted."""
    return RIGHT_PICK(low, x, axis, tuple(range(len(wanted))), name)


def rounded_twice(low: Any, value: Any, target: Any) -> Any:
    """Numbers under parameters of their own first."""
    return RIGHT_FINISH(low, low.embedded(value, "c") if isinstance(value, Known) else value, target)


RIGHT_PICK, RIGHT_MEAN, RIGHT_FINISH = slices._picked, recipes.mean, lowering.Lowering.finished
MUTANTS: dict[str, tuple[Any, str, Any, str]] = {
    "indices": (slices, "_picked", first_of_each, "Gather"),
    "order": (view.View, "transposed", lambda self, permutation: self, "channel shuffle"),
    "negation": (elementwise, "NEGATED", np.arange(-128, 128, dtype=np.int8), "Min"),
    "undilated": (folding, "state_first_padding", lambda *_: False, "MaxPool SAME"),
    "means of all taps": (recipes, "mean", lambda a, b, count, mode: RIGHT_MEAN(a, b, 9, mode), "AveragePool"),
    "rounded twice": (lowering.Lowering, "finished", rounded_twice, "Concat with numbers"),
    "rows beyond": (pools, "_with_beyond", lambda window: window.padding, "MaxPool"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_suite_catches(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, name, wrong, operator = MUTANTS[mutant]
    monkeypatch.setattr(where, name, wrong)
    try:
        found = compare(MODELS[operator], 12)
    except Exception:  # the mutant changes the output's shape
        return
    assert np.count_nonzero(found) > found.size / 1000
