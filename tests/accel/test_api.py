"""What the functions of `accel` say to arguments of the wrong kind."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
from support.networks.small_networks import conv, network

import accel
from accel.network import reference


@cache
def small() -> accel.Program:
    return accel.compile(graph(), "tiny")


@cache
def graph() -> accel.Graph:
    return network((1, 4, 5, 3), conv(6, (2, 2)))


def test_run_takes_programs_only() -> None:
    graph = network((1, 4, 4, 3), conv(4, (3, 3)))
    for wrong, kind in (("x.program", "str"), (graph, "Graph")):
        message = f"program must be a Program, got {kind}: make one with `accel.compile` or `accel.load_program`"
        with pytest.raises(accel.AccelError, match=f"^{re.escape(message)}$"):
            accel.run(wrong, {})


def test_batches_and_real_numbers_run_as_their_samples_do() -> None:
    real = np.random.default_rng(1).normal(0, 1, (3, 4, 5, 3)).astype(np.float32)
    integers = np.concatenate([accel.quantize_input(graph(), sample[None]) for sample in real])
    name = small().outputs[0].name
    expected = np.concatenate([reference.run(graph(), sample[None])[name] for sample in integers])
    for inputs in (real, integers, real.astype(np.float64), {"t0": integers}):
        np.testing.assert_array_equal(accel.run(small(), inputs).outputs[name], expected)
    np.testing.assert_array_equal(accel.run(small(), real.transpose(0, 3, 1, 2)).outputs[name], expected)
    assert accel.run(small(), integers).cycles == accel.run(small(), integers[:1]).cycles


def test_inputs_and_outputs_of_a_run_are_converted_together() -> None:
    real = np.random.default_rng(1).normal(0, 1, (2, 4, 5, 3)).astype(np.float32)
    quantized = accel.quantize_input(small(), {"t0": real[:1]})
    np.testing.assert_array_equal(quantized["t0"], accel.quantize_input(graph(), real[:1]))
    outputs = accel.run(small(), real).outputs
    (name,) = outputs
    whole = accel.dequantize_output(graph(), outputs)[name]
    rows = [accel.dequantize_output(small(), outputs[name][i : i + 1]) for i in range(2)]
    np.testing.assert_array_equal(whole, np.concatenate(rows))
    with pytest.raises(accel.AccelError, match=r"^name must be one of \('t0',\), got 'x'$"):
        accel.quantize_input(small(), {"x": real[:1]})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            np.zeros((2, 4, 6, 3), np.int8),
            "input 't0' must be int8 or float32 of shape (samples, 4, 5, 3), got int8 (2, 4, 6, 3)",
        ),
        ({"x": np.zeros((1, 4, 5, 3), np.int8)}, "inputs must be named t0, got x: t0 is missing"),
        (np.full((2, 4, 5, 3), [[[[0]]], [[[np.inf]]]]), "input 't0' must be finite, got inf in sample 1"),
    ],
)
def test_wrong_inputs_are_one_sentence(inputs: object, message: str) -> None:
    for function in (accel.run, accel.verify):
        with pytest.raises(accel.AccelError, match=f"^{re.escape(message)}$"):
            function(small(), inputs)


def test_programs_are_not_compiled_again() -> None:
    program = accel.compile(network((1, 4, 4, 3), conv(4, (3, 3))), "tiny")
    message = "model must be a graph or a path, got a program, which is compiled already"
    with pytest.raises(accel.AccelError, match=f"^{message}$"):
        accel.compile(program, "tiny")
