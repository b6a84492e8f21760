"""The training loop: the same result each time, also after an interruption; the loss of distillation."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from support.networks.torch_modules import Residual, digits, residual  # noqa: E402

from accel.errors import InputError  # noqa: E402
from accel.train import distillation_loss, prepare  # noqa: E402
from accel.train.loop import Distillation, Schedule, fit  # noqa: E402

SCHEDULE = Schedule(epochs=3, batch=32, frozen_share=0.4)


def prepared():
    return prepare(residual(), torch.from_numpy(digits(32).inputs))


def weights(module) -> np.ndarray:
    return np.concatenate([value.detach().numpy().reshape(-1) for value in module.state_dict().values()])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, second, other = (fit(prepared(), digits(64), SCHEDULE, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(weights(first), weights(second))
    assert not np.array_equal(weights(first), weights(other))


def test_a_run_that_was_interrupted_gives_the_same_weights(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"

    def interrupt(epoch: int, epochs: int, loss: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(prepared(), digits(64), SCHEDULE, checkpoint=path, report=interrupt)
    epochs: list[int] = []
    resumed = fit(
        prepared(), digits(64), SCHEDULE, checkpoint=path, report=lambda epoch, epochs_, loss: epochs.append(epoch)
    )
    assert epochs == [3]
    np.testing.assert_array_equal(weights(resumed), weights(fit(prepared(), digits(64), SCHEDULE)))


def test_a_damaged_checkpoint_and_that_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="must be a checkpoint"):
        fit(prepared(), digits(64), SCHEDULE, checkpoint=path)
    path.unlink()
    fit(Residual(4), digits(64), Schedule(epochs=1), checkpoint=path)
    with pytest.raises(InputError, match="must be a checkpoint of this model"):
        fit(prepared(), digits(64), SCHEDULE, checkpoint=path)


def test_distillation_follows_its_formula() -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.standard_normal((2, 5, 4)).astype(np.float32)
    labels = np.array([0, 3, 1, 2, 2])

    def softmax(values: np.ndarray) -> np.ndarray:
        exponentials = np.exp(values - values.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    p, q = softmax(teacher / 3.0), softmax(student / 3.0)
    expected = 0.3 * -np.log(softmax(student)[range(5), labels]).mean() + 0.7 * 9 * (p * np.log(p / q)).sum(1).mean()
    found = distillation_loss(*map(torch.from_numpy, (student, teacher, labels)), alpha=0.3, temperature=3.0)
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_teacher_alone_pulls_the_student_towards_it() -> None:
    teacher, data = residual(seed=5), digits(128)
    student = prepared()
    inputs = torch.from_numpy(data.inputs)

    def distance() -> float:
        with torch.no_grad():
            return float((student.eval()(inputs) - teacher(inputs)).square().mean())

    before = distance()
    schedule = Schedule(epochs=4, learning_rate=2e-2)
    fit(student, data, schedule, distillation=Distillation(teacher, alpha=0.0, temperature=2.0))
    assert distance() < 0.5 * before
