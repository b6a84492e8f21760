"""Mixed precision: budgets hold, what is measured is what runs, and the order of layers is that of their cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli.invoke import error, success
from support.networks.float_models import onnx_model
from support.networks.float_networks import NETWORKS, model_of, samples_of

import accel
from accel.analysis import mixed
from accel.analysis.curve import to_curve
from accel.analysis.decibels import sqnr
from accel.analysis.mixed import MixedPrecision, quantize_mixed
from accel.errors import InputError, ModelError
from accel.frontends.onnx.reader import read_onnx
from accel.network.graph import Graph
from accel.network.graph_file import dump_graph, load_graph
from accel.network.nodes import Conv2d, Weighted
from accel.quantizer import QuantizationConfig, choose, quantize_network
from accel.quantizer.prepare import feeds_of
from accel.quantizer.runner import Runner

MAKERS = {make.__name__: (make, shape, rank) for make, (shape, rank, _) in NETWORKS.items()}


def model(name: str) -> tuple[bytes, Any]:
    make, shape, rank = MAKERS[name]
    return model_of(make, shape, rank), samples_of(shape, 4)


def made(name: str = "resnet", **options: Any) -> MixedPrecision:
    return quantize_mixed(*model(name), **options)


def weights(graph: Graph) -> list[Weighted]:
    return [node for node in graph.nodes if isinstance(node, Weighted)]


@pytest.mark.parametrize("bits", [4.5, 8])
def test_budgets_hold_and_bytes_are_those_of_the_graph(bits: float) -> None:
    result = made(average_bits=bits)
    assert result.budget_bytes == int(result.weights * bits // 8)
    assert result.chosen.weight_bytes <= result.budget_bytes
    assert result.chosen.weight_bytes == sum(node.weight_bytes for node in weights(result.graph))
    narrow = [node for node in weights(result.graph) if node.weight_bits == 4]
    assert len(narrow) == len(result.narrow)
    assert bool(narrow) == (bits < 8)
    sizes = [point.weight_bytes for point in result.points]
    assert sizes == sorted(sizes, reverse=True)


def test_the_chosen_figure_is_that_of_the_network_with_these_layers_overridden() -> None:
    """The same layers by the settings of `accel.quantize` give the same graph and the same SQNR."""
    data, samples = model("resnet")
    result = made(average_bits=6)
    overrides = [{"layer": name, "weight_bits": 4} for name in result.narrow]
    assert dump_graph(accel.quantize(data, samples, overrides=overrides)) == dump_graph(result.graph)
    network = quantize_network(read_onnx(data), samples, QuantizationConfig(overrides=tuple(overrides)))
    feeds = feeds_of(network, {"x": samples})
    floating = Runner(read_onnx(data))
    quantized = Runner(network)
    assert result.chosen.sqnr == pytest.approx(
        sqnr([floating(feed) for feed in feeds], [quantized(feed) for feed in feeds]), abs=0.01
    )


def test_both_widths_have_the_ranges_of_one_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Biases of 4-bit layers stand at the scale of the inputs that the whole network has."""
    wanted = {8: "minmax", 4: "percentile"}
    monkeypatch.setattr(
        choose, "_noise", lambda *args: np.full((16, 1), float(args[-1] != wanted[args[1].weight_bits]))
    )
    make, shape, rank = MAKERS["resnet"]
    data, samples = model_of(make, shape, rank), samples_of(shape, 16)
    result = quantize_mixed(data, samples, average_bits=6)
    assert result.choice is not None
    assert result.choice.method == "minmax"
    overrides = [{"layer": name, "weight_bits": 4} for name in result.narrow]
    graph = accel.quantize(data, samples, calibrate_method="minmax", overrides=overrides)
    assert dump_graph(graph) == dump_graph(result.graph)


def test_the_same_model_gives_the_same_bytes() -> None:
    first, second = made(average_bits=5.5), made(average_bits=5.5)
    assert dump_graph(first.graph) == dump_graph(second.graph)
    assert first.points == second.points
    assert to_curve(first) == to_curve(second)


def test_cheap_layers_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that takes the noise of a layer for its opposite keeps less of the signal."""
    right, noises = made(average_bits=6), mixed._noises
    monkeypatch.setattr(mixed, "_noises", lambda *args: {name: -noise for name, noise in noises(*args).items()})
    wrong = made(average_bits=6)
    assert right.chosen.sqnr > wrong.chosen.sqnr + 1


def test_depthwise_layers_and_overridden_ones_keep_their_bits() -> None:
    result = made("mobilenet_v2", average_bits=5.2)
    convolutions = [node for node in weights(result.graph) if isinstance(node, Conv2d)]
    depthwise = [node for node in convolutions if node.groups == len(node.weight) > 1]
    assert depthwise
    assert {node.weight_bits for node in depthwise} == {8}
    fixed = result.narrow[0]
    assert fixed not in made("mobilenet_v2", average_bits=6, overrides=[{"layer": fixed, "weight_bits": 8}]).narrow


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of weight_budget and average_bits must be given"),
        ({"weight_budget": 9, "average_bits": 6}, "one of weight_budget and average_bits must be given"),
        ({"average_bits": 3.0}, "average_bits must be in 4 .. 8, got 3.0"),
        ({"weight_budget": 10}, "weight budget must be at least "),
    ],
)
def test_impossible_budgets_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        made(**options)


def test_the_command_prints_and_draws_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, samples = model("resnet")
    (tmp_path / "float.onnx").write_bytes(data)
    np.save(tmp_path / "samples.npy", samples)
    files = [str(tmp_path / name) for name in ("float.onnx", "samples.npy", "curve.svg", "out.graph")]
    command = ["quantize", files[0], "--calibration", files[1], "--curve", files[2], "-o", files[3]]
    assert error(*command) == "Error: --curve must be given with --weight-budget or --average-bits"
    limits = ["--weight-budget", "9", "--max-drop", "1"]
    assert error(*command, *limits) == "Error: --max-drop must not be given with --weight-budget or --average-bits"
    assert "\nchosen: " in success(*command, "--average-bits", "6")
    assert Path(files[2]).read_text().startswith("<svg")
    assert {node.weight_bits for node in weights(load_graph(files[3]))} == {4, 8}


def test_a_network_without_weights_has_no_budget() -> None:
    data = onnx_model([("Relu", ["x"], "y", {})], {}, (1, 3, 8, 8))
    with pytest.raises(ModelError, match="network must have layers with integer weights to share a budget, got none"):
        quantize_mixed(data, np.ones((4, 3, 8, 8), np.float32), average_bits=6)
