"""Random quantized networks for equality tests: single layers and small branched networks with legal parameters."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from accel.machine import numerics
from accel.machine.numerics import multiplier_fp32, quantize_multiplier
from accel.network.graph import Graph, Tensor
from accel.network.nodes import (
    Add,
    AveragePool2d,
    Clamp,
    Conv2d,
    FullyConnected,
    MaxPool2d,
    Mean,
    Mul,
    Node,
    Reshape,
    Softmax,
    Sub,
    Table,
)

Rng = np.random.Generator


@dataclass
class GraphBuilder:
    """Appends random nodes to a network."""

    rng: Rng
    mode: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)

    def tensor(self, shape: tuple[int, ...], like: Tensor | None = None) -> Tensor:
        scale = float(np.float32(self.rng.uniform(0.01, 0.1))) if like is None else like.scale
        point = int(self.rng.integers(-128, 128)) if like is None else like.zero_point
        tensor = Tensor(f"t{len(self.tensors)}", shape, scale, point)
        self.tensors[tensor.name] = tensor
        return tensor

    def given(self, shape: tuple[int, ...], like: Tensor | None = None) -> Tensor:
        """An input of the network."""
        tensor = self.tensor(shape, like)
        self.inputs.append(tensor.name)
        return tensor

    def multiplier(self, real: float) -> tuple[int, int]:
        return multiplier_fp32(np.float32(real)) if self.mode == "fp32" else quantize_multiplier(real)

    def clamp(self) -> dict[str, int]:
        low, high = sorted(self.rng.integers(-128, 128, 2).tolist())
        return {"act_min": low, "act_max": high} if self.rng.random() < 0.3 else {}

    def weights(self, shape: tuple[int, ...]) -> dict[str, object]:
        rng, depth = self.rng, int(np.prod(shape[1:]))
        extreme = rng.random() < 0.15
        weight = np.full(shape, -128) if extreme else rng.integers(-128, 128, shape)
        bias = rng.integers(-(2**31), 2**31, shape[0]) // (1 if rng.random() < 0.1 else 2**18)
        typical = 1 / (60 * 74 * np.sqrt(depth)) * 60
        pairs = [self.multiplier(float(typical * 2 ** rng.uniform(-3, 2))) for _ in range(shape[0])]
        return {
            "weight": weight.astype(np.int8),
            "bias": bias.astype(np.int32),
            "multiplier": np.array([q for q, _ in pairs], np.int32),
            "shift": np.array([e for _, e in pairs], np.int8),
        }

    def pick(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def pick_divisor(self, number: int) -> int:
        divisors = [d for d in range(1, number + 1) if number % d == 0]
        return number if self.rng.random() < 0.5 else divisors[self.pick(0, len(divisors) - 1)]

    def window(self, shape: tuple[int, ...], largest: int, *, dilated: bool) -> dict[str, tuple[int, ...]]:
        kernel = tuple(self.pick(1, largest) for _ in "hw")
        dilation = tuple(self.pick(1, 2) if dilated else 1 for _ in "hw")
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        padding = [self.pick(0, extent[i % 2] - 1 if dilated else kernel[i % 2] - 1) for i in range(4)]
        for axis in (0, 1):
            while shape[1 + axis] + padding[axis] + padding[axis + 2] < extent[axis]:
                padding[axis] += 1
        if not dilated and any(pad >= kernel[i % 2] for i, pad in enumerate(padding)):
            kernel, padding = (1, 1), [0] * 4
        stride = tuple(self.pick(1, 3) for _ in "hw")
        return {"kernel": kernel, "stride": stride, "padding": tuple(padding), "dilation": dilation}

    def conv(self, source: Tensor, channels: int) -> Tensor:
        window = self.window(source.shape, 4, dilated=True)
        kernel = window.pop("kernel")
        depth = source.shape[3]
        groups = self.pick_divisor(depth) if self.rng.random() < 0.35 else 1
        channels = -(-channels // groups) * groups
        weights = self.weights((channels, *kernel, depth // groups))
        name = f"conv{len(self.nodes)}"
        node = Conv2d(name=name, inputs=(source.name,), output="", groups=groups, **window, **self.clamp(), **weights)
        return self.append(node, self.tensor(node.output_shape(source.shape)))

    def pointwise(self, source: Tensor, channels: int) -> Tensor:
        """A convolution that keeps height, width, scale and zero point."""
        weights = self.weights((channels, 1, 1, source.shape[3]))
        node = Conv2d(name=f"conv{len(self.nodes)}", inputs=(source.name,), output="", **weights)
        return self.append(node, self.tensor(node.output_shape(source.shape), like=source))

    def append(self, node: Node, output: Tensor) -> Tensor:
        object.__setattr__(node, "output", output.name)
        self.nodes.append(node)
        return output

    def pool(self, source: Tensor) -> Tensor:
        kind = MaxPool2d if self.rng.random() < 0.5 else AveragePool2d
        window = self.window(source.shape, 3, dilated=False)
        del window["dilation"]
        node = kind(name=f"pool{len(self.nodes)}", inputs=(source.name,), output="", **window, **self.clamp())
        return self.append(node, self.tensor(node.output_shape(source.shape), like=source))

    def mean(self, source: Tensor) -> Tensor:
        kernel = source.shape[1:3]
        output = self.tensor((1, 1, 1, source.shape[3]))
        multiplier, shift = self.multiplier(source.scale / (output.scale * kernel[0] * kernel[1]))
        node = Mean(
            name=f"mean{len(self.nodes)}", inputs=(source.name,), output="", kernel=kernel, multiplier=multiplier,
            shift=shift, **self.clamp(),
        )  # fmt: skip
        return self.append(node, output)

    def combined(self, first: Tensor, second: Tensor) -> Tensor:
        """Sum, difference or product of two tensors."""
        kind = (Add, Sub, Mul)[self.pick(0, 2)]
        return self.product(first, second) if kind is Mul else self.rescaled(kind, first, second)

    def product(self, first: Tensor, second: Tensor) -> Tensor:
        output = self.tensor(first.shape)
        multiplier, shift = self.multiplier(first.scale * second.scale / output.scale)
        node = Mul(
            name=f"mul{len(self.nodes)}", inputs=(first.name, second.name), output="", multiplier=multiplier,
            shift=shift, **self.clamp(),
        )  # fmt: skip
        return self.append(node, output)

    def rescaled(self, kind: type[Add] | type[Sub], first: Tensor, second: Tensor) -> Tensor:
        twice = 2 * max(first.scale, second.scale)
        output = self.tensor(first.shape)
        node = kind(
            name=f"{kind.__name__.lower()}{len(self.nodes)}",
            inputs=(first.name, second.name),
            output="",
            operand0=self.multiplier(first.scale / twice),
            operand1=self.multiplier(second.scale / twice),
            multiplier=(last := self.multiplier(twice / (2**20 * output.scale)))[0],
            shift=last[1],
            **self.clamp(),
        )
        return self.append(node, output)

    def clamped(self, source: Tensor) -> Tensor:
        node = Clamp(name=f"clamp{len(self.nodes)}", inputs=(source.name,), output="", **self.clamp())
        return self.append(node, self.tensor(source.shape, like=source))

    def table(self, source: Tensor) -> Tensor:
        values = self.rng.integers(-128, 128, 256, dtype=np.int8)
        node = Table(name=f"table{len(self.nodes)}", inputs=(source.name,), output="", table=values)
        return self.append(node, self.tensor(source.shape))

    def fully_connected(self, source: Tensor, outputs: int) -> Tensor:
        features = int(np.prod(source.shape))
        if self.rng.random() < 0.5 and len(source.shape) == 4:
            node = Reshape(name=f"flat{len(self.nodes)}", inputs=(source.name,), output="", shape=(1, features))
            source = self.append(node, self.tensor((1, features), like=source))
        weights = self.weights((outputs, features))
        name = f"fc{len(self.nodes)}"
        fc = FullyConnected(name=name, inputs=(source.name,), output="", **self.clamp(), **weights)
        return self.append(fc, self.tensor((1, outputs)))

    def softmax(self, source: Tensor) -> Tensor:
        name = f"softmax{len(self.nodes)}"
        result = Tensor(name, source.shape, *Softmax.output_parameters)
        self.tensors[name] = result
        return self.append(Softmax(name=name, inputs=(source.name,), output=""), result)

    def graph(self, last: Tensor) -> Graph:
        """The network, whose outputs are `last`, what nothing reads, and sometimes more."""
        made = [node.output for node in self.nodes]
        used = {name for node in self.nodes for name in node.inputs}
        chosen = {last.name} | {name for name in made if name not in used or self.rng.random() < 0.1}
        outputs = tuple(name for name in self.tensors if name in chosen)
        return Graph("random", self.mode, self.tensors, tuple(self.nodes), tuple(self.inputs), outputs)


def random_graph(rng: Rng, mode: str, *, layers: int = 4, channels: int = 40, size: int = 12) -> Graph:
    """A random network of about `layers` layers: chains, residual branches, several inputs and outputs now and then.

    Parameters
    ----------
    rng : numpy Generator
    mode : str
        Requantization mode.
    layers, channels, size : int
        Upper bounds of depth, channels and image size.
    """
    builder = GraphBuilder(rng, mode)
    current = builder.tensor((1, builder.pick(1, size), builder.pick(1, size), builder.pick(1, channels)))
    inputs = [current.name]
    for _ in range(builder.pick(1, layers)):
        draw = rng.random()
        if len(current.shape) == 2:
            current = builder.fully_connected(current, builder.pick(1, channels))
        elif draw < 0.5:
            current = builder.conv(current, builder.pick(1, channels))
        elif draw < 0.62:
            current = builder.pool(current)
        elif draw < 0.65:
            current = builder.mean(current)
        elif draw < 0.8:
            partners = [t for t in builder.tensors.values() if t.shape == current.shape]
            if rng.random() < 0.2:
                partners = [builder.tensor(current.shape)]
                inputs.append(partners[0].name)
            current = builder.combined(current, partners[builder.pick(0, len(partners) - 1)])
        elif draw < 0.87:
            current = builder.clamped(current) if rng.random() < 0.5 else builder.table(current)
        else:
            current = builder.fully_connected(current, builder.pick(1, channels))
    made = [node.output for node in builder.nodes if not isinstance(node, Reshape)]
    outputs = {made[-1], made[builder.pick(0, len(made) - 1)]}
    if rng.random() < 0.2:
        outputs.add(builder.softmax(current).name)
    made = [node.output for node in builder.nodes if not isinstance(node, Reshape)]
    used = {name for node in builder.nodes for name in node.inputs} | outputs
    outputs |= {name for name in made if name not in used}
    ordered = tuple(name for name in made if name in outputs)
    return Graph("random", mode, builder.tensors, tuple(builder.nodes), tuple(inputs), ordered)


def random_inputs(rng: Rng, graph: Graph) -> dict[str, np.ndarray]:
    """Int8 inputs by name; sometimes -128 everywhere."""
    if rng.random() < 0.1:
        return {name: np.full(graph.tensors[name].shape, numerics.INT8_MIN, np.int8) for name in graph.inputs}
    return {name: rng.integers(-128, 128, graph.tensors[name].shape, dtype=np.int8) for name in graph.inputs}
