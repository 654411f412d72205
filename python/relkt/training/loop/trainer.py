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
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback
from typing_extensions import override

from relkt.encoders import PASSAGE_PROMPTS, prompt_of
from relkt.losses import Reduction
from relkt.training.config import Precision, Schedule, StageConfig, TrainConfig
from relkt.training.distributed.processes import num_processes, sum_gradients
from relkt.training.loop.batches import BatchStream
from relkt.training.loop.dev_evaluator import DevEvaluator
from relkt.training.loop.gradient_cache import ChunkedPass
from relkt.training.model.precision import is_bfloat16
from relkt.training.stages.stage import StageLoss

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
        most_kept: As for :class:`~relkt.training.loop.gradient_cache.ChunkedPass`.
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


def _as_it_is(batch: Any) -> Any:
    return batch
