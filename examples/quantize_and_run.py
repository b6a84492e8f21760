"""Quantize a float ONNX network, compile it, and run it in the simulator: `python examples/quantize_and_run.py`.

The network and its images are those of `accel demo`: 8x8 handwritten digits.
"""

from __future__ import annotations

import numpy as np

import accel
from accel import demo


def main() -> None:
    """Print accuracy, cycles, and what each layer costs."""
    data = demo.load()
    graph = accel.quantize(data.model_path, data.calibration)
    program = accel.compile(graph, "edge")

    right = 0
    for image, label in zip(data.test_images, data.test_labels, strict=True):
        result = accel.run(program, accel.quantize_input(graph, image[None]))
        logits = next(iter(result.outputs.values()))
        right += int(np.argmax(logits) == label)

    print(f"{right} of {len(data.test_labels)} images right, {result.cycles:,} cycles each")
    for layer in result.layers:
        print(f"{layer.name:24} {layer.op:16} {layer.cycles:6,} cycles, {layer.utilization:6.1%} of the array's peak")


if __name__ == "__main__":
    main()
