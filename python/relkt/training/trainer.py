"""One stage on sentence-transformers' trainer: what the trainer does not do by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from relkt.encoders import PASSAGE_PROMPTS, MuseEncoder, prompt_of
from relkt.encoders.projection import take_projection
from relkt.losses import Reduction
from relkt.training.chunks import ChunkedPass
from relkt.training.config import Precision, TrainConfig
from relkt.training.evaluator import DevEvaluator
from relkt.training.modules import StageLoss
from relkt.training.precision import is_bfloat16
from relkt.training.processes import num_processes, sum_gradients
from relkt.training.progress import DevScore, Progress
from relkt.training.run_directory import Checkpoint, RunDirectory
from relkt.training.stage_config import Schedule, Stage, StageConfig
from relkt.training.stream import BatchStream

QUERY_COLUMN = "anchor"
PASSAGE_COLUMN = "passage"


class LearningRate:
    """Factor of the learning rate at a step: warm-up steps, schedule and halvings.

    The schedule follows the share of the stage's epochs that is done, not of a number of steps fixed in advance,
    because the teacher's epochs differ in length. Its attributes are plain numbers and strings, so that the trainer's
    checkpoint of the scheduler holds them.

    Args:
        config: The stage.
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


class StageTrainer(SentenceTransformerTrainer):
    """A :class:`SentenceTransformerTrainer` fed by a :class:`BatchStream`.

    It differs from its parent in that the stream is the only source of batches and their order; a batch may be run in
    pieces and in chunks with the gradient of the whole; the learning rate follows :class:`LearningRate`; and no model
    cards are written.

    In a job of several processes each makes the same batches and runs its share of their texts; all compute the loss of
    the whole, and the gradients of the weights are summed. So the steps, and all that follows from them, are those of
    one process, up to the order of float additions.

    Args:
        model: The model to train.
        args: As :func:`training_arguments` makes them.
        loss: The stage's loss.
        evaluator: Run where the callback asks for it.
        stream: The batches, ``{"pieces": [...]}`` each. A piece has what the trainer's collator makes of the questions
            and the passages (``anchor_input_ids``, ``passage_input_ids`` ...), and the stage's labels as ``label``; or
            ``chunks`` of both, with ``num_queries`` and ``num_passages``, in the place of the former.
        rate: The factor of the learning rate.
        callbacks: Callbacks of the trainer.
        most_kept: As for :class:`~relkt.training.chunks.ChunkedPass`.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        args: SentenceTransformerTrainingArguments,
        loss: StageLoss,
        evaluator: DevEvaluator,
        stream: BatchStream,
        rate: LearningRate,
        callbacks: list[TrainerCallback],
        most_kept: int | None = None,
    ) -> None:
        self._stage_loss = loss
        self._dev_evaluator = evaluator
        self._most_kept = most_kept
        self._chunked: ChunkedPass | None = None
        self._stream = stream
        self._rate = rate
        self._reduction = loss.reduction
        self._share = 1.0
        self.last_loss = 0.0
        super().__init__(model=model, args=args, loss=loss, evaluator=evaluator, callbacks=callbacks)
        self.remove_callback(PrinterCallback)  # it would print each log to the standard output

    @override
    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No model card: it would ask the Hub for the base model and run code carbon trackers."""

    @override
    def create_accelerator_and_postprocess(self) -> None:
        """Keep Accelerate from wrapping the model in DistributedDataParallel.

        It would average gradients over the processes, at the end of each backward pass; a step has several.
        """
        super().create_accelerator_and_postprocess()
        if num_processes() > 1:
            self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)

    @override
    def get_train_dataloader(self) -> DataLoader[Any]:
        """The stream. Not through Accelerate, whose loader reads a batch ahead, which would mine too early."""
        # Its own generator: making an iterator must not draw from the random state that a checkpoint restores.
        return DataLoader(self._stream, batch_size=None, collate_fn=_as_it_is, generator=torch.Generator())

    @override
    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LambdaLR:
        """The scheduler of the stage."""
        if self.lr_scheduler is None:
            optimizer = self.optimizer if optimizer is None else optimizer
            assert optimizer is not None  # made before the scheduler
            self.lr_scheduler = LambdaLR(optimizer, self._rate)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    @override
    def training_step(
        self, model: nn.Module, inputs: Mapping[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward of all pieces of a batch."""
        pieces: list[dict[str, Any]] = inputs["pieces"]
        total = sum(len(piece["label"]) for piece in pieces)
        losses = []
        for piece in pieces:
            # Sums add up by themselves; means are weighted by the size of their piece.
            self._share = 1.0 if self._reduction is Reduction.SUM else len(piece["label"]) / total
            losses.append(super().training_step(model, piece, num_items_in_batch))
            if self._chunked is not None:
                self._chunked.backward()
                self._chunked = None
        sum_gradients(self.model)
        loss = torch.stack(losses).sum()
        self.last_loss = float(loss)
        return loss

    @override
    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The share of a piece in the loss of its batch."""
        if "chunks" in inputs:
            num_queries, num_texts = inputs["num_queries"], inputs["num_queries"] + inputs["num_passages"]
            self._chunked = ChunkedPass(model, inputs["chunks"], num_texts, most_kept=self._most_kept)
            queries, passages = self._chunked.embeddings[:num_queries], self._chunked.embeddings[num_queries:]
            return self._stage_loss.loss(queries, passages, inputs["label"]) * self._share
        loss = super().compute_loss(cast(SentenceTransformer, model), inputs, num_items_in_batch=num_items_in_batch)
        return cast(Tensor, loss) * self._share

    @override
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Run the evaluator, in every process. (The parent's ways in a job of several differ between its versions.)"""
        # The parent's loop over no batches draws a number: so runs are the same, bit for bit, as those it evaluated.
        torch.empty((), dtype=torch.int64).random_()
        metrics = self._dev_evaluator(self.model)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @override
    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Any] | None = None) -> None:
        if not self.args.should_save:  # another process does
            return
        self.model.save_pretrained(str(output_dir), create_model_card=False)

    def halve_learning_rate(self) -> None:
        """Halve the learning rate from the next step on."""
        self._rate.halvings += 1
        scheduler = self.lr_scheduler
        assert scheduler is not None  # the callback asks while training
        rates = [base * self._rate(scheduler.last_epoch) for base in scheduler.base_lrs]
        for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates  # what the trainer logs


class StageCallback(TrainerCallback):
    """Evaluates, stops, halves the learning rate, keeps the best checkpoint, and writes the metrics of a stage.

    Args:
        stage: The stage.
        config: Its configuration.
        run: The run's folder.
        stream: The stage's batches.
        evaluator: The trainer's evaluator.
        rate: The trainer's learning rate.
        progress: Told what happens.
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
        """Evaluate the model that the stage starts from: epoch 0, the one to beat."""
        self._progress.activity("evaluating")
        self._evaluator(model)
        self._record_dev(step=0)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        state = checkpoint.state
        self._stream.restore(state["position"], checkpoint.rows)
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
        if logs is None or "loss" not in logs:  # dev evaluations have a line of their own
            return
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(
                f"{self._stage.value}: the training loss is {logs['loss']} at step {state.global_step}; expected a "
                f"finite number. Try a lower learning rate than {self._config.learning_rate}, or another precision."
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
        # The end of a stage needs none: the weights at hand are kept, or those of an earlier checkpoint.
        control.should_save = not control.should_training_stop
        self._progress.activity("saving" if control.should_save else "training")

    @override
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        assert self.best is not None
        position, rows = self._stream.state()
        record = {
            "step": state.global_step,
            "position": position,
            "not_improved": self._not_improved,
            "processes": num_processes(),
            "best": vars(self.best) | {"stage": self._stage.value},
        }
        self._run.commit_checkpoint(self._stage, state.global_step, record, rows)
        self._run.keep_checkpoints(self._stage, {state.global_step, self.best.step})
        self._progress.activity("training")

    @override
    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # The stream is one pass to the trainer, whatever its number of epochs.
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


def check_device(model: SentenceTransformer, config: TrainConfig) -> None:
    """Check that a model can be trained where it is.

    Raises:
        ValueError: If the precision needs a GPU that the model is not on, or that lacks it; if the model is on another
            GPU than the first, in a job of one process; or if its weights are not float32.
    """
    if config.precision is Precision.FLOAT16 and model.device.type != "cuda":
        raise ValueError(f"precision: expected float32, bfloat16 or auto for a model on {model.device}, got float16")
    if config.precision is Precision.BFLOAT16 and model.device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError("precision: expected float32, float16 or auto, as this GPU has no bfloat16, got bfloat16")
    if num_processes() == 1 and model.device.type == "cuda" and (model.device.index or 0) != 0:
        raise ValueError(
            f"model: expected on the CPU or the first GPU, where the trainer works, got on {model.device}; choose a "
            "GPU with the environment variable CUDA_VISIBLE_DEVICES"
        )
    for name, weights in model.named_parameters():
        if weights.is_floating_point() and weights.dtype is not torch.float32:
            raise ValueError(
                f"model: expected weights of float32, got {str(weights.dtype).removeprefix('torch.')} in {name}; load "
                "it in float32 or call model.float(), and choose the number format of the forward pass with precision"
            )


def training_arguments(
    model: SentenceTransformer, config: TrainConfig, stage: StageConfig, *, folder: Path, max_steps: int
) -> SentenceTransformerTrainingArguments:
    """Arguments under which the trainer leaves logging, evaluation, saving and data order to the callback and stream.

    Args:
        model: The model; its device and prompts are used.
        config: The run.
        stage: The stage.
        folder: Where checkpoints go.
        max_steps: The most optimizer steps.
    """
    prompts = {
        QUERY_COLUMN: prompt_of(model, "query"),
        PASSAGE_COLUMN: prompt_of(model, *PASSAGE_PROMPTS),
    }
    routes = {QUERY_COLUMN: "query", PASSAGE_COLUMN: "document"}
    args = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        max_steps=max_steps,
        per_device_train_batch_size=stage.batch_size,
        optim="adamw_torch",
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        adam_epsilon=stage.adam_epsilon,
        max_grad_norm=stage.max_grad_norm,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        ignore_data_skip=True,
        report_to=[],
        disable_tqdm=True,
        dataloader_drop_last=num_processes() > 1,  # of no effect on the stream; without, the trainer warns
        seed=config.seed,
        bf16=is_bfloat16(config.precision, model.device),
        fp16=config.precision is Precision.FLOAT16,
        use_cpu=model.device.type == "cpu",
        prompts={column: prompt for column, prompt in prompts.items() if prompt},
        router_mapping=routes if any(isinstance(module, Router) for module in model.children()) else {},
    )
    if args.n_gpu > 1:
        # One GPU: averaging losses over replicas is not what the reductions say.
        args._n_gpu = 1
    return args


def load_weights(model: SentenceTransformer, folder: Path) -> None:
    """Give a model the weights of one saved by it, with the vocabulary and the projection that it got since."""
    # These classes are relkt's and sentence-transformers' own, so running them is nothing new; other models keep the
    # trust they were loaded with.
    known = all(isinstance(module, MuseEncoder | Dense | Normalize) for module in model)
    trusted = known or bool(getattr(model, "trust_remote_code", False))
    saved = SentenceTransformer(str(folder), device="cpu", trust_remote_code=trusted)
    take_projection(model, saved)
    for mine, theirs in zip(model, saved, strict=True):
        if isinstance(mine, MuseEncoder) and isinstance(theirs, MuseEncoder) and mine.vocab_size != theirs.vocab_size:
            mine.take_vocabulary(theirs)
    model.load_state_dict(saved.state_dict())


def _as_it_is(batch: Any) -> Any:
    return batch
