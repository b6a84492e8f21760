"""Topology tables of SCALE-Sim as networks: layers of the given sizes with seeded weights, each with its own input."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accel.errors import ModelError
from accel.frontends.model_file import naming, read_model
from accel.machine.numerics import RequantMode, quantize_multiplier
from accel.network.graph import Graph, Tensor
from accel.network.nodes import Conv2d

_SCALE = 0.0625


@dataclass(frozen=True)
class Layer:
    """A convolution without padding: the input's (height, width, channels), weights' OHWI shape, stride, groups."""

    name: str
    image: tuple[int, int, int]
    weight: tuple[int, int, int, int]
    stride: int = 1
    groups: int = 1


def read_scalesim(path: str | os.PathLike[str]) -> Graph:
    """Read a table of convolutions (name, input, filter, channels, filters, stride) or of GEMMs (name, M, N, K).

    Layers do not feed each other: each has the input `NAME/in` and the output `NAME/out`. As in the tool, input sizes
    include padding, and a layer whose name holds "DP" is depthwise. An output has the windows that fit into the input.

    Raises
    ------
    ModelError
        The file is no such table; the message names the line.
    """
    with naming(path):
        try:
            rows = list(csv.reader(read_model(path).decode().splitlines()))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ModelError(f"model must be a table of text, got {error}") from None
        layers = _layers([[cell.strip() for cell in row if cell.strip()] for row in rows])
    return _graph(Path(path).stem, layers)


def _layers(rows: Sequence[Sequence[str]]) -> list[Layer]:
    layers: dict[str, Layer] = {}
    for line, row in enumerate(rows[1:], 2):
        if not row:
            continue
        make = _MAKERS.get(len(row))
        if make is None or not all(cell.isdecimal() and int(cell) > 0 for cell in row[1:]):
            raise ModelError(
                f"line {line} must be a name and the positive integers of a convolution (7) or a GEMM (3), "
                f"got {list(row)}"
            )
        layer = make(row[0], [int(cell) for cell in row[1:]])
        if layer.name in layers:
            raise ModelError(f"line {line} must have a name of its own, got {layer.name!r} again")
        if layer.weight[1] > layer.image[0] or layer.weight[2] > layer.image[1]:
            raise ModelError(f"line {line} must have a filter that fits into its input, got {list(row)}")
        layers[layer.name] = layer
    if not layers:
        raise ModelError("table must have a layer after its heading, got none")
    return list(layers.values())


def _convolution(name: str, sizes: Sequence[int]) -> Layer:
    height, width, kernel_height, kernel_width, channels, filters, stride = sizes
    if "DP" in name:
        return Layer(name, (height, width, channels), (channels, kernel_height, kernel_width, 1), stride, channels)
    return Layer(name, (height, width, channels), (filters, kernel_height, kernel_width, channels), stride)


def _gemm(name: str, sizes: Sequence[int]) -> Layer:
    m, n, k = sizes
    return Layer(name, (m, 1, k), (n, 1, 1, k))


_MAKERS: dict[int, Callable[[str, Sequence[int]], Layer]] = {8: _convolution, 4: _gemm}
"""Kinds of tables by their number of columns."""


def _graph(name: str, layers: Sequence[Layer]) -> Graph:
    rng, tensors, nodes = np.random.default_rng(0), dict[str, Tensor](), list[Conv2d]()
    for layer in layers:
        channels = layer.weight[0]
        multiplier, shift = quantize_multiplier(0.01 / np.sqrt(np.prod(layer.weight[1:])))
        node = Conv2d(
            name=layer.name,
            inputs=(f"{layer.name}/in",),
            output=f"{layer.name}/out",
            weight=rng.integers(-127, 128, layer.weight, np.int8),
            bias=np.zeros(channels, np.int32),
            multiplier=np.full(channels, multiplier, np.int32),
            shift=np.full(channels, shift, np.int8),
            stride=(layer.stride, layer.stride),
            groups=layer.groups,
        )
        image = (1, *layer.image)
        for tensor, shape in ((node.inputs[0], image), (node.output, node.output_shape(image))):
            tensors[tensor] = Tensor(tensor, shape, _SCALE, 0)
        nodes.append(node)
    inputs, outputs = tuple(node.inputs[0] for node in nodes), tuple(node.output for node in nodes)
    return Graph(name, RequantMode.TFLITE, tensors, tuple(nodes), inputs, outputs)
