"""The float MobileNetV2 of the benchmark, made from the integers of a file."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import accel
from accel.evaluation.runtime import run_network


@pytest.mark.slow
def test_the_float_network_knows_a_cat(shared_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its ranges that ended at 6 are Relu6 again: of 53 convolutions, 17 end a block and one is the classifier."""
    from PIL import Image

    monkeypatch.syspath_prepend(Path(accel.__file__).parents[1] / "benchmarks")
    network = import_module("mobilenet").floating(shared_models / "imagenet" / "mobilenet_v2_int8.tflite")
    assert not network.parameters
    assert sum(op.kind == "Clip" for op in network.operators) == 35
    image = Image.open(shared_models / "imagenet" / "cat.bmp").convert("RGB").resize((224, 224))
    feed = {network.inputs[0]: np.asarray(image, np.float32)[None] / np.float32(127.5) - 1}
    (scores,) = run_network(network, [feed]).values()
    labels = (shared_models / "imagenet" / "imagenet_labels.txt").read_text().splitlines()
    assert "cat" in labels[int(np.argmax(scores))]
