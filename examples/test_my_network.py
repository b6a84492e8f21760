"""A co-verification test as plain pytest: `python -m pytest examples/test_my_network.py`.

`accel.verify` runs a program in the simulator and in the Verilog (compiled by Verilator) and raises an error at the
first byte, cycle or stamp that differs. Put a network of your own in place of the demo's. The test needs pytest:
`pip install -c constraints.txt -e '.[test]'`.
"""

from __future__ import annotations

import pytest

import accel
from accel import demo

MACHINE = accel.preset("tiny")


@pytest.fixture(scope="module")
def network() -> tuple[accel.Program, list]:
    """The compiled network and three quantized samples."""
    data = demo.load()
    graph = accel.quantize(data.model_path, data.calibration)
    return accel.compile(graph, MACHINE), [accel.quantize_input(graph, image[None]) for image in data.test_images[:3]]


@pytest.mark.parametrize("number", range(3))
def test_verilog_equals_the_simulator(network: tuple[accel.Program, list], number: int) -> None:
    program, samples = network
    expected = accel.run(program, samples[number])
    verified = accel.verify(program, samples[number])
    assert verified.cycles == expected.cycles
    for name, values in expected.outputs.items():
        assert (verified.outputs[name] == values).all()
