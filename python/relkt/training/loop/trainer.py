"""The trainer of a stage, a subclass of sentence-transformers' trainer."""

from __future__ import annotations

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
from relkt.training.config import Precision, StageConfig, TrainConfig
from relkt.training.distributed.processes import num_processes, sum_gradients
from relkt.training.loop.batches import BatchStream
from relkt.training.loop.gradient_cache import CachedForward
from relkt.training.loop.schedule import LearningRate
from relkt.training.model.dev_evaluator import DevEvaluator
from relkt.training.model.precision import is_bfloat16
from relkt.training.stages import StageLoss

QUERY_COLUMN = "anchor"
PASSAGE_COLUMN = "passage"


class StageTrainer(SentenceTransformerTrainer):
    """A :class:`SentenceTransformerTrainer` fed by a :class:`BatchStream`.

    It differs from its parent class as follows: the stream alone provides the batches and their order; a batch may be
    split into micro-batches and chunks, but the gradient is that of the whole batch; the learning rate follows
    :class:`LearningRate`; no model cards are written.

    In a job of several processes, each process makes the same batches, encodes its share of the texts and computes the
    loss of the whole batch; the gradients of the weights are summed. A step therefore equals a step of one process,
    except for the order of float additions.

    Args:
        model: The model to train.
        args: From :func:`training_arguments`.
        loss: The loss of the stage.
        evaluator: Runs when the callback requests it.
        stream: Yields batches ``{"micro_batches": [...]}``. In a micro-batch, ``label`` holds the targets of the
            stage's loss and ``size`` the number of examples. The texts are either the collator's features of the
            questions and the passages (``anchor_input_ids``, ``passage_input_ids`` ...), or ``chunks`` of questions and
            passages together with ``num_queries`` and ``num_passages``.
        rate: Factor of the learning rate.
        callbacks: Callbacks of the trainer.
        max_kept_tokens: As for :class:`~relkt.training.loop.gradient_cache.CachedForward`.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        args: SentenceTransformerTrainingArguments,
        loss: StageLoss[Any],
        evaluator: DevEvaluator,
        stream: BatchStream,
        rate: LearningRate,
        callbacks: list[TrainerCallback],
        max_kept_tokens: int | None = None,
    ) -> None:
        self._stage_loss = loss
        self._dev_evaluator = evaluator
        self._max_kept_tokens = max_kept_tokens
        self._cached: CachedForward | None = None
        self._stream = stream
        self._rate = rate
        self._reduction = loss.reduction
        self._share = 1.0
        self.last_loss = 0.0
        super().__init__(model=model, args=args, loss=loss, evaluator=evaluator, callbacks=callbacks)
        self.remove_callback(PrinterCallback)  # prints each log to standard output

    @override
    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add no callback for the model card: that callback queries the Hub and starts CodeCarbon trackers."""

    @override
    def create_accelerator_and_postprocess(self) -> None:
        """Keep Accelerate from wrapping the model in DistributedDataParallel.

        The wrapper averages gradients over the processes after each backward pass, but a step has several backward
        passes.
        """
        super().create_accelerator_and_postprocess()
        if num_processes() > 1:
            self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)

    @override
    def get_train_dataloader(self) -> DataLoader[Any]:
        """The stream without Accelerate's loader, which would prefetch a batch and so start mining too early."""
        # The loader has its own generator, so that creating an iterator does not change the process's random state,
        # which a checkpoint restores.
        return DataLoader(self._stream, batch_size=None, collate_fn=_unchanged, generator=torch.Generator())

    @override
    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LambdaLR:
        """The scheduler of the stage."""
        if self.lr_scheduler is None:
            optimizer = self.optimizer if optimizer is None else optimizer
            assert optimizer is not None  # the trainer creates it before the scheduler
            self.lr_scheduler = LambdaLR(optimizer, self._rate)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    @override
    def training_step(
        self, model: nn.Module, inputs: Mapping[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward pass of all micro-batches of a batch."""
        micro_batches: list[dict[str, Any]] = inputs["micro_batches"]
        total = sum(micro_batch["size"] for micro_batch in micro_batches)
        losses = []
        for micro_batch in micro_batches:
            # Losses are added; for the reduction "mean", each is first weighted by the size of its micro-batch.
            self._share = 1.0 if self._reduction is Reduction.SUM else micro_batch["size"] / total
            losses.append(super().training_step(model, micro_batch, num_items_in_batch))
            if self._cached is not None:
                self._cached.backward()
                self._cached = None
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
        """The contribution of a micro-batch to the loss of its batch."""
        if "chunks" in inputs:
            num_queries, num_texts = inputs["num_queries"], inputs["num_queries"] + inputs["num_passages"]
            self._cached = CachedForward(model, inputs["chunks"], num_texts, max_kept_tokens=self._max_kept_tokens)
            queries, passages = self._cached.embeddings[:num_queries], self._cached.embeddings[num_queries:]
            return self._stage_loss.loss(queries, passages, inputs["label"]) * self._share
        loss = super().compute_loss(cast(SentenceTransformer, model), inputs, num_items_in_batch=num_items_in_batch)
        return cast(Tensor, loss) * self._share

    @override
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Run the evaluator in every process; what the parent does with several processes depends on its version."""
        # The parent's evaluation loop, which would have no data, draws one random number. This draws one too, so that
        # the results are the same as with the parent's loop.
        torch.empty((), dtype=torch.int64).random_()
        metrics = self._dev_evaluator(self.model)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @override
    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Any] | None = None) -> None:
        if not self.args.should_save:  # another process saves
            return
        self.model.save_pretrained(str(output_dir), create_model_card=False)

    def halve_learning_rate(self) -> None:
        """Halve the learning rate from the next step on."""
        self._rate.halvings += 1
        scheduler = self.lr_scheduler
        assert scheduler is not None  # called during training only
        rates = [base * self._rate(scheduler.last_epoch) for base in scheduler.base_lrs]
        for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates  # the trainer logs these


def training_arguments(
    model: SentenceTransformer, config: TrainConfig, stage: StageConfig, *, folder: Path, max_steps: int
) -> SentenceTransformerTrainingArguments:
    """Training arguments that leave logging, evaluation, saving and data order to the callback and the stream.

    Args:
        model: The model; its device and prompts are used.
        config: Configuration of the run.
        stage: Configuration of the stage.
        folder: Folder of the checkpoints.
        max_steps: Upper bound on the optimizer steps.
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
        dataloader_drop_last=num_processes() > 1,  # no effect on the stream; silences a warning
        seed=config.seed,
        bf16=is_bfloat16(config.precision, model.device),
        fp16=config.precision is Precision.FLOAT16,
        use_cpu=model.device.type == "cpu",
        prompts={column: prompt for column, prompt in prompts.items() if prompt},
        router_mapping=routes if any(isinstance(module, Router) for module in model.children()) else {},
    )
    if args.n_gpu > 1:
        # Use one GPU. With several, the trainer would average losses over replicas, which contradicts the reduction.
        args._n_gpu = 1
    return args


def _unchanged(batch: Any) -> Any:
    return batch
