"""How much each layer costs at the network's outputs: it alone quantized, and it alone left real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from numpy.typing import NDArray

from accel.analysis.decibels import sqnr
from accel.analysis.layers import Layer
from accel.quantized.network import Network
from accel.quantizer.reconstruct import Stage, silent
from accel.quantizer.runner import Prefix, Runner, Values, in_parallel, part


class Sensitivity(NamedTuple):
    """Signal to quantization noise at the network's outputs in dB.

    Parameters
    ----------
    only_quantized : float
        Everything else real.
    only_float : float
        Everything else quantized.
    """

    only_quantized: float
    only_float: float


def outputs_of(network: Network, samples: Sequence[Values]) -> list[dict[str, NDArray[Any]]]:
    """The outputs that the network computes, for all samples."""
    return in_parallel(Runner(network, network.computed), samples)


def sensitivities(
    network: Network, layers: Sequence[Layer], samples: Sequence[Values], stage: Stage = silent
) -> list[Sensitivity]:
    """What each layer costs.

    Parameters
    ----------
    network : Network
        Quantized.
    layers : sequence of Layer
        In the network's order.
    samples : sequence of mapping of str to ndarray
        Inputs in the network's shapes.
    stage : callable, optional
        Announces progress.

    Notes
    -----
    Values before a layer are kept from the layer before, once real and once quantized, so a layer costs two runs of the
    rest of the network: all layers together about as many runs of the network as there are layers.
    """
    floating = replace(network, parameters={})
    expected = outputs_of(floating, samples)
    real, quantized = Prefix(samples), Prefix(samples)
    advance, found = stage("sensitivity", len(layers)), []
    for layer in sorted(layers, key=lambda layer: layer.place):
        real.advance(floating, layer.place)
        quantized.advance(network, layer.place)
        only = {name: network.parameters[name] for name in layer.tensors}
        rest = {name: value for name, value in network.parameters.items() if name not in layer.tensors}
        pair = (
            outputs_from(replace(network, parameters=only), layer.place, real.states),
            outputs_from(replace(network, parameters=rest), layer.place, quantized.states),
        )
        found.append(Sensitivity(*(sqnr(expected, values) for values in pair)))
        advance()
    return found


def outputs_from(network: Network, place: int, states: Sequence[Values]) -> list[Values]:
    """The outputs of a network whose operators before `place` have run."""
    rest = part(network, network.operators[place:], network.outputs)
    run: Callable[[Values], Values] = Runner(rest) if rest.outputs else lambda state: {}
    return in_parallel(lambda state: {**{n: state[n] for n in network.computed if n in state}, **run(state)}, states)
