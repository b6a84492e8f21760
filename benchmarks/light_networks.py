"""The nine light models of the `onnx` package with seeded weights, and images to calibrate networks with.

The light models are real networks whose weights are constants. Here convolutions and products get weights of He's
variance, BatchNormalization the statistics of its own input on random images, and the layer before a last Softmax a
spread of logits as trained networks have it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

FloatArray = NDArray[np.float32]

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LOGIT_STD = 4.0
"""Spread of the inputs of a last Softmax: the likeliest of 1,000 classes has a share of about 0.2."""
STATISTICS_IMAGES = 8
CALIBRATION, EVALUATION = 16, 16
"""Samples of the data that is written beside a network."""
SHAPE = (3, 224, 224)


class Consumer(NamedTuple):
    """Who reads a weight: the node, and as which of its inputs."""

    node: onnx.NodeProto
    index: int


def images(count: int, shape: Sequence[int], seed: int) -> FloatArray:
    """Smooth random images with the spectrum of natural ones (amplitude 1/f), normalized as for ImageNet.

    Parameters
    ----------
    count : int
    shape : sequence of int
        (channels, height, width); up to 3 channels, of which each is correlated with the others.
    seed : int

    Returns
    -------
    ndarray of float32, shape (count, channels, height, width)
    """
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1 / max(height, width)
    fields = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((count, 4, height, width))) / frequency, (height, width))
    fields /= fields.std(axis=(1, 2, 3), keepdims=True)
    mixed = (fields[:, :1] + 0.5 * fields[:, 1 : 1 + channels]) * rng.uniform(0.5, 1.5, (count, 1, 1, 1))
    pixels = np.round(255 / (1 + np.exp(-mixed))) / 255
    mean, std = (np.reshape(values[:channels], (-1, 1, 1)) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return np.asarray((pixels - mean) / std, dtype=np.float32)


def write_light_network(name: str, folder: Path) -> None:
    """Write a light model with seeded weights, NAME.onnx, and its data, NAME.cal.npz and NAME.eval.npz."""
    model = seeded(onnx.load(FOLDER / f"{name}.onnx"))
    onnx.save(model, folder / f"{name}.onnx")
    source = model.graph.input[0].name
    for kind, count, seed in (("cal", CALIBRATION, 100), ("eval", EVALUATION, 101)):
        np.savez(folder / f"{name}.{kind}.npz", **{source: images(count, SHAPE, seed)})


def seeded(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """The model with every ConstantOfShape replaced by an initializer of seeded random weights."""
    rng = np.random.default_rng(seed)
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shapes = {name: array.shape for name, array in constants.items() if array.dtype == np.float32}
    for node in [node for node in graph.node if node.op_type == "ConstantOfShape"]:
        shapes[node.output[0]] = tuple(constants[node.input[0]])
        graph.node.remove(node)
    weights = {
        name: _draw(consumer, shape, rng) for name, shape in shapes.items() if (consumer := _consumer(graph, name))
    }
    inputs = [value for value in graph.input if value.name not in constants]
    used = {name for node in graph.node for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    for field, values in ((graph.input, inputs), (graph.initializer, tensors)):
        del field[:]
        field.extend(values)
    del graph.value_info[:]
    model.ir_version = 8
    _store(model, weights)
    samples = images(STATISTICS_IMAGES, SHAPE, seed + 1)
    _store(model, weights | _batch_statistics(model, samples))
    _spread_logits(model, samples)
    onnx.checker.check_model(model)
    return model


def _consumer(graph: onnx.GraphProto, name: str) -> Consumer | None:
    """The node that reads a weight, past Reshape and Unsqueeze; None if nothing does."""
    node = next((node for node in graph.node if name in node.input), None)
    if node is None:
        return None
    if node.op_type in ("Reshape", "Unsqueeze"):
        return _consumer(graph, node.output[0])
    return Consumer(node, list(node.input).index(name))


def _draw(consumer: Consumer, shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Random weights of the kind that a node's input is."""
    node, index = consumer
    if node.op_type in ("Conv", "Gemm") and index == 1:
        transposed = any(entry.name == "transB" and entry.i for entry in node.attribute)
        fan_in = np.prod(shape[1:]) if node.op_type == "Conv" else shape[-1 if transposed else -2]
        values = rng.standard_normal(shape) * np.sqrt(2 / fan_in)
    elif (node.op_type, index) in _KINDS:
        values = _KINDS[node.op_type, index](rng, shape)
    else:
        raise ValueError(f"{node.op_type} {node.name!r}: no rule for weights of its input {index}")
    return np.asarray(values, dtype=np.float32)


def _gain(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return rng.uniform(0.5, 1.5, shape)


def _offset(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return rng.normal(0, 0.2, shape)


_KINDS: dict[tuple[str, int], Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]] = {
    ("Conv", 2): _offset,
    ("Gemm", 2): _offset,
    ("Mul", 1): _gain,
    ("Add", 1): _offset,
    ("BatchNormalization", 1): _gain,
    ("BatchNormalization", 2): _offset,
    ("BatchNormalization", 3): lambda rng, shape: np.zeros(shape),
    ("BatchNormalization", 4): lambda rng, shape: np.ones(shape),
}


def _store(model: onnx.ModelProto, weights: dict[str, FloatArray]) -> None:
    """Set initializers of these names."""
    initializers = model.graph.initializer
    for tensor in [tensor for tensor in initializers if tensor.name in weights]:
        initializers.remove(tensor)
    initializers.extend(numpy_helper.from_array(array, name) for name, array in weights.items())


def _batch_statistics(model: onnx.ModelProto, samples: FloatArray) -> dict[str, FloatArray]:
    """Mean and variance of the input of every BatchNormalization, those before it normalizing by their own."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    nodes, names = [], []
    for node in probe.graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        source, scale, bias, mean, variance = node.input
        out = node.output[0]
        axes = {"axes": [0, 2, 3], "keepdims": 1}
        nodes += [
            helper.make_node("ReduceMean", [source], [f"{out}/mean"], **axes),
            helper.make_node("Sub", [source, f"{out}/mean"], [f"{out}/centred"]),
            helper.make_node("Mul", [f"{out}/centred", f"{out}/centred"], [f"{out}/square"]),
            helper.make_node("ReduceMean", [f"{out}/square"], [f"{out}/variance"], **axes),
            helper.make_node("Squeeze", [f"{out}/variance"], [f"{out}/flat"], axes=[0, 2, 3]),
            helper.make_node("BatchNormalization", [f"{out}/centred", scale, bias, mean, f"{out}/flat"], [out]),
        ]
        names += [(mean, f"{out}/mean"), (variance, f"{out}/variance")]
    del probe.graph.node[:]
    probe.graph.node.extend(nodes)
    values = _run(probe, samples, [output for _, output in names])
    return {weight: value.ravel() for (weight, _), value in zip(names, values, strict=True)}


def _spread_logits(model: onnx.ModelProto, samples: FloatArray) -> None:
    """Scale the last layer with weights so that the inputs of a last Softmax spread by `LOGIT_STD`."""
    graph = model.graph
    if graph.node[-1].op_type != "Softmax":
        return
    logits = graph.node[-1].input[0]
    factor = LOGIT_STD / _run(model, samples, [logits])[0].std(axis=1).mean()
    last = [node for node in graph.node if node.op_type in ("Conv", "Gemm")][-1]
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    reshaped = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Reshape"}
    names = [reshaped.get(name, name) for name in last.input[1:]]
    _store(model, {name: np.asarray(arrays[name] * factor, np.float32) for name in names})


def _run(model: onnx.ModelProto, samples: FloatArray, names: list[str]) -> list[Any]:
    """Values of inner tensors on a batch: sizes of 1 that a Reshape gives its first axis become that of the batch."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    graph = probe.graph
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape" and node.input[0] not in constants}
    batched = {name: np.array([0, *constants[name][1:]]) for name in shapes}
    _store(probe, batched)
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values: list[Any] = session.run(names, {graph.input[0].name: samples}) if names else []
    return values
