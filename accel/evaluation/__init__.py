"""Accuracy of float, fake-quantized and simulated networks, and quantizing within a limit of it."""

from accel.evaluation.control import Controlled, Rung, quantize_within
from accel.evaluation.evaluation import Evaluation, EvaluationRow, evaluate

__all__ = ["Controlled", "Evaluation", "EvaluationRow", "Rung", "evaluate", "quantize_within"]
