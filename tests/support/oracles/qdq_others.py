"""Random QDQ models of one operator: bookkeeping, tensors that meet, and operators that the host computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from support.oracles.onnx_writer import OnnxWriter, Rng, image, quantization
from support.oracles.qdq_models import _finish, _inputs, _of, _same


def bookkeeping(rng: Rng, operator: str) -> bytes:
    """An operator that changes only how numbers are read, and a Transpose before it, so that they move."""
    writer, shape = OnnxWriter(), image(rng)
    names, x = _inputs(writer, rng, shape)
    order = [0, *(int(axis) for axis in rng.permutation(3) + 1)]
    source, sizes = writer.node("Transpose", names, perm=order), [shape[axis] for axis in order]
    if operator == "Transpose":
        return _finish(writer, source, x, 4)
    if operator == "Expand":
        wanted = [int(rng.integers(1, 4)) if n == 1 else n for n in sizes]
        return _finish(writer, writer.node("Expand", [source, _ints(writer, wanted)]), x, 4)
    if operator == "Unsqueeze and Squeeze":
        wide = writer.node("Unsqueeze", [source, _ints(writer, [0, int(rng.integers(1, 6))])])
        return _finish(writer, writer.node("Squeeze", [wide, _ints(writer, [0])]), x, 5)
    factors = [n for size in sizes for n in ([2, size // 2] if size % 2 == 0 else [size])]
    cut = int(rng.integers(1, len(factors)))
    wanted = [int(np.prod(factors[:cut])), int(np.prod(factors[cut:]))]
    return _finish(writer, writer.node("Reshape", [source, _ints(writer, [1, *wanted])]), x, 3)


def _ints(writer: OnnxWriter, values: list[int]) -> str:
    return str(writer.constant(np.array(values, np.int64)))


def splits(rng: Rng) -> bytes:
    """One part of a Split along any axis."""
    writer, shape, axis = OnnxWriter(), image(rng), int(rng.integers(1, 4))
    names, x = _inputs(writer, rng, shape)
    cut = int(rng.integers(1, shape[axis] + 1))
    sizes = [n for n in (cut, shape[axis] - cut) if n]
    first = writer.node("Split", [*names, _ints(writer, sizes)], axis=axis)
    writer.nodes[-1].output.extend(f"part{i}" for i in range(1, len(sizes)))
    names = [first, *writer.nodes[-1].output[1:]]
    return _finish(writer, names[int(rng.integers(len(sizes)))], x, 4)


def tensors(rng: Rng, operator: str) -> bytes:
    """Two or three tensors that broadcast."""
    writer, shape = OnnxWriter(), image(rng)
    x, names = quantization(rng), []
    for index in range(int(rng.integers(2, 4)) if operator == "Sum" else 2):
        part = shape if index == 0 else tuple(n if rng.integers(2) else 1 for n in shape)
        own, y = _inputs(writer, rng, part)
        names, x = [*names, *own], y
    scale = x.scale * x.scale * 64 if operator == "Mul" else x.scale * 2
    if operator == "Sum" and len(names) > 2:
        names = [writer.node("Sum", names[:2]), names[2]]
    return _finish(writer, writer.node(operator, names), quantization(rng, float(scale), x.kind), 4)


def means(rng: Rng) -> bytes:
    """GlobalAveragePool."""
    writer, shape = OnnxWriter(), image(rng)
    names, x = _inputs(writer, rng, shape)
    return _finish(writer, writer.node("GlobalAveragePool", names), quantization(rng, x.scale * 0.7, x.kind), 4)


def compositions(rng: Rng, operator: str) -> bytes:
    """A function of one variable that exporters write as several operators, or with numbers."""
    writer, shape = OnnxWriter(), image(rng)
    names, x = _inputs(writer, rng, shape)
    source = writer.node("Mul", [*names, _number(writer, 8 / (255 * x.scale))])
    if operator == "Sqrt":
        result = writer.node("Sqrt", [writer.node("Abs", [source])])
    elif operator == "Pow":
        result = writer.node("Pow", [writer.node("Abs", [source]), _number(writer, float(rng.choice([0.5, 2, 3])))])
    elif operator == "SiLU":
        result = writer.node("Mul", [source, writer.node("Sigmoid", [source])])
    elif operator == "Gelu":
        erf = writer.node("Erf", [writer.node("Div", [source, _number(writer, 2**0.5)])])
        inner = writer.node("Mul", [source, writer.node("Add", [erf, _number(writer, 1)])])
        result = writer.node("Mul", [inner, _number(writer, 0.5)])
    elif operator == "Clip":
        low, high = sorted(rng.normal(0, 3, 2))
        result = writer.node("Clip", [source, _number(writer, low), _number(writer, high)])
    else:
        result = writer.node(operator, [source])
    return _finish(writer, result, quantization(rng, 8 / 255, x.kind), 4)


def _number(writer: OnnxWriter, value: float) -> str:
    return str(writer.constant(np.float32(value)))


def hosted(rng: Rng, operator: str) -> bytes:
    """An operator that the host computes, between integers."""
    writer, shape = OnnxWriter(), image(rng)
    names, x = _inputs(writer, rng, shape)
    vectors = [writer.constant(rng.uniform(0.5, 1.5, shape[1]).astype(np.float32)) for _ in range(2)]
    if operator in ("ArgMax", "TopK"):
        attributes: dict[str, Any] = {"axis": int(rng.integers(1, 4))}
        names += [writer.constant(np.array([1], np.int64))] if operator == "TopK" else []
        places = writer.node(operator, names, **attributes)
        if operator == "TopK":
            writer.nodes[-1].output.append("places")
            places = "places"
        y = quantization(rng, 1.0, x.kind)
        return _finish(writer, writer.node("Cast", [places], to=1), y, 4)
    if operator == "InstanceNormalization":
        names += vectors
    fields = {"LRN": {"size": 3, "alpha": 0.1}, "LogSoftmax": {"axis": int(rng.integers(1, 4))}}.get(operator, {})
    y = quantization(rng, 8 / 255 if operator != "LRN" else x.scale, x.kind)
    return _finish(writer, writer.node(operator, names, **fields), y, 4)


EXACT: dict[str, Callable[[Rng], bytes]] = {
    **{kind: _of(bookkeeping, kind) for kind in ("Transpose", "Reshape", "Expand", "Unsqueeze and Squeeze")},
    "Split": splits,
    "GlobalMaxPool": lambda rng: _same(rng, "GlobalMaxPool", 4, [], shape=image(rng)),
    **{kind: _of(hosted, kind) for kind in ("ArgMax", "TopK", "InstanceNormalization", "LRN", "LogSoftmax")},
}
"""Models whose outputs must be equal; the host computes them by the runtime itself."""

NEAR: dict[str, Callable[[Rng], bytes]] = {
    **{f"{kind} of tensors": _of(tensors, kind) for kind in ("Add", "Sub", "Mul")},
    "Sum": _of(tensors, "Sum"),
    **{kind: _of(compositions, kind) for kind in ("Sqrt", "Pow", "SiLU", "Gelu", "Clip", "Relu")},
    "GlobalAveragePool": means,
}
"""Models whose outputs may differ by one step now and then: the runtime computes with real numbers near ties."""
