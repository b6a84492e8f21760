"""Windows with numbers that no field of an instruction holds: the machine computes them all the same."""

from __future__ import annotations

import numpy as np
import pytest
from support.networks.equality import assert_equal
from support.networks.small_networks import Layer, conv, fully_connected, network, pool, reshape, table

from accel.machine.config import ArchConfig, preset
from accel.network.nodes import AveragePool2d, MaxPool2d
from compiler import compile_graph
from compiler.lower import wide_windows

EDGE, TINY = preset("edge"), preset("tiny")

WINDOWS: dict[str, tuple[tuple[int, ...], list[Layer]]] = {
    f"matrix product of {height} x {width} x {channels}": (
        (1, height, width, channels), [reshape((1, height * width * channels)), fully_connected(5)],
    )
    for height, width, channels in ((1, 129, 40), (129, 1, 40), (1, 300, 1), (300, 1, 3), (3, 260, 5), (260, 3, 5))
} | {
    "dilated rows": ((1, 300, 1, 5), [conv(8, (3, 1), dilation=(128, 1))]),
    "dilated rows, padded as far": ((1, 300, 1, 40), [conv(8, (3, 1), dilation=(100, 1), padding=(200, 0, 0, 0))]),
    "dilated columns of channels each for itself": (
        (1, 1, 300, 16), [conv(16, (1, 3), dilation=(1, 64), padding=(0, 128, 0, 0), groups=16)],
    ),
    "padding on three sides": ((1, 5, 6, 3), [conv(2, (3, 3), padding=(200, 3, 2, 150)), table()]),
    "stride along a row": ((1, 1, 1000, 1), [conv(20, (1, 256), stride=(1, 128)), table()]),
    "stride along a column, padded": ((1, 700, 1, 3), [conv(7, (200, 1), stride=(100, 1), padding=(50, 0, 30, 0))]),
    "stride beyond the kernel": ((1, 1, 640, 16), [conv(5, (1, 80), stride=(1, 160), padding=(0, 7, 0, 9)), table()]),
    "tall kernel of channels each for itself": ((1, 300, 2, 16), [conv(16, (300, 1), groups=16)]),
    "wide kernel of channels each for itself": ((1, 1, 500, 16), [conv(16, (1, 300), groups=16)]),
    "average of columns": ((1, 1, 300, 5), [conv(5, (1, 1)), pool(AveragePool2d, (1, 300), (1, 1)), table()]),
    "largest of rows": ((1, 300, 1, 40), [pool(MaxPool2d, (300, 1), (1, 1))]),
}  # fmt: skip


@pytest.mark.parametrize("config", [EDGE, TINY], ids=lambda config: config.name)
@pytest.mark.parametrize("window", WINDOWS)
def test_wide_windows_are_the_machines(window: str, config: ArchConfig) -> None:
    shape, layers = WINDOWS[window]
    program = assert_equal(network(shape, *layers), config, np.random.default_rng(3), ("fast", "stepped"))
    assert {operator.unit for operator in program.operators} <= {"array", "depthwise", "post", "none"}


@pytest.mark.parametrize(("pixels", "sides"), [(300, (150, 2)), (255, (255, 1)), (257, None), (65025, (255, 255))])
def test_pixels_are_divided_into_sides(pixels: int, sides: tuple[int, int] | None) -> None:
    assert wide_windows._sides(pixels) == sides


def test_names_that_are_taken_stay_whose_they_are() -> None:
    layers = [conv(2, (1, 1), padding=(0, 200, 0, 0)), conv(2, (1, 1), padding=(0, 200, 0, 0))]
    graph = wide_windows.narrow_windows(network((1, 2, 2, 3), *layers)).graph
    again, windows = wide_windows.narrow_windows(graph)
    assert (again, windows) == (graph, {})
    assert [node.op for node in graph.nodes] == ["Pad", "Conv2d"] * 2
    assert len({node.name for node in graph.nodes}) == len({node.output for node in graph.nodes}) == 4


def test_what_is_added_goes_by_the_name_of_its_window() -> None:
    """So that a part without a place leaves the window to the host."""
    graph = network((1, 5, 6, 3), conv(2, (3, 3), padding=(200, 3, 2, 150)), table())
    program = compile_graph(graph, TINY)
    assert {layer.name for layer in program.layers} <= {node.name for node in graph.nodes}
