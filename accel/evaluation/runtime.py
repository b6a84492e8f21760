"""Networks in ONNX Runtime on many samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.evaluation.metrics import Outputs
from accel.quantized.network import Network
from accel.quantizer.runner import Runner, Values, in_parallel


def run_network(network: Network, feeds: Sequence[Values], advance: Callable[[], None] = lambda: None) -> Outputs:
    """The real outputs of a network, samples first; `advance` is called after each sample."""
    runner = Runner(network)

    def one(feed: Values) -> dict[str, NDArray[Any]]:
        found = runner(feed)
        advance()
        return found

    results = in_parallel(one, feeds)
    return {
        name: np.stack([_of_sample(result[tensor]) for result in results]) for name, tensor in network.results.items()
    }


def _of_sample(value: NDArray[Any]) -> NDArray[Any]:
    """A value without the batch, where it has one."""
    return value[0] if value.ndim > 1 and value.shape[0] == 1 else value
