"""From the integers of a node back to the scales that they were made of.

A graph keeps multipliers and shifts, other formats keep scales. A scale is right if the graph's own recipe makes the
same multiplier of it; so every file that is written computes the graph's integers, or is not written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError
from accel.machine.numerics import output_multipliers
from accel.network.graph import Graph
from accel.network.nodes import Add, Conv2d, FullyConnected, Mean, Mul, Node, Requantized, Sub, Weighted
from accel.quantized import recipes

_NEIGHBOURS = 4
"""Steps of float32 around a quotient within which its scale is searched."""
_SMALLEST = np.float32(np.finfo(np.float32).tiny)

Scales = NDArray[np.float32]
Recipe = Callable[[Scales], tuple[NDArray[np.int32], NDArray[np.int8]]]
"""Multipliers and shifts of the scales of some weights."""


def weight_scales(graph: Graph, node: Weighted) -> Scales | None:
    """The scales of a node's weights.

    Returns
    -------
    ndarray of float32, shape (channels,) or (1,), or None
        One for all channels where a matrix product of TensorFlow Lite has one, whose product with the input's scale is
        formed in float32. None if a multiplier is that of no float32 scale.

    Notes
    -----
    The real multiplier ``q * 2**(e - 31)`` is ``scale_in * scale / scale_out``; the quotient is off by a few roundings.
    A multiplier of 0 gets the smallest normal scale.
    """
    source, result = graph.tensors[node.inputs[0]].scale, graph.tensors[node.output].scale
    real = np.ldexp(node.multiplier.astype(np.float64), node.shift.astype(np.int64) - 31) * result / source
    each = partial(_search, node, real, _ordinary(graph, node))
    if not is_matrix_product(node) or len({*zip(node.multiplier.tolist(), node.shift.tolist(), strict=True)}) > 1:
        return each()
    product = np.float32(source)
    one = _search(node, real[:1], lambda scales: output_multipliers(1.0, product * scales, result, graph.mode))
    if isinstance(node, FullyConnected):
        return one if one is not None else each()
    found = each()
    return one if found is None else found


def has_one_product(graph: Graph, node: Weighted, scales: Scales) -> bool:
    """Whether only a product of scales in float32 makes a node's multipliers, as in FULLY_CONNECTED."""
    channels = np.arange(len(node.multiplier))
    if not is_matrix_product(node):
        return False
    return len(scales) < len(channels) or not np.all(_makes(node, channels, scales, _ordinary(graph, node)))


def _ordinary(graph: Graph, node: Weighted) -> Recipe:
    """The recipe of layers with a scale for each channel."""
    source, result = graph.tensors[node.inputs[0]].scale, graph.tensors[node.output].scale
    return lambda scales: output_multipliers(source, scales, result, graph.mode)


def is_matrix_product(node: Weighted) -> bool:
    """Whether every pixel for itself is multiplied by one matrix: a graph holds products of several rows so, too."""
    if isinstance(node, Conv2d):
        return node.groups == 1 and node.kernel == node.stride == (1, 1) and not any(node.padding)
    return isinstance(node, FullyConnected)


def _search(node: Weighted, real: NDArray[np.float64], recipe: Recipe) -> Scales | None:
    """The float32 numbers next to `real` of which a recipe makes the node's first multipliers."""
    with np.errstate(over="ignore", under="ignore"):
        nearest = np.where(real > 0, real, _SMALLEST).astype(np.float32)
    found, missing = nearest.copy(), np.flatnonzero(node.multiplier[: len(real)])
    for steps in sorted(range(-_NEIGHBOURS, _NEIGHBOURS + 1), key=abs):
        candidate = (nearest[missing].view(np.int32) + np.int32(steps)).view(np.float32)
        fits = _makes(node, missing, candidate, recipe)
        found[missing[fits]], missing = candidate[fits], missing[~fits]
    return None if missing.size else found


def _makes(node: Weighted, channels: NDArray[np.intp], scales: Scales, recipe: Recipe) -> NDArray[np.bool_]:
    """For which channels scales make the node's multipliers."""
    usable = np.isfinite(scales) & (scales >= _SMALLEST)
    try:
        multipliers, shifts = recipe(np.where(usable, scales, np.float32(1)))
    except InputError:
        if len(channels) == 1:
            return np.zeros(1, bool)
        parts = [_makes(node, channels[i : i + 1], scales[i : i + 1], recipe) for i in range(len(channels))]
        return np.concatenate(parts)
    fits = usable & (multipliers == node.multiplier[channels]) & (shifts == node.shift[channels])
    return np.asarray(fits, np.bool_)


def follows_recipe(graph: Graph, node: Requantized) -> bool:
    """Whether the multipliers of a sum, a difference, a product or a mean are those of its tensors' scales."""
    scales = [graph.tensors[name].scale for name in node.inputs]
    result = graph.tensors[node.output].scale
    if isinstance(node, Add | Sub):
        return has_fields(node, recipes.rescaled(scales, result, graph.mode))
    if isinstance(node, Mul):
        return has_fields(node, recipes.product(scales, result, graph.mode))
    if isinstance(node, Mean):
        return has_fields(node, recipes.mean(scales[0], result, node.kernel[0] * node.kernel[1], graph.mode))
    return False


def is_sum(graph: Graph, node: Mean) -> bool:
    """Whether a node of sums over windows is a sum, not a mean."""
    fields = recipes.mean(graph.tensors[node.inputs[0]].scale, graph.tensors[node.output].scale, 1, graph.mode)
    return has_fields(node, fields)


def has_fields(node: Node, fields: recipes.Fields) -> bool:
    """Whether a node has these values."""
    return all(getattr(node, name) == value for name, value in fields.items())
