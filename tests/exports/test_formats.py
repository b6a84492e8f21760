"""The command and the function `export`: files, sentences of refusal, arrays for NumPy."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli.invoke import invoke
from support.networks.exported import demo_graph, symmetric
from support.networks.small_networks import conv, network, pool, table

import accel
from accel.errors import ExportError, InputError
from accel.exports import FORMATS, npz
from accel.machine.numerics import output_multipliers, requantize, requantize_clamp, wrap_int32
from accel.network import reference
from accel.network.graph import Graph, State, Tensor
from accel.network.nodes import NODE_TYPES, Conv2d, HostOperator, MaxPool2d


def hosted() -> Graph:
    """A network whose only operator is the host's, on real numbers."""
    tensors = {name: Tensor(name, (1, 4), 1.0, 0, dtype="float32") for name in ("x", "y")}
    node = HostOperator(name="cumulative", inputs=("x",), output="y", op_type="Elu", opset=17, arguments=("x",))
    return Graph("hosted", "tflite", tensors, (node,), ("x",), ("y",))


def test_refusal_names_the_node_and_the_formats_that_can(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        accel.export(network((1, 2, 2, 3), table()), tmp_path / "a.onnx", format="tensorrt")
    assert str(caught.value) == (
        "Table 'n0': format tensorrt cannot express a table that is of no known function; "
        "export as qdq or qoperator or npz or c"
    )
    with pytest.raises(ExportError) as caught:
        accel.export(hosted(), tmp_path / "a.tflite", format="tflite")
    assert str(caught.value) == (
        "HostOperator 'cumulative': format tflite cannot express Elu of ONNX; "
        "export as qdq or qoperator or tensorrt or npz"
    )
    with pytest.raises(ExportError) as caught:
        accel.export(hosted(), tmp_path / "c", format="c")
    assert str(caught.value) == (
        "HostOperator 'cumulative': format c cannot express this operation; "
        "export as qdq or qoperator or tensorrt or npz"
    )
    assert list(tmp_path.iterdir()) == []


def test_multipliers_of_no_scale_are_refused(tmp_path: Path) -> None:
    graph = network((1, 3, 3, 2), conv(2, (1, 1)))
    node = graph.nodes[0]
    assert isinstance(node, Conv2d)
    odd = Conv2d(**{**vars(node), "multiplier": node.multiplier + np.arange(1, 3, dtype=np.int32)})
    graph = Graph("odd", "tflite", graph.tensors, (odd,), graph.inputs, graph.outputs)
    for format in ("qdq", "qoperator", "tensorrt", "tflite"):
        with pytest.raises(ExportError) as caught:
            accel.export(graph, tmp_path / "a", format=format)
        assert str(caught.value) == (
            f"Conv2d 'n0': format {format} cannot express multipliers that are of no float32 scales of its tensors and "
            "weights; export as npz or c"
        )


def test_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        accel.export(demo_graph("fp32"), tmp_path / "a", format="pdf")
    assert str(caught.value) == "format must be one of qdq, qoperator, tensorrt, tflite, npz, c, got 'pdf'"
    with pytest.raises(InputError) as caught:
        accel.export(3, tmp_path / "a", format="qdq")
    assert str(caught.value) == "model must be a graph or a path, got int; a program is compiled already"


@pytest.mark.parametrize("format", FORMATS)
def test_command(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    accel.save_graph(symmetric(), "a.graph")
    result = invoke("export", "a.graph", "--format", format, "-o", "out.x", "--json")
    assert result.exit_code == 0, result.output
    files = json.loads(result.output)["files"]
    again = FORMATS[format].write(symmetric(), [])
    assert [Path(name).read_bytes() for name in files] == list(again.values())


@pytest.mark.parametrize("format", FORMATS)
def test_endings_of_other_formats_are_refused(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    accel.save_graph(symmetric(), "a.graph")
    own = {"tflite": ".tflite", "npz": ".npz", "c": ""}.get(format, ".onnx")
    must = f"must end in {own}" if own else "must be a folder"
    for ending in {".onnx", ".tflite", ".npz"} - {own}:
        result = invoke("export", "a.graph", "--format", format, "-o", f"a{ending}")
        assert (result.exit_code, result.stderr) == (2, f"Error: a{ending}: {must} for format {format}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.graph"]
    assert invoke("export", "a.graph", "--format", format, "-o", f"a{own}").exit_code == 0


def test_command_refuses_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    accel.save_graph(network((1, 2, 2, 3), table()), "a.graph")
    result = invoke("export", "a.graph", "--format", "tflite", "-o", "a.tflite")
    assert (result.exit_code, result.output.count("Table 'n0'")) == (2, 1)


def test_states_are_noted(tmp_path: Path) -> None:
    graph = network((1, 3, 3, 2), pool(MaxPool2d, (1, 1), (1, 1)))
    (node,) = graph.nodes
    assert isinstance(node, MaxPool2d)
    tensors = {**graph.tensors, **{name: Tensor(name, (1, 3, 3, 2), 0.5, 3) for name in ("before", "after")}}
    second = MaxPool2d(name="n1", inputs=("before",), output="after", kernel=node.kernel, stride=node.stride)
    states = (State("before", "after", 0),)
    graph = Graph("s", "tflite", tensors, (node, second), ("t0", "before"), ("t1", "after"), states)
    result = accel.export(graph, tmp_path / "a.tflite", format="tflite")
    assert result.notes == ("states are inputs and outputs that the user carries from run to run: 'after' to 'before'",)


def test_arrays_are_enough_to_run_the_network() -> None:
    """The layers of the demo from the .npz and .json files alone."""
    graph = demo_graph("tflite")
    files = FORMATS["npz"].write(graph, [])
    arrays, text = np.load(io.BytesIO(files[""])), json.loads(files[".json"])
    image = np.random.default_rng(1).integers(-128, 128, (1, 8, 8, 1)).astype(np.int8)
    values, wanted = {"image": image}, reference.run(graph, image)
    for layer in text["layers"]:
        known = {key: arrays[v["array"]] if isinstance(v, dict) else v for key, v in layer.items()}
        values[layer["outputs"][0]] = plain(known, values, text["tensors"])
    assert all(np.array_equal(values[name], wanted[name]) for name in wanted)
    assert {layer["operation"] for layer in text["layers"]} <= set(NODE_TYPES)
    conv = text["layers"][0]
    scale = arrays[conv["weight_scale"]["array"]]
    source, result = (text["tensors"][name]["scale"] for name in (conv["inputs"][0], conv["outputs"][0]))
    made, _ = output_multipliers(source, scale, result, text["mode"])
    assert np.array_equal(made, arrays[conv["multiplier"]["array"]])


@pytest.mark.parametrize("field", ["bias", "weight", "multiplier", "shift"])
def test_suite_catches_a_wrong_array(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants: one array of every layer is written wrong."""
    right = npz._value
    wrong = {
        "bias": lambda value: value + 500,
        "weight": lambda value: value[..., ::-1],
        "multiplier": lambda value: value // 2,
        "shift": lambda value: value - 1,
    }[field]

    def value_of(name: str, value: Any, arrays: Any) -> Any:
        return right(name, wrong(value) if name.endswith(f"_{field}") else value, arrays)

    monkeypatch.setattr(npz, "_value", value_of)
    with pytest.raises(AssertionError):
        test_arrays_are_enough_to_run_the_network()


def plain(layer: dict, values: dict, tensors: dict) -> np.ndarray:
    """One layer, by the formulas of docs/exporting.md."""
    sources = [values[name].astype(np.int64) - tensors[name]["zero_point"] for name in layer["inputs"]]
    (output,) = layer["outputs"]
    shape, zero_point, x = tensors[output]["shape"], tensors[output]["zero_point"], sources[0]
    if layer["operation"] == "Reshape":
        return values[layer["inputs"][0]].reshape(shape)

    def finish(sums: np.ndarray) -> np.ndarray:
        bounds = (zero_point, layer["act_min"], layer["act_max"], "tflite")
        return requantize_clamp(wrap_int32(sums), layer["multiplier"], layer["shift"], *bounds).reshape(shape)

    if layer["operation"] == "FullyConnected":
        return finish(x.reshape(1, -1) @ layer["weight"].astype(np.int64).T + layer["bias"])
    if layer["operation"] == "Add":
        pairs = zip(sources, (layer["operand0"], layer["operand1"]), strict=True)
        return finish(sum(requantize(s << layer["left_shift"], *pair, "tflite") for s, pair in pairs))
    kernel = layer["kernel"] if "kernel" in layer else layer["weight"].shape[1:3]
    top, left, bottom, right = layer["padding"]
    if layer["operation"] == "MaxPool2d":
        x = values[layer["inputs"][0]].astype(np.int64)
    border = -128 if layer["operation"] == "MaxPool2d" else 0
    padded = np.pad(x[0], ((top, bottom), (left, right), (0, 0)), constant_values=border)
    taps = np.empty((*shape[1:3], *kernel, padded.shape[2]), np.int64)
    for oy, ox in np.ndindex(*shape[1:3]):
        y, z = oy * layer["stride"][0], ox * layer["stride"][1]
        taps[oy, ox] = padded[y : y + kernel[0], z : z + kernel[1]]
    if layer["operation"] == "MaxPool2d":
        return taps.max(axis=(2, 3)).astype(np.int8)[None]
    if layer["operation"] == "Mean":
        return finish(taps.sum(axis=(2, 3)))
    assert (layer["operation"], layer["groups"]) == ("Conv2d", 1)
    return finish(np.einsum("hwklc,oklc->hwo", taps, layer["weight"].astype(np.int64)) + layer["bias"])
