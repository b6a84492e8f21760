"""Writing TensorFlow Lite files of one random operator that moves bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from support.oracles.tflite_random import Rng, any_shape, random_image, random_parameters, with_builtin
from support.oracles.tflite_writer import ModelWriter


def pad(rng: Rng, builtin: str) -> bytes:
    """PAD or PADV2 of every axis but the first."""
    writer, shape, parameters = ModelWriter(), random_image(rng, 8), random_parameters(rng)
    sizes = [[0, 0], *rng.integers(0, 4, (3, 2)).tolist()]
    x = writer.tensor(shape, *parameters)
    inputs = [x, writer.integers(sizes)]
    if builtin == "PADV2":
        inputs.append(writer.tensor((1,), *parameters, np.array([rng.integers(-128, 128)], np.int8)))
    y = writer.tensor(tuple(n + sum(s) for n, s in zip(shape, sizes, strict=True)), *parameters)
    writer.operator(builtin, inputs, [y], f"{'PadV2' if builtin == 'PADV2' else 'Pad'}Options")
    return writer.finish([x], [y])


def concatenation(rng: Rng) -> bytes:
    """CONCATENATION of two to four tensors, one of them sometimes constant."""
    writer, shape, parameters = ModelWriter(), random_image(rng, 8), random_parameters(rng)
    axis, count = int(rng.integers(1, 4)), int(rng.integers(2, 5))
    inputs, given, total = [], [], 0
    for index in range(count):
        part = list(shape)
        part[axis] = int(rng.integers(1, 6))
        data = rng.integers(-128, 128, part).astype(np.int8) if index and rng.random() < 0.2 else None
        inputs.append(writer.tensor(tuple(part), *parameters, data))
        given += [inputs[-1]] if data is None else []
        total += part[axis]
    joined = list(shape)
    joined[axis] = total
    y = writer.tensor(tuple(joined), *parameters)
    writer.operator("CONCATENATION", inputs, [y], "ConcatenationOptions", axis=axis - int(rng.choice([0, 4])))
    return writer.finish(given, [y])


def reshape(rng: Rng, builtin: str) -> bytes:
    """RESHAPE or SQUEEZE, or EXPAND_DIMS."""
    writer, shape, parameters = ModelWriter(), random_image(rng, 8), random_parameters(rng)
    if builtin == "SQUEEZE":
        shape = (1, 1, *shape[2:])
        x, y = writer.tensor(shape, *parameters), writer.tensor(shape[2:], *parameters)
        writer.operator(builtin, [x], [y], "SqueezeOptions", squeezeDims=[0, 1])
    elif builtin == "EXPAND_DIMS":
        x, y = writer.tensor(shape[1:], *parameters), writer.tensor(shape, *parameters)
        writer.operator(builtin, [x, writer.integers([0])], [y], "ExpandDimsOptions")
    else:
        target = [(1, -1), (1, shape[2], shape[1], shape[3]), (shape[1], -1)][int(rng.integers(3))]
        full = tuple(np.zeros(shape).reshape(target).shape)
        x, y = writer.tensor(shape, *parameters), writer.tensor(full, *parameters)
        writer.operator(builtin, [x, writer.integers(full)], [y], "ReshapeOptions", newShape=list(full))
    return writer.finish([x], [y])


def strided_slice(rng: Rng) -> bytes:
    """STRIDED_SLICE with masks and bounds that count from the end."""
    writer, shape, parameters = ModelWriter(), random_image(rng, 10), random_parameters(rng)
    begin, end, stride = [0], [1], [1]
    for n in shape[1:]:
        first, last = sorted(int(i) for i in rng.choice(n + 1, 2, replace=False))
        begin.append(first - n if rng.random() < 0.3 else first)
        end.append(last - n if rng.random() < 0.3 and last < n else last)
        stride.append(int(rng.integers(1, 4)))
    masks = [int(mask) for mask in rng.integers(0, 16, 2)]
    slices = []
    for axis, n in enumerate(shape):
        first = None if masks[0] >> axis & 1 else begin[axis]
        last = None if masks[1] >> axis & 1 else end[axis]
        if not range(n)[first : last : stride[axis]]:
            masks[0], first = masks[0] | 1 << axis, None
        slices.append(slice(first, last, stride[axis]))
    size = np.zeros(shape)[tuple(slices)].shape
    x, y = writer.tensor(shape, *parameters), writer.tensor(size, *parameters)
    inputs = [x, *(writer.integers(values) for values in (begin, end, stride))]
    options = {"beginMask": masks[0], "endMask": masks[1]}
    writer.operator("STRIDED_SLICE", inputs, [y], "StridedSliceOptions", **options)
    return writer.finish([x], [y])


def split(rng: Rng) -> bytes:
    """SPLIT along any axis but the first."""
    writer, shape, parameters = ModelWriter(), random_image(rng, 6), random_parameters(rng)
    axis, parts = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    part = tuple(shape)
    whole = tuple(n * parts if i == axis else n for i, n in enumerate(shape))
    x = writer.tensor(whole, *parameters)
    outputs = [writer.tensor(part, *parameters) for _ in range(parts)]
    dimension = writer.integers([axis - int(rng.choice([0, 4]))])
    writer.operator("SPLIT", [dimension, x], outputs, "SplitOptions", numSplits=parts)
    return writer.finish([x], outputs)


def transpose(rng: Rng) -> bytes:
    """TRANSPOSE of all axes but the first."""
    writer, shape, parameters = ModelWriter(), random_image(rng, 8), random_parameters(rng)
    order = [0, *(1 + rng.permutation(3)).tolist()]
    x, y = writer.tensor(shape, *parameters), writer.tensor(tuple(shape[axis] for axis in order), *parameters)
    writer.operator("TRANSPOSE", [x, writer.integers(order)], [y], "TransposeOptions")
    return writer.finish([x], [y])


def signed(rng: Rng, axis: int, rank: int) -> int:
    """An axis, sometimes counted from the end."""
    return axis - rank if rng.random() < 0.3 else axis


def pack(rng: Rng) -> bytes:
    """PACK along any axis, the first and a new last one included."""
    writer, shape, parameters = ModelWriter(), any_shape(rng), random_parameters(rng)
    axis, count = int(rng.integers(0, len(shape) + 1)), int(rng.integers(1, 5))
    inputs = [writer.tensor(shape, *parameters) for _ in range(count)]
    y = writer.tensor((*shape[:axis], count, *shape[axis:]), *parameters)
    options = {"valuesCount": count, "axis": signed(rng, axis, len(shape) + 1)}
    writer.operator("PACK", inputs, [y], "PackOptions", **options)
    return writer.finish(inputs, [y])


def unpack(rng: Rng) -> bytes:
    """UNPACK along any axis."""
    writer, shape, parameters = ModelWriter(), any_shape(rng), random_parameters(rng)
    axis = int(rng.integers(len(shape)))
    x = writer.tensor(shape, *parameters)
    outputs = [writer.tensor((*shape[:axis], *shape[axis + 1 :]), *parameters) for _ in range(shape[axis])]
    options = {"num": shape[axis], "axis": signed(rng, axis, len(shape))}
    writer.operator("UNPACK", [x], outputs, "UnpackOptions", **options)
    return writer.finish([x], outputs)


def split_v(rng: Rng) -> bytes:
    """SPLIT_V along any axis, the rest of it sometimes as -1."""
    writer, shape, parameters = ModelWriter(), any_shape(rng), random_parameters(rng)
    axis, sizes = int(rng.integers(len(shape))), rng.integers(1, 5, int(rng.integers(1, 5))).tolist()
    whole = (*shape[:axis], sum(sizes), *shape[axis + 1 :])
    x = writer.tensor(whole, *parameters)
    outputs = [writer.tensor((*shape[:axis], size, *shape[axis + 1 :]), *parameters) for size in sizes]
    if rng.random() < 0.4:
        sizes[int(rng.integers(len(sizes)))] = -1
    inputs = [x, writer.integers(sizes), writer.integers(signed(rng, axis, len(shape)))]
    writer.operator("SPLIT_V", inputs, outputs, "SplitVOptions", numSplits=len(sizes))
    return writer.finish([x], outputs)


def tile(rng: Rng) -> bytes:
    """TILE along any axes."""
    writer, rank = ModelWriter(), int(rng.integers(1, 5))
    shape = (*((1,) if rank == 4 else ()), *(int(n) for n in rng.integers(1, 6, rank - (rank == 4))))
    times = [1 if rank == 4 and not axis else int(n) for axis, n in enumerate(rng.integers(1, 4, rank))]
    parameters = random_parameters(rng)
    x, y = writer.tensor(shape, *parameters), writer.tensor(tuple(np.multiply(shape, times).tolist()), *parameters)
    writer.operator("TILE", [x, writer.integers(times)], [y], "TileOptions")
    return writer.finish([x], [y])


def slice_(rng: Rng) -> bytes:
    """SLICE, sometimes to the end of an axis."""
    writer, shape, parameters = ModelWriter(), any_shape(rng), random_parameters(rng)
    begin = [int(rng.integers(size)) if rng.random() < 0.5 else 0 for size in shape]
    size = [int(rng.integers(1, n - b + 1)) for n, b in zip(shape, begin, strict=True)]
    x, y = writer.tensor(shape, *parameters), writer.tensor(tuple(size), *parameters)
    asked = [-1 if b + s == n and rng.random() < 0.4 else s for b, s, n in zip(begin, size, shape, strict=True)]
    dtype = np.int64 if rng.random() < 0.2 else np.int32
    writer.operator("SLICE", [x, writer.integers(begin, dtype), writer.integers(asked, dtype)], [y], "SliceOptions")
    return writer.finish([x], [y])


def gather(rng: Rng) -> bytes:
    """GATHER with indices of any rank, sometimes with a batch of them."""
    writer, shape, parameters = ModelWriter(), any_shape(rng), random_parameters(rng)
    axis = int(rng.integers(len(shape)))
    batch = int(rng.integers(0, axis + 1)) if rng.random() < 0.3 else 0
    size = (*shape[:batch], *rng.integers(1, 4, int(rng.integers(1, 3))).tolist())
    places = rng.integers(0, shape[axis], size)
    if rng.random() < 0.2:
        places, size, batch = np.arange(0, shape[axis], 2), ((shape[axis] + 1) // 2,), 0
    x = writer.tensor(shape, *parameters)
    y = writer.tensor((*shape[:axis], *size[batch:], *shape[axis + 1 :]), *parameters)
    options = {"axis": signed(rng, axis, len(shape)), "batchDims": batch}
    writer.operator("GATHER", [x, writer.integers(places)], [y], "GatherOptions", **options)
    return writer.finish([x], [y])


def mirror_pad(rng: Rng) -> bytes:
    """MIRROR_PAD of any axis, with and without the border's own elements."""
    writer, shape, parameters = ModelWriter(), any_shape(rng), random_parameters(rng)
    mode = int(rng.integers(2))
    sizes = [[int(n) for n in rng.integers(0, min(size + mode - 1, 3) + 1, 2)] for size in shape]
    x = writer.tensor(shape, *parameters)
    y = writer.tensor(tuple(n + sum(s) for n, s in zip(shape, sizes, strict=True)), *parameters)
    writer.operator("MIRROR_PAD", [x, writer.integers(sizes)], [y], "MirrorPadOptions", mode=mode)
    return writer.finish([x], [y])


def blocks(rng: Rng, builtin: str) -> bytes:
    """DEPTH_TO_SPACE or SPACE_TO_DEPTH."""
    writer, (_, height, width, channels), parameters = ModelWriter(), random_image(rng, 6, 6), random_parameters(rng)
    block, batch = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2]))
    small, large = (batch, height, width, channels * block**2), (batch, height * block, width * block, channels)
    shapes = (small, large) if builtin == "DEPTH_TO_SPACE" else (large, small)
    x, y = (writer.tensor(shape, *parameters) for shape in shapes)
    kind = "DepthToSpaceOptions" if builtin == "DEPTH_TO_SPACE" else "SpaceToDepthOptions"
    writer.operator(builtin, [x], [y], kind, blockSize=block)
    return writer.finish([x], [y])


def batch_blocks(rng: Rng, builtin: str) -> bytes:
    """SPACE_TO_BATCH_ND or BATCH_TO_SPACE_ND of images, or of tensors of rank 3."""
    writer, shape, parameters = ModelWriter(), random_image(rng, 5), random_parameters(rng)
    shape = shape if rng.random() < 0.8 else (1, shape[1], shape[3])
    batch, count = int(rng.choice([1, 1, 2])), len(shape) - 2
    block = rng.integers(1, 4, count).tolist()
    sizes = [n * b for n, b in zip(shape[1:], block, strict=False)]
    edges = [[int(rng.integers(0, min(n - 1, 3) + 1)), 0] for n in sizes]
    for pair, n in zip(edges, sizes, strict=True):
        pair[1] = int(rng.integers(0, min(n - 1 - pair[0], 3) + 1))
    phases = (batch * int(np.prod(block)), *shape[1:])
    inner = (batch, *(n - sum(pair) for n, pair in zip(sizes, edges, strict=True)), shape[-1])
    x, y = (
        writer.tensor(s, *parameters) for s in ((inner, phases) if builtin.startswith("SPACE") else (phases, inner))
    )
    kind = "SpaceToBatchNDOptions" if builtin.startswith("SPACE") else "BatchToSpaceNDOptions"
    writer.operator(builtin, [x, writer.integers(block), writer.integers(edges)], [y], kind)
    return writer.finish([x], [y])


def masked_slice(rng: Rng) -> bytes:
    """STRIDED_SLICE backwards and forwards, with axes that are new, left out, or shrink."""
    writer, shape, parameters = ModelWriter(), any_shape(rng), random_parameters(rng)
    ellipsis = int(rng.integers(len(shape))) if rng.random() < 0.4 else -1
    spec, masks, index = [], [0] * 5, list[object]()
    axes = list(range(len(shape)))
    skipped = axes[ellipsis : ellipsis + int(rng.integers(1, 3))] if ellipsis >= 0 else []
    for axis in axes:
        place = 1 << len(spec)
        if axis == ellipsis:
            spec.append((0, 0, 1))
            masks[2] |= place
            index.append(Ellipsis)
            place <<= 1
        if axis in skipped:
            continue
        if rng.random() < 0.15 and len(shape) < 4:
            spec.append((0, 0, 1))
            masks[3] |= place
            index.append(None)
            place <<= 1
        add_axis(rng, shape[axis], place, spec, masks, index)
    size = np.zeros(shape)[tuple(index)].shape
    x, y = writer.tensor(shape, *parameters), writer.tensor(size, *parameters)
    inputs = [x, *(writer.integers([row[i] for row in spec]) for i in range(3))]
    names = ("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask")
    writer.operator("STRIDED_SLICE", inputs, [y], "StridedSliceOptions", **dict(zip(names, masks, strict=True)))
    return writer.finish([x], [y])


def add_axis(
    rng: Rng, size: int, place: int, spec: list[tuple[int, int, int]], masks: list[int], index: list[object]
) -> None:
    """What STRIDED_SLICE does along one axis, and the same as an index of NumPy."""
    if rng.random() < 0.2:
        at = int(rng.integers(-size, size))
        spec.append((at, at + 1, 1))
        masks[4] |= place
        index.append(at)
        return
    while True:
        begin, end = (int(n) for n in rng.integers(-size - 1, size + 2, 2))
        stride = int(rng.choice([1, 1, 2, 3, -1, -2]))
        open_begin, open_end = rng.random(2) < 0.3
        chosen = slice(None if open_begin else begin, None if open_end else end, stride)
        if range(size)[chosen]:
            break
    spec.append((begin, end, stride))
    masks[0] |= place * bool(open_begin)
    masks[1] |= place * bool(open_end)
    index.append(chosen)


def reverse(rng: Rng) -> bytes:
    """REVERSE_V2 along some neighbouring axes."""
    writer, shape, parameters = ModelWriter(), any_shape(rng), random_parameters(rng)
    first = int(rng.integers(len(shape)))
    axes = list(range(first, int(rng.integers(first, len(shape))) + 1))
    x, y = writer.tensor(shape, *parameters), writer.tensor(shape, *parameters)
    writer.operator("REVERSE_V2", [x, writer.integers(axes)], [y], "ReverseV2Options")
    return writer.finish([x], [y])


def broadcast_to(rng: Rng) -> bytes:
    """BROADCAST_TO of any axes, sometimes to more of them."""
    writer, shape, parameters = ModelWriter(), any_shape(rng), random_parameters(rng)
    target = list(shape)
    shape = tuple(1 if rng.random() < 0.4 else size for size in shape)
    while len(shape) > 1 and shape[0] == 1 and rng.random() < 0.3:
        shape = shape[1:]
    x, y = writer.tensor(shape, *parameters), writer.tensor(tuple(target), *parameters)
    writer.operator("BROADCAST_TO", [x, writer.integers(target)], [y], "BroadcastToOptions")
    return writer.finish([x], [y])


def below_one(rng: Rng) -> tuple[float, int]:
    """Scale and zero point of what is compared: from 1 on runtimes do not define it."""
    return float(np.float32(10 ** rng.uniform(-4, -0.01))), int(rng.integers(-128, 128))


def comparison(rng: Rng, builtin: str) -> bytes:
    """A comparison of two tensors of like scales, or of one and a constant."""
    writer, shape, parameters = ModelWriter(), any_shape(rng), below_one(rng)
    other = parameters if rng.random() < 0.5 else (min(parameters[0] * 2 ** rng.uniform(-1, 1), 0.99), parameters[1])
    data = rng.integers(-128, 128, shape[-1:]).astype(np.int8) if rng.random() < 0.3 else None
    x, y = writer.tensor(shape, *parameters), writer.tensor(shape if data is None else shape[-1:], *other, data)
    result = writer.tensor(shape, kind="BOOL")
    name = "".join(part.capitalize() for part in builtin.split("_"))
    writer.operator(builtin, [x, y], [result], f"{name}Options")
    return writer.finish([x, y] if data is None else [x], [result])


def select(rng: Rng) -> bytes:
    """SELECT_V2 of two tensors, or of one and a constant, where one is greater."""
    writer, shape, parameters = ModelWriter(), any_shape(rng), below_one(rng)
    x, y = writer.tensor(shape, *parameters), writer.tensor(shape, *parameters)
    data = rng.integers(-128, 128, shape[-1:]).astype(np.int8) if rng.random() < 0.3 else None
    other = y if data is None else writer.tensor(shape[-1:], *parameters, data)
    chosen, result = writer.tensor(shape, kind="BOOL"), writer.tensor(shape, *parameters)
    writer.operator("GREATER", [x, y], [chosen], "GreaterOptions")
    writer.operator("SELECT_V2", [chosen, x, other], [result], "SelectV2Options")
    return writer.finish([x, y], [result])


def largest(rng: Rng) -> bytes:
    """TOPK_V2: values and places."""
    writer, shape, parameters = ModelWriter(), any_shape(rng), random_parameters(rng)
    count = int(rng.integers(1, shape[-1] + 1))
    x, y = writer.tensor(shape, *parameters), writer.tensor((*shape[:-1], count), *parameters)
    places = writer.tensor((*shape[:-1], count), kind="INT32")
    writer.operator("TOPK_V2", [x, writer.integers(count)], [y, places], "TopKV2Options")
    return writer.finish([x], [y, places])


def gather_computed(rng: Rng) -> bytes:
    """GATHER at places that ARG_MAX finds, of a tensor or of a constant."""
    writer, parameters = ModelWriter(), random_parameters(rng)
    count, rows = (int(n) for n in rng.integers(1, 9, 2))
    x, places = writer.tensor((rows, count), *parameters), writer.tensor((rows,), kind="INT32")
    writer.operator("ARG_MAX", [x, writer.integers(1)], [places], "ArgMaxOptions", outputType=2)
    axis, shape = int(rng.integers(2)), [int(n) for n in rng.integers(1, 9, 2)]
    shape[axis] = count
    data = rng.integers(-128, 128, shape).astype(np.int8) if rng.random() < 0.5 else None
    table = writer.tensor(tuple(shape), *parameters, data)
    y = writer.tensor((*shape[:axis], rows, *shape[axis + 1 :]), *parameters)
    writer.operator("GATHER", [table, places], [y], "GatherOptions", axis=axis)
    return writer.finish([x] if data is not None else [x, table], [y])


COMPARISONS = ("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL")

MODELS: dict[str, Callable[[Rng], bytes]] = {
    "BROADCAST_TO": broadcast_to,
    "CONCATENATION": concatenation,
    "GATHER": gather,
    "GATHER, of computed places": gather_computed,
    "REVERSE_V2": reverse,
    "SELECT_V2": select,
    **{name: with_builtin(comparison, name) for name in COMPARISONS},
    "TOPK_V2": largest,
    "MIRROR_PAD": mirror_pad,
    "PACK": pack,
    "SLICE": slice_,
    "TILE": tile,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "STRIDED_SLICE": strided_slice,
    "STRIDED_SLICE, all masks": masked_slice,
    "TRANSPOSE": transpose,
    "UNPACK": unpack,
    **{name: with_builtin(pad, name) for name in ("PAD", "PADV2")},
    **{name: with_builtin(reshape, name) for name in ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")},
    **{name: with_builtin(blocks, name) for name in ("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")},
    **{name: with_builtin(batch_blocks, name) for name in ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND")},
}
"""How to make a random model of each operator."""
