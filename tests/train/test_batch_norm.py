"""Layers with BatchNormalization inside: the same numbers as the two layers, before and after freezing."""

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
nn = torch.nn

from accel.train.layers import QuantizedLayer, freeze_batch_norm  # noqa: E402

PAIRS = {
    "convolution": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), lambda: nn.BatchNorm2d(6), (5, 4, 8, 8)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False), lambda: nn.BatchNorm2d(8), (5, 4, 8, 8)),
    "transposed": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, output_padding=1),
        lambda: nn.BatchNorm2d(6),
        (5, 4, 5, 5),
    ),
    "one axis": (lambda: nn.Conv1d(4, 6, 3), lambda: nn.BatchNorm1d(6, affine=False), (5, 4, 9)),
    "linear": (lambda: nn.Linear(7, 6), lambda: nn.BatchNorm1d(6), (5, 7)),
    "no norm": (lambda: nn.Conv2d(4, 6, 3, bias=False), None, (5, 4, 8, 8)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_equals_the_layers_that_it_replaces(name: str) -> None:
    torch.manual_seed(1)
    make, norm, shape = PAIRS[name]
    layers = [make(), *([norm()] if norm else [])]
    pair = nn.Sequential(*layers)
    for _ in range(3):
        pair.train()(torch.randn(shape) * 2 + 1)
    wrapped = QuantizedLayer(pair[0], pair[1] if norm else None)
    inputs = torch.randn(shape)
    torch.testing.assert_close(wrapped.eval()(inputs), pair.eval()(inputs), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(wrapped.plain()(inputs), pair(inputs), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(wrapped.train()(inputs), pair.train()(inputs), rtol=1e-4, atol=1e-4)


def test_frozen_statistics_stay() -> None:
    torch.manual_seed(1)
    wrapped = QuantizedLayer(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).train()
    wrapped(torch.randn(4, 2, 3, 3))
    before = wrapped.norm.running_mean.clone()
    freeze_batch_norm(wrapped)
    inputs = torch.randn(4, 2, 3, 3)
    trained = wrapped.train()(inputs)
    assert torch.equal(wrapped.norm.running_mean, before)
    torch.testing.assert_close(trained, wrapped.eval()(inputs))
