"""What ONNX Runtime's optimizer fuses or reorders in the models that it saves, as the operators that it was before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import ModelError
from accel.quantized.builder import free_name
from accel.quantized.host import MICROSOFT

if TYPE_CHECKING:
    import onnx

PROCESSOR = f"{MICROSOFT}.nchwc"
"""The domain of operators on the order of axes in memory that one processor likes."""
ADVICE = "with graph_optimization_level ORT_ENABLE_BASIC, or give the model before it"
_CLIP_OF_INPUTS, _NORMALIZATION = 11, 17
"""The first opsets whose Clip has its bounds as inputs, and that have LayerNormalization."""
_IMAGE = 4
"""Axes of the input of a global pool, whose attributes do not tell."""


class _Parts:
    """The nodes that one fused node becomes; the last of them has its name and its result."""

    def __init__(
        self, model: onnx.ModelProto, node: onnx.NodeProto, opset: int, ranks: dict[str, int], taken: set[str]
    ) -> None:
        from onnx import helper

        self.node, self.opset, self.ranks = node, opset, ranks
        self.fields = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        self.nodes: list[onnx.NodeProto] = []
        self._constants, self._taken = model.graph.initializer, taken

    def input(self, position: int) -> str:
        """The name of an input; empty if it is left out."""
        return str(self.node.input[position]) if position < len(self.node.input) else ""

    def output(self, position: int) -> str:
        """The name of a result; empty if nobody wants it."""
        return str(self.node.output[position]) if position < len(self.node.output) else ""

    def constant(self, what: str, value: Any) -> str:
        """A float32 number that the node has as an attribute."""
        from onnx import numpy_helper

        name = self._free(what)
        self._constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def add(self, kind: str, inputs: Sequence[str], result: str = "", *, domain: str = "", **fields: Any) -> str:
        """A node; its result is called `result`, or as the node is."""
        from onnx import helper

        name = self._free(kind.lower())
        self.nodes.append(helper.make_node(kind, inputs, [result or name], name=name, domain=domain, **fields))
        return result or name

    def finish(self) -> list[onnx.NodeProto]:
        """All nodes, the last of which stands for the fused one."""
        last = self.nodes[-1]
        last.name, last.output[0] = self.node.name, self.node.output[0]
        return self.nodes

    def _free(self, what: str) -> str:
        name = free_name(f"{self.node.name or self.node.output[0]}_{what}", self._taken)
        self._taken.add(name)
        return name


def unfused(model: onnx.ModelProto, opset: int) -> None:
    """Put operators of ONNX in the place of those that ONNX Runtime's optimizer made of them.

    Raises
    ------
    ModelError
        The model was optimized for one processor.
    """
    nodes = list(model.graph.node)
    for node in nodes:
        if node.domain == PROCESSOR:
            raise ModelError(
                f"{PROCESSOR}.{node.op_type} {node.name!r}: model was optimized by ONNX Runtime for one processor; "
                f"save it {ADVICE}"
            )
    if not any(node.domain == MICROSOFT for node in nodes):
        return
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    ranks |= {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.input}
    taken = set(ranks).union(*((node.name, *node.output) for node in nodes))
    del model.graph.node[:]
    for node in nodes:
        parts = _Parts(model, node, opset, ranks, taken)
        divide = _FUSED.get(node.op_type) if node.domain == MICROSOFT else None
        model.graph.node.extend(parts.finish() if divide and divide(parts) else [node])


def _activated(parts: _Parts, x: str, kind: bytes, numbers: Sequence[float]) -> None:
    """The function behind a layer."""
    name = kind.decode()
    if name == "Clip" and parts.opset < _CLIP_OF_INPUTS:
        parts.add(name, [x], min=numbers[0], max=numbers[1])
    elif name == "Clip":
        parts.add(name, [x, parts.constant("min", numbers[0]), parts.constant("max", numbers[1])])
    elif name:
        fields: dict[str, Any] = dict(zip(("alpha", "beta"), map(float, numbers), strict=False))
        parts.add(name, [x], **fields)


def _conv(parts: _Parts) -> bool:
    """FusedConv: a convolution, a sum, a function."""
    fields = dict(parts.fields)
    kind, numbers = fields.pop("activation", b""), fields.pop("activation_params", [])
    x = parts.add("Conv", [name for name in map(parts.input, range(3)) if name], **fields)
    if parts.input(3):
        x = parts.add("Add", [x, parts.input(3)])
    _activated(parts, x, kind, numbers)
    return True


def _gemm(parts: _Parts) -> bool:
    """FusedGemm: a product, a function."""
    fields = {name: value for name, value in parts.fields.items() if not name.startswith("activation")}
    numbers = [parts.fields[name] for name in ("activation_alpha", "activation_beta") if name in parts.fields]
    x = parts.add("Gemm", list(parts.node.input), **fields)
    _activated(parts, x, parts.fields.get("activation", b""), numbers)
    return True


def _matmul(parts: _Parts) -> bool:
    """FusedMatMul with weights: a product and a factor; products of activations stay, they are the host's."""
    rank, factor = parts.ranks.get(parts.input(1)), float(parts.fields.get("alpha", 1.0))
    if not rank or any(parts.fields.get(name) for name in ("transA", "transBatchA", "transBatchB")):
        return False
    weights = parts.input(1)
    if parts.fields.get("transB") and rank > 1:
        weights = parts.add("Transpose", [weights], perm=[*range(rank - 2), rank - 1, rank - 2])
    x = parts.add("MatMul", [parts.input(0), weights])
    if factor != 1:
        parts.add("Mul", [x, parts.constant("alpha", factor)])
    return True


def _biased(kind: str) -> Callable[[_Parts], bool]:
    """BiasGelu, and FastGelu with a bias."""

    def divide(parts: _Parts) -> bool:
        if not parts.input(1):
            return False
        parts.add(kind, [parts.add("Add", [parts.input(0), parts.input(1)])], domain=MICROSOFT)
        return True

    return divide


def _skip_normalization(parts: _Parts) -> bool:
    """SkipLayerNormalization: sums, of which the last may be a result too, and a normalization."""
    if parts.opset < _NORMALIZATION or parts.output(1) or parts.output(2):
        return False
    x = parts.add("Add", [parts.input(0), parts.input(1)], "" if parts.input(4) else parts.output(3))
    if parts.input(4):
        x = parts.add("Add", [x, parts.input(4)], parts.output(3))
    inputs = [x, parts.input(2), *filter(None, [parts.input(3)])]
    parts.add("LayerNormalization", inputs, axis=-1, epsilon=float(parts.fields.get("epsilon", 1e-12)))
    return True


def _channels_last(kind: str, domain: str = "") -> Callable[[_Parts], bool]:
    """An operator on images whose channels are last."""

    def divide(parts: _Parts) -> bool:
        fields = dict(parts.fields)
        if not fields.pop("channels_last", kind == "MaxPool"):
            if kind == "QLinearConv":
                parts.add(kind, list(parts.node.input), **fields)
            return kind == "QLinearConv"
        kernel = len(fields["kernel_shape"]) + 2 if "kernel_shape" in fields else _IMAGE
        rank = parts.ranks.get(parts.input(3), kernel) if kind == "QLinearConv" else kernel
        x = parts.add("Transpose", [parts.input(0)], perm=[0, rank - 1, *range(1, rank - 1)])
        y = parts.add(kind, [x, *list(parts.node.input)[1:]], domain=domain, **fields)
        parts.add("Transpose", [y], perm=[0, *range(2, rank), 1])
        return True

    return divide


def _dequantized_product(parts: _Parts) -> bool:
    """MatMulIntegerToFloat: two matrices of integers, their scales, zero points, and a bias."""
    a = parts.add("DequantizeLinear", [name for i in (0, 2, 4) if (name := parts.input(i))])
    b = parts.add("DequantizeLinear", [name for i in (1, 3, 5) if (name := parts.input(i))], axis=-1)
    x = parts.add("MatMul", [a, b])
    if parts.input(6):
        parts.add("Add", [x, parts.input(6)])
    return True


_FUSED: dict[str, Callable[[_Parts], bool]] = {
    "BiasGelu": _biased("Gelu"),
    "FastGelu": _biased("FastGelu"),
    "FusedConv": _conv,
    "FusedGemm": _gemm,
    "FusedMatMul": _matmul,
    "MatMulIntegerToFloat": _dequantized_product,
    "NhwcMaxPool": _channels_last("MaxPool"),
    "QLinearAveragePool": _channels_last("QLinearAveragePool", MICROSOFT),
    "QLinearConv": _channels_last("QLinearConv"),
    "QLinearGlobalAveragePool": _channels_last("QLinearGlobalAveragePool", MICROSOFT),
    "SkipLayerNormalization": _skip_normalization,
}
"""How each operator is divided; False if it stays as it is."""
