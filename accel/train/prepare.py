"""From a float module to one with fake quantization wherever the quantizer puts integers."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from accel.errors import InputError, ModelError
from accel.frontends.onnx.reader import read_onnx
from accel.quantized.network import Network
from accel.quantizer import quantize_network
from accel.quantizer.config import QuantizationConfig
from accel.train.fake_quantize import FakeQuantize
from accel.train.insert import insert_activations, insert_requantizers, insert_weights
from accel.train.layers import QuantizedLayer
from accel.train.settings import TrainingConfig
from accel.train.trace import plain, trace, values, with_values

OPSET = 17
"""Version of ONNX's operators under which the float module is exported."""


class PreparedModule(nn.Module):
    """A module with fake quantization, and the quantized network that it started from.

    Parameters
    ----------
    traced : fx.GraphModule
    network : Network
        By post-training quantization; its tensors are named as the values of `traced`.
    config : TrainingConfig
    activations : mapping of (scale, zero point) to str
        The submodule of `traced` that rounds the tensors which have these parameters in `network`.
    layers : mapping of str to str
        Submodule of `traced` by the name of its operator in `network`.
    """

    def __init__(
        self,
        traced: fx.GraphModule,
        network: Network,
        config: TrainingConfig,
        activations: Mapping[tuple[float, int], str],
        layers: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.traced, self.network, self.config = traced, network, config
        self.activations, self.layers = dict(activations), dict(layers)

    def forward(self, *inputs: Tensor) -> Any:
        """What the float module gives, under rounding."""
        return self.traced(*inputs)

    def fake_quantize(self, enabled: bool) -> None:
        """Switch all fake quantization on or off."""
        for module in self.modules():
            if isinstance(module, FakeQuantize):
                module.enabled = enabled

    def layer(self, path: str) -> QuantizedLayer:
        """The wrapped layer of that path."""
        found = self.traced.get_submodule(path)
        assert isinstance(found, QuantizedLayer)
        return found

    def quantizer(self, path: str) -> FakeQuantize:
        """The fake quantization of that path."""
        found = self.traced.get_submodule(path)
        assert isinstance(found, FakeQuantize)
        return found


def prepare(model: nn.Module, example: Tensor, config: TrainingConfig | None = None) -> PreparedModule:
    """Make an ordinary float module one with fake quantization of weights and activations.

    Parameters
    ----------
    model : nn.Module
        Traceable by `torch.fx`, with one input; it stays as it is.
    example : Tensor of float32, shape (samples, ...)
        Samples from which the first ranges are measured, as `accel.quantize` does.
    config : TrainingConfig, optional

    Returns
    -------
    PreparedModule
        In the mode (training or evaluation) of `model`, and on its device.

    Raises
    ------
    ModelError
        The module cannot be traced, or has an operator that is not supported.
    InputError
        The example or a setting does not fit.

    Notes
    -----
    BatchNormalization becomes part of its layer. The quantizer decides which tensors become integers: a Relu or Relu6
    is fused, what a Concat joins and what a pool or a reshape keeps shares its parameters.
    """
    config = config or TrainingConfig()
    samples = torch.as_tensor(example)
    if samples.ndim < 2 or not samples.is_floating_point():
        raise InputError(
            f"example must be real samples of shape (samples, ...), got {samples.dtype} of shape {tuple(samples.shape)}"
        )
    device = next((parameter.device for parameter in model.parameters()), samples.device)
    traced = trace(model, samples[:1].to(device))
    network = _post_training(traced, samples, config.quantization)
    activations = insert_activations(traced, network, config)
    layers = insert_weights(traced, network, config, activations)
    insert_requantizers(traced, network, activations)
    return PreparedModule(traced, network, config, activations, layers).to(device).train(model.training)


def _post_training(traced: fx.GraphModule, samples: Tensor, config: QuantizationConfig) -> Network:
    """The quantized network of a traced module; tensors have the names of its values, operators those of its layers.

    Mean errors of weights stay: biases are trained.
    """
    network = read_onnx(_export(traced, samples[:1]))
    data = samples.detach().cpu().numpy().astype("float32")
    return quantize_network(network, {network.inputs[0]: data}, replace(config, mean_correction="off"))


def _export(traced: fx.GraphModule, example: Tensor) -> bytes:
    """The float module as ONNX, without the outputs that were added to name its values."""
    import onnx

    inputs = [node.name for node in traced.graph.nodes if node.op == "placeholder"]
    result: Any = next(node for node in reversed(traced.graph.nodes) if node.op == "output").args[0]
    outputs = [node.name for node in (result if isinstance(result, tuple | list) else (result,))]
    inner = [node.name for node in values(traced) if node.op != "placeholder" and node.name not in outputs]
    file: Any = io.BytesIO()
    named = with_values(plain(traced), inner).cpu()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                named,
                (example.detach().cpu(),),
                file,
                dynamo=False,
                opset_version=OPSET,
                input_names=inputs,
                output_names=outputs + inner,
            )
        except Exception as error:
            reason = str(error).strip().splitlines()
            raise ModelError(f"module must be exportable to ONNX, got {reason[0] if reason else error!r}") from error
    model = onnx.load_model_from_string(file.getvalue())
    del model.graph.output[len(outputs) :]
    targets = {node.name: str(node.target) for node in traced.graph.nodes if node.op == "call_module"}
    for node in model.graph.node:
        node.name = targets.get(node.output[0], node.output[0])
    return bytes(model.SerializeToString())
