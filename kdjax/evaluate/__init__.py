"""Evaluation of networks: during training, and of trained ones by a command."""

from kdjax.evaluate.evaluator import Evaluation, Evaluator

__all__ = ["Evaluation", "Evaluator"]
