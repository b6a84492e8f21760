"""Narrow values between a convolution and a max pool: columns share a word until the pool combines columns.

The convolution makes packed columns as in `compiler.lower.packing`. A max pool is a pool over rows, which takes packed
columns as they are, and one over columns, which does not. External memory holds both alike (all channels of a pixel,
then the next pixel), so that the second pool reads there, column by column, what the first one stores.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, TypeGuard

from accel.machine.config import ArchConfig
from accel.machine.isa import Reduce
from accel.machine.layout import Hwc
from compiler.lower.geometry import Tile
from compiler.lower.layers import IDENTITY, AnyLayer, ArrayLayer, Network, Region, Unpacked, VectorLayer
from compiler.lower.packing import UNPACKED, WORTHWHILE, Packing, convolution, is_dense, is_free


class _Site(NamedTuple):
    """A convolution, the pool that alone reads what it makes, and whether the convolution reads a network input."""

    layer: ArrayLayer
    pool: VectorLayer
    is_first: bool


def pack_before_pools(network: Network, config: ArchConfig) -> Network:
    """The network with those narrow values packed that a max pool reads, where that takes fewer cycles."""
    layers, unpacked = list[AnyLayer](), dict(network.unpacked)
    rest = iter(enumerate(network.layers))
    for index, layer in rest:
        site = _site(network, index)
        count = _columns(site, config) if site else 1
        if site is None or count == 1:
            layers.append(layer)
            continue
        next(rest)
        rows, columns = _pools(site.pool, count)
        layers += [convolution(site.layer, Packing(1, count), range(count)), rows, columns]
        unpacked[columns.inputs[0]] = Unpacked(rows.output, count)
    return replace(network, layers=tuple(layers), unpacked=unpacked)


def _site(network: Network, index: int) -> _Site | None:
    """Layer `index` and the next one if they are a convolution and a max pool for which it might be packed."""
    layer, pool = network.layers[index], network.layers[min(index + 1, len(network.layers) - 1)]
    if not is_dense(layer) or layer.product or not is_free(network, layer.output, index) or not _is_pool(pool):
        return None
    alone = network.users(layer.output).readers == (index + 1,)
    return _Site(layer, pool, layer.inputs[0] in network.inputs) if alone else None


def _is_pool(layer: AnyLayer) -> TypeGuard[VectorLayer]:
    """Whether a layer is a max pool over rows and columns."""
    if not isinstance(layer, VectorLayer) or layer.reduce is not Reduce.MAX or len(layer.inputs) > 1:
        return False
    return layer.table is None and min(layer.window.kernel) > 1


def _columns(site: _Site, config: ArchConfig) -> int:
    """How many columns of the convolution's output had better share a word; 1 if none."""
    width, channels = site.layer.output_shape[1:]
    counts = [n for n in range(2, min(config.rows, config.cols) // channels + 1) if width % n == 0]
    cycles = {count: _cycles(site, Packing(1, count), config) for count in (1, *counts)}
    best = min(cycles, key=lambda count: cycles[count])
    return best if cycles[best] <= WORTHWHILE * cycles[1] else 1


def _cycles(site: _Site, packing: Packing, config: ArchConfig) -> int:
    """About how many cycles both layers take: POST works beside the array, but the second pool comes afterwards."""
    layer, (kernel_rows, kernel_columns) = site.layer, site.pool.window.kernel
    (height, width, channels), (pooled, out_width, _) = layer.output_shape, site.pool.output_shape
    count, groups = packing.output, -(-channels * packing.output // config.post_lanes)
    taps = layer.window.kernel[1] if packing == UNPACKED else packing.words(layer, range(count)).size
    depth, positions = layer.input_shape[2], layer.window.kernel[0] * taps
    passes = -(-depth * positions // config.rows) if site.is_first else positions * -(-depth // config.rows)
    array = height * width // count * passes * -(-channels * count // config.cols)
    made = height * width // count * groups
    if packing == UNPACKED:
        return max(array, made + pooled * out_width * kernel_rows * kernel_columns * groups)
    beats = pooled * width * channels // config.bus_bytes
    columns = pooled * out_width * kernel_columns * -(-channels // config.post_lanes)
    latency = config.write_latency_cycles + config.read_latency_cycles
    return max(array, made + pooled * width // count * kernel_rows * groups) + max(beats, columns) + latency


def _pools(layer: VectorLayer, count: int) -> tuple[VectorLayer, VectorLayer]:
    """The pool over rows of packed columns, and that over columns."""
    (height, width, channels), (pooled, _, _) = layer.input_shape, layer.output_shape
    kernel, stride, padding = layer.window.kernel, layer.window.stride, layer.window.padding
    packed: Hwc = (pooled, width // count, channels * count)
    rows = replace(
        layer,
        output=f"{layer.output}[rows]",
        input_shape=(height, *packed[1:]),
        output_shape=packed,
        window=replace(layer.window, kernel=(kernel[0], 1), stride=(stride[0], 1), padding=(padding[0], 0)),
        regions=(Region(Tile(0, pooled, 0, packed[1]), IDENTITY),),
    )
    columns = replace(
        layer,
        inputs=(f"{layer.output}[columns]",),
        input_shape=(pooled, width, channels),
        window=replace(layer.window, kernel=(1, kernel[1]), stride=(1, stride[1]), padding=(0, padding[1])),
    )
    return rows, columns
