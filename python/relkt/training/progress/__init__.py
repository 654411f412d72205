"""Progress of a training run."""

from relkt.training.progress.events import DevScore, Progress

__all__ = ["DevScore", "Progress"]
