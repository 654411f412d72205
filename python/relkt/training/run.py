"""A training run: its stages, and what is written about them."""

from __future__ import annotations

import gc
import logging
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from relkt.data.checksum import data_checksum, translations_checksum
from relkt.data.types import Level, RetrievalData, Split, sort_languages
from relkt.encoders import Origin, model_checksum, num_truncated, origin_of
from relkt.training.collation import collate
from relkt.training.config import TrainConfig
from relkt.training.embeddings import frozen_embeddings, limited_embeddings
from relkt.training.evaluator import DevEvaluator
from relkt.training.examples import Rows, TrainingSet
from relkt.training.model_card import CARD, model_card
from relkt.training.precision import prepared_anew
from relkt.training.processes import check_same, join_job, num_processes, on_rank_0, rank, share_weights
from relkt.training.progress import DevScore, Progress
from relkt.training.quiet import no_progress_bars
from relkt.training.results import BEFORE, measure_test, read_results, write_results
from relkt.training.run_directory import RunDirectory
from relkt.training.stage_config import ContrastiveConfig, DistillationConfig, Stage
from relkt.training.stages import make_stage
from relkt.training.stream import BatchStream
from relkt.training.trainer import (
    LearningRate,
    StageCallback,
    StageTrainer,
    check_device,
    load_weights,
    training_arguments,
)
from relkt.training.vocabulary import check_vocabulary, extend

# Of the order of a stage's examples: numbers that stay when a stage is added.
_STAGE_SEEDS = {Stage.WARMUP: 0, Stage.TEACHER: 1, Stage.TRANSFER: 2, Stage.CONTRASTIVE: 3, Stage.DISTILLATION: 4}

logger = logging.getLogger(__name__)


def train(
    model: SentenceTransformer,
    data: RetrievalData,
    *,
    output_dir: str | Path,
    config: TrainConfig | None = None,
    teacher: SentenceTransformer | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> SentenceTransformer:
    """Train a cross-lingual retriever: vocabulary, warm-up, teacher, contrastive, distillation, language knowledge
    transfer, or some of them.

    Each stage starts from the best weights of the one before by dev P@1 (the mean over the languages trained), its own
    start included: a stage that improves nothing changes nothing. Only new pieces (the vocabulary) are kept in any
    case. The training split is trained on, the dev split chooses, and the test split is evaluated before the first
    stage and after each.

    A run whose process was killed, at whatever moment, is continued with ``resume=True``: it goes on from its last
    checkpoint (one is made after each dev evaluation), with the same random state and order of examples. On CPU, with
    the same number of threads (and processes), it ends with the same weights and the same ``metrics.jsonl`` as a run
    that was left alone.

    Several processes that ``torchrun`` or ``accelerate launch`` started, all of which call this, train one model
    together: each runs its share of the texts of every step, and what comes out is what one process gives, up to the
    order of float additions and, in models with dropout, its random numbers. Give all of them the same model, data,
    folder (which all must see) and configuration. Rank 0 writes and tells ``progress``.

    Args:
        model: Any sentence-transformers model with float32 weights; trained in place, on the CPU or the first GPU (in
            a job of several processes, the GPU of the process's local rank), whichever it is on. Its query and document
            prompts are used.
        data: The data set, with train and dev questions in every language trained. The warm-up searches negatives with
            the English translations of the training questions, and the transfer draws questions to them, so the data
            needs English questions too, also where English is not trained. Questions without a translation stand
            for themselves, which a warning counts; without any, these stages are refused, and so is the distillation,
            which draws all texts to their English versions.
        output_dir: A new or empty folder for the run: ``config.toml``, ``metrics.jsonl`` (a JSON object for each
            training log and each dev evaluation), ``stages/`` (the model of each stage, and its results),
            ``model/`` (the final model, and a card of it), ``results.json``, ``results.md``, ``plots/``.
        config: What to do; default :class:`TrainConfig` with its defaults, or when resuming that of the run.
        teacher: Another model as the teacher of the transfer stage: the student learns its embeddings, and ends up in
            its space, so that an index of passages that the teacher embedded can be searched with the student's
            questions. Where their dimensions differ, the student gets a projection (sentence-transformers' modules
            ``Dense`` and ``Normalize``), which is trained and saved with it. The model so projected is what the stage
            starts from and has to improve on. The teacher is left as it is, and uses its own prompts. Default: the
            student as it is when the stage begins, as in the paper.
        resume: Go on with the run in ``output_dir``; start it if there is none. Give the same model, data and teacher.
        progress: Told what happens; default silent.

    Returns:
        ``model``, with the final weights, in evaluation mode.

    Raises:
        TypeError: If ``model`` or ``teacher`` is no SentenceTransformer or ``config`` no TrainConfig.
        ValueError: If the data has no train or dev question in a language, no English translation of any question, or
            no possible negative; the weights are not float32; the precision does not fit the device; there is a teacher
            and no transfer stage; the run to resume was started with another configuration, model, data or teacher; or
            the processes of a job were given different ones, or have too few GPUs. Before any work is done.
        FileExistsError: If ``output_dir`` holds something and ``resume`` is False.
        RuntimeError: If connected processes were not started by ``torchrun`` or ``accelerate launch``.
        FloatingPointError: If the training loss is not finite.

    Reference:
        Limkonchotiwat et al., "CL-ReLKT: Cross-lingual Language Knowledge Transfer for Multilingual Retrieval Question
        Answering", Findings of NAACL 2022.
    """
    if not isinstance(model, SentenceTransformer):
        raise TypeError(f"model: expected a SentenceTransformer, as relkt.load_encoder gives it, got {model!r}")
    if config is not None and not isinstance(config, TrainConfig):
        raise TypeError(f"config: expected a TrainConfig, e.g. TrainConfig.preset('demo'), got {config!r}")
    path = Path(output_dir)
    _check_teacher(teacher, model)
    join_job(model)
    if teacher is not None and num_processes() > 1:
        teacher.to(model.device)
    if progress is None or rank() > 0:
        progress = Progress()
    identity = {
        "data": data_checksum(data),
        "model": model_checksum(model),
        "teacher": None if teacher is None else model_checksum(teacher),
    }
    check_same({**identity, "output_dir": str(path.resolve()), "config": config, "resume": resume})
    run = RunDirectory.resume(path, config, identity) if resume else None
    config = run.config if run else config or TrainConfig()
    if config.uses_translations:
        # Only here, so that runs without them do not depend on whether a reader finds any.
        identity["translations"] = translations_checksum(data)
        check_same({"translations": identity["translations"]})
        if run:
            run.check_identity(identity)

    if teacher is not None and Stage.TRANSFER not in config.stages:
        raise ValueError(
            "teacher: expected none, as the configuration has no transfer stage, which is the one that it teaches; its "
            f"stages are {', '.join(stage.value for stage in config.stages)}"
        )
    languages = sort_languages(config.languages or data.select(split=Split.TRAIN).languages)
    evaluator = DevEvaluator(
        data, languages=languages, level=config.level, batch_size=config.encode_batch_size, together=True
    )
    examples = TrainingSet(data, languages=languages, level=config.level)
    if config.parallel_languages:
        TrainingSet(data, languages=config.parallel_languages, level=config.level)  # whether they are there
    if config.freeze_embeddings:
        with frozen_embeddings(model):
            pass  # whether it has any
    if Stage.VOCABULARY in config.stages:
        check_vocabulary(model, data, new_languages(config, languages))
    check_device(model, config)
    _check_english(examples, config)
    if any(stage not in (Stage.TRANSFER, Stage.VOCABULARY) for stage in config.stages):
        examples.check_negatives()
    _warn_of_truncation(model, examples.candidates.texts, "candidates")
    if teacher is not None:
        _warn_of_truncation(teacher, examples.candidates.texts, "candidates of the teacher")
    with_documents = Stage.CONTRASTIVE in config.stages and config.contrastive.document_weight > 0
    if with_documents and config.level is not Level.DOCUMENT:
        _warn_of_truncation(model, data.candidates(Level.DOCUMENT).texts, "documents")

    def results() -> dict[str, Any]:
        progress.activity("evaluating")
        return measure_test(model, data, trained_languages=languages, batch_size=config.encode_batch_size)

    with no_progress_bars(), prepared_anew(model):
        run = run or RunDirectory.create(path, config, identity)
        if run.read_record(BEFORE) is None:
            origins = {"base": asdict(origin_of(model)), "teacher": teacher and asdict(origin_of(teacher))}
            run.write_record(BEFORE, origins | {"results": results()})
        metrics_size = 0
        for stage in config.stages:
            record = run.read_record(stage.value)
            if record is None and stage is Stage.VOCABULARY:
                extend_model(model, data, languages, evaluator, run, progress)
                record = {"metrics_size": run.metrics_size(), "results": results()}
                run.write_record(stage.value, record)
            elif record is None:
                run_stage(stage, model, data, examples, evaluator, run, progress, metrics_size, teacher)
                gc.collect()  # trainer, callbacks and stream know each other, and hold the optimizer's state
                record = {"metrics_size": run.metrics_size(), "results": results()}
                run.write_record(stage.value, record)
                run.clean_stage(stage)
            else:
                progress.stage_skipped(stage)
                run.clean_stage(stage)  # a run may be killed between its record and this
                load_weights(model, run.stage_model(stage))
            metrics_size = record["metrics_size"]
        model.eval()
        _finish(model, run, data, languages)
    write_results(run)
    return model


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


@on_rank_0
def _finish(model: SentenceTransformer, run: RunDirectory, data: RetrievalData, languages: tuple[str, ...]) -> None:
    if run.model_path.exists():
        return
    with run.replace_folder(run.model_path) as folder:
        # A copy: what saving writes depends on what a model has done (a tokenizer keeps its last truncation), and a run
        # resumed after its last stage has done nothing.
        shutil.copytree(run.stage_model(run.config.stages[-1]), folder, dirs_exist_ok=True)
        (folder / CARD).write_text(_card(run, model, data, languages), encoding="utf-8")


def _card(run: RunDirectory, model: SentenceTransformer, data: RetrievalData, languages: tuple[str, ...]) -> str:
    before = run.read_record(BEFORE)
    assert before is not None  # the run is finished
    # As it was when the run began: a run may be resumed with the same model under another name.
    base = Origin(**before["base"]) if "base" in before else origin_of(model)
    teacher = Origin(**before["teacher"]) if before.get("teacher") else None
    return model_card(
        model, data, run.config, languages=languages, base=base, teacher=teacher, results=read_results(run)
    )


def _check_teacher(teacher: SentenceTransformer | None, model: SentenceTransformer) -> None:
    if teacher is None:
        return
    if not isinstance(teacher, SentenceTransformer):
        raise TypeError(f"teacher: expected a SentenceTransformer, as relkt.load_encoder gives it, got {teacher!r}")
    if teacher is model:
        raise ValueError("teacher: expected another model than the one trained, got the same; leave it out for that")
    if model.truncate_dim is not None:
        raise ValueError(f"model: expected one with whole embeddings, got truncate_dim = {model.truncate_dim}")


def _check_english(examples: TrainingSet, config: TrainConfig) -> None:
    if not {Stage.WARMUP, Stage.DISTILLATION, Stage.TRANSFER}.intersection(config.stages):
        return
    others = sum(q.language != "en" for q in examples.queries)
    if examples.without_english == 0:
        return
    if examples.without_english == others:
        raise ValueError(
            "data: expected English translations of the training questions, which warm-up, distillation and transfer "
            f"learn from, got none of {others} questions; load the data with English included "
            '(languages=[..., "en"]), or for XOR-QA put english_questions.jsonl into its folder'
        )
    if rank() > 0:
        return
    logger.warning(
        "%d of %d training questions have no English translation; they stand for themselves in warm-up, distillation "
        "and transfer",
        examples.without_english,
        len(examples.queries),
    )


def _warn_of_truncation(model: SentenceTransformer, texts: tuple[str, ...], kind: str) -> None:
    if rank() == 0 and (longer := num_truncated(model, texts)):
        logger.warning(
            "%d of %d %s are longer than the encoder's max_seq_length of %d tokens: it sees only their start",
            longer,
            len(texts),
            kind,
            model.max_seq_length,
        )


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
