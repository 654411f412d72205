"""The learning rate over a stage."""

from __future__ import annotations

import math

from relkt.training.config import Schedule, StageConfig


class LearningRate:
    """Factor of the learning rate at a step: warm-up steps, schedule and halvings.

    The schedule follows the share of epochs done, not a fixed number of steps, because the teacher's epochs differ in
    length. The attributes are plain numbers and strings, so that the scheduler's state in the trainer's checkpoint
    holds them.

    Args:
        config: Configuration of the stage.

    Attributes:
        done: Share of the epochs done, in [0, 1]; the callback sets it before each step.
        halvings: Number of halvings so far.
    """

    def __init__(self, config: StageConfig) -> None:
        self.schedule = config.schedule.value
        self.warmup_steps = config.warmup_steps
        self.done = 0.0
        self.halvings = 0

    def __call__(self, step: int) -> float:
        """The factor after ``step`` optimizer steps."""
        rising = min(1.0, (step + 1) / (self.warmup_steps + 1))
        falling = {
            Schedule.CONSTANT: 1.0,
            Schedule.LINEAR: 1.0 - self.done,
            Schedule.COSINE: 0.5 * (1.0 + math.cos(math.pi * self.done)),
        }[Schedule(self.schedule)]
        return rising * falling * 0.5**self.halvings
