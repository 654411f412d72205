"""A training run: its stages one after the other, and what is written about them."""

from __future__ import annotations

import gc
import shutil
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from relkt.data.checksum import data_checksum, translations_checksum
from relkt.data.types import Level, RetrievalData, Split, sort_languages
from relkt.encoders import Origin, model_checksum, origin_of
from relkt.training.config import Stage, TrainConfig
from relkt.training.distributed.processes import check_same, join_job, num_processes, on_rank_0, rank
from relkt.training.examples import TrainingSet
from relkt.training.loop.dev_evaluator import DevEvaluator
from relkt.training.loop.stage_runner import extend_model, new_languages, run_stage
from relkt.training.model.precision import prepared_anew
from relkt.training.model.token_embeddings import frozen_embeddings
from relkt.training.model.weights import load_weights
from relkt.training.preflight import check_device, check_english, check_teacher, warn_of_truncation
from relkt.training.progress import Progress
from relkt.training.progress.bars import bars_where_seen
from relkt.training.progress.quiet import no_progress_bars
from relkt.training.records.model_card import CARD, model_card
from relkt.training.records.results import BEFORE, measure_test, read_results, write_results
from relkt.training.records.run_directory import RunDirectory
from relkt.training.stages.vocabulary import check_vocabulary


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
        progress: Told what happens. Default: bars, where standard error is a terminal, or a notebook with
            ipywidgets; silence elsewhere, and with ``Progress()``, as beside bars of your own.

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
    check_teacher(teacher, model)
    join_job(model)
    if teacher is not None and num_processes() > 1:
        teacher.to(model.device)
    if rank() > 0:
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
    check_english(examples, config)
    if any(stage not in (Stage.TRANSFER, Stage.VOCABULARY) for stage in config.stages):
        examples.check_negatives()
    warn_of_truncation(model, examples.candidates.texts, "candidates")
    if teacher is not None:
        warn_of_truncation(teacher, examples.candidates.texts, "candidates of the teacher")
    with_documents = Stage.CONTRASTIVE in config.stages and config.contrastive.document_weight > 0
    if with_documents and config.level is not Level.DOCUMENT:
        warn_of_truncation(model, data.candidates(Level.DOCUMENT).texts, "documents")

    def results() -> dict[str, Any]:
        told.activity("evaluating")
        return measure_test(model, data, trained_languages=languages, batch_size=config.encode_batch_size)

    shown = bars_where_seen() if progress is None else nullcontext(progress)
    with shown as told, no_progress_bars(), prepared_anew(model):
        run = run or RunDirectory.create(path, config, identity)
        if run.read_record(BEFORE) is None:
            origins = {"base": asdict(origin_of(model)), "teacher": teacher and asdict(origin_of(teacher))}
            run.write_record(BEFORE, origins | {"results": results()})
        metrics_size = 0
        for stage in config.stages:
            record = run.read_record(stage.value)
            if record is None and stage is Stage.VOCABULARY:
                extend_model(model, data, languages, evaluator, run, told)
                record = {"metrics_size": run.metrics_size(), "results": results()}
                run.write_record(stage.value, record)
            elif record is None:
                run_stage(stage, model, data, examples, evaluator, run, told, metrics_size, teacher)
                gc.collect()  # trainer, callbacks and stream know each other, and hold the optimizer's state
                record = {"metrics_size": run.metrics_size(), "results": results()}
                run.write_record(stage.value, record)
                run.clean_stage(stage)
            else:
                told.stage_skipped(stage)
                run.clean_stage(stage)  # a run may be killed between its record and this
                load_weights(model, run.stage_model(stage))
            metrics_size = record["metrics_size"]
        model.eval()
        _finish(model, run, data, languages)
        told.activity("")
    write_results(run)
    return model


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
