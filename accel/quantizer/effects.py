"""Which settings of which layer change something: an override of others is refused."""

from __future__ import annotations

from collections.abc import Iterable

from accel.errors import InputError
from accel.quantized.network import Network
from accel.quantizer.attach import FIXED, has_integer_weights, inherited_ranges, kept_input
from accel.quantizer.config import WEIGHT_SETTINGS, Override, QuantizationConfig
from accel.quantizer.placement import quantized_tensors

WEIGHTS = frozenset(WEIGHT_SETTINGS)
RANGES = frozenset({"calibrate_method", "percentile"})
SYMMETRY = frozenset({"activation_symmetric"})
_SHOWN = 3
"""Layers that a message lists."""


def effects(network: Network, config: QuantizationConfig) -> dict[str, frozenset[str]]:
    """The settings that change something, by the name of an operator or input.

    Parameters
    ----------
    network : Network
        Float, as it will be quantized.
    config : QuantizationConfig
        A symmetric result has no fixed range.
    """
    integers = quantized_tensors(network)
    inherited = inherited_ranges(network)
    found = {name: RANGES | SYMMETRY for name in network.inputs if name in integers}
    for op in network.operators:
        layer = config.layer(op.name, op.kind)
        own = frozenset[str]()
        for name in op.outputs:
            if name in integers and kept_input(network, op, integers) is None:
                fixed = name in inherited or (op.kind in FIXED and not layer.activation_symmetric)
                own |= SYMMETRY if fixed else RANGES | SYMMETRY
        if has_integer_weights(network, op, integers):
            own |= WEIGHTS - (
                {"per_channel"} if op.kind == "ConvTranspose" and op.attributes.get("group", 1) != 1 else set()
            )
        found[op.name] = own
    return found


def check_overrides(given: Network, network: Network, config: QuantizationConfig) -> None:
    """Raise `InputError` for an override that selects no layer, or has a setting that changes none of its layers.

    Parameters
    ----------
    given, network : Network
        Float; as the model has it, and as it will be quantized if nothing is excluded.
    config : QuantizationConfig
    """
    kinds = _kinds(network)
    known, useful = _kinds(given) | kinds, effects(network, config)
    for override in config.overrides:
        selected = [name for name, kind in known.items() if override.selects(name, kind)]
        if not selected:
            raise InputError(
                f"override of {_described(override)} must select a layer, got none; `accel analyze` lists them"
            )
        for setting in override.settings:
            on = [name for name, settings in useful.items() if setting in settings]
            if not any(override.selects(name, kinds[name]) for name in on):
                raise InputError(
                    f"override of {_described(override)}: {setting} has no effect on {_listed(selected)}; "
                    + (f"it has one on {_listed(on)}" if on else "no layer of the network has it")
                )
        if override.keep_float is not None and not any(_can(override, name, known[name], config) for name in selected):
            why = "inputs stay as they are" if override.keep_float else "nodes_to_exclude or op_types_to_exclude wins"
            raise InputError(
                f"override of {_described(override)}: keep_float has no effect on {_listed(selected)}: {why}"
            )


def _kinds(network: Network) -> dict[str, str]:
    """Kinds of operators and inputs by name."""
    return dict.fromkeys(network.inputs, "Input") | {op.name: op.kind for op in network.operators}


def _can(override: Override, name: str, kind: str, config: QuantizationConfig) -> bool:
    """Whether `keep_float` can decide for a layer."""
    return kind != "Input" if override.keep_float else not config.excludes(name, kind)


def _described(override: Override) -> str:
    return f"layer {override.layer!r}, op_type {override.op_type!r}"


def _listed(names: Iterable[str]) -> str:
    listed = [repr(name) for name in names]
    return ", ".join(listed[:_SHOWN]) + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")
