"""Values of inner tensors on calibration samples, in batches where the network allows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.quantized.network import Network
from accel.quantizer.runner import Runner, Values

BATCH_BYTES = 2**24
"""Values of a batch take about this; larger ones leave the cache and are not faster."""
MOST_SAMPLES = 16


class Batch(NamedTuple):
    """Rows of every tensor, shape (samples, values of a sample), and the samples."""

    values: dict[str, NDArray[Any]]
    samples: list[Values]


def activations(network: Network, samples: Iterable[Values], names: Iterable[str]) -> Iterator[Batch]:
    """Values of the tensors `names` and of the inputs on all samples, in order.

    Parameters
    ----------
    network : Network
    samples : iterable of mapping of str to ndarray
        In the network's shapes; read as they are needed.
    names : iterable of str

    Raises
    ------
    ModelError
        The runtime refuses the network.

    Notes
    -----
    The first three samples run alone. If the second and the third give the same values together, batches follow, until
    one of them has values of another size.
    """
    outputs = tuple(dict.fromkeys(names)) or network.inputs[:1]  # the runtime runs no model that gives nothing
    try:
        runner = Runner(network, outputs, batches=True)
        yield from _batches(runner, iter(samples))
    except ModelError as error:
        raise ModelError(str(error).replace("Runtime:", "Runtime for calibration:", 1)) from error


def _batches(runner: Runner, samples: Iterator[Values]) -> Iterator[Batch]:
    alone = [(sample, runner(sample)) for sample in islice(samples, 3)]
    size = _batch_size(runner, alone)
    shapes = {name: value.shape for name, value in alone[0][1].items()} if alone else {}
    while alone:
        sample, values = alone.pop(0)
        yield _rows(values, [sample])
    while group := list(islice(samples, size)):
        together = _together(runner, group, shapes) if len(group) > 1 else None
        if together is None:
            size = 1
            yield from (_rows(runner(sample), [sample]) for sample in group)
        else:
            yield _rows(together, group)


def _together(runner: Runner, group: list[Values], alone: Mapping[str, tuple[int, ...]]) -> Values | None:
    """The values of a batch, or None if they are not as many as samples alone have."""
    try:
        found = runner(_stacked(group))
    except ModelError:
        return None
    sizes = {name: (len(group) * shape[0], *shape[1:]) for name, shape in alone.items()}
    return found if all(value.shape == sizes[name] for name, value in found.items()) else None


def _rows(values: Values, samples: list[Values]) -> Batch:
    inputs = _stacked(samples)
    return Batch({name: value.reshape(len(samples), -1) for name, value in {**inputs, **values}.items()}, samples)


def _stacked(samples: Sequence[Values]) -> dict[str, NDArray[Any]]:
    if len(samples) == 1:
        return dict(samples[0])
    return {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}


def _batch_size(runner: Runner, alone: Sequence[tuple[Values, Values]]) -> int:
    """How many samples to run together: 1 unless two of them together gave the values that they have alone."""
    size = min(MOST_SAMPLES, BATCH_BYTES // max(sum(v.nbytes for v in alone[0][1].values()), 1)) if alone else 1
    if size < 2 or len(alone) < 3 or any(value.shape[:1] != (1,) for value in alone[0][0].values()):
        return 1
    pair = alone[1:]
    try:
        together = runner(_stacked([sample for sample, _ in pair]))
    except ModelError:
        return 1
    expected = _stacked([values for _, values in pair]) if all(v.ndim for v in pair[0][1].values()) else {}
    same = all(
        name in expected and value.shape == expected[name].shape and np.allclose(value, expected[name], 1e-4, 1e-5)
        for name, value in together.items()
    )
    return size if same else 1
