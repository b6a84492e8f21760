"""Improving a quantized network layer by layer, each on the inputs that the layers before it really give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.quantized.network import Network, Operator
from accel.quantizer.runner import Prefix, Values, live_tensors

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
STATE_BYTES = 2**29
"""Activations that are held at one time, float and quantized together; fewer samples are taken if they need more."""
Stage: TypeAlias = Callable[[str, int], Callable[[], None]]
"""Announces a task and its number of steps; the function that it returns is called after each step."""


def silent(description: str, total: int) -> Callable[[], None]:
    """A stage that nobody sees."""
    return lambda: None


class LayerInputs(NamedTuple):
    """The input of a layer for each sample: in the float network, and in the quantized one as improved so far."""

    real: list[NDArray[np.float32]]
    quantized: list[NDArray[np.float32]]


Improve: TypeAlias = Callable[[Network, Operator, LayerInputs], Network]
"""From a network, one of its layers and the layer's inputs to the network with that layer improved."""


def improve_layers(
    network: Network, samples: Sequence[Values], improve: Improve, task: str, stage: Stage = silent
) -> Network:
    """Improve every layer with integer weights in order.

    Parameters
    ----------
    network : Network
        With parameters.
    samples : sequence of mapping of str to ndarray
        Calibration inputs in the network's shapes; only as many are used as `STATE_BYTES` hold.
    improve : callable
    task : str
        What `stage` announces.
    stage : callable, optional

    Notes
    -----
    Each layer runs once per sample and network: the values before a layer are kept, not computed again.
    """
    samples = samples[: held_samples(network)]
    real, quantized = Prefix(samples), Prefix(samples)
    floating = replace(network, parameters={})
    advance = stage(task, sum(is_integer_layer(network, op) for op in network.operators))
    for place, op in enumerate(network.operators):
        if not is_integer_layer(network, op):
            continue
        real.advance(floating, place)
        quantized.advance(network, place)
        name = op.inputs[0]
        inputs = LayerInputs([state[name] for state in real.states], [state[name] for state in quantized.states])
        network = improve(network, network.operators[place], inputs)
        advance()
    return network


def is_integer_layer(network: Network, op: Operator) -> bool:
    """Whether an operator sums products of integer weights."""
    found = network.parameters.get(op.input(1)) if op.kind in WEIGHTED else None
    return found is not None and found.integers is not None


def held_samples(network: Network) -> int:
    """How many samples' values before any operator fit `STATE_BYTES`, twice; at least one."""
    shapes = [
        [network.tensors[name].shape for name in live_tensors(network, place) if network.value(name) is None]
        for place in range(len(network.operators))
    ]
    largest = max((sum(int(np.prod(shape)) for shape in live) for live in shapes), default=1)
    return max(1, STATE_BYTES // (2 * 4 * max(largest, 1)))
