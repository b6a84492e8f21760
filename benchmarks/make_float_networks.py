"""Float networks of torchvision and others as ONNX files with data, for `float_networks.py`.

Run: python benchmarks/make_float_networks.py FOLDER [--small] [--only NAME ...]

Needs what ``pip install -e '.[networks]'`` installs. Weights are seeded random ones, BatchNormalization has the
statistics of a few batches of random images. Each network is written by both exporters of PyTorch: NAME.onnx by
TorchScript's, NAME_dynamo.onnx by the newer one.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import light_networks
import numpy as np
import onnx
import torch
import torch_modules as modules
from numpy.typing import NDArray
from torch import nn
from torchvision import models
from torchvision.models.googlenet import BasicConv2d, Inception

OPSET = 18


class Recipe(NamedTuple):
    """A network: how to build it in its real size and in a small one, and the shapes of one input sample."""

    full: Callable[[], nn.Module]
    small: Callable[[], nn.Module]
    shape: tuple[int, ...] = (3, 224, 224)
    small_shape: tuple[int, ...] = (3, 32, 32)


def small_vgg() -> nn.Module:
    features = models.vgg.make_layers([8, "M", 16, "M", 16, 16, "M"], batch_norm=False)
    network = models.VGG(features, num_classes=10)
    network.avgpool = nn.AdaptiveAvgPool2d(2)
    network.classifier = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10))
    return network


def small_alexnet() -> nn.Module:
    features = nn.Sequential(
        nn.Conv2d(3, 8, 5, 2, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(8, 16, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    classifier = nn.Sequential(nn.Dropout(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 10))
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(3), nn.Flatten(), classifier)


def small_squeezenet() -> nn.Module:
    fires = [models.squeezenet.Fire(8, 4, 8, 8), models.squeezenet.Fire(16, 4, 12, 12)]
    head = [nn.Conv2d(24, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), *fires, *head)


def small_googlenet() -> nn.Module:
    blocks = [Inception(8, 4, 4, 8, 2, 4, 4), Inception(20, 8, 4, 8, 4, 8, 8)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    return nn.Sequential(BasicConv2d(3, 8, kernel_size=3, stride=2), *blocks, *head)


def small_mobilenet_v2() -> nn.Module:
    return models.MobileNetV2(10, 0.25, [[1, 8, 1, 1], [6, 16, 2, 2], [6, 32, 1, 2]])


def small_shufflenet() -> nn.Module:
    return models.ShuffleNetV2([2, 2, 2], [8, 16, 24, 32, 48], 10)


def small_mobilenet_v3() -> nn.Module:
    def config(inputs: int, kernel: int, wide: int, out: int, se: bool, kind: str, stride: int) -> object:
        return models.mobilenetv3.InvertedResidualConfig(inputs, kernel, wide, out, se, kind, stride, 1, 1.0)

    settings = [
        config(8, 3, 8, 8, True, "RE", 2),
        config(8, 3, 24, 8, False, "RE", 1),
        config(8, 5, 32, 16, True, "HS", 2),
    ]
    return models.MobileNetV3(settings, 32, num_classes=10)


def small_efficientnet() -> nn.Module:
    def config(expand: int, kernel: int, stride: int, inputs: int, outputs: int, layers: int) -> object:
        return models.efficientnet.MBConvConfig(expand, kernel, stride, inputs, outputs, layers)

    settings = [config(1, 3, 1, 8, 8, 1), config(4, 3, 2, 8, 12, 2), config(4, 5, 2, 12, 16, 1)]
    return models.EfficientNet(settings, dropout=0.2, num_classes=10)


def small_convnext() -> nn.Module:
    block = models.convnext.CNBlockConfig
    return models.ConvNeXt([block(8, 16, 1), block(16, None, 1)], num_classes=10)


def small_regnet() -> nn.Module:
    settings = models.regnet.BlockParams([1, 2], [16, 32], [8, 8], [1.0, 1.0], [2, 2], se_ratio=None)
    return models.RegNet(settings, num_classes=10, stem_width=8)


def vision_transformer(image: int, patch: int, layers: int, heads: int, width: int) -> nn.Module:
    network = models.VisionTransformer(image, patch, layers, heads, width, 4 * width, num_classes=100)
    nn.init.normal_(network.heads.head.weight, std=width**-0.5)
    return network


def deeplab() -> nn.Module:
    network = models.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21)
    return modules.Only(network, "out")


def ssdlite() -> nn.Module:
    return modules.DenseHeads(models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None))


def plain(name: str) -> Callable[[], nn.Module]:
    """An architecture of torchvision by name, without trained weights."""
    extra = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    return lambda: models.get_model(name, weights=None, **extra)


RECIPES = {
    "alexnet": Recipe(plain("alexnet"), small_alexnet),
    "vgg11": Recipe(plain("vgg11"), small_vgg),
    "resnet18": Recipe(plain("resnet18"), lambda: modules.SmallResNet(8, [1, 1, 1, 1])),
    "mobilenet_v2": Recipe(plain("mobilenet_v2"), small_mobilenet_v2),
    "mobilenet_v3_small": Recipe(plain("mobilenet_v3_small"), small_mobilenet_v3),
    "shufflenet_v2": Recipe(plain("shufflenet_v2_x0_5"), small_shufflenet),
    "squeezenet": Recipe(plain("squeezenet1_1"), small_squeezenet),
    "googlenet": Recipe(plain("googlenet"), small_googlenet),
    "densenet121": Recipe(plain("densenet121"), lambda: models.DenseNet(4, (2, 2), 8, num_classes=10)),
    "mnasnet": Recipe(plain("mnasnet0_5"), lambda: models.MNASNet(0.1, 10), small_shape=(3, 64, 64)),
    "efficientnet_b0": Recipe(plain("efficientnet_b0"), small_efficientnet),
    "regnet_x_400mf": Recipe(plain("regnet_x_400mf"), small_regnet),
    "convnext_tiny": Recipe(plain("convnext_tiny"), small_convnext),
    "deeplabv3": Recipe(deeplab, lambda: modules.UNet(4, 2)),
    "unet": Recipe(lambda: modules.UNet(32, 4), lambda: modules.UNet(4, 3), shape=(3, 128, 128)),
    "ssdlite": Recipe(ssdlite, ssdlite, shape=(3, 320, 320), small_shape=(3, 64, 64)),
    "yolo": Recipe(lambda: modules.Yolo(16, 1, 80), lambda: modules.Yolo(4, 1, 5), (3, 320, 320), (3, 64, 64)),
    "speech": Recipe(
        lambda: modules.Speech(64, 256, 10, 35), lambda: modules.Speech(16, 16, 3, 10), (64, 400), (16, 50)
    ),
    "vit": Recipe(lambda: vision_transformer(224, 16, 6, 3, 192), lambda: vision_transformer(32, 8, 2, 2, 16)),
    "bert": Recipe(lambda: modules.Encoder(256, 4, 4), lambda: modules.Encoder(16, 2, 2), (64, 256), (8, 16)),
    "lstm": Recipe(lambda: modules.Recurrent(40, 128, 29), lambda: modules.Recurrent(8, 8, 5), (100, 40), (10, 8)),
}  # fmt: skip


def samples(count: int, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Random images, or for other shapes (rows, columns) fields of the same spectrum without the colours' offsets."""
    if len(shape) == 3:
        return light_networks.images(count, shape, seed)
    values = light_networks.images(count, (1, *shape), seed)[:, 0]
    return np.asarray((values - values.mean()) / values.std(), np.float32)


def build(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> nn.Module:
    """A network with seeded weights of He's variance, and BatchNormalization's statistics of random inputs."""
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)  # TorchScript's exporter does not know the fused attention
    network = make().eval()
    norms = []
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = None
            norms.append(module.train())
        if isinstance(module, models.convnext.CNBlock):
            nn.init.uniform_(module.layer_scale, 0.1, 0.5)
    with torch.no_grad():
        for seed in range(4):
            network(torch.from_numpy(samples(8, shape, seed)))
    return network.eval()


def export(network: nn.Module, x: torch.Tensor, path: Path, *, dynamo: bool) -> None:
    """Write the network as one ONNX file."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        names = {"input_names": ["input"], "opset_version": OPSET, "dynamo": dynamo}
        if dynamo:
            torch.onnx.export(network, (x,), path, external_data=False, verbose=False, **names)
        else:
            torch.onnx.export(network, (x,), path, **names)
    onnx.checker.check_model(onnx.load(path))


def files(folder: Path, recipes: dict[str, Recipe], *, small: bool) -> Iterator[str]:
    """Write the networks with their data; yields a line about each file."""
    for name, recipe in recipes.items():
        make, shape = (recipe.small, recipe.small_shape) if small else (recipe.full, recipe.shape)
        network = build(make, shape)
        for suffix, dynamo in (("", False), ("_dynamo", True)):
            path = folder / f"{name}{suffix}.onnx"
            try:
                export(network, torch.from_numpy(samples(1, shape, 0)), path, dynamo=dynamo)
            except Exception as error:  # each exporter has networks that it cannot write
                path.unlink(missing_ok=True)
                yield f"{path.name}: not exported: {type(error).__name__}: {str(error).splitlines()[0]}"
                continue
            np.savez(path.with_suffix(".cal.npz"), input=samples(light_networks.CALIBRATION, shape, 100))
            np.savez(path.with_suffix(".eval.npz"), input=samples(light_networks.EVALUATION, shape, 101))
            yield f"{path.name}: {path.stat().st_size:,} bytes"


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write NAME.onnx, NAME.cal.npz and NAME.eval.npz")
    parser.add_argument("--small", action="store_true", help="write variants with few channels and small images")
    parser.add_argument("--only", nargs="+", choices=sorted(RECIPES), default=list(RECIPES), help="these networks")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for line in files(options.folder, {name: RECIPES[name] for name in options.only}, small=options.small):
        print(line, flush=True)


if __name__ == "__main__":
    main()
