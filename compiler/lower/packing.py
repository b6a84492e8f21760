"""Narrow values between two convolutions: neighbouring columns share a word of the scratchpad.

A value of few channels fills neither the array's rows when it is read nor the array's columns when it is made. Where
one convolution makes it and one reads it, every `s` neighbouring columns of C channels are *packed* into one column of
s * C channels. Both layers stay convolutions, with wider words, fewer columns and zeros where a weight has no partner:
sums are the same. A reader whose own output is not packed makes it in *phases*, a convolution for each of the output
columns that a word of its input serves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import gcd
from typing import NamedTuple, TypeGuard

import numpy as np

from accel.machine.config import ArchConfig
from compiler.lower.geometry import Place, Span, Window
from compiler.lower.layers import AnyLayer, ArrayLayer, Network, product_shape

WORTHWHILE = 0.75
"""Values are packed if the array then takes at most this part of the cycles for all of their layers."""

LARGEST_IN_PHASES = 0.125
"""Share of the scratchpad that a value made in phases may take: external memory would be written by single columns."""


class Packing(NamedTuple):
    """Columns in a word of a convolution's input, and of its output."""

    source: int
    output: int

    def step(self, layer: ArrayLayer) -> int:
        """Output columns from one word of the output, or of one phase, to the next."""
        return self.output if self.output > 1 else self.source // gcd(self.source, layer.window.stride[1])

    def fits(self, layer: ArrayLayer) -> bool:
        """Whether the first input column of every step is the first of a word."""
        step = self.step(layer)
        return layer.output_shape[1] % step == 0 and step * layer.window.stride[1] % self.source == 0

    def phases(self, layer: ArrayLayer) -> list[range]:
        """Output columns of each phase in the first step; all of them if the output is packed."""
        step = self.step(layer)
        return [range(step)] if self.output > 1 else [range(column, column + 1) for column in range(step)]

    def words(self, layer: ArrayLayer, columns: range) -> Span:
        """Words of an input row that some output columns need, counted from that of input column 0."""
        window = layer.window
        low = columns[0] * window.stride[1] - window.padding[1]
        high = columns[-1] * window.stride[1] - window.padding[1] + (window.kernel[1] - 1) * window.dilation[1]
        return Span(min(low // self.source, 0), high // self.source + 1)


UNPACKED = Packing(1, 1)


def pack_columns(network: Network, config: ArchConfig) -> Network:
    """The network with those narrow values packed for which the array then takes fewer cycles."""
    packed: dict[str, int] = {}
    for chain in _chains(network, config):
        layers = [layer for layer in network.layers if {layer.output, *layer.inputs} & chain.keys()]
        before, after = (sum(_cycles(layer, _packing(layer, p), config) for layer in layers) for p in ({}, chain))
        if after <= WORTHWHILE * before:
            packed |= chain
    layers, places, wholes = list[AnyLayer](), dict(network.places), dict(network.wholes)
    for layer in network.layers:
        packing = _packing(layer, packed)
        if packing == UNPACKED or not is_dense(layer):
            layers.append(layer)
            continue
        phases = [convolution(layer, packing, columns) for columns in packing.phases(layer)]
        if len(phases) > 1:
            step = (1, packing.step(layer))
            phases = [replace(phase, output=f"{layer.output}[0,{x}]") for x, phase in enumerate(phases)]
            places |= {phase.output: Place(layer.output, origin=(0, x), step=step) for x, phase in enumerate(phases)}
            wholes[layer.output] = layer.output_shape
        layers += phases
    return replace(network, layers=tuple(layers), places=places, wholes=wholes)


def _packing(layer: AnyLayer, packed: Mapping[str, int]) -> Packing:
    """How a layer is packed if these values are."""
    return Packing(max((packed.get(value, 1) for value in layer.inputs), default=1), packed.get(layer.output, 1))


def _chains(network: Network, config: ArchConfig) -> list[dict[str, int]]:
    """Values that may be packed and columns in a word of each, in one mapping with those that they are made from."""
    chains: dict[str, dict[str, int]] = {}
    for index, layer in enumerate(network.layers):
        count = max(_counts(network, config, index), default=1)
        if count == 1 or not is_dense(layer):
            continue
        chain = chains.get(layer.inputs[0], {})
        if Packing(chain.get(layer.inputs[0], 1), count).fits(layer):
            chain[layer.output] = count
            chains[layer.output] = chain
    return list({id(chain): chain for chain in chains.values()}.values())


def _counts(network: Network, config: ArchConfig, index: int) -> Iterator[int]:
    """How many columns of a layer's output may share a word."""
    layer, value = network.layers[index], network.layers[index].output
    users = network.users(value)
    if not is_dense(layer) or len(users.readers) != 1 or not is_free(network, value, index):
        return
    reader, last = network.layers[users.readers[0]], users.readers[0]
    if not is_dense(reader) or reader.inputs != (value,) or not is_free(network, reader.output, last):
        return
    height, width, channels = reader.output_shape
    if height * width * -(-channels // config.rows) > LARGEST_IN_PHASES * config.spad_words:
        return
    for count in range(2, min(config.rows, config.cols) // layer.output_shape[2] + 1):
        if layer.output_shape[1] % count == 0 and Packing(count, 1).fits(reader):
            yield count


def is_free(network: Network, value: str, maker: int) -> bool:
    """Whether nothing but layers sees a value, which layer `maker` makes."""
    users = network.users(value)
    inside = value not in network.kept and len(users.readers) > 0 and users.writers == (maker,)
    return inside and network.place(value).whole == value


def is_dense(layer: AnyLayer) -> TypeGuard[ArrayLayer]:
    """Whether a layer is a convolution on the array without groups."""
    return isinstance(layer, ArrayLayer) and layer.unit == "array" and layer.groups == 1


def _cycles(layer: AnyLayer, packing: Packing, config: ArchConfig) -> int:
    """Cycles of the array for a convolution."""
    if not is_dense(layer):
        return 0
    (rows, columns), (height, width, channels) = layer.window.kernel, layer.output_shape
    if packing != UNPACKED:
        columns = sum(packing.words(layer, phase).size for phase in packing.phases(layer))
    chunks = -(-layer.input_shape[2] * packing.source // config.rows)
    groups = -(-channels * packing.output // config.cols)
    return height * width // packing.step(layer) * rows * columns * chunks * groups


def convolution(layer: ArrayLayer, packing: Packing, columns: range) -> ArrayLayer:
    """The convolution that makes these of every step's output columns."""
    window, step, words = layer.window, packing.step(layer), packing.words(layer, columns)
    (in_height, in_width, depth), (height, width, channels) = layer.input_shape, layer.output_shape
    weight = np.zeros((len(columns), channels, window.kernel[0], words.size, packing.source, depth), np.int8)
    for number, column in enumerate(columns):
        for tap in range(window.kernel[1]):
            place = column * window.stride[1] - window.padding[1] + tap * window.dilation[1]
            word, part = divmod(place, packing.source)
            weight[number, :, :, word - words.first, part] = layer.weight[:, :, tap]
    kernel, product = (window.kernel[0], words.size), product_shape(layer)
    return replace(
        layer,
        input_shape=(in_height, in_width // packing.source, depth * packing.source),
        output_shape=(height, width // step, channels * len(columns)),
        window=Window(
            kernel,
            (window.stride[0], step * window.stride[1] // packing.source),
            (window.padding[0], -words.first),
            (window.dilation[0], 1),
        ),
        weight=weight.reshape(len(columns) * channels, *kernel, packing.source * depth),
        records=layer.records * len(columns),
        product=product._replace(m=product.m * len(columns) // step),
    )
