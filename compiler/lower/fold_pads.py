"""Padding that only convolutions read becomes theirs."""

from __future__ import annotations

from dataclasses import replace

from accel.network.graph import Graph
from accel.network.nodes import Conv2d, Pad
from compiler.lower.wide_windows import PADDING_MAX


def fold_pads(graph: Graph) -> Graph:
    """The graph without Pad nodes around images whose value is the zero point and that feed convolutions only."""
    nodes, tensors = list(graph.nodes), dict(graph.tensors)
    for pad in reversed(graph.nodes):
        readers = [i for i, node in enumerate(nodes) if pad.output in node.inputs]
        if not isinstance(pad, Pad) or pad.output in graph.outputs or not readers or not _is_border(graph, pad):
            continue
        folded = {i: _padded(conv, pad) for i in readers if isinstance(conv := nodes[i], Conv2d)}
        if len(folded) < len(readers) or any(max(conv.padding[:2]) > PADDING_MAX for conv in folded.values()):
            continue
        nodes = [folded.get(i, node) for i, node in enumerate(nodes) if node is not pad]
        del tensors[pad.output]
    return replace(graph, nodes=tuple(nodes), tensors=tensors) if len(nodes) < len(graph.nodes) else graph


def _is_border(graph: Graph, pad: Pad) -> bool:
    zero_point = graph.tensors[pad.inputs[0]].zero_point
    return len(pad.before) == 4 and not pad.before[3] and not pad.after[3] and pad.value == zero_point


def _padded(conv: Conv2d, pad: Pad) -> Conv2d:
    top, left, bottom, right = conv.padding
    (_, above, before, _), (_, below, after, _) = pad.before, pad.after
    return replace(conv, inputs=pad.inputs, padding=(top + above, left + before, bottom + below, right + after))
