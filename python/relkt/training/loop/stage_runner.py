"""Runs one stage and keeps its best weights."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain

import torch
from sentence_transformers import SentenceTransformer

from relkt.data.types import Split
from relkt.training.config import ContrastiveConfig, DistillationConfig, Stage
from relkt.training.distributed.processes import num_processes, on_rank_0, rank, share_weights
from relkt.training.examples import Rows
from relkt.training.loop.batches import BatchStream
from relkt.training.loop.callback import StageCallback
from relkt.training.loop.collator import collate
from relkt.training.loop.schedule import LearningRate
from relkt.training.loop.trainer import StageTrainer, training_arguments
from relkt.training.model.precision import without_accelerate_wrapper
from relkt.training.model.token_embeddings import frozen_embeddings, limited_embeddings
from relkt.training.model.weights import copy_weights, load_weights
from relkt.training.progress import DevScore, Progress
from relkt.training.records.run_directory import Checkpoint, RunDirectory
from relkt.training.stages import STAGES, Prepared, TrainingStage
from relkt.training.stages.vocabulary import extend

# The number of a stage is part of the seed for the order of its examples. A new stage gets a new number; the numbers of
# existing stages never change.
_STAGE_SEEDS = {Stage.WARMUP: 0, Stage.TEACHER: 1, Stage.TRANSFER: 2, Stage.CONTRASTIVE: 3, Stage.DISTILLATION: 4}

logger = logging.getLogger(__name__)


def run_stage(
    stage: Stage,
    model: SentenceTransformer,
    prepared: Prepared,
    run: RunDirectory,
    progress: Progress,
    metrics_size: int = 0,
) -> DevScore:
    """Run or resume one stage. Afterwards the model has the stage's best weights, and its folder holds the model.

    Args:
        stage: The stage.
        model: The model with the weights that the stage starts from.
        prepared: Inputs of the run.
        run: The folder of the run.
        progress: Receives the progress.
        metrics_size: Size of ``metrics.jsonl`` in bytes at the end of the previous stage.

    Returns:
        The dev evaluation of the weights kept.
    """
    if stage is Stage.VOCABULARY:
        best = _extend_vocabulary(model, prepared, run, progress, metrics_size)
    else:
        best = _train_stage(stage, model, prepared, run, progress, metrics_size)
    _save_model(model, run, stage)
    progress.stage_finished(stage, best)
    return best


def _extend_vocabulary(
    model: SentenceTransformer, prepared: Prepared, run: RunDirectory, progress: Progress, metrics_size: int
) -> DevScore:
    """Run the vocabulary stage. It takes no steps, so a killed run repeats it; its result is always kept."""
    stage, evaluator = Stage.VOCABULARY, prepared.evaluator
    run.cut_metrics(metrics_size)
    progress.stage_started(stage, 1)
    progress.activity("aligning words")
    extend(
        model,
        prepared.training_data,
        prepared.vocabulary_languages,
        prepared.config.vocabulary,
        prepared.parallel,
    )
    share_weights(model)
    progress.activity("evaluating")
    evaluator(model)
    score = DevScore(stage, 0.0, 0, evaluator.p1, evaluator.metrics, improved=True)
    run.append_metrics(
        {"stage": stage.value, "epoch": 0.0, "step": 0, "dev": evaluator.metrics, "dev_p1": evaluator.p1}
    )
    progress.evaluated(score)
    return score


def _train_stage(
    stage: Stage,
    model: SentenceTransformer,
    prepared: Prepared,
    run: RunDirectory,
    progress: Progress,
    metrics_size: int,
) -> DevScore:
    """Train a stage that takes steps, and load its best weights."""
    stage_config = prepared.config.stage(stage)
    training = STAGES[stage](model, prepared, progress)
    share_weights(model)  # a projection may differ between processes in its last bits
    start = copy_weights(model)
    trainer, callback = _make_trainer(stage, training, model, prepared, run, progress)

    checkpoint = run.latest_checkpoint(stage)
    if checkpoint is None:
        run.cut_metrics(metrics_size)
        progress.stage_started(stage, trainer.args.max_steps)
        callback.evaluate_start(model)
    else:
        _log_resumed(stage, checkpoint)
        progress.stage_started(stage, trainer.args.max_steps, checkpoint.state["step"])
        callback.restore(checkpoint)
    progress.activity("training")
    with _trained_embeddings(stage, model, prepared), without_accelerate_wrapper(model):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))

    best = callback.best
    assert best is not None  # the weights at the start were evaluated
    if best.step == 0:
        model.load_state_dict(start)
    elif best.step != trainer.state.global_step:
        load_weights(model, run.checkpoint_path(stage, best.step))
    logger.info("%s: dev P@1 %.4f at step %d", stage.value, best.p1, best.step)
    if isinstance(stage_config, ContrastiveConfig | DistillationConfig) and best.step:
        best = _average_weights(stage_config.tuned_shares, model, start, best, prepared, run, progress)
    return best


def _make_trainer(
    stage: Stage,
    training: TrainingStage,
    model: SentenceTransformer,
    prepared: Prepared,
    run: RunDirectory,
    progress: Progress,
) -> tuple[StageTrainer, StageCallback]:
    config, stage_config = prepared.config, prepared.config.stage(stage)
    max_steps = -(-training.max_examples // training.examples_per_step) * stage_config.epochs
    rate = LearningRate(stage_config)

    def examples_of_epoch(epoch: int) -> Rows:
        examples = training.examples(epoch)
        batches = -(-len(examples) // training.examples_per_step)
        progress.steps_planned(trainer.state.global_step + batches * (stage_config.epochs - epoch))
        return examples

    # The stream and the trainer need each other. The stream therefore looks the trainer up only at its first batch.
    stream = BatchStream(
        examples_of_epoch,
        lambda batch: collate(trainer, training, batch, chunk_tokens=config.chunk_tokens),
        epochs=stage_config.epochs,
        batch_size=training.examples_per_step,
        num_micro_batches=stage_config.accumulation,
        seed=(config.seed, _STAGE_SEEDS[stage]),
    )
    callback = StageCallback(stage, stage_config, run, stream, prepared.evaluator, rate, progress)
    args = training_arguments(model, config, stage_config, folder=run.stage_path(stage), max_steps=max_steps)
    max_kept_tokens = config.chunk_tokens if config.gradient_cache else None
    trainer = StageTrainer(model, args, training.loss, prepared.evaluator, stream, rate, [callback], max_kept_tokens)
    callback.trainer = trainer
    if rank() > 0:
        torch.manual_seed(config.seed + rank())  # each process draws its own dropout masks
    return trainer, callback


def _log_resumed(stage: Stage, checkpoint: Checkpoint) -> None:
    logger.info("%s: resuming from %s", stage.value, checkpoint.path)
    if (before := checkpoint.state.get("processes", 1)) != num_processes() and rank() == 0:
        logger.warning(
            "%s: resuming with %d processes a stage that was started with %d", stage.value, num_processes(), before
        )


def _average_weights(
    shares: tuple[float, ...],
    model: SentenceTransformer,
    start: dict[str, torch.Tensor],
    best: DevScore,
    prepared: Prepared,
    run: RunDirectory,
    progress: Progress,
) -> DevScore:
    """Replace the model's weights by a weighted average with its weights at the start of the stage.

    A share of 1 keeps the model's weights. Of ``shares``, the one whose average has the highest dev P@1 is used.

    Returns:
        The dev evaluation of the average.
    """
    evaluator = prepared.evaluator
    tuned = copy_weights(model)

    def averaged(share: float) -> dict[str, torch.Tensor]:
        return {
            name: torch.lerp(start[name], value, share) if value.is_floating_point() else value
            for name, value in tuned.items()
        }

    found: dict[float, DevScore] = {}
    for share in shares:
        score = best
        if share != 1.0:
            progress.activity("evaluating")
            model.load_state_dict(averaged(share))
            evaluator(model)
            highest = max([score.p1 for score in found.values()], default=best.p1)
            score = replace(best, p1=evaluator.p1, metrics=evaluator.metrics, improved=evaluator.p1 > highest)
            record = {"stage": best.stage.value, "epoch": best.epoch, "step": best.step, "tuned_share": share}
            run.append_metrics(record | {"dev": score.metrics, "dev_p1": score.p1})
            progress.evaluated(score)
        found[share] = score
    chosen = max(shares, key=lambda share: found[share].p1)  # the first, if several are equal
    model.load_state_dict(tuned if chosen == 1.0 else averaged(chosen))
    logger.info("%s: dev P@1 %.4f with a share of %g", best.stage.value, found[chosen].p1, chosen)
    return found[chosen]


@on_rank_0
def _save_model(model: SentenceTransformer, run: RunDirectory, stage: Stage) -> None:
    with run.replace_folder(run.stage_model(stage)) as folder:
        model.save_pretrained(str(folder), create_model_card=False)


def _trained_embeddings(stage: Stage, model: SentenceTransformer, prepared: Prepared) -> AbstractContextManager[None]:
    """A context that trains only the token embeddings that the stage needs."""
    config, data = prepared.config, prepared.training_data
    if config.freeze_embeddings:
        return frozen_embeddings(model)
    if config.stage(stage).weight_decay:
        return nullcontext()  # weight decay also changes embeddings of tokens that never occur
    languages = {*prepared.languages_of(stage), *config.parallel_languages, "en"}
    questions = (q.text for q in data.select(split=Split.TRAIN).queries if q.language in languages)
    texts = chain(data.candidates(config.level).texts, questions)
    spans = stage is Stage.CONTRASTIVE and config.contrastive.parallel_passages
    if spans or (stage is Stage.DISTILLATION and config.distillation.segment_share):
        # A span can cut a word and so create tokens that the texts do not have; their embeddings are not trained.
        texts = chain(texts, *(data.translations.get(code, {}).values() for code in sorted(languages)))
    if stage is Stage.DISTILLATION and prepared.parallel is not None:
        texts = chain(texts, (text for pair in prepared.parallel.pairs for text in (pair.text, pair.english)))
    return limited_embeddings(model, texts)
