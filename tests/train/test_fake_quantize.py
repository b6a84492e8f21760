"""Fake quantization: values, and gradients beside the published formulas and finite differences."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from accel.train.fake_quantize import FakeQuantize  # noqa: E402


def values() -> "torch.Tensor":
    return torch.tensor([-9.0, -1.3, -0.26, 0.0, 0.2, 0.77, 1.3, 40.0], dtype=torch.float32)


def module(*, learned: bool = True, scale: float = 0.1, zero_point: int = -20) -> FakeQuantize:
    return FakeQuantize(np.array([scale], np.float32), zero_point, -128, 127, learned=learned)


def test_values_are_those_of_integers() -> None:
    expected = (np.clip(np.rint(values().numpy() / np.float32(0.1)) - 20, -128, 127) + 20) * np.float32(0.1)
    np.testing.assert_allclose(module()(values()).detach().numpy(), expected, rtol=1e-6)


def test_gradient_is_1_inside_the_range_and_0_outside() -> None:
    inputs = values().requires_grad_()
    module()(inputs).sum().backward()
    np.testing.assert_allclose(inputs.grad.numpy(), [1, 1, 1, 1, 1, 1, 1, 0], atol=1e-6)


def test_gradient_of_values_equals_finite_differences_without_rounding() -> None:
    """The surrogate is the clip alone; no value lies where it has a corner."""
    inputs = values().requires_grad_()
    weights = torch.arange(1.0, 9.0)
    (module()(inputs) * weights).sum().backward()
    step = 1e-3

    def surrogate(x: "torch.Tensor") -> "torch.Tensor":
        return (x.double() / 0.1 - 20).clamp(-128, 127) * 0.1 * weights

    found = (surrogate(values() + step) - surrogate(values() - step)) / (2 * step)
    np.testing.assert_allclose(inputs.grad.numpy(), found.numpy(), rtol=1e-3, atol=1e-4)


def test_gradient_of_a_scale_equals_finite_differences_with_the_rounding_held() -> None:
    """Esser et al. 2020, equation 3, with its factor; the surrogate adds the rounding error as a constant."""
    quantizer = module()
    quantizer(values().reshape(1, -1)).sum().backward()
    steps = (values().double() / np.float32(0.1) - 20).clamp(-128, 127)
    error = steps.round() - steps

    def surrogate(scale: float) -> float:
        return float((((values().double() / scale - 20).clamp(-128, 127) + error + 20) * scale).sum())

    slope = (surrogate(0.1 + 1e-7) - surrogate(0.1 - 1e-7)) / 2e-7
    factor = 1 / np.sqrt(values().numel() * 147)
    np.testing.assert_allclose(quantizer.growth.grad.numpy(), [0.1 * slope * factor], rtol=1e-3)


def test_gradient_of_a_scale_equals_the_published_formula() -> None:
    quantizer = FakeQuantize(np.array([0.1, 0.3], np.float32), 0, -7, 7, axis=0)
    weights = torch.tensor([[0.12, -0.26, 5.0], [0.5, -9.0, 0.1]])
    quantizer(weights).sum().backward()
    expected = []
    for row, scale in zip(weights.numpy(), (0.1, 0.3), strict=True):
        ratio = row / scale
        inside = np.abs(ratio) < 7
        slope = np.where(inside, np.rint(ratio) - ratio, np.sign(ratio) * 7)
        expected.append(slope.sum() * scale / np.sqrt(3 * 7))
    np.testing.assert_allclose(quantizer.growth.grad.numpy(), expected, rtol=1e-4)


def test_a_scale_that_is_not_learned_has_no_parameter() -> None:
    assert not list(module(learned=False).parameters())


def test_switched_off_it_changes_nothing() -> None:
    quantizer = module()
    quantizer.enabled = False
    assert torch.equal(quantizer(values()), values())
