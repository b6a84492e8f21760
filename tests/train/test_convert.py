"""A prepared module: the quantizer's places and parameters, and integers that equal what was trained."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from support.networks.torch_modules import Gated, Sequence, digits, residual  # noqa: E402

import accel  # noqa: E402
from accel.errors import InputError, ModelError  # noqa: E402
from accel.machine.numerics import requant_mode  # noqa: E402
from accel.network.reference import run  # noqa: E402
from accel.quantized.lower import lower  # noqa: E402
from accel.quantizer import QuantizationConfig  # noqa: E402
from accel.train import TrainingConfig, convert, prepare, quantized_network  # noqa: E402
from accel.train.fake_quantize import FakeQuantize  # noqa: E402
from accel.train.loop import Schedule, fit, logits  # noqa: E402
from accel.train.requantize import Requantize  # noqa: E402


def samples(count: int = 64) -> "torch.Tensor":
    return torch.from_numpy(digits(count).inputs)


def integers(graph: accel.Graph, inputs: np.ndarray) -> np.ndarray:
    """The graph's output as real numbers, one row for each sample."""
    rows = [run(graph, accel.quantize_input(graph, one[None]))[graph.outputs[0]].reshape(-1) for one in inputs]
    tensor = graph.output_tensors[0]
    return (np.stack(rows).astype(np.int64) - tensor.zero_point) * tensor.scale


def test_without_fake_quantization_the_module_is_the_float_one() -> None:
    model = residual()
    prepared = prepare(model, samples())
    prepared.fake_quantize(False)
    torch.testing.assert_close(prepared(samples()), model(samples()), rtol=1e-4, atol=1e-5)
    assert not prepared.training
    assert prepare(model.train(), samples()).training


def test_places_are_those_of_the_quantizer() -> None:
    prepared = prepare(residual(), samples())
    named = {name for name, module in prepared.traced.named_modules() if isinstance(module, FakeQuantize)}
    activations = {name for name in named if name.startswith("quantize_")}
    assert "quantize_depthwise" not in activations, "Relu6 is fused"
    assert "quantize_relu6" in activations
    assert "quantize_add" not in activations, "the Relu behind the addition is fused"
    assert {name.split(".weight")[0] for name in named - activations} == {"stem.0", "depthwise", "pointwise", "head"}
    calls = [node.target for node in prepared.traced.graph.nodes if str(node.target).startswith("quantize_")]
    assert max(calls.count(path) for path in calls) >= 2, "what a pool keeps and a Concat joins shares its parameters"


def test_the_integers_are_those_of_post_training_quantization_until_something_is_trained() -> None:
    prepared = prepare(residual(), samples())
    expected, found = lower(prepared.network, requant_mode("tflite")), convert(prepared)
    assert [node.name for node in found.nodes] == [node.name for node in expected.nodes]
    inputs = digits(16).inputs
    np.testing.assert_array_equal(integers(found, inputs), integers(expected, inputs))


def steps_apart(prepared: "torch.nn.Module", graph: accel.Graph, inputs: np.ndarray) -> np.ndarray:
    """Output steps between the module with fake quantization and the integer graph."""
    return np.rint((integers(graph, inputs) - logits(prepared, inputs)) / graph.output_tensors[0].scale)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["lsq", "ste"])
@pytest.mark.parametrize("mode", ["tflite", "single", "fp32"])
@pytest.mark.parametrize("bits", [8, 4])
def test_trained_integers_equal_the_fake_quantized_module(estimator: str, mode: str, bits: int) -> None:
    """Every sum, also of averages, is rounded by the machine's own arithmetic: no output differs."""
    quantization = QuantizationConfig(mode=mode, weight_bits=bits, per_channel=bits == 8)
    prepared = prepare(residual(), samples(), TrainingConfig(quantization=quantization, estimator=estimator))
    data = digits(128)
    before = logits(prepared.eval(), data.inputs)
    fit(prepared, data, Schedule(epochs=2, learning_rate=3e-3, frozen_share=0.5))
    graph = convert(prepared)
    assert np.abs(logits(prepared, data.inputs) - before).max() > 5 * graph.output_tensors[0].scale
    np.testing.assert_array_equal(steps_apart(prepared, graph, data.inputs), 0)


@pytest.mark.parametrize("make", [Gated, Sequence])
@pytest.mark.parametrize(
    "mode", ["tflite", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("single", "fp32"))]
)
def test_every_kind_of_sum_is_rounded_as_the_machine_does(mode: str, make: type["torch.nn.Module"]) -> None:
    torch.manual_seed(0)
    quantization = QuantizationConfig(mode=mode, weight_bits=4, per_channel=False)
    prepared = prepare(make().eval(), samples(), TrainingConfig(quantization=quantization))
    np.testing.assert_array_equal(steps_apart(prepared, convert(prepared), digits(32).inputs), 0)


def test_each_layer_has_its_bits_scales_and_symmetry() -> None:
    overrides = (
        {"layer": "pointwise", "weight_bits": 4, "per_channel": False},
        {"op_type": "Gemm", "activation_symmetric": True},
    )
    quantization = QuantizationConfig(weight_method="mse", overrides=overrides)
    prepared = prepare(residual(), samples(), TrainingConfig(quantization=quantization))
    found = {path: prepared.layer(path).weight_quantizer for path in prepared.layers.values()}
    assert {path: (one.high, one.start.numel()) for path, one in found.items()} == {
        "stem.0": (127, 8), "depthwise": (127, 8), "pointwise": (7, 1), "head": (127, 10),
    }  # fmt: skip
    assert prepared.quantizer("quantize_head").zero_point == 0
    graph = convert(prepared)
    assert sorted(node.weight_bits for node in graph.nodes if hasattr(node, "weight_bits")) == [4, 8, 8, 8]
    np.testing.assert_array_equal(steps_apart(prepared, graph, digits(32).inputs), 0)


def test_rounding_that_is_not_the_machine_s_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: sums are rounded to the nearest, where mode tflite rounds averages twice."""
    quantization = QuantizationConfig(weight_bits=4, per_channel=False)
    prepared = prepare(residual(), samples(), TrainingConfig(quantization=quantization))
    graph, inputs = convert(prepared), digits(64).inputs
    np.testing.assert_array_equal(steps_apart(prepared, graph, inputs), 0)
    monkeypatch.setattr(Requantize, "forward", lambda self, values: self.parts[1].rounded(values / self.parts[1].scale))
    assert np.mean(steps_apart(prepared, graph, inputs) != 0) > 0.05


def test_a_wrong_scale_would_be_seen() -> None:
    """Mutant: the conversion forgets what was learned of one activation."""
    prepared = prepare(residual(), samples())
    with torch.no_grad():
        prepared.quantizer("quantize_head").growth -= 1.5
    graph = convert(prepared)
    forgotten = lower(prepared.network, requant_mode("tflite"))
    inputs = digits(16).inputs
    fake = logits(prepared, inputs)
    step = forgotten.output_tensors[0].scale
    assert np.abs(integers(graph, inputs) - fake).max() <= 2 * step
    assert np.abs(integers(forgotten, inputs) - fake).max() > 10 * step


def test_the_network_can_be_written_and_read_back(tmp_path) -> None:
    from accel.frontends.onnx.write import to_onnx

    prepared = prepare(residual(), samples(), TrainingConfig(quantization=QuantizationConfig(mode="fp32")))
    path = tmp_path / "model.onnx"
    path.write_bytes(to_onnx(quantized_network(prepared)).SerializeToString())
    inputs = digits(16).inputs
    np.testing.assert_array_equal(
        integers(accel.load_model(path), inputs), integers(convert(prepared), inputs)
    )  # fmt: skip


def test_the_original_module_stays_as_it_is() -> None:
    model = residual()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(prepare(model, samples()), digits(64), Schedule(epochs=1))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class Twice(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, values: "torch.Tensor") -> "torch.Tensor":
        return self.layer(self.layer(values))


class Branching(torch.nn.Module):
    def forward(self, values: "torch.Tensor") -> "torch.Tensor":
        return values if values.sum() > 0 else -values


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (Twice(), torch.rand(2, 4), "layer 'layer' must be called once, got several calls"),
        (Branching(), torch.rand(2, 4), "module Branching must be traceable by torch.fx"),
        (torch.nn.Linear(4, 4), torch.rand(2, 5), "accept an example of shape (1, 5)"),
        (torch.nn.Linear(4, 4), torch.zeros(2, 4, dtype=torch.int64), "example must be real samples"),
        (torch.nn.Linear(4, 4), torch.rand(4), "example must be real samples of shape (samples, ...)"),
    ],
)
def test_refusals(model: "torch.nn.Module", example: "torch.Tensor", message: str) -> None:
    with pytest.raises((InputError, ModelError), match=re.escape(message)):
        prepare(model, example)


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="estimator must be one of lsq, ste, got 'x'"):
        TrainingConfig(estimator="x")
    with pytest.raises(InputError, match="mean_correction must not be on for training"):
        TrainingConfig(quantization=QuantizationConfig(mean_correction="on"))
    with pytest.raises(InputError, match="prepare must be empty for training"):
        TrainingConfig(quantization=QuantizationConfig(prepare=("equalize",)))
