"""A module as a graph of operations, with its layers wrapped and every value named."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from accel.errors import ModelError
from accel.train.layers import NORMS, WEIGHTED, QuantizedLayer


def trace(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """A copy of a module as an fx graph whose layers are `QuantizedLayer`; BatchNormalization is inside them.

    Parameters
    ----------
    model : nn.Module
    example : Tensor, shape (samples, ...)

    Raises
    ------
    ModelError
        fx cannot trace the module, or the example does not run through it.
    """
    was_training = model.training
    try:
        traced = fx.symbolic_trace(_out_of_place(copy.deepcopy(model).eval()))
        ShapeProp(traced).propagate(example)
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"module {type(model).__name__} must be traceable by torch.fx and accept an example of shape "
            f"{tuple(example.shape)}, got {type(error).__name__}: {reason[-1] if reason else ''}"
        ) from error
    layers = [(node, _module(traced, node)) for node in traced.graph.nodes]
    for node, layer in layers:
        if isinstance(layer, WEIGHTED):
            _wrap(traced, node, layer)
    traced.graph.lint()
    traced.recompile()
    return traced.train(was_training)


def values(traced: fx.GraphModule) -> list[fx.Node]:
    """Nodes that give one tensor each, in order, inputs first."""
    shaped = (node for node in traced.graph.nodes if node.op != "output")
    return [node for node in shaped if hasattr(node.meta.get("tensor_meta"), "shape")]


def layer_of(traced: fx.GraphModule, node: fx.Node) -> QuantizedLayer | None:
    """The wrapped layer that computes a node."""
    found = _module(traced, node)
    return found if isinstance(found, QuantizedLayer) else None


def _out_of_place(model: nn.Module) -> nn.Module:
    """The module without operations that overwrite their input, whose value has a name of its own."""
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return model


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _wrap(traced: fx.GraphModule, node: fx.Node, layer: nn.Module) -> None:
    """Replace a layer, and the BatchNormalization that alone reads it, by one `QuantizedLayer`."""
    readers = list(node.users)
    norm = _module(traced, readers[0]) if len(readers) == 1 else None
    foldable = isinstance(norm, NORMS) and norm.track_running_stats and _used_once(traced, readers[0])
    if isinstance(layer, nn.Linear) and len(node.meta["tensor_meta"].shape) != 2:
        foldable = False
    wrapped = QuantizedLayer(layer, norm if foldable else None)
    if not _used_once(traced, node):
        raise ModelError(f"layer {node.target!r} must be called once, got several calls; give each call a layer")
    _replace(traced, str(node.target), wrapped)
    if foldable:
        readers[0].replace_all_uses_with(node)
        node.meta = {**node.meta, **readers[0].meta}
        traced.graph.erase_node(readers[0])
        traced.delete_submodule(str(readers[0].target))


def _used_once(traced: fx.GraphModule, node: fx.Node) -> bool:
    calls = [other for other in traced.graph.nodes if other.op == "call_module" and other.target == node.target]
    return len(calls) == 1


def _replace(traced: fx.GraphModule, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(traced.get_submodule(parent) if parent else traced, name, module)


def plain(traced: fx.GraphModule) -> fx.GraphModule:
    """A float copy in which every layer is an ordinary one with its BatchNormalization folded in."""
    result = copy.deepcopy(traced).eval()
    for name, module in list(result.named_modules()):
        if isinstance(module, QuantizedLayer):
            _replace(result, name, module.plain())
    return result


def with_values(traced: fx.GraphModule, names: list[str]) -> fx.GraphModule:
    """A copy that gives the nodes of those names, in that order, behind its own results."""
    result = copy.deepcopy(traced)
    nodes = {node.name: node for node in result.graph.nodes}
    output = next(node for node in reversed(result.graph.nodes) if node.op == "output")
    own: Any = output.args[0]
    output.args = ((*(own if isinstance(own, tuple | list) else (own,)), *(nodes[name] for name in names)),)
    result.recompile()
    return result


def output_count(traced: fx.GraphModule) -> int:
    """How many tensors a module gives."""
    own: Any = next(node for node in reversed(traced.graph.nodes) if node.op == "output").args[0]
    return len(own) if isinstance(own, tuple | list) else 1


def example_of(calibration: Tensor) -> Tensor:
    """One sample, with its axis of samples."""
    return torch.as_tensor(calibration)[:1]
