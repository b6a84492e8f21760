"""Settings of the quantizer: one record for the API, the command line and TOML files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks.float_models import onnx_model, run_float, run_graph

from accel.errors import InputError
from accel.frontends.onnx.reader import read_onnx
from accel.machine.numerics import RequantMode
from accel.network.graph_file import dump_graph
from accel.network.nodes import Conv2d, HostOperator
from accel.quantized.lower import lower
from accel.quantized.network import Network
from accel.quantizer import QuantizationConfig, make_config, quantize, quantize_network
from accel.quantizer.attach import attach
from accel.quantizer.calibrate import calibrate
from accel.quantizer.config import LayerConfig, Override, read_settings
from accel.quantizer.effects import effects
from accel.quantizer.observers import OBSERVERS
from accel.quantizer.parameters import Steps, weight_scales

RNG = np.random.default_rng(1)
W = RNG.normal(0, 0.4, (4, 4, 3, 3)).astype(np.float32)


def test_defaults_hold_for_every_layer_and_later_overrides_win() -> None:
    config = make_config(
        {
            "calibrate_method": "percentile",
            "overrides": [
                {"op_type": "Conv", "weight_bits": 4},
                {"layer": "head/.*", "weight_bits": 8, "per_channel": False},
            ],
        }
    )
    assert config.layer("body/1", "Relu") == LayerConfig(calibrate_method="percentile")
    assert config.layer("body/2", "Conv") == LayerConfig(calibrate_method="percentile", weight_bits=4)
    assert config.layer("head/2", "Conv").weight_bits == 8
    assert not config.layer("head/2", "Conv").per_channel
    assert config.layer("ahead/2", "Conv").per_channel


def test_file_holds_the_same_as_arguments(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        'mode = "fp32"\nper_channel = false\nnodes_to_exclude = ["a[0-9]"]\n'
        '[[overrides]]\nop_type = "Gemm"\nkeep_float = true\n'
    )
    config = make_config(read_settings(path))
    assert config == QuantizationConfig(
        mode="fp32",
        per_channel=False,
        nodes_to_exclude=("a[0-9]",),
        overrides=({"op_type": "Gemm", "keep_float": True},),
    )
    kept = [("a1", "Conv"), ("b", "Gemm"), ("a", "Conv"), ("a[0-9]", "Conv")]
    assert [config.keeps_float(*layer) for layer in kept] == [True, True, False, True]


def test_every_observer_can_be_chosen() -> None:
    for name in OBSERVERS:
        assert QuantizationConfig(calibrate_method=name).calibrate_method == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calibrator": "minmax"}, "option must be one of calibrate_method, "),
        ({"weight_bits": 5}, "weight_bits must be one of 4, 8, got 5"),
        ({"weight_bits": True}, "weight_bits must be an integer, got True"),
        ({"per_channel": 1}, "per_channel must be true or false, got 1"),
        ({"mode": ["fp32"]}, "mode must be a string, got ['fp32']"),
        ({"percentile": "99"}, "percentile must be a number, got '99'"),
        ({"nodes_to_exclude": "conv"}, "nodes_to_exclude must be a list of strings, got 'conv'"),
        (
            {"nodes_to_exclude": ["("]},
            "layer '(' must be a name or a regular expression, which it is not from character 0 on; write a backslash ",
        ),
        ({"prepare": ["magic"]}, "prepare must be one of equalize, bias_correction, adaround, got 'magic'"),
        ({"overrides": {"layer": "a"}}, "overrides must be a list of tables, got {'layer': 'a'}"),
        ({"overrides": ["a"]}, "override must be a table such as "),
        ({"overrides": [{"weight_bits": 4}]}, "override must have the key 'layer' or 'op_type', got neither"),
        ({"overrides": [{"layer": "a", "bits": 4}]}, "override must be one of calibrate_method, "),
        ({"overrides": [{"layer": "a", "weight_bits": 3}]}, "weight_bits must be one of 4, 8, got 3"),
        (
            {"overrides": [{"layer": "a", "weight_bits": 4, "keep_float": True}]},
            "override must not have weight_bits beside keep_float: real weights stay as they are",
        ),
        (
            {"calibrate_method": "kl", "overrides": [{"layer": "a", "percentile": 99.0}]},
            "percentile must be given with calibrate_method auto or percentile, without which it has no effect",
        ),
        ({"overrides": [{"layer": 1}]}, "override's layer must be a string, got 1"),
        ({"overrides": [{"layer": "a", "keep_float": 0}]}, "override's keep_float must be true or false, got 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        make_config(settings)


def test_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    with pytest.raises(InputError, match="must be a readable TOML file, got No such file"):
        read_settings(path)
    path.write_bytes(b"\xff= 1")
    with pytest.raises(InputError, match="must be TOML, got "):
        read_settings(path)


def three_convolutions() -> bytes:
    """CONV A, RELU B, CONV C, RELU D, CONV Y: each node is named after its output."""
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        ("Conv", ["x", "w"], "a", pads),
        ("Relu", ["a"], "b", {}),
        ("Conv", ["b", "w"], "c", pads),
        ("Relu", ["c"], "d", {}),
        ("Conv", ["d", "w"], "y", pads),
    ]
    return onnx_model(nodes, {"w": W}, (1, 4, 6, 6))


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({"nodes_to_exclude": ["C"]}, ["Conv"]),
        ({"nodes_to_exclude": ["[CD]"]}, ["Conv", "Relu"]),
        ({"overrides": [{"layer": "C", "keep_float": True}]}, ["Conv"]),
        (
            {
                "overrides": [
                    {"op_type": "Conv", "keep_float": True},
                    {"layer": "[AY]", "keep_float": False},
                    {"layer": "C", "weight_bits": 4},
                ]
            },
            ["Conv"],
        ),
        ({"nodes_to_exclude": ["D"]}, ["Relu"]),
        ({"op_types_to_exclude": ["Relu"]}, ["Relu", "Relu"]),
    ],
)
def test_layer_that_stays_real_is_the_hosts(settings: dict[str, Any], host: list[str]) -> None:
    model = three_convolutions()
    samples = RNG.normal(size=(16, 4, 6, 6)).astype(np.float32)
    graph = quantize(model, samples, **settings)
    found = [node.op_type for node in graph.nodes if isinstance(node, HostOperator)]
    assert [kind for kind in found if kind != "Transpose"] == host
    assert sum(isinstance(node, Conv2d) for node in graph.nodes) == 3 - host.count("Conv")
    expected, computed = run_float(model, samples[:1]), run_graph(graph, samples[:1])
    assert np.linalg.norm(expected - computed) < 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nodes_to_exclude": ["no"]}, "nodes_to_exclude: 'no' must be the name of a layer"),
        ({"op_types_to_exclude": ["Gemm"]}, "op_types_to_exclude: the network has no 'Gemm'"),
        ({"overrides": [{"op_type": "Gemm", "weight_bits": 4}]}, "override of layer None, op_type 'Gemm' must select"),
    ],
)
def test_choice_of_no_layer_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        quantize(three_convolutions(), np.ones((2, 4, 6, 6), np.float32), **settings)


def concatenated() -> bytes:
    """CONV A, RELU R, MAXPOOL M, CONCAT C of M and of SIGMOID S, SOFTMAX Y."""
    nodes = [
        ("Conv", ["x", "w"], "a", {"pads": [1, 1, 1, 1]}),
        ("Relu", ["a"], "r", {}),
        ("MaxPool", ["r"], "m", {"kernel_shape": [1, 1]}),
        ("Sigmoid", ["a"], "s", {}),
        ("Concat", ["m", "s"], "c", {"axis": 1}),
        ("Softmax", ["c"], "y", {"axis": 1}),
    ]
    return onnx_model(nodes, {"w": W}, (1, 4, 6, 6))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            {"layer": "R", "weight_bits": 4},
            "override of layer 'R', op_type None: weight_bits has no effect on 'R'; it has one on 'A'",
        ),
        (
            {"op_type": "Input", "per_channel": False},
            "override of layer None, op_type 'Input': per_channel has no effect on 'x'; it has one on 'A'",
        ),
        (
            {"layer": "[MSY]", "calibrate_method": "minmax"},
            "override of layer '[MSY]', op_type None: calibrate_method has no effect on 'M', 'S', 'Y'; "
            "it has one on 'x', 'A', 'C'",
        ),
        (
            {"layer": "M", "activation_symmetric": True},
            "override of layer 'M', op_type None: activation_symmetric has no effect on 'M'; "
            "it has one on 'x', 'A', 'S' and 2 more",
        ),
        (
            {"op_type": "Input", "keep_float": True},
            "override of layer None, op_type 'Input': keep_float has no effect on 'x': inputs stay as they are",
        ),
        ({"op_type": "Gemm", "weight_bits": 4}, "override of layer None, op_type 'Gemm' must select a layer, got none"),
    ],
)
def test_overrides_that_change_nothing_are_refused(override: dict[str, Any], message: str) -> None:
    """Softmax and Sigmoid have fixed ranges; Relu and MaxPool keep their input's."""
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        quantize(concatenated(), np.ones((2, 4, 6, 6), np.float32), overrides=[override])


def test_every_setting_that_counts_changes_the_graph() -> None:
    """What `effects` names, and no other setting: measured by quantizing with each."""
    x = RNG.normal(size=(8, 4, 6, 6)).astype(np.float32)
    network = read_onnx(concatenated())
    useful = effects(network, QuantizationConfig())

    def graph(config: QuantizationConfig) -> bytes:
        found = attach(network, calibrate(network, x, config).ranges, config)
        return dump_graph(lower(found, RequantMode.TFLITE))

    plain = graph(QuantizationConfig())
    others = {
        "calibrate_method": "moving_average", "percentile": 75.0, "activation_symmetric": True, "per_channel": False,
        "weight_method": "mse", "weight_bits": 4,
    }  # fmt: skip
    for name in ("x", *(op.name for op in network.operators)):
        for setting, value in others.items():
            extra = {"calibrate_method": "percentile"} if setting == "percentile" else {}
            config = QuantizationConfig(overrides=(Override(layer=name, settings={setting: value, **extra}),))
            assert (graph(config) != plain) == (setting in useful[name]), (name, setting)


def test_an_exclusion_wins_over_keep_float_false_and_lets_other_settings_stand() -> None:
    x = np.ones((2, 4, 6, 6), np.float32)
    overrides = [{"layer": "A", "weight_bits": 4}]
    quantize(concatenated(), x, overrides=overrides, nodes_to_exclude=["A"])
    with pytest.raises(InputError, match="no effect on 'A': nodes_to_exclude or op_types_to_exclude wins"):
        quantize(concatenated(), x, overrides=[{"layer": "A", "keep_float": False}], op_types_to_exclude=["Conv"])


def network_of(model: bytes, samples: Any, **settings: Any) -> Network:
    return quantize_network(read_onnx(model), samples, make_config(settings))


def test_weights_follow_their_settings() -> None:
    """Bits, scales per channel or per layer, and the range of the weights, layer by layer."""
    samples = RNG.normal(size=(8, 4, 6, 6)).astype(np.float32)
    overrides = [{"layer": "C", "weight_bits": 4, "per_channel": False}, {"layer": "Y", "weight_method": "mse"}]
    network = network_of(three_convolutions(), samples, overrides=overrides)
    first, second, third = (network.parameters[f"{name}_weight"] for name in "ACY")
    limits = np.abs(W).reshape(4, -1).max(axis=1)
    assert (first.kind, second.kind, third.kind) == ("int8", "int4", "int8")
    assert np.allclose(first.scale, limits / 127)
    assert np.allclose(second.scale, [limits.max() / 7])
    assert np.all(third.scale < first.scale)
    for found, largest in ((first, 127), (second, 7), (third, 127)):
        assert found.integers is not None
        assert np.abs(found.integers).max() == largest


@pytest.mark.parametrize("bits", [4, 8])
def test_mse_weights_have_less_error(bits: int) -> None:
    """Against the range of all weights, on weights with outliers; and hardly more than the best of a grid."""
    weight = np.random.default_rng(2).laplace(size=(8, 2000)).astype(np.float32)
    steps, bias = Steps(1.0, 1.0), np.zeros(8, np.float32)

    def errors(scales: Any) -> Any:
        largest = 2 ** (bits - 1) - 1
        steps = np.clip(np.rint(weight / scales[:, None]), -largest, largest)
        return np.square(weight - steps * scales[:, None]).sum(axis=1)

    minmax, mse = (
        weight_scales(weight, bias, steps, LayerConfig(weight_bits=bits, weight_method=method))
        for method in ("minmax", "mse")
    )
    best = np.min([errors(minmax * share) for share in np.linspace(0.2, 1, 81)], axis=0)
    assert errors(mse).sum() < errors(minmax).sum() * (0.6 if bits == 4 else 0.99)
    assert np.all(errors(mse) < best * 1.03)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_dead_channels_have_a_scale(per_channel: bool, method: str) -> None:
    weight = np.zeros((3, 4, 1, 1), np.float32)
    weight[1] = 0.5
    for values in (weight, np.zeros_like(weight)):
        layer = LayerConfig(weight_method=method, per_channel=per_channel)
        scales = weight_scales(values, np.zeros(3, np.float32), Steps(1.0, 1.0), layer)
        assert np.all(scales > 0)


def test_symmetric_activations_have_zero_point_0() -> None:
    samples = RNG.normal(size=(8, 4, 6, 6)).astype(np.float32)
    overrides = [{"layer": "B", "activation_symmetric": False}]
    graph = quantize(three_convolutions(), samples, activation_symmetric=True, overrides=overrides)
    assert {name: tensor.zero_point for name, tensor in graph.tensors.items()} == {"x": 0, "b": -128, "d": 0, "y": 0}
    expected = run_float(three_convolutions(), samples[:1])
    assert np.linalg.norm(run_graph(graph, samples[:1]) - expected) < 0.05 * np.linalg.norm(expected)


def test_bounded_functions_have_fixed_ranges() -> None:
    """Those of TensorFlow Lite, or the whole range of the function in mode fp32."""
    model = onnx_model(
        [("Conv", ["x", "w"], "a", {}), ("Sigmoid", ["a"], "s", {}), ("Tanh", ["a"], "t", {}),
         ("Softmax", ["a"], "m", {"axis": 1})],
        {"w": W}, (1, 4, 6, 6), outputs=("s", "t", "m"),
    )  # fmt: skip
    samples = RNG.normal(0, 0.1, (4, 4, 6, 6)).astype(np.float32)
    found = network_of(model, samples).parameters
    assert [found[name].parameters for name in "stm"] == [(1 / 256, -128), (1 / 128, 0), (1 / 256, -128)]
    found = network_of(model, samples, mode="fp32").parameters
    assert found["s"].parameters == (float(np.float32(1 / 255)), -128)
    assert found["t"].parameters == (float(np.float32(2 / 255)), -1)


def test_weights_of_4_bits_reach_the_graph() -> None:
    samples = RNG.normal(size=(8, 4, 6, 6)).astype(np.float32)
    graph = quantize(three_convolutions(), samples, weight_bits=4, weight_method="mse")
    weights = [node.weight for node in graph.nodes if isinstance(node, Conv2d)]
    assert len(weights) == 3
    assert all(np.abs(weight).max() == 7 for weight in weights)
