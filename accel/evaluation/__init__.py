"""Accuracy of float, fake-quantized and simulated networks, and quantizing within a limit of it."""

from accel.evaluation.evaluation import Evaluation, EvaluationRow, evaluate

__all__ = ["Evaluation", "EvaluationRow", "evaluate"]
