"""The host's share: in worked examples, of compiled networks, and in the command line's output."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.cli.invoke import success
from support.networks.small_networks import conv, fully_connected, network, softmax

import accel
from accel.program.program import OperatorInfo
from accel.report.inspection import inspect_graph
from accel.report.placement import host_share

OPERATORS = (
    OperatorInfo("a", "Conv2d", "array", "sums of products", 3000),
    OperatorInfo("b", "Softmax", "host", "no unit computes Softmax"),
    OperatorInfo("c", "Conv2d", "host", "follows b on the host", 9000),
)


def test_share_by_hand() -> None:
    share = host_share(OPERATORS)
    assert (share.operators, share.macs, share.share) == (OPERATORS[1:], 9000, 0.75)
    assert str(share) == "2 operators on the host (9,000 MACs, 75.0% of the network's)"
    assert (host_share(OPERATORS[:1]).share, host_share(OPERATORS[1:2]).share) == (0.0, 0.0)


def test_operators_of_a_program_have_all_macs_of_its_graph() -> None:
    graph = network((1, 6, 5, 8), conv(8, (3, 3), groups=8), conv(8, (1, 1)), fully_connected(10), softmax())
    program = accel.compile(graph, "tiny")
    assert [operator.macs for operator in program.operators] == [row.macs for row in inspect_graph(graph).operators]
    on_machine = [operator.macs for operator in program.operators if operator.unit != "host"]
    assert sum(on_machine) == sum(layer.macs for layer in program.layers) > 0


@pytest.mark.parametrize("command", ["run", "inspect"])
def test_commands_say_what_the_host_computes(files: Path, command: str) -> None:
    program = replace(accel.Program.load("a.program"), operators=OPERATORS)
    program.save("h.program")
    np.save("one.npy", np.load("x.npy")[:1])
    arguments = ["run", "h.program", "--input", "one.npy"] if command == "run" else ["inspect", "h.program"]
    text = " ".join(success(*arguments).split())
    assert "2 operators on the host (9,000 MACs, 75.0% of the network's)" in text
    assert "host, follows b on the host: c" in text
    if command == "run":
        assert "b Softmax 0 - - host c Conv2d 9,000 - - host total on the host 9,000 - -" in text
        assert "total on the machine" in text
    host = json.loads(success(*arguments, "--json"))["host"]
    assert (host["macs"], host["share"], [row["name"] for row in host["operators"]]) == (9000, 0.75, ["b", "c"])
    assert host["operators"][1]["why"] == "follows b on the host"


def test_nothing_is_said_where_the_host_has_nothing_to_do(files: Path) -> None:
    text = success("run", "a.program", "--input", "x.npy")
    assert "host" not in text
    assert "on the machine" not in text
