"""The callback of a stage: dev evaluations, checkpoints, metrics and early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from relkt.training.config import Stage, StageConfig
from relkt.training.distributed.processes import num_processes
from relkt.training.loop.batches import BatchStream
from relkt.training.loop.schedule import LearningRate
from relkt.training.loop.trainer import StageTrainer
from relkt.training.model.dev_evaluator import DevEvaluator
from relkt.training.progress import DevScore, Progress
from relkt.training.records.run_directory import Checkpoint, RunDirectory


class StageCallback(TrainerCallback):
    """Evaluates, stops early, halves the learning rate, keeps the best checkpoint, and writes the metrics of a stage.

    Args:
        stage: The stage.
        config: Configuration of the stage.
        run: The folder of the run.
        stream: The batches of the stage.
        evaluator: The dev evaluation.
        rate: Factor of the learning rate.
        progress: Receives steps, evaluations and activities.

    Attributes:
        trainer: The trainer; set before training.
        best: The best dev evaluation so far.
    """

    def __init__(
        self,
        stage: Stage,
        config: StageConfig,
        run: RunDirectory,
        stream: BatchStream,
        evaluator: DevEvaluator,
        rate: LearningRate,
        progress: Progress,
    ) -> None:
        self._stage = stage
        self._config = config
        self._run = run
        self._stream = stream
        self._evaluator = evaluator
        self._rate = rate
        self._progress = progress
        self._not_improved = 0
        self.trainer: StageTrainer | None = None
        self.best: DevScore | None = None

    def evaluate_start(self, model: SentenceTransformer) -> None:
        """Evaluate the model at the start of the stage (epoch 0)."""
        self._progress.activity("evaluating")
        self._evaluator(model)
        self._record_dev(step=0)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint."""
        state = checkpoint.state
        self._stream.restore(state["position"], checkpoint.examples)
        self._not_improved = state["not_improved"]
        self.best = DevScore(**{**state["best"], "stage": Stage(state["best"]["stage"])})

    # Trainer events

    @override
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._rate.done = min(1.0, self._stream.epoch / self._config.epochs)

    @override
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        assert self.trainer is not None
        self._progress.step(self.trainer.last_loss)
        if self._stream.is_due(self._config.evaluations_per_epoch):
            control.should_log = control.should_evaluate = True
            self._progress.activity("evaluating")
        control.should_training_stop = self._stream.finished

    @override
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is None or "loss" not in logs:  # on_evaluate writes dev evaluations
            return
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(
                f"{self._stage.value}: the training loss is {logs['loss']} at step {state.global_step}; expected a "
                f"finite number. Lower the learning rate ({self._config.learning_rate}), or change the precision."
            )
        self._run.append_metrics(
            {
                "stage": self._stage.value,
                "epoch": self._stream.epoch,
                "step": state.global_step,
                "loss": logs["loss"],
                "learning_rate": logs["learning_rate"],
            }
        )

    @override
    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        assert self.trainer is not None
        if self._record_dev(step=state.global_step):
            self._not_improved = 0
        else:
            every = self._config.halve_lr_every
            if every and self._not_improved % every == 0:
                self.trainer.halve_learning_rate()
            self._not_improved += 1
        patience = self._config.patience
        if patience and self._not_improved >= patience and self._stream.epoch >= self._config.min_epochs:
            control.should_training_stop = True
        # The end of a stage needs no checkpoint: the stage results in the current weights or those of a checkpoint.
        control.should_save = not control.should_training_stop
        self._progress.activity("saving" if control.should_save else "training")

    @override
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        assert self.best is not None
        position, examples = self._stream.state()
        callback_state = {
            "step": state.global_step,
            "position": position,
            "not_improved": self._not_improved,
            "processes": num_processes(),
            "best": vars(self.best) | {"stage": self._stage.value},
        }
        self._run.commit_checkpoint(self._stage, state.global_step, callback_state, examples)
        self._run.keep_checkpoints(self._stage, {state.global_step, self.best.step})
        self._progress.activity("training")

    @override
    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # The trainer sees all epochs of the stream as a single epoch.
        control.should_training_stop = True

    def _record_dev(self, step: int) -> bool:
        p1 = self._evaluator.p1
        improved = self.best is None or p1 > self.best.p1
        dev = DevScore(self._stage, self._stream.epoch, step, p1, self._evaluator.metrics, improved)
        self._run.append_metrics(
            {"stage": self._stage.value, "epoch": dev.epoch, "step": step, "dev": dev.metrics, "dev_p1": p1}
        )
        if improved:
            self.best = dev
        self._progress.evaluated(dev)
        return improved
