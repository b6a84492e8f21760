"""Train the demo network on scikit-learn's 8x8 digits and write its float ONNX model and its data.

Needs two packages that the project itself does not depend on: ``pip install torch==2.13.0 scikit-learn``. From the
folder of the checkout, ``python examples/train_demo.py accel/demo`` makes the files that are committed there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

EPOCHS, BATCH, CALIBRATION_IMAGES = 60, 64, 256


class DigitsNet(nn.Module):
    """Stem, strided convolution, residual block, max pool, pointwise convolution, global average pool, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        self.down = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.down_norm = nn.BatchNorm2d(32)
        self.block1 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.block1_norm = nn.BatchNorm2d(32)
        self.block2 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.block2_norm = nn.BatchNorm2d(32)
        self.expand = nn.Conv2d(32, 64, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(64)
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, 10) of images (N, 1, 8, 8)."""
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(self.down_norm(self.down(x)))
        y = torch.relu(self.block1_norm(self.block1(x)))
        y = torch.relu(x + self.block2_norm(self.block2(y)))
        y = nn.functional.max_pool2d(y, 2)
        y = torch.relu(self.expand_norm(self.expand(y)))
        return self.classifier(y.mean(dim=(2, 3)))


def train(images: np.ndarray, labels: np.ndarray, seed: int) -> DigitsNet:
    """Train on images (N, 1, 8, 8) in [0, 1]; the result depends on the arguments only."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    model = DigitsNet()
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch], label_smoothing=0.05)
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


class OnnxWriter:
    """Collects nodes and constants of an ONNX graph; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        """Append one node."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: torch.Tensor) -> str:
        """Append one initializer."""
        self.constants.append(numpy_helper.from_array(value.detach().numpy(), name))
        return name

    def conv_norm(self, x: str, name: str, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> str:
        """A convolution and its batch normalization, kept apart."""
        pads = [conv.padding[0], conv.padding[1]] * 2
        weight = self.constant(f"{name}.weight", conv.weight)
        x = self.node("Conv", [x, weight], name, kernel_shape=conv.kernel_size, strides=conv.stride, pads=pads)
        fields = {"scale": norm.weight, "bias": norm.bias, "mean": norm.running_mean, "variance": norm.running_var}
        constants = [self.constant(f"{name}.norm.{field}", value) for field, value in fields.items()]
        return self.node("BatchNormalization", [x, *constants], f"{name}.norm", epsilon=norm.eps)


def to_onnx(model: DigitsNet) -> onnx.ModelProto:
    """The network as an ONNX model with batch normalization in nodes of its own."""
    w = OnnxWriter()
    x = w.node("Relu", [w.conv_norm("image", "stem", model.stem, model.stem_norm)], "stem.relu")
    x = w.node("Relu", [w.conv_norm(x, "down", model.down, model.down_norm)], "down.relu")
    y = w.node("Relu", [w.conv_norm(x, "block1", model.block1, model.block1_norm)], "block1.relu")
    y = w.conv_norm(y, "block2", model.block2, model.block2_norm)
    y = w.node("Relu", [w.node("Add", [x, y], "residual")], "residual.relu")
    y = w.node("MaxPool", [y], "pool", kernel_shape=[2, 2], strides=[2, 2])
    y = w.node("Relu", [w.conv_norm(y, "expand", model.expand, model.expand_norm)], "expand.relu")
    y = w.node("Flatten", [w.node("GlobalAveragePool", [y], "mean")], "features")
    weight = w.constant("classifier.weight", model.classifier.weight)
    bias = w.constant("classifier.bias", model.classifier.bias)
    w.node("Gemm", [y, weight, bias], "logits", transB=1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(w.nodes, "digits", [image], [logits], w.constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def main() -> None:
    """Train, report the accuracy and write `digits.onnx` and `digits.npz`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write digits.onnx and digits.npz")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    pixels, labels = load_digits(return_X_y=True)
    pixels = pixels.astype(np.uint8).reshape(-1, 1, 8, 8)
    train_x, test_x, train_y, test_y = train_test_split(
        pixels, labels, test_size=360, random_state=arguments.seed, stratify=labels
    )
    model = train(train_x.astype(np.float32) / 16, train_y, arguments.seed)
    with torch.no_grad():
        predictions = model(torch.from_numpy(test_x.astype(np.float32) / 16)).argmax(dim=1).numpy()
    print(f"float accuracy on {len(test_y)} test images: {(predictions == test_y).mean():.2%}")
    onnx.save(to_onnx(model), arguments.folder / "digits.onnx")
    np.savez_compressed(
        arguments.folder / "digits.npz",
        calibration=train_x[:CALIBRATION_IMAGES],
        test_images=test_x,
        test_labels=test_y.astype(np.uint8),
    )


if __name__ == "__main__":
    main()
