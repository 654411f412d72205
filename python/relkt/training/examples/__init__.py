"""Training examples: questions, their positives, and negatives."""

from relkt.training.examples.training_set import Rows, TrainingSet

__all__ = ["Rows", "TrainingSet"]
