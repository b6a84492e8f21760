"""Each kind of operator of the host between two convolutions, which are the machine's: values of ONNX Runtime.

`tests/coverify/test_networks.py` runs the same networks in the Verilog.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.networks.host_between import BETWEEN, between, samples
from support.oracles.ort_session import session

import accel
from accel.exports import FORMATS
from accel.network import reference
from accel.network.real import dequantize_output, quantize_input


@pytest.mark.parametrize("kind", BETWEEN)
def test_values_are_the_runtime_s(kind: str) -> None:
    graph = accel.quantize(between(kind), samples(8), mode="fp32")
    program = accel.compile(graph, "tiny")
    assert [(op.op, op.unit) for op in program.operators].count(("Conv2d", "array")) == 2
    assert len(program.machine_segments) > 1
    exported = session(FORMATS["qoperator"].write(graph, [])[""], optimized=False)
    for x in samples(4):
        integers = reference.run(graph, {"x": quantize_input(graph, x[None])})["y"]
        (expected,) = exported.run(None, {"x": x[None]})
        assert np.array_equal(dequantize_output(graph, integers), expected)
