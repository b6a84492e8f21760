"""Fake quantization at its places in a traced module: the tensors that have parameters in its quantized network."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from functools import partial
from typing import TypeAlias, cast

from torch import fx

from accel.machine.numerics import requant_mode
from accel.quantized.network import Network, Operator, Quantization
from accel.quantized.recipes import Limits
from accel.quantizer.attach import FIXED
from accel.quantizer.parameters import largest_weight
from accel.train.fake_quantize import FakeQuantize
from accel.train.layers import output_axis
from accel.train.requantize import LayerSums, MeanSums, ProductSums, Requantize, Sums
from accel.train.settings import TrainingConfig
from accel.train.trace import layer_of, values

Paths: TypeAlias = Mapping[tuple[float, int], str]
"""The submodule that rounds the tensors which have this scale and zero point."""


def insert_activations(
    traced: fx.GraphModule, network: Network, config: TrainingConfig
) -> dict[tuple[float, int], str]:
    """Round every value that has parameters; tensors with the same parameters share one module."""
    fixed = {name for op in network.operators if op.kind in FIXED for name in op.outputs}
    mode = requant_mode(config.quantization.mode)
    paths = dict[tuple[float, int], str]()
    for node in values(traced):
        found = network.parameters.get(node.name)
        if found is None:
            continue
        key = parameters_key(found)
        if key not in paths:
            paths[key] = f"quantize_{node.name}"
            learned = config.estimator == "lsq" and node.name not in fixed
            traced.add_submodule(paths[key], FakeQuantize(found.scale, key[1], -128, 127, learned=learned, mode=mode))
        with traced.graph.inserting_after(node):
            rounded = traced.graph.call_module(paths[key], (node,))
        node.replace_all_uses_with(rounded, partial(operator.is_not, rounded))
    traced.recompile()
    return paths


def insert_weights(
    traced: fx.GraphModule, network: Network, config: TrainingConfig, activations: Paths
) -> dict[str, str]:
    """Round the weights of every layer that has parameters in the network."""
    producers = {name: op for op in network.operators for name in op.outputs}
    layers = dict[str, str]()
    for node in values(traced):
        layer, op = layer_of(traced, node), producers.get(node.name)
        if layer is None or op is None or len(op.inputs) < 2 or op.inputs[1] not in network.parameters:
            continue
        found = network.parameters[op.inputs[1]]
        largest = largest_weight(config.quantization.layer(op.name, op.kind).weight_bits)
        layer.weight_quantizer = FakeQuantize(
            found.scale, 0, -largest, largest, output_axis(layer.layer),
            learned=config.estimator == "lsq", mode=requant_mode(config.quantization.mode),
        )  # fmt: skip
        layer.source = (_quantizer(traced, network, op.inputs[0], activations),)
        layer.follows_weights = config.estimator == "ste"
        layers[op.name] = str(node.target)
    return layers


def insert_requantizers(traced: fx.GraphModule, network: Network, activations: Paths) -> None:
    """Let the machine's own rounding make the integers of all sums: of layers, of averages, of products."""
    producers = {name: op for op in network.operators for name in op.outputs}
    nodes = {node.name: node for node in traced.graph.nodes}
    for node in values(traced):
        name, limits = node.name, (-math.inf, math.inf)
        if name not in network.parameters or name not in producers:
            continue
        while (op := producers[name]).kind in ("Relu", "Clip") and op.inputs[0] not in network.parameters:
            name, limits = op.inputs[0], _limits(network, op)
        source = nodes.get(name)
        sums = None if source is None else _sums(traced, network, source, op, activations)
        if source is None or sums is None:
            continue
        path = f"requantize_{node.name}"
        target = _quantizer(traced, network, node.name, activations)
        traced.add_submodule(path, Requantize(sums, target, limits))
        rounding = next(user for user in node.users if user.target == activations[_key_of(network, node.name)])
        with traced.graph.inserting_before(rounding):
            rounding.args = (node, traced.graph.call_module(path, (source,)))
    traced.recompile()


def _sums(traced: fx.GraphModule, network: Network, node: fx.Node, op: Operator, activations: Paths) -> Sums | None:
    """What the machine rounds to an operator's result; None where that is the result itself, as in a table."""
    if (layer := layer_of(traced, node)) is not None:
        return LayerSums(layer) if layer.weight_quantizer is not None else None
    sources = [_quantizer(traced, network, name, activations) for name in op.inputs if name in network.parameters]
    if op.kind == "Mul" and len(sources) == 2 and op.inputs[0] != op.inputs[1]:
        return ProductSums(*sources)
    count = _averaged(network, op)
    return MeanSums(sources[0], count) if sources and count else None


def _averaged(network: Network, op: Operator) -> int:
    """How many values each of an operator's results is the mean of; 0 if it is none, or of fewer at a border."""
    if op.kind in ("GlobalAveragePool", "ReduceMean"):
        inputs, outputs = (network.tensors[name].shape for name in (op.inputs[0], op.outputs[0]))
        return math.prod(inputs) // math.prod(outputs)
    padded = any(op.attributes.get("pads", ())) and not op.attributes.get("count_include_pad", 0)
    return 0 if op.kind != "AveragePool" or padded else math.prod(op.attributes["kernel_shape"])


def _limits(network: Network, op: Operator) -> Limits:
    """The bounds of a Relu or Clip."""
    if op.kind == "Relu":
        return 0.0, math.inf
    low, high = (network.value(op.input(place)) for place in (1, 2))
    return -math.inf if low is None else float(low), math.inf if high is None else float(high)


def parameters_key(found: Quantization) -> tuple[float, int]:
    """What tensors with the same parameters have in common."""
    return float(found.scale.reshape(-1)[0]), int(found.zero_point.reshape(-1)[0])


def _key_of(network: Network, name: str) -> tuple[float, int]:
    return parameters_key(network.parameters[name])


def _quantizer(traced: fx.GraphModule, network: Network, name: str, activations: Paths) -> FakeQuantize:
    """The fake quantization of a tensor."""
    return cast(FakeQuantize, traced.get_submodule(activations[_key_of(network, name)]))
