"""The demo network: its files are small, its int8 accuracy is within a point of the float one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.networks.float_models import run_float

from accel import demo
from accel.network.real import dequantize_output, quantize_input
from accel.network.reference import run
from accel.quantizer import quantize


def test_data_are_small_and_normalized() -> None:
    data = demo.load()
    files = [path for path in data.model_path.parent.iterdir() if path.suffix in (".onnx", ".npz")]
    assert sum(path.stat().st_size for path in files) < 300_000
    assert data.calibration.shape == (256, 1, 8, 8)
    assert data.test_images.shape == (360, 1, 8, 8)
    assert data.calibration.dtype == data.test_images.dtype == np.float32
    assert (data.test_images.min(), data.test_images.max()) == (0, 1)
    assert np.bincount(data.test_labels).min() > 30
    known = {image.tobytes() for image in data.calibration}
    assert not any(image.tobytes() in known for image in data.test_images)


@pytest.mark.parametrize("mode", ["tflite", "single", "fp32"])
def test_int8_accuracy_is_within_a_point_of_float(mode: str) -> None:
    data = demo.load()
    graph = quantize(data.model_path, data.calibration, mode=mode)
    logits = run_float(Path(data.model_path).read_bytes(), data.test_images)
    results = [
        dequantize_output(graph, run(graph, quantize_input(graph, image[None]))[graph.outputs[0]])[0]
        for image in data.test_images
    ]
    accuracy = [float((scores.argmax(axis=1) == data.test_labels).mean()) for scores in (logits, np.array(results))]
    print(f"demo, mode {mode}: float {accuracy[0]:.2%}, int8 {accuracy[1]:.2%}")
    assert accuracy[0] >= 0.97
    assert accuracy[1] >= accuracy[0] - 0.01
    assert 20 * np.log10(np.linalg.norm(logits) / np.linalg.norm(logits - results)) > 30
