"""A graph that contradicts itself cannot be made, and the message names the culprit."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from support.networks.small_graphs import every_operation

from accel.errors import GraphError
from accel.network.graph import NODE_TYPES, Clamp, Conv2d, Graph, Tensor


def changed_node(graph: Graph, name: str, /, **fields: Any) -> Graph:
    nodes = tuple(dataclasses.replace(node, **fields) if node.name == name else node for node in graph.nodes)
    return dataclasses.replace(graph, nodes=nodes)


def changed_tensor(graph: Graph, name: str, /, **fields: Any) -> Graph:
    tensor = dataclasses.replace(graph.tensors[name], **fields)
    return dataclasses.replace(graph, tensors={**graph.tensors, name: tensor})


@pytest.mark.parametrize("mode", ["tflite", "single", "fp32"])
def test_every_operation_is_valid(mode: str) -> None:
    graph = every_operation(mode)
    assert {node.op for node in graph.nodes} == set(NODE_TYPES) - {"Dequantize", "HostOperator", "Quantize"}
    assert graph.producer("c") is graph.nodes[2]
    assert graph.producer("image") is None
    assert graph.consumers("c") == (graph.nodes[3],)


def test_arrays_are_read_only_copies() -> None:
    weight = np.ones((6, 1, 1, 6), dtype=np.int8)
    graph = changed_node(every_operation(), "mix", weight=weight)
    weight[:] = 7
    node = graph.nodes[1]
    assert isinstance(node, Conv2d)
    kept = node.weight
    assert kept.max() == 1
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 1


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (
            "stem",
            {"inputs": ("b",)},
            "Conv2d 'stem': input must be a graph input or the output of an earlier node, got 'b'",
        ),
        ("stem", {"name": "mix"}, "node names must be distinct texts that are not empty, got 'mix'"),
        ("stem", {"weight_bits": 5}, "Conv2d 'stem': weight_bits must be 4 or 8, got 5"),
        ("stem", {"weight_bits": True}, "Conv2d 'stem': weight_bits must be 4 or 8, got True"),
        (
            "stem",
            {"weight_bits": 4, "weight": np.full((6, 3, 3, 4), -9, np.int8)},
            "Conv2d 'stem': weights of 4 bits must lie in -8 .. 7, got -9 .. -9",
        ),
        ("stem", {"groups": 4}, "Conv2d 'stem': groups must divide the 6 output channels, got 4"),
        (
            "pick",
            {"indices": np.array([4], np.int32)},
            "Gather 'pick': axis and indices must select elements of (1, 5, 4, 6), got axis 2",
        ),
        ("pick", {"indices": np.array([-1], np.int32)}, "Gather 'pick': indices must be at least one number from 0"),
        (
            "blocks",
            {"permutation": (0, 2, 1, 1)},
            "Rearrange 'blocks': permutation must be an order of 4 axes, got (0, 2, 1, 1)",
        ),
        (
            "blocks",
            {"sizes": (5, 3, 2, 2)},
            "Rearrange 'blocks': sizes and shape must have 90 elements, got (5, 3, 2, 2) and (1, 10, 3, 3)",
        ),
        ("stem", {"act_min": 128}, "Conv2d 'stem': act_min must be an integer in [-128, 127], got 128"),
        ("stem", {"act_max": 3}, "Conv2d 'stem': act_max must be an integer in [4, 127], got 3"),
        ("stem", {"stride": (0, 1)}, "Conv2d 'stem': window must be made of 2 integers in [1, 32767], got (0, 1)"),
        ("stem", {"padding": 1}, "Conv2d 'stem': window must be made of 4 integers in [0, 32767], got 1"),
        ("stem", {"dilation": (6, 1)}, "Conv2d 'stem': padded input must cover a window of 13, got 11 in axis 1"),
        (
            "stem",
            {"bias": np.zeros(6)},
            "Conv2d 'stem': bias must be an array of int32 with shape (6,), got float64 (6,)",
        ),
        ("stem", {"bias": None}, "Conv2d 'stem': bias must be an array of int32 with shape (6,), got None"),
        ("mix", {"shift": np.zeros(5, np.int8)}, "Conv2d 'mix': shift must have shape (6,), got (5,)"),
        (
            "mix",
            {"weight": np.zeros((6, 1, 1, 5), np.int8)},
            "Conv2d 'mix': input must have 5 channels, got (1, 5, 4, 6)",
        ),
        (
            "classify",
            {"inputs": ("d",)},
            "FullyConnected 'classify': input must have 12 features, got shape (1, 3, 2, 6)",
        ),
        (
            "max",
            {"padding": (1, 0, 0, 2)},
            "MaxPool2d 'max': padding must be smaller than the kernel (3, 2), got (1, 0, 0, 2)",
        ),
        ("sum", {"inputs": ("a",)}, "Add 'sum': inputs must be 2 tensors, got ('a',)"),
        ("sum", {"inputs": ("a", "image")}, "Add 'sum': inputs must have one shape, got (1, 5, 4, 6) and (1, 9, 8, 3)"),
        ("sum", {"left_shift": 23}, "Add 'sum': left_shift must be an integer in [0, 22], got 23"),
        ("sum", {"operand0": (1.5, 0)}, "Add 'sum': multiplier must be an integer in [0, 2147483647], got 1.5"),
        ("flatten", {"shape": (1, 13)}, "Reshape 'flatten': shape must have 12 elements, got (1, 13)"),
        ("flatten", {"shape": (1, 1, 2, 6)}, "Reshape 'flatten': output 'g' must have shape (1, 1, 2, 6), got (1, 12)"),
    ],
)
def test_contradicting_node_is_refused(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=f"^{re.escape(message)}$"):
        changed_node(every_operation(), name, **fields)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("a", {"scale": 0.1}, "tensor 'a': scale must be a positive float32 value, got 0.1"),
        ("a", {"scale": float("nan")}, "tensor 'a': scale must be a positive float32 value, got nan"),
        ("a", {"zero_point": 128}, "tensor 'a': zero_point must be an integer in [-128, 127], got 128"),
        ("a", {"name": "z"}, "tensor name must be its key 'a', got 'z'"),
        ("a", {"shape": (1, 5, 4, 7)}, "Conv2d 'stem': output 'a' must have shape (1, 5, 4, 6), got (1, 5, 4, 7)"),
        (
            "image",
            {"shape": (2, 9, 8, 3)},
            "tensor 'image': shape must be (1, height, width, channels) or (1, features), got (2, 9, 8, 3)",
        ),
        (
            "d",
            {"zero_point": 8},
            "MaxPool2d 'max': input and output must have equal (scale, zero_point), got (0.5, 9) and (0.5, 8)",
        ),
        (
            "i",
            {"zero_point": 0},
            "Softmax 'share': output (scale, zero_point) must be (0.00390625, -128), got (0.00390625, 0)",
        ),
    ],
)
def test_contradicting_tensor_is_refused(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=f"^{re.escape(message)}$"):
        changed_tensor(every_operation(), name, **fields)


def test_unwritten_tensor_is_refused() -> None:
    graph = every_operation()
    with pytest.raises(GraphError, match=r"^every tensor must be an input or written by a node, got \['z'\]$"):
        dataclasses.replace(graph, tensors={**graph.tensors, "z": Tensor("z", (1, 2), 1.0, 0)})


def test_second_writer_is_refused() -> None:
    graph = every_operation()
    extra = Clamp(name="again", inputs=("a",), output="a")
    with pytest.raises(GraphError, match=r"^Clamp 'again': output must be a declared tensor that nothing else writes"):
        dataclasses.replace(graph, nodes=(*graph.nodes, extra))


@pytest.mark.parametrize("outputs", [(), ("h", "h"), ("unknown",), "h"])
def test_outputs_must_be_distinct_tensors(outputs: Any) -> None:
    with pytest.raises(GraphError, match=r"^graph outputs must be distinct names of tensors, at least one, got "):
        dataclasses.replace(every_operation(), outputs=outputs)


@pytest.mark.parametrize(
    ("mode", "multiplier", "shift", "problem"),
    [
        ("tflite", 2**30 - 1, 0, "multipliers must lie in [2**30, 2**31), or be 0 with shift 0"),
        ("tflite", 0, 1, "multipliers must lie in [2**30, 2**31), or be 0 with shift 0"),
        ("tflite", 2**30, 31, "shifts of mode tflite must lie in [-31, 30]"),
        ("single", 2**30, -32, "shifts of mode single must lie in [-31, 30]"),
        ("fp32", 2**30, -126, "shifts of mode fp32 must lie in [-125, 30]"),
        ("fp32", 2**30 + 1, 0, "multipliers of mode fp32 must be multiples of 128"),
    ],
)
def test_multipliers_outside_the_mode_are_refused(mode: str, multiplier: int, shift: int, problem: str) -> None:
    fields = {"multiplier": np.full(6, multiplier, np.int32), "shift": np.full(6, shift, np.int8)}
    with pytest.raises(GraphError, match=f"^Conv2d 'mix': {re.escape(problem)}, got "):
        changed_node(every_operation(mode), "mix", **fields)


def test_too_many_products_are_refused() -> None:
    weight = np.zeros((6, 1, 1, 2**16), dtype=np.int8)
    with pytest.raises(
        GraphError, match=r"^Conv2d 'mix': one output must sum 1 to 65535 products, got weights of shape"
    ):
        changed_node(every_operation(), "mix", weight=weight)
