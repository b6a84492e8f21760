"""Folding: constants per channel after a linear operator go into its weights before any range is measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accel.quantized.network import Network, Operator, TensorInfo

Affine = tuple[NDArray[np.float64], NDArray[np.float64]]
LINEAR = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "BatchNormalization": 0}
"""Linear operators, and the axis of the output channels in their weights (0 for Gemm with transB)."""


def fold(network: Network) -> Network:
    """Fold BatchNormalization, and constants that are added or multiplied per channel, into the operators before them.

    Parameters
    ----------
    network : Network
        Without parameters.

    Returns
    -------
    Network
        The same function. A folded operator writes the tensor that the absorbed one wrote; MatMul of two axes becomes
        Gemm, so that it can have a bias.

    Notes
    -----
    ``W' = W * factor`` per output channel and ``b' = b * factor + offset``, in float64.
    """
    operators: list[Operator] = []
    tensors = dict(network.tensors)
    readers = network.readers()
    writers: dict[str, int] = {}
    for op in network.operators:
        if op.name in network.host:
            operators.append(op)
            continue
        op = _as_normalization(network, _as_gemm(network, op), tensors)
        network = replace(network, tensors=tensors)
        place = next((writers[name] for name in op.inputs if name in writers), None)
        found = None if place is None else _affine(network, op, operators[place].outputs[0])
        before = None if place is None else operators[place]
        if before is None or found is None or not _is_alone(network, readers, before.outputs[0]):
            writers |= {op.outputs[0]: len(operators)} if _is_linear(network, op) else {}
            operators.append(op)
            continue
        folded = _absorb(network, before, op, found, tensors)
        if folded is None:
            operators.append(op)
            continue
        network = replace(network, tensors=tensors)
        assert place is not None
        operators[place] = folded
        writers[folded.outputs[0]] = place
    read = {name for op in operators for name in op.inputs} | set(network.outputs)
    used = {name: info for name, info in tensors.items() if info.value is None or name in read}
    return replace(network, operators=tuple(operators), tensors=used)


def _as_gemm(network: Network, op: Operator) -> Operator:
    """MatMul of one row with constant weights as Gemm."""
    weight = network.value(op.input(1))
    source = network.tensors.get(op.input(0))
    if op.kind != "MatMul" or weight is None or weight.ndim != 2 or source is None or len(source.shape) != 2:
        return op
    return replace(op, kind="Gemm", attributes={})


def _as_normalization(network: Network, op: Operator, tensors: dict[str, TensorInfo]) -> Operator:
    """A factor or an offset per channel as BatchNormalization, so that those that follow become part of it."""
    sources = [name for name in op.inputs if network.value(name) is None]
    if op.kind == "BatchNormalization" or len(sources) != 1:
        return op
    found = _affine(network, op, sources[0])
    channels = network.tensors[sources[0]].shape[1] if found is not None else 0
    if found is None or max(part.size for part in found) != channels or channels == 1:
        return op
    arrays = (*found, np.zeros(1), np.ones(1))
    names = [f"{op.outputs[0]}_{part}" for part in ("factor", "offset", "mean", "variance")]
    for name, array in zip(names, arrays, strict=True):
        tensors[name] = TensorInfo.constant(name, np.broadcast_to(array, (channels,)).astype(np.float32))
    attributes = {"epsilon": 0.0}
    return replace(op, kind="BatchNormalization", inputs=(sources[0], *names), attributes=attributes)


def _is_linear(network: Network, op: Operator) -> bool:
    groups = int(op.attributes.get("group", 1))
    return op.kind in LINEAR and network.value(op.input(1)) is not None and (op.kind != "ConvTranspose" or groups == 1)


def _is_alone(network: Network, readers: dict[str, list[Operator]], name: str) -> bool:
    """Whether one operator reads a tensor, and nobody else."""
    return len(readers.get(name, [])) == 1 and name not in network.outputs


def _affine(network: Network, op: Operator, source: str) -> Affine | None:
    """Factor and offset per channel (or one for all) that an operator applies to `source`."""
    if op.kind == "BatchNormalization" and op.inputs[0] == source and not op.attributes.get("training_mode", 0):
        values = [network.value(name) for name in op.inputs[1:5]]
        if any(value is None for value in values):
            return None
        scale, bias, mean, variance = (np.asarray(value, np.float64).reshape(-1) for value in values)
        factor = scale / np.sqrt(variance + op.attributes.get("epsilon", 1e-5))
        return factor, bias - mean * factor
    if op.kind not in ("Add", "Sub", "Mul", "Div", "Sum") or len(op.inputs) != 2:
        return None
    first = op.inputs[0] == source
    constant = network.value(op.inputs[1] if first else op.inputs[0])
    shape = network.tensors[source].shape if source in network.tensors else ()
    if constant is None or len(shape) < 2 or constant.ndim > len(shape):
        return None
    if op.kind == "Div" and not (first and np.all(constant)):
        return None
    sizes = (1,) * (len(shape) - constant.ndim) + constant.shape
    if any(size != 1 for axis, size in enumerate(sizes) if axis != 1) or sizes[1] not in (1, shape[1]):
        return None
    value = constant.astype(np.float64).reshape(-1)
    one, zero = np.ones(1), np.zeros(1)
    return {
        "Add": (one, value),
        "Sum": (one, value),
        "Sub": (one, -value) if first else (-one, value),
        "Mul": (value, zero),
        "Div": (1 / np.where(value == 0, 1, value), zero),
    }[op.kind]


def _product(weight: NDArray[np.float32], factor: NDArray[np.float64]) -> NDArray[np.float32]:
    """The product in float64, rounded once, without an array of float64."""
    return np.multiply(weight, factor, out=np.empty(weight.shape, np.float32), casting="same_kind")


def _absorb(
    network: Network, before: Operator, op: Operator, affine: Affine, tensors: dict[str, TensorInfo]
) -> Operator | None:
    """`before` with a factor and an offset in its weights and bias."""
    weight = network.value(before.inputs[1])
    bias = network.value(before.input(2)) if before.input(2) else np.zeros(1)
    if weight is None or bias is None or not np.all(np.isfinite(affine[0])) or not np.all(np.isfinite(affine[1])):
        return None
    axis = 0 if before.attributes.get("transB", 0) else LINEAR[before.kind]
    channels = weight.shape[axis]
    factor, offset = (np.broadcast_to(v.reshape(-1), (channels,)) for v in affine)
    shape = [-1 if place == axis else 1 for place in range(weight.ndim)]
    alpha, beta = (float(before.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    old = np.broadcast_to(bias.astype(np.float64).reshape(-1) * beta, (channels,))
    kept = before.inputs[3:]
    arrays = {
        f"{op.outputs[0]}_weight": _product(weight, alpha * factor.reshape(shape)),
        f"{op.outputs[0]}_bias": (old * factor + offset).astype(np.float32),
    }
    tensors |= {name: TensorInfo.constant(name, array) for name, array in arrays.items()}
    attributes = {key: value for key, value in before.attributes.items() if key not in ("alpha", "beta")}
    return replace(before, inputs=(before.inputs[0], *arrays, *kept), outputs=op.outputs, attributes=attributes)
