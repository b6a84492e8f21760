"""Knowledge distillation."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def distillation_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, alpha: float = 0.5, temperature: float = 4.0
) -> Tensor:
    """``alpha * CE + (1 - alpha) * T^2 * KL(softmax(teacher / T) || softmax(student / T))``, the mean over samples.

    Parameters
    ----------
    student, teacher : Tensor of float32, shape (samples, classes)
        Logits; no gradient flows to the teacher.
    labels : Tensor of int64, shape (samples,)
    alpha : float
        Weight of the labels, in [0, 1].
    temperature : float

    Notes
    -----
    Hinton et al. 2015, Distilling the Knowledge in a Neural Network, section 2: gradients of the soft targets scale as
    ``1 / T^2``, hence the factor.
    """
    soft = functional.kl_div(
        functional.log_softmax(student / temperature, dim=-1),
        functional.log_softmax(teacher.detach() / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return alpha * functional.cross_entropy(student, labels) + (1 - alpha) * temperature**2 * soft
