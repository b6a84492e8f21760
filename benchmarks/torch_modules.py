"""Networks in PyTorch for `make_float_networks.py` that torchvision does not have, or not in a small size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import resnet


def conv_silu(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """Convolution, BatchNormalization and SiLU, as YOLO repeats them."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.SiLU())


class CrossStage(nn.Module):
    """YOLO's C2f: a split, residual pairs of convolutions, and all results side by side."""

    def __init__(self, inputs: int, outputs: int, count: int, *, residual: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.residual = residual
        self.first = conv_silu(inputs, outputs)
        self.last = conv_silu(half * (2 + count), outputs)
        self.pairs = nn.ModuleList(
            nn.Sequential(conv_silu(half, half, 3), conv_silu(half, half, 3)) for _ in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for pair in self.pairs:
            y = pair(parts[-1])
            parts.append(parts[-1] + y if self.residual else y)
        return self.last(torch.cat(parts, 1))


class PyramidPool(nn.Module):
    """YOLO's SPPF: three MaxPools in a row, all results side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_silu(channels, channels // 2)
        self.last = conv_silu(channels * 2, channels)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.last(torch.cat(parts, 1))


class Yolo(nn.Module):
    """YOLOv8 with its head: box distances as the expectation of a Softmax, in the middle of the network.

    Outputs are boxes and class scores side by side, shape (1, 4 + classes, anchors).
    """

    def __init__(self, width: int, depth: int, classes: int) -> None:
        super().__init__()
        w = [width, 2 * width, 4 * width, 8 * width, 16 * width]
        self.stem = nn.Sequential(
            conv_silu(3, w[0], 3, 2), conv_silu(w[0], w[1], 3, 2), CrossStage(w[1], w[1], depth, residual=True)
        )
        self.stage3 = nn.Sequential(conv_silu(w[1], w[2], 3, 2), CrossStage(w[2], w[2], 2 * depth, residual=True))
        self.stage4 = nn.Sequential(conv_silu(w[2], w[3], 3, 2), CrossStage(w[3], w[3], 2 * depth, residual=True))
        self.stage5 = nn.Sequential(
            conv_silu(w[3], w[4], 3, 2), CrossStage(w[4], w[4], depth, residual=True), PyramidPool(w[4])
        )
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.top4 = CrossStage(w[4] + w[3], w[3], depth, residual=False)
        self.top3 = CrossStage(w[3] + w[2], w[2], depth, residual=False)
        self.down4, self.bottom4 = conv_silu(w[2], w[2], 3, 2), CrossStage(w[2] + w[3], w[3], depth, residual=False)
        self.down5, self.bottom5 = conv_silu(w[3], w[3], 3, 2), CrossStage(w[3] + w[4], w[4], depth, residual=False)
        self.boxes = nn.ModuleList(self._head(c, 64) for c in w[2:])
        self.scores = nn.ModuleList(self._head(c, classes) for c in w[2:])
        self.distance = nn.Conv2d(16, 1, 1, bias=False)

    def _head(self, channels: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            conv_silu(channels, channels, 3), conv_silu(channels, channels, 3), nn.Conv2d(channels, outputs, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        c3 = self.stage3(self.stem(x))
        c4 = self.stage4(c3)
        c5 = self.stage5(c4)
        p4 = self.top4(torch.cat([self.up(c5), c4], 1))
        p3 = self.top3(torch.cat([self.up(p4), c3], 1))
        p4 = self.bottom4(torch.cat([self.down4(p3), p4], 1))
        p5 = self.bottom5(torch.cat([self.down5(p4), c5], 1))
        levels = zip((p3, p4, p5), self.boxes, self.scores, strict=True)
        flat = torch.cat([torch.cat([boxes(p), scores(p)], 1).flatten(2) for p, boxes, scores in levels], 2)
        boxes, scores = flat.split([64, flat.shape[1] - 64], 1)
        distances = self.distance(boxes.reshape(len(x), 4, 16, -1).transpose(1, 2).softmax(1)).flatten(1, 2)
        left_top, right_bottom = distances.chunk(2, 1)
        return torch.cat([(right_bottom - left_top) / 2, left_top + right_bottom, scores.sigmoid()], 1)


class UNet(nn.Module):
    """Encoder and decoder with skips: one step up by a bilinear Resize, the others by ConvTranspose."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        sizes = [width << level for level in range(depth)]
        self.downs = nn.ModuleList(self._pair(i, o) for i, o in zip([3, *sizes], sizes, strict=False))
        ups = [nn.ConvTranspose2d(size, size // 2, 2, 2) for size in sizes[:1:-1]]
        resize = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.ups = nn.ModuleList([*ups, nn.Sequential(resize, nn.Conv2d(sizes[1], sizes[0], 1))])
        self.decoders = nn.ModuleList(self._pair(2 * size, size) for size in sizes[-2::-1])
        self.head = nn.Conv2d(width, 4, 1)

    def _pair(self, inputs: int, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, down in enumerate(self.downs):
            x = down(nn.functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for up, decoder, skip in zip(self.ups, self.decoders, skips[-2::-1], strict=True):
            x = decoder(torch.cat([skip, up(x)], 1))
        return self.head(x)


class Speech(nn.Module):
    """Separable 1-D convolutions with residuals over (1, features, time), as QuartzNet has them."""

    def __init__(self, features: int, width: int, blocks: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(features, width, 11, stride=2, padding=5), nn.BatchNorm1d(width), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, width, 9, padding=4 << (i % 2), dilation=1 << (i % 2), groups=width),
                nn.Conv1d(width, width, 1),
                nn.BatchNorm1d(width),
            )
            for i in range(blocks)
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = nn.functional.relu(x + block(x))
        return self.head(x.mean(2))


class Encoder(nn.Module):
    """BERT's layers over embedded tokens (1, tokens, width): attention, LayerNormalization, Gelu, and a pooler."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.heads = heads
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "query": nn.Linear(width, width), "key": nn.Linear(width, width), "value": nn.Linear(width, width),
                    "merge": nn.Linear(width, width), "norm1": nn.LayerNorm(width), "norm2": nn.LayerNorm(width),
                    "grow": nn.Linear(width, 4 * width), "shrink": nn.Linear(4 * width, width),
                }
            )
            for _ in range(layers)
        )  # fmt: skip
        self.pooler = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            query, key, value = (self._split(layer[name](x)) for name in ("query", "key", "value"))
            scores = query @ key.transpose(2, 3) / (query.shape[-1] ** 0.5)
            mixed = (scores.softmax(3) @ value).transpose(1, 2).reshape(x.shape)
            x = layer["norm1"](x + layer["merge"](mixed))
            x = layer["norm2"](x + layer["shrink"](nn.functional.gelu(layer["grow"](x))))
        return torch.tanh(self.pooler(x[:, 0]))


class Recurrent(nn.Module):
    """A bidirectional LSTM over (1, time, features), then a layer for each time."""

    def __init__(self, features: int, width: int, classes: int) -> None:
        super().__init__()
        self.before = nn.Linear(features, width)
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(torch.relu(self.before(x)))[0])


class DenseHeads(nn.Module):
    """A detector of torchvision without its anchors and its post-processing: class scores and boxes of all levels."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.head(list(self.backbone(x).values()))
        return outputs["cls_logits"], outputs["bbox_regression"]


class Only(nn.Module):
    """One output, by name, of a network that returns several."""

    def __init__(self, network: nn.Module, output: str) -> None:
        super().__init__()
        self.network, self.output = network, output

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[self.output]


class SmallResNet(resnet.ResNet):
    """torchvision's ResNet with `width` channels instead of 64."""

    def __init__(self, width: int, layers: list[int]) -> None:
        self.narrow = 64 // width
        super().__init__(resnet.BasicBlock, layers, num_classes=10)
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.inplanes = width
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            super(SmallResNet, self)._make_layer(resnet.BasicBlock, width << i, count, stride=1 + (i > 0))
            for i, count in enumerate(layers)
        )
        self.fc = nn.Linear(8 * width, 10)
