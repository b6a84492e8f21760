"""Post-training quantization: from a float network and the ranges of its activations to an integer graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.frontends.model_file import ModelSource, naming
from accel.frontends.onnx.float_layers import (
    Clip,
    Clipped,
    Convolution,
    Dense,
    Flatten,
    Layer,
    Linear,
    Network,
    Pool,
    SoftmaxLayer,
    Sum,
)
from accel.frontends.onnx.float_reader import read_onnx
from accel.frontends.onnx.values import onnx_layout
from accel.machine.numerics import (
    RequantMode,
    activation_range,
    multiplier_fp32,
    output_multipliers,
    quantize_multiplier,
    requant_mode,
)
from accel.network.graph import (
    Add,
    AveragePool2d,
    Clamp,
    Conv2d,
    FullyConnected,
    Graph,
    MaxPool2d,
    Multiplier,
    Node,
    Reshape,
    Shape,
    Softmax,
    Tensor,
)
from accel.quantizer.calibrate import Range, calibrate
from accel.quantizer.fold import fold
from accel.quantizer.parameters import affine_parameters, quantize_weights, weight_scales

ADD_LEFT_SHIFT = 20


def quantize(
    model: ModelSource,
    calibration: Mapping[str, NDArray[Any]] | NDArray[Any],
    *,
    mode: RequantMode | str = RequantMode.TFLITE,
    calibrator: str = "minmax",
    percentile: float = 99.99,
    name: str | None = None,
) -> Graph:
    """Quantize a float ONNX model to int8.

    Parameters
    ----------
    model : path or bytes
        Float ONNX model, NCHW, batch size free or 1.
    calibration : mapping of str to ndarray, or ndarray
        Real samples of each input, first axis the sample; a single array if there is one input.
    mode : RequantMode or str
        Rounding of the integer network.
    calibrator : {"minmax", "percentile"}
    percentile : float
        Share of the values that the range of a tensor holds, in (50, 100], for the calibrator of that name.
    name : str, optional
        Name of the graph; that of the model by default.

    Returns
    -------
    Graph
        Weights symmetric per output channel, activations affine per tensor.

    Raises
    ------
    ModelError
        The model is damaged or uses something that is not supported; the message names node and operator.
    InputError
        The calibration data or an option does not fit.
    """
    rounding = requant_mode(mode)
    with naming(model):
        network = fold(read_onnx(model))
        ranges = calibrate(network, calibration, calibrator, percentile)
        builder = _Builder(network, ranges, rounding)
        for layer in network.layers:
            builder.add(layer)
        builder.check_outputs()
    return Graph(
        name=name or network.name,
        mode=rounding,
        tensors=builder.tensors,
        nodes=tuple(builder.nodes),
        inputs=network.inputs,
        outputs=network.outputs,
    )


def nhwc(shape: Shape) -> Shape:
    """The NHWC order of an NCHW shape; a 2-D shape stays."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape


class _Builder:
    """Collects the tensors and nodes of the graph, layer after layer.

    `flattened` maps a (1, features) tensor to the (channels, height, width) whose elements it holds in NHWC order,
    where the float network has them in NCHW order.
    """

    def __init__(self, network: Network, ranges: Mapping[str, Range], mode: RequantMode) -> None:
        self.network, self.ranges, self.mode = network, ranges, mode
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.flattened: dict[str, tuple[int, int, int]] = {}
        for name in network.inputs:
            self.tensors[name] = self._tensor(name, affine_parameters(ranges[name], mode))

    def add(self, layer: Layer) -> None:
        """Quantize one layer."""
        source = self.tensors[layer.inputs[0]]
        if isinstance(layer, SoftmaxLayer):
            parameters = Softmax.output_parameters
        elif layer.keeps_range:
            parameters = source.parameters
        else:
            parameters = affine_parameters(self.ranges[layer.output], self.mode)
        if layer.output not in self.network.shapes:
            raise ModelError(f"{layer.operator} {layer.name!r}: shape of {layer.output!r} must be known; fix all sizes")
        out = self._tensor(layer.output, parameters)
        self.tensors[out.name] = out
        self._track_order(layer, source, out)
        fields = {"name": self._node_name(layer), "inputs": layer.inputs, "output": layer.output}
        self.nodes.append(_QUANTIZERS[type(layer)](self, layer, out, fields))

    def _tensor(self, name: str, parameters: tuple[float, int]) -> Tensor:
        shape = self.network.shapes[name]
        is_port = name in (*self.network.inputs, *self.network.outputs)
        return Tensor(name, nhwc(shape), *parameters, source=onnx_layout(shape) if is_port else None)

    def check_outputs(self) -> None:
        """Refuse outputs whose features are not in the order of the float network."""
        if reordered := [name for name in self.network.outputs if name in self.flattened]:
            raise ModelError(f"output {reordered[0]!r} must not be a flattened image; remove the last Flatten")

    def _track_order(self, layer: Layer, source: Tensor, out: Tensor) -> None:
        orders = [self.flattened.get(name) for name in layer.inputs]
        if isinstance(layer, Flatten) and len(source.shape) == 4:
            _, height, width, channels = source.shape
            if channels > 1 and height * width > 1 and source.shape != out.shape:
                self.flattened[out.name] = (channels, height, width)
        elif orders != [orders[0]] * len(orders) or (isinstance(layer, Flatten | SoftmaxLayer) and orders[0]):
            raise ModelError(f"{layer.operator} {layer.name!r}: a flattened image must go to Gemm, MatMul or Relu")
        elif orders[0] and not isinstance(layer, Dense):
            self.flattened[out.name] = orders[0]

    def _node_name(self, layer: Layer) -> str:
        taken = any(node.name == layer.name for node in self.nodes)
        return f"{layer.name}_{len(self.nodes)}" if taken else layer.name

    def limits(self, layer: Clipped | Clip, out: Tensor) -> dict[str, Any]:
        """Clamp fields of a node."""
        act_min, act_max = activation_range(layer.low, layer.high, out.scale, out.zero_point)
        return {"act_min": act_min, "act_max": act_max}

    def linear(self, layer: Linear, out: Tensor) -> dict[str, Any]:
        """Integer weights, bias, multipliers and clamp of a convolution or matrix product."""
        source = self.tensors[layer.inputs[0]]
        scales = weight_scales(layer.weight, layer.bias, source.scale, out.scale)
        weight, bias = quantize_weights(layer.weight, layer.bias, scales, source.scale, self.mode)
        multiplier, shift = output_multipliers(source.scale, scales, out.scale, self.mode)
        arrays = {"weight": weight, "bias": bias, "multiplier": multiplier, "shift": shift}
        return arrays | self.limits(layer, out)

    def multiplier(self, real: float) -> Multiplier:
        """A real factor in the encoding of the mode."""
        return multiplier_fp32(np.float32(real)) if self.mode is RequantMode.FP32 else quantize_multiplier(real)


def _convolution(builder: _Builder, layer: Convolution, out: Tensor, fields: dict[str, Any]) -> Node:
    numbers = builder.linear(layer, out)
    numbers["weight"] = np.ascontiguousarray(numbers["weight"].transpose(0, 2, 3, 1))
    return Conv2d(**fields, **numbers, stride=layer.stride, padding=layer.padding, dilation=layer.dilation)


def _dense(builder: _Builder, layer: Dense, out: Tensor, fields: dict[str, Any]) -> Node:
    numbers = builder.linear(layer, out)
    if order := builder.flattened.get(layer.inputs[0]):
        weight = numbers["weight"].reshape(-1, *order).transpose(0, 2, 3, 1)
        numbers["weight"] = np.ascontiguousarray(weight).reshape(len(weight), -1)
    return FullyConnected(**fields, **numbers)


def _sum(builder: _Builder, layer: Sum, out: Tensor, fields: dict[str, Any]) -> Node:
    scales = [builder.tensors[name].scale for name in layer.inputs]
    twice = 2 * max(scales)
    multiplier, shift = builder.multiplier(twice / (2**ADD_LEFT_SHIFT * out.scale))
    return Add(
        **fields,
        operand0=builder.multiplier(scales[0] / twice),
        operand1=builder.multiplier(scales[1] / twice),
        multiplier=multiplier,
        shift=shift,
        left_shift=ADD_LEFT_SHIFT,
        **builder.limits(layer, out),
    )


def _clip(builder: _Builder, layer: Clip, out: Tensor, fields: dict[str, Any]) -> Node:
    return Clamp(**fields, **builder.limits(layer, out))


def _pool(builder: _Builder, layer: Pool, out: Tensor, fields: dict[str, Any]) -> Node:
    kind = AveragePool2d if layer.average else MaxPool2d
    return kind(**fields, kernel=layer.kernel, stride=layer.stride, padding=layer.padding)


def _flatten(builder: _Builder, layer: Flatten, out: Tensor, fields: dict[str, Any]) -> Node:
    return Reshape(**fields, shape=out.shape)


def _softmax(builder: _Builder, layer: SoftmaxLayer, out: Tensor, fields: dict[str, Any]) -> Node:
    return Softmax(**fields)


_QUANTIZERS: dict[type[Layer], Callable[..., Node]] = {
    Clip: _clip,
    Convolution: _convolution,
    Dense: _dense,
    Flatten: _flatten,
    Pool: _pool,
    SoftmaxLayer: _softmax,
    Sum: _sum,
}
