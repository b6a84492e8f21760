"""Random QDQ models whose windows reach beyond the image, and of real operands: what is rounded once, not twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from support.oracles.onnx_writer import OnnxWriter, Rng, dequantized, image, quantization
from support.oracles.qdq_models import _finish, _inputs, _same


def _same_padding(rng: Rng, least: int) -> dict[str, Any]:
    """Strides and SAME padding in two dimensions, and kernels from `least` times the strides on."""
    strides = [int(s) for s in rng.integers(1, 4, 2)]
    kernel = [max(least * s, int(rng.integers(1, 4))) for s in strides]
    return {"strides": strides, "kernel_shape": kernel, "auto_pad": str(rng.choice(["SAME_UPPER", "SAME_LOWER"]))}


def same_max_pools(rng: Rng) -> bytes:
    """MaxPool with SAME padding and dilation; the runtime refuses kernels below the stride."""
    return _same(
        rng, "MaxPool", 4, [], shape=image(rng), dilations=[1, int(rng.choice([1, 2]))], **_same_padding(rng, 1)
    )


def average_pools(rng: Rng) -> bytes:
    """AveragePool whose windows may reach beyond the image and count that or not."""
    writer = OnnxWriter()
    names, x = _inputs(writer, rng, image(rng))
    counted = int(rng.integers(2))
    attributes: dict[str, Any] = {"count_include_pad": counted}
    if rng.integers(2):
        attributes |= _same_padding(rng, 1)
    else:
        kernel = [int(k) for k in rng.integers(1, 4, 2)]
        attributes |= {"kernel_shape": kernel, "strides": [int(s) for s in rng.integers(1, 4, 2)]}
        attributes |= {"pads": [int(rng.integers(0, k)) for k in (*kernel, *kernel)]}
        attributes |= {"ceil_mode": int(rng.integers(2)) if not counted else 0}
    y = quantization(rng, x.scale * float(rng.uniform(0.4, 1.1)), x.kind)
    return _finish(writer, writer.node("AveragePool", names, **attributes), y, 4)


def same_transposed(rng: Rng) -> bytes:
    """ConvTranspose with SAME padding and kernels on either side of the stride."""
    writer, shape = OnnxWriter(), image(rng, 6)
    names, x = _inputs(writer, rng, shape)
    attributes = _same_padding(rng, 0)
    size = (shape[1], int(rng.integers(1, 6)), *attributes["kernel_shape"])
    integers, scale = rng.integers(-127, 128, size).astype(np.int8), np.float32(10 ** rng.uniform(-3, 0))
    names.append(dequantized(writer, writer.constant(integers), [writer.constant(scale), writer.constant(np.int8(0))]))
    y = quantization(rng, float(x.scale * scale * 97), x.kind)
    return _finish(writer, writer.node("ConvTranspose", names, **attributes), y, 4)


def joins_with_numbers(rng: Rng) -> bytes:
    """Concat of a tensor with real constants."""
    writer, shape = OnnxWriter(), image(rng)
    names, x = _inputs(writer, rng, shape)
    names.append(writer.constant(rng.uniform(-90 * x.scale, 90 * x.scale, shape).astype(np.float32)))
    names = [names[i] for i in rng.permutation(2)]
    return _finish(writer, writer.node("Concat", names, axis=int(rng.integers(1, 4))), x, 4)


def quotients(rng: Rng) -> bytes:
    """Div of two tensors; a divisor is never 0."""
    writer, shape = OnnxWriter(), image(rng)
    names, x = _inputs(writer, rng, shape, 2)
    positive = writer.node("Add", [writer.node("Abs", [names[1]]), writer.constant(np.float32(x.scale))])
    y = quantization(rng, float(10 ** rng.uniform(-2, 1)), x.kind)
    return _finish(writer, writer.node("Div", [names[0], positive]), y, 4)


def same_wide_strides(rng: Rng) -> bytes:
    """Dilated MaxPool with SAME padding and kernels below the stride, which the runtime cuts off."""
    strides = [int(s) for s in rng.integers(2, 4, 2)]
    kernel = [int(rng.integers(1, s)) for s in strides]
    same, dilations = str(rng.choice(["SAME_UPPER", "SAME_LOWER"])), [2, int(rng.choice([1, 2]))]
    shape = (1, int(rng.integers(1, 6)), *(int(n) for n in rng.integers(8, 13, 2)))
    fields = {"strides": strides, "kernel_shape": kernel, "auto_pad": same, "dilations": dilations}
    return _same(rng, "MaxPool", 4, [], shape=shape, **fields)


EXACT: dict[str, Callable[[Rng], bytes]] = {
    "MaxPool SAME": same_max_pools,
    "MaxPool SAME of wide strides": same_wide_strides,
    "Concat with numbers": joins_with_numbers,
}
"""Models whose outputs must be equal."""

NEAR: dict[str, Callable[[Rng], bytes]] = {
    "AveragePool": average_pools,
    "ConvTranspose SAME": same_transposed,
    "Div of tensors": quotients,
}
"""Models whose outputs may differ by one step now and then: the runtime computes with real numbers near ties."""
