"""A stage of a run, from the model it starts with to the one it keeps."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain

import torch
from sentence_transformers import SentenceTransformer

from relkt.data.types import RetrievalData, Split, sort_languages
from relkt.training.config import ContrastiveConfig, DistillationConfig, Stage, TrainConfig
from relkt.training.distributed.processes import num_processes, on_rank_0, rank, share_weights
from relkt.training.examples import Rows, TrainingSet
from relkt.training.loop.batches import BatchStream
from relkt.training.loop.callback import StageCallback
from relkt.training.loop.collator import collate
from relkt.training.loop.dev_evaluator import DevEvaluator
from relkt.training.loop.trainer import LearningRate, StageTrainer, training_arguments
from relkt.training.model.precision import prepared_anew
from relkt.training.model.token_embeddings import frozen_embeddings, limited_embeddings
from relkt.training.model.weights import load_weights
from relkt.training.progress import DevScore, Progress
from relkt.training.records.run_directory import RunDirectory
from relkt.training.stages import make_stage
from relkt.training.stages.vocabulary import extend

# Of the order of a stage's examples: numbers that stay when a stage is added.
_STAGE_SEEDS = {Stage.WARMUP: 0, Stage.TEACHER: 1, Stage.TRANSFER: 2, Stage.CONTRASTIVE: 3, Stage.DISTILLATION: 4}

logger = logging.getLogger(__name__)


def extend_model(
    model: SentenceTransformer,
    data: RetrievalData,
    languages: tuple[str, ...],
    evaluator: DevEvaluator,
    run: RunDirectory,
    progress: Progress,
) -> DevScore:
    """Run the vocabulary stage; the model is saved in the stage's folder.

    It takes no steps, so a run that was killed in it begins it anew. Unlike the others it is kept whatever dev says,
    which is asked about the languages trained, not the ones that it is for.

    Args:
        model: The model as the run started.
        data: The data set.
        languages: The languages trained.
        evaluator: The dev evaluation.
        run: The run's folder.
        progress: Told what happens.

    Returns:
        The dev evaluation of the model.
    """
    config, stage = run.config, Stage.VOCABULARY
    run.cut_metrics(0)
    progress.stage_started(stage, 1)
    progress.activity("aligning words")
    extend(model, data, new_languages(config, languages), config.vocabulary)
    share_weights(model)
    progress.activity("evaluating")
    evaluator(model)
    score = DevScore(stage, 0.0, 0, evaluator.p1, evaluator.metrics, improved=True)
    run.append_metrics(
        {"stage": stage.value, "epoch": 0.0, "step": 0, "dev": evaluator.metrics, "dev_p1": evaluator.p1}
    )
    progress.evaluated(score)
    _save_model(model, run, stage)
    progress.stage_finished(stage, score)
    return score


def run_stage(
    stage: Stage,
    model: SentenceTransformer,
    data: RetrievalData,
    examples: TrainingSet,
    evaluator: DevEvaluator,
    run: RunDirectory,
    progress: Progress,
    metrics_size: int,
    teacher: SentenceTransformer | None = None,
) -> DevScore:
    """Run or continue one stage; afterwards the model has its best weights, saved in the stage's folder.

    Args:
        stage: The stage.
        model: The model with the weights that the stage starts from.
        data: The data set.
        examples: Its training questions.
        evaluator: The dev evaluation.
        run: The run's folder.
        progress: Told what happens.
        metrics_size: Bytes of ``metrics.jsonl`` that belong to the stages before.
        teacher: The transfer's teacher, where it is another model.

    Returns:
        The dev evaluation of the weights kept.
    """
    config = run.config
    stage_config = config.stage(stage)
    with_english = (
        stage is Stage.DISTILLATION
        or (stage is Stage.TRANSFER and config.transfer.include_english)
        or (stage is Stage.CONTRASTIVE and config.contrastive.include_english)
    )
    if with_english and "en" in data.select(split=Split.TRAIN).languages:
        examples = TrainingSet(data, languages=sort_languages({*examples.languages, "en"}), level=config.level)
    plan = make_stage(stage, model, examples, config, progress, teacher)
    share_weights(model)  # a projection for another teacher may differ in its last bits
    start = {name: weights.detach().to("cpu", copy=True) for name, weights in model.state_dict().items()}
    most_steps = -(-plan.most_rows // plan.rows_per_step) * stage_config.epochs

    rate = LearningRate(stage_config)

    def rows(epoch: int) -> Rows:
        found = plan.rows(epoch)
        batches = -(-len(found) // plan.rows_per_step)
        progress.steps_planned(trainer.state.global_step + batches * (stage_config.epochs - epoch))
        return found

    # The collator belongs to the trainer, which wants the stream: it is looked up when the first batch is made.
    stream = BatchStream(
        rows,
        lambda batch: collate(trainer, plan, batch, chunk_tokens=config.chunk_tokens),
        epochs=stage_config.epochs,
        batch_size=plan.rows_per_step,
        pieces=stage_config.accumulation,
        seed=(config.seed, _STAGE_SEEDS[stage]),
    )
    callback = StageCallback(stage, stage_config, run, stream, evaluator, rate, progress)
    args = training_arguments(model, config, stage_config, folder=run.stage_path(stage), max_steps=most_steps)
    most_kept = config.chunk_tokens if config.gradient_cache else None
    trainer = StageTrainer(model, args, plan.loss, evaluator, stream, rate, [callback], most_kept)
    callback.trainer = trainer
    if rank() > 0:
        torch.manual_seed(config.seed + rank())  # dropout of its own for each share of a step

    checkpoint = run.latest_checkpoint(stage)
    if checkpoint is None:
        run.cut_metrics(metrics_size)
        progress.stage_started(stage, most_steps)
        callback.evaluate_start(model)
    else:
        logger.info("%s: going on from %s", stage.value, checkpoint.path)
        if (before := checkpoint.state.get("processes", 1)) != num_processes() and rank() == 0:
            logger.warning("%s: goes on with %d processes, was begun with %d", stage.value, num_processes(), before)
        progress.stage_started(stage, most_steps, checkpoint.state["step"])
        callback.restore(checkpoint)
    progress.activity("training")
    with _embeddings(model, data, examples, config, stage), prepared_anew(model):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))

    best = callback.best
    assert best is not None  # the start was evaluated
    if best.step == 0:
        model.load_state_dict(start)
    elif best.step != trainer.state.global_step:
        load_weights(model, run.checkpoint_path(stage, best.step))
    logger.info("%s: dev P@1 %.4f at step %d", stage.value, best.p1, best.step)
    if isinstance(stage_config, ContrastiveConfig | DistillationConfig) and best.step:
        best = _average(stage_config.tuned_shares, model, start, best, evaluator, run, progress)
    _save_model(model, run, stage)
    progress.stage_finished(stage, best)
    return best


def _average(
    shares: tuple[float, ...],
    model: SentenceTransformer,
    start: dict[str, torch.Tensor],
    best: DevScore,
    evaluator: DevEvaluator,
    run: RunDirectory,
    progress: Progress,
) -> DevScore:
    """Give a model the average of its weights and those of the start that is best on dev, and return its evaluation."""
    tuned = {name: weights.detach().to("cpu", copy=True) for name, weights in model.state_dict().items()}

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
    chosen = max(shares, key=lambda share: found[share].p1)  # the first of equals
    model.load_state_dict(tuned if chosen == 1.0 else averaged(chosen))
    logger.info("%s: dev P@1 %.4f with a share of %g", best.stage.value, found[chosen].p1, chosen)
    return found[chosen]


def new_languages(config: TrainConfig, languages: tuple[str, ...]) -> tuple[str, ...]:
    """The languages of the vocabulary stage.

    Args:
        config: The run.
        languages: The languages trained.
    """
    named = config.vocabulary.languages or (*languages, *config.parallel_languages)
    return sort_languages({language for language in named if language != "en"})


@on_rank_0
def _save_model(model: SentenceTransformer, run: RunDirectory, stage: Stage) -> None:
    with run.replace_folder(run.stage_model(stage)) as folder:
        model.save_pretrained(str(folder), create_model_card=False)


def _embeddings(
    model: SentenceTransformer, data: RetrievalData, examples: TrainingSet, config: TrainConfig, stage: Stage
) -> AbstractContextManager[None]:
    if config.freeze_embeddings:
        return frozen_embeddings(model)
    if config.stage(stage).weight_decay:
        return nullcontext()  # it also pulls on tokens that never occur
    train = data.select(split=Split.TRAIN)
    languages = {*examples.languages, *config.parallel_languages, "en"}
    questions = (q.text for q in train.queries if q.language in languages)
    texts = chain(examples.candidates.texts, questions)
    cut = stage is Stage.CONTRASTIVE and config.contrastive.parallel_passages
    if cut or (stage is Stage.DISTILLATION and config.distillation.segment_share):
        # A piece that there is only where a span is cut inside a word keeps its embedding.
        texts = chain(texts, *(data.translations.get(code, {}).values() for code in sorted(languages)))
    return limited_embeddings(model, texts)
