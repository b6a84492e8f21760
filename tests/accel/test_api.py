"""What the functions of `accel` say to arguments of the wrong kind."""

from __future__ import annotations

import re

import pytest
from support.networks.small_networks import conv, network

import accel


def test_run_takes_programs_only() -> None:
    graph = network((1, 4, 4, 3), conv(4, (3, 3)))
    for wrong, kind in (("x.program", "str"), (graph, "Graph")):
        message = f"program must be a Program, got {kind}: make one with `accel.compile` or `accel.load_program`"
        with pytest.raises(accel.AccelError, match=f"^{re.escape(message)}$"):
            accel.run(wrong, {})


def test_programs_are_not_compiled_again() -> None:
    program = accel.compile(network((1, 4, 4, 3), conv(4, (3, 3))), "tiny")
    message = "model must be a graph or a path, got a program, which is compiled already"
    with pytest.raises(accel.AccelError, match=f"^{message}$"):
        accel.compile(program, "tiny")
