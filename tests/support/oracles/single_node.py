"""Random graphs of one node whose outputs use the whole int8 range, for comparison with outside runtimes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import RequantMode, activation_range, output_multipliers, quantize_multiplier
from accel.network.graph import Add, AveragePool2d, Conv2d, FullyConnected, Graph, MaxPool2d, Node, Softmax, Tensor

ACTIVATIONS = {"none": (-np.inf, np.inf), "relu": (0.0, np.inf), "relu6": (0.0, 6.0)}


@dataclass(frozen=True, eq=False)
class Case:
    """A graph of one node and what a runtime needs to know besides."""

    graph: Graph
    weight_scales: NDArray[np.float32]
    same_padding: bool
    activation: str

    @property
    def node(self) -> Any:
        """The node."""
        return self.graph.nodes[0]

    def random_inputs(self, rng: np.random.Generator) -> dict[str, NDArray[np.int8]]:
        """Values for every input; one time in four only extremes."""
        values = [-128, 127] if rng.random() < 0.25 else range(-128, 128)
        return {name: rng.choice(values, self.graph.tensors[name].shape).astype(np.int8) for name in self.graph.inputs}


def f32(x: float) -> float:
    """`x` rounded to float32."""
    return float(np.float32(x))


def random_tensor(rng: np.random.Generator, name: str, shape: tuple[int, ...], scale: float | None = None) -> Tensor:
    """A tensor with a random zero point and, unless it is given, a random scale: sometimes 1/8, where ties abound."""
    drawn = scale or rng.choice([0.125, 10 ** rng.uniform(-3, 1)], p=[0.2, 0.8])
    return Tensor(name, shape, f32(drawn), int(rng.integers(-128, 128)))


def single(node: Node, mode: str, inputs: list[Tensor], output: Tensor) -> Graph:
    """The graph of one node."""
    tensors = {tensor.name: tensor for tensor in (*inputs, output)}
    return Graph("single", RequantMode(mode), tensors, (node,), tuple(t.name for t in inputs), (output.name,))


def linear_fields(rng: np.random.Generator, mode: str, shape: tuple[int, ...], x: Tensor) -> tuple[dict[str, Any], Any]:
    """Random weights, bias and multipliers; and the weight scales with the scale of the output.

    All scales are powers of two if that of `x` is.
    """
    channels, terms = shape[0], int(np.prod(shape[1:]))
    weight = rng.integers(-127, 128, shape)
    if rng.random() < 0.2:
        weight = rng.choice([-127, 127], shape)
    spread = 73 * 73 * np.sqrt(terms) if terms > 1 else 73 * 73
    bias = rng.normal(0, spread, channels)
    scales = (10 ** rng.uniform(-4, 0) * rng.uniform(0.3, 3, channels)).astype(np.float32)
    steepness = 2.0 ** rng.choice([0, 0, 0, 7, 14])
    scale_out = np.float32(x.scale * np.median(scales) * spread / 60 / steepness)
    if np.log2(x.scale) % 1 == 0:
        scales, scale_out = (np.exp2(np.rint(np.log2(s))).astype(np.float32) for s in (scales, scale_out))
    multiplier, shift = output_multipliers(x.scale, scales, scale_out, mode)
    arrays = {"weight": weight.astype(np.int8), "bias": bias.astype(np.int32), "multiplier": multiplier, "shift": shift}
    return arrays, (scales, float(scale_out))


def limits(activation: str, out: Tensor) -> dict[str, int]:
    """Clamp fields."""
    act_min, act_max = activation_range(*ACTIVATIONS[activation], out.scale, out.zero_point)
    return {"act_min": act_min, "act_max": act_max}


def same_pads(size: int, extent: int, stride: int) -> tuple[int, int]:
    """Padding before and after that gives ``ceil(size / stride)`` outputs."""
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def random_window(
    rng: np.random.Generator, size: tuple[int, int], kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[bool, tuple[int, int], tuple[int, int, int, int]]:
    """Whether padding is SAME (not VALID), strides, and padding (top, left, bottom, right)."""
    same = bool(rng.integers(2))
    stride = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    if not same:
        return same, stride, (0, 0, 0, 0)
    (top, bottom), (left, right) = (
        same_pads(n, d * (k - 1) + 1, s) for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    )
    return same, stride, (top, left, bottom, right)


def conv_case(rng: np.random.Generator, mode: str) -> Case:
    """A convolution."""
    size = (int(rng.integers(7, 20)), int(rng.integers(7, 20)))
    kernel = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    dilation = (2, 2) if rng.random() < 0.2 else (1, 1)
    channels = int(rng.choice([1, 3, 8, 17, 32]))
    same, stride, padding = random_window(rng, size, kernel, dilation)
    if dilation != (1, 1):
        stride = (1, 1)
        _, (top, bottom), (left, right) = 0, *(same_pads(n, 2 * k - 1, 1) for n, k in zip(size, kernel, strict=True))
        padding = (top, left, bottom, right) if same else (0, 0, 0, 0)
    x = random_tensor(rng, "x", (1, *size, channels))
    shape = (int(rng.choice([1, 4, 16, 24])), *kernel, channels)
    arrays, (scales, scale_out) = linear_fields(rng, mode, shape, x)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    draft = Conv2d(name="conv", inputs=("x",), output="y", **arrays, **geometry)
    y = random_tensor(rng, "y", draft.output_shape(x.shape), scale_out)
    activation = str(rng.choice(list(ACTIVATIONS)))
    node = Conv2d(name="conv", inputs=("x",), output="y", **arrays, **geometry, **limits(activation, y))
    return Case(single(node, mode, [x], y), scales, same, activation)


def fully_connected_case(rng: np.random.Generator, mode: str) -> Case:
    """A matrix product."""
    x = random_tensor(rng, "x", (1, int(rng.integers(1, 200))))
    shape = (int(rng.integers(2, 256)), x.shape[1])
    arrays, (scales, scale_out) = linear_fields(rng, mode, shape, x)
    y = random_tensor(rng, "y", (1, shape[0]), scale_out)
    activation = str(rng.choice(list(ACTIVATIONS)))
    node = FullyConnected(name="fc", inputs=("x",), output="y", **arrays, **limits(activation, y))
    return Case(single(node, mode, [x], y), scales, False, activation)


def pool_case(rng: np.random.Generator, mode: str, kind: type[MaxPool2d] | type[AveragePool2d]) -> Case:
    """A pool."""
    size = (int(rng.integers(5, 20)), int(rng.integers(5, 20)))
    kernel = (int(rng.integers(1, 6)), int(rng.integers(1, 6)))
    same, stride, padding = random_window(rng, size, kernel, (1, 1))
    x = random_tensor(rng, "x", (1, *size, int(rng.integers(1, 24))))
    draft = kind(name="pool", inputs=("x",), output="y", kernel=kernel, stride=stride, padding=padding)
    y = Tensor("y", draft.output_shape(x.shape), *x.parameters)
    activation = str(rng.choice(list(ACTIVATIONS)))
    window = {"kernel": kernel, "stride": stride, "padding": padding}
    node = kind(name="pool", inputs=("x",), output="y", **window, **limits(activation, y))
    return Case(single(node, mode, [x], y), np.zeros(0, dtype=np.float32), same, activation)


def softmax_case(rng: np.random.Generator, mode: str) -> Case:
    """A softmax of logits from almost equal to far apart; the runtime aborts on more than 256 equal logits."""
    x = random_tensor(rng, "x", (1, int(rng.choice([2, 3, 10, 100, 200]))), 2 ** rng.uniform(-10, 2))
    y = Tensor("y", x.shape, *Softmax.output_parameters)
    node = Softmax(name="softmax", inputs=("x",), output="y")
    return Case(single(node, mode, [x], y), np.zeros(0, dtype=np.float32), False, "none")


def add_case(rng: np.random.Generator, mode: str) -> Case:
    """A sum, with the multipliers that TensorFlow Lite derives from the scales."""
    shape = (1, int(rng.integers(2, 12)), int(rng.integers(2, 12)), int(rng.integers(1, 24)))
    inputs = [random_tensor(rng, "x0", shape)]
    inputs.append(random_tensor(rng, "x1", shape, inputs[0].scale * 2 ** rng.uniform(-3, 3)))
    twice = 2 * max(t.scale for t in inputs)
    y = random_tensor(rng, "y", shape, twice * 2 ** rng.uniform(-2, 1))
    multiplier, shift = quantize_multiplier(twice / (2**20 * y.scale))
    activation = str(rng.choice(list(ACTIVATIONS)))
    node = Add(
        name="add",
        inputs=("x0", "x1"),
        output="y",
        operand0=quantize_multiplier(inputs[0].scale / twice),
        operand1=quantize_multiplier(inputs[1].scale / twice),
        multiplier=multiplier,
        shift=shift,
        **limits(activation, y),
    )
    return Case(single(node, mode, inputs, y), np.zeros(0, dtype=np.float32), False, activation)
