"""Random QDQ models of one operator: DequantizeLinear, the operator on real numbers, QuantizeLinear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from support.oracles.onnx_writer import OnnxWriter, Quantization, Rng, dequantized, image, quantization


def _inputs(writer: OnnxWriter, rng: Rng, shape: tuple[int, ...], count: int = 1) -> tuple[list[str], Quantization]:
    """Dequantized inputs of one kind."""
    x = quantization(rng)
    return [dequantized(writer, writer.input(shape, x.kind), x.constants(writer)) for _ in range(count)], x


def _finish(writer: OnnxWriter, result: str, y: Quantization, rank: int) -> bytes:
    return writer.finish(writer.node("QuantizeLinear", [result, *y.constants(writer)]), y.kind, rank)


def _same(rng: Rng, operator: str, rank: int, extra: list[Any], **attributes: Any) -> bytes:
    """An operator that keeps the numbers: the output has the input's parameters."""
    writer = OnnxWriter()
    shape = attributes.pop("shape")
    names, x = _inputs(writer, rng, shape)
    names += [writer.constant(value) if value is not None else "" for value in extra]
    return _finish(writer, writer.node(operator, names, **attributes), x, rank)


def slices(rng: Rng) -> bytes:
    """Slice along two axes, forward and backward."""
    shape = image(rng)
    starts, ends, steps = [], [], []
    axes = [int(a) for a in rng.permutation(4)[:2]]
    for axis in axes:
        size = shape[axis]
        first, last = sorted(int(n) for n in rng.integers(0, size, 2))
        step = int(rng.choice([1, 2, -1]))
        starts.append(first if step > 0 else last)
        ends.append(last + 1 if step > 0 else first - 1 - (size if first == 0 else 0))
        steps.append(step)
    extra = [np.array(v, np.int64) for v in (starts, ends, axes, steps)]
    return _same(rng, "Slice", 4, extra, shape=shape)


def pads(rng: Rng) -> bytes:
    """Pad in one of its modes."""
    shape, mode = image(rng), str(rng.choice(["constant", "edge", "reflect", "wrap"]))
    amounts = [0 if n == 1 else int(rng.integers(0, min(n, 3))) for n in (*shape, *shape)]
    writer = OnnxWriter()
    names, x = _inputs(writer, rng, shape)
    names.append(writer.constant(np.array(amounts, np.int64)))
    if mode == "constant":
        names.append(writer.constant(np.float32(rng.integers(-20, 20) * x.scale)))
    return _finish(writer, writer.node("Pad", names, mode=mode), x, 4)


def space(rng: Rng, operator: str) -> bytes:
    """SpaceToDepth or DepthToSpace."""
    block, channels = int(rng.integers(2, 4)), int(rng.integers(1, 5))
    height, width = (int(n) for n in rng.integers(1, 4, 2))
    if operator == "SpaceToDepth":
        return _same(rng, "SpaceToDepth", 4, [], shape=(1, channels, height * block, width * block), blocksize=block)
    mode = str(rng.choice(["DCR", "CRD"]))
    shape = (1, channels * block**2, height, width)
    return _same(rng, "DepthToSpace", 4, [], shape=shape, blocksize=block, mode=mode)


def gathers(rng: Rng) -> bytes:
    """Gather with any indices."""
    shape, axis = image(rng), int(rng.integers(1, 4))
    indices = rng.integers(-shape[axis], shape[axis], int(rng.integers(1, 6)))
    return _same(rng, "Gather", 4, [indices.astype(np.int64)], shape=shape, axis=axis)


def shuffles(rng: Rng) -> bytes:
    """A channel shuffle by way of five axes."""
    groups, channels = int(rng.integers(2, 5)), int(rng.integers(1, 7))
    height, width = (int(n) for n in rng.integers(1, 6, 2))
    writer = OnnxWriter()
    names, x = _inputs(writer, rng, (1, groups * channels, height, width))
    split = writer.node("Reshape", [*names, writer.constant(np.array([1, groups, channels, height, width], np.int64))])
    swapped = writer.node("Transpose", [split], perm=[0, 2, 1, 3, 4])
    target = writer.constant(np.array([1, groups * channels, height, width], np.int64))
    return _finish(writer, writer.node("Reshape", [swapped, target]), x, 4)


def max_pools(rng: Rng) -> bytes:
    """MaxPool with dilation or ceil_mode, in one or two dimensions."""
    rank = int(rng.integers(3, 5))
    shape = (1, int(rng.integers(1, 10)), *(int(n) for n in rng.integers(5, 11, rank - 2)))
    kernel = [int(k) for k in rng.integers(1, 4, rank - 2)]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [int(s) for s in rng.integers(1, 4, rank - 2)],
        "pads": [int(rng.integers(0, (k + 1) // 2)) for k in (*kernel, *kernel)],
        "ceil_mode": int(rng.integers(2)),
    }
    if rng.integers(2):
        attributes |= {"dilations": [int(d) for d in rng.integers(1, 3, rank - 2)]}
    return _same(rng, "MaxPool", rank, [], shape=shape, **attributes)


def reductions(rng: Rng, operator: str) -> bytes:
    """A reduction over any axes."""
    shape = image(rng)
    axes = sorted(int(a) for a in rng.permutation(4)[: rng.integers(1, 4)])
    keep = int(rng.integers(2))
    writer = OnnxWriter()
    names, x = _inputs(writer, rng, shape)
    count = int(np.prod([shape[a] for a in axes]))
    y = x
    if operator in ("ReduceMean", "ReduceSum"):
        factor = count**0.5 if operator == "ReduceSum" else 1
        y = quantization(rng, x.scale * factor * 2 ** rng.uniform(-1, 1), x.kind)
    if operator == "ReduceSum":
        result = writer.node(operator, [*names, writer.constant(np.array(axes, np.int64))], keepdims=keep)
    else:
        result = writer.node(operator, names, axes=axes, keepdims=keep)
    return _finish(writer, result, y, 4 if keep else 4 - len(axes))


def constants(rng: Rng, operator: str) -> bytes:
    """A tensor and a constant: one number, one per channel, or of the tensor's shape; quantized or real."""
    writer, shape = OnnxWriter(), image(rng)
    names, x = _inputs(writer, rng, shape)
    form = [(), (1,), (1, shape[1], 1, 1), (shape[1], 1, 1)][rng.integers(4)]
    c = quantization(rng, float(10 ** rng.uniform(-2, 0)), x.kind)
    low = np.iinfo(x.kind).min
    integers = np.asarray(rng.integers(low, low + 256, form)).astype(x.kind)
    if operator == "Div":
        other = c.zero_point + (1 if c.zero_point < low + 255 else -1)
        integers = np.where(integers == c.zero_point, other, integers).astype(x.kind)
    constant = dequantized(writer, writer.constant(integers), c.constants(writer))
    scale = {"Mul": x.scale * c.scale * 64, "Div": x.scale / (c.scale * 32)}.get(operator, x.scale + c.scale)
    y = quantization(rng, float(np.float32(scale * 2 ** rng.uniform(-1, 1))), x.kind)
    swap = operator != "Div" and bool(rng.integers(2))
    operands = [constant, *names] if swap else [*names, constant]
    return _finish(writer, writer.node(operator, operands), y, 4)


def normalizations(rng: Rng) -> bytes:
    """BatchNormalization by itself."""
    writer, shape = OnnxWriter(), image(rng)
    names, x = _inputs(writer, rng, shape)
    channels = shape[1]
    arrays = [rng.uniform(0.2, 2, channels), rng.normal(0, 1, channels) * x.scale * 40]
    arrays += [rng.normal(0, 1, channels) * x.scale * 40, rng.uniform(0.3, 2, channels)]
    names += [writer.constant(array.astype(np.float32)) for array in arrays]
    return _finish(writer, writer.node("BatchNormalization", names), quantization(rng, x.scale * 2, x.kind), 4)


DOMAINS = {
    "Acos": (-1, 1),
    "Asin": (-1, 1),
    "Log": (0.05, 4),
    "Reciprocal": (0.25, 4),
    "Tan": (-1.3, 1.3),
}
"""Where functions are defined, or bounded."""


def functions(rng: Rng, operator: str) -> bytes:
    """A function of one variable, of values from -4 to 4 or in its domain."""
    writer, shape = OnnxWriter(), image(rng)
    names, x = _inputs(writer, rng, shape)
    steps = 8 / (255 * x.scale)
    names = [writer.node("Mul", [*names, writer.constant(np.float32(steps))])]
    if operator in DOMAINS:
        names += [writer.constant(np.float32(bound)) for bound in DOMAINS[operator]]
        names = [writer.node("Clip", names)]
    if operator == "HardSwish of parts":
        shifted = writer.node("Add", [*names, writer.constant(np.float32(3))])
        limits = [writer.constant(np.float32(v)) for v in (0, 6)]
        gate = writer.node("Clip", [shifted, *limits])
        result = writer.node("Div", [writer.node("Mul", [*names, gate]), writer.constant(np.float32(6))])
    elif operator == "Mish of parts":
        soft = writer.node("Tanh", [writer.node("Softplus", names)])
        result = writer.node("Mul", [*names, soft])
    else:
        result = writer.node(operator, names)
    return _finish(writer, result, quantization(rng, 8 / 255, x.kind), 4)


def joins(rng: Rng) -> bytes:
    """Concat of tensors under one pair of parameters, along any axis."""
    writer, shape, axis = OnnxWriter(), image(rng), int(rng.integers(1, 4))
    x, names = quantization(rng), []
    for _ in range(int(rng.integers(2, 4))):
        part = tuple(int(rng.integers(1, 5)) if a == axis else n for a, n in enumerate(shape))
        names.append(dequantized(writer, writer.input(part, x.kind), x.constants(writer)))
    return _finish(writer, writer.node("Concat", names, axis=axis), x, 4)


def extremes(rng: Rng, operator: str) -> bytes:
    """Max or Min of two tensors of one kind."""
    writer, shape = OnnxWriter(), image(rng)
    names, x = _inputs(writer, rng, shape, 2)
    return _finish(writer, writer.node(operator, names), x, 4)


def convolutions(rng: Rng) -> bytes:
    """Conv of one dimension, or ConvTranspose of one or two."""
    rank = int(rng.integers(3, 5))
    transposed = rank == 4 or bool(rng.integers(2))
    shape = (1, 2 * int(rng.integers(1, 5)), *(int(n) for n in rng.integers(4, 9, rank - 2)))
    groups = int(rng.choice([1, 2, shape[1]]))
    channels = groups * int(rng.integers(1, 1 + 8 // groups))
    kernel = [int(k) for k in rng.integers(1, 4, rank - 2)]
    size = (shape[1], channels // groups, *kernel) if transposed else (channels, shape[1] // groups, *kernel)
    writer = OnnxWriter()
    names, x = _inputs(writer, rng, shape)
    integers = rng.integers(-127, 128, size).astype(np.int8)
    scale = np.float32(10 ** rng.uniform(-3, 0))
    weight = dequantized(writer, writer.constant(integers), [writer.constant(scale), writer.constant(np.int8(0))])
    bias = rng.normal(0, 3000, channels).astype(np.int32)
    zero = writer.constant(np.int32(0))
    offset = dequantized(
        writer, writer.constant(bias), [writer.constant(np.float32(np.float32(x.scale) * scale)), zero]
    )
    attributes: dict[str, Any] = {
        "strides": [int(s) for s in rng.integers(1, 3, rank - 2)],
        "pads": [int(rng.integers(0, k)) for k in (*kernel, *kernel)],
        "group": groups,
    }
    if transposed:
        attributes["output_padding"] = [int(rng.integers(0, s)) for s in attributes["strides"]]
    result = writer.node("ConvTranspose" if transposed else "Conv", [*names, weight, offset], **attributes)
    terms = float(np.sqrt(shape[1] / groups * np.prod(kernel)))
    return _finish(writer, result, quantization(rng, float(x.scale * scale * 73 * 73 * terms / 60), x.kind), rank)


def slopes(rng: Rng) -> bytes:
    """PRelu with one slope, or one per channel."""
    writer, shape = OnnxWriter(), image(rng)
    names, x = _inputs(writer, rng, shape)
    form = (shape[1], 1, 1) if rng.integers(2) else (1,)
    names.append(writer.constant(rng.uniform(-0.3, 1.2, form).astype(np.float32)))
    return _finish(writer, writer.node("PRelu", names), quantization(rng, x.scale * 1.5, x.kind), 4)


def interpolations(rng: Rng) -> bytes:
    """Linear Resize."""
    modes = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    factors = np.array([1, 1, *rng.choice([0.5, 1, 2, 3], 2)], np.float32)
    mode = str(rng.choice(modes))
    return _same(
        rng, "Resize", 4, [None, factors], shape=image(rng), mode="linear", coordinate_transformation_mode=mode
    )


def shares(rng: Rng) -> bytes:
    """Softmax over any axis."""
    writer, shape = OnnxWriter(), image(rng)
    names, _ = _inputs(writer, rng, shape)
    y = Quantization("uint8", float(np.float32(1 / 255)), 0)
    return _finish(writer, writer.node("Softmax", names, axis=int(rng.integers(-3, 4))), y, 4)


def _of(make: Callable[[Rng, str], bytes], operator: str) -> Callable[[Rng], bytes]:
    return lambda rng: make(rng, operator)


EXACT: dict[str, Callable[[Rng], bytes]] = {
    "Slice": slices,
    "Pad": pads,
    **{kind: _of(space, kind) for kind in ("SpaceToDepth", "DepthToSpace")},
    "Gather": gathers,
    "channel shuffle": shuffles,
    "MaxPool": max_pools,
    "Concat": joins,
    "Resize": interpolations,
    **{kind: _of(reductions, kind) for kind in ("ReduceMax", "ReduceMin")},
    **{kind: _of(extremes, kind) for kind in ("Max", "Min")},
}
"""Models whose outputs must be equal."""

NEAR: dict[str, Callable[[Rng], bytes]] = {
    "Conv": convolutions,
    "PRelu": slopes,
    "Softmax": shares,
    "BatchNormalization": normalizations,
    **{kind: _of(reductions, kind) for kind in ("ReduceMean", "ReduceSum")},
    **{kind: _of(constants, kind) for kind in ("Add", "Sub", "Mul", "Div")},
    **{
        kind: _of(functions, kind)
        for kind in (
            *(
                "Elu",
                "Erf",
                "Exp",
                "HardSigmoid",
                "HardSwish",
                "LeakyRelu",
                "Sigmoid",
                "Softplus",
                "Tanh",
                "Abs",
                "Neg",
            ),
            *("Atan", "Ceil", "Celu", "Cos", "Floor", "Round", "Selu", "Shrink", "Sign", "Sin", "Softsign"),
            *("ThresholdedRelu", "com.microsoft.FastGelu", "com.microsoft.QuickGelu", *DOMAINS),
            *("HardSwish of parts", "Mish of parts"),
        )
    },
}
"""Models whose outputs may differ by one step now and then: the runtime computes with real numbers near ties."""
