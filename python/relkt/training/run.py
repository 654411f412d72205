"""A training run: open its folder, check everything, run the stages, write the results."""

from __future__ import annotations

import gc
import shutil
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from relkt.data.parallel import ParallelText
from relkt.data.types import RetrievalData, Split
from relkt.encoders import Origin, origin_of
from relkt.training.config import Stage, TrainConfig
from relkt.training.distributed.processes import join_job, num_processes, on_rank_0, rank
from relkt.training.loop.stage_runner import run_stage
from relkt.training.model.precision import without_accelerate_wrapper
from relkt.training.model.weights import load_weights
from relkt.training.preflight import check_arguments, check_texts, open_run, prepare
from relkt.training.progress import Progress
from relkt.training.progress.bars import default_progress
from relkt.training.progress.quiet import no_progress_bars
from relkt.training.recipes import parallel_config
from relkt.training.records.model_card import CARD, model_card
from relkt.training.records.results import BEFORE, measure_test, read_results, write_results
from relkt.training.records.run_directory import RunDirectory
from relkt.training.stages import Prepared

HELD_OUT_SEED = 42
"""Seed for holding out pairs if there is no data set. It is fixed, so that runs are comparable."""


def train(
    model: SentenceTransformer,
    data: RetrievalData | None = None,
    *,
    output_dir: str | Path,
    config: TrainConfig | None = None,
    teacher: SentenceTransformer | None = None,
    parallel: ParallelText | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> SentenceTransformer:
    """Train a cross-lingual retriever in stages: vocabulary, warm-up, teacher, contrastive, distillation and language
    knowledge transfer, or some of them.

    Each stage starts from the weights of the previous stage that have the highest dev P@1 (the mean over the training
    languages). The weights at the start of a stage are evaluated too, so a stage without improvement keeps them. The
    vocabulary stage is an exception: its new pieces are always kept. Training uses the train split, the dev split
    selects weights, and the test split is evaluated before the first stage and after each stage.

    With ``resume=True``, a run that was killed at any moment continues from its last checkpoint, with the same random
    state and order of examples. Each dev evaluation is followed by a checkpoint. On CPU, with the same number of
    threads (and processes), a resumed run ends with the same weights and ``metrics.jsonl`` as an uninterrupted run.

    Several processes started by ``torchrun`` or ``accelerate launch`` train one model together if all of them call this
    function with the same model, data, configuration and folder; all processes must be able to read the folder. Each
    process encodes its share of the texts of every step. The result equals the result of one process, except for the
    order of float additions and, in models with dropout, the random numbers. Rank 0 writes the files and reports the
    progress.

    Args:
        model: Any sentence-transformers model with float32 weights, on the CPU or the first GPU. In a job of several
            processes, a model on a GPU is moved to the GPU of the process's local rank. The model is trained in place,
            with its query and document prompts.
        data: The data set, with train and dev questions in every language trained. It also needs English questions,
            even if English is not trained: the warm-up searches for negatives with the English translations of the
            training questions, and distillation and transfer learn from them. If a question has no English translation,
            its own text is used, and a warning counts these questions; if no question has a translation, these stages
            raise an error. No stage sees documents that the data set holds out. If ``data`` is None, training uses
            ``parallel`` alone, and some of its pairs become dev and test questions.
        output_dir: A new or empty folder for the run: ``config.toml``, ``metrics.jsonl`` (a JSON object for each
            training log and each dev evaluation), ``stages/`` (the model of each stage, and its results), ``model/``
            (the final model with its model card), ``results.json``, ``results.md``, ``plots/``.
        config: The configuration. Default: :class:`TrainConfig` with its defaults; when resuming, the configuration
            that the run was started with.
        teacher: Another model as the teacher of the distillation and transfer stages. The student learns the teacher's
            embedding space, so the student's questions can search an index of passages that the teacher embedded. If
            the dimensions differ, the student gets a projection (sentence-transformers' modules ``Dense`` and
            ``Normalize``), which is trained and saved with the student; the stage then starts from the student
            with the projection. The teacher is not changed, and uses its own prompts. Default: the student at the
            start of the stage, as in the paper.
        parallel: Parallel text (:func:`relkt.load_parallel`) for the vocabulary and distillation stages. Pairs are left
            out if they contain the text of a dev or test question, or of a held-out document.
        resume: Continue the run in ``output_dir``, or start a new run if there is none. Pass the same model, data and
            teacher.
        progress: Receives the progress of the run. Default: progress bars if standard error is a terminal, or in a
            notebook with ipywidgets; otherwise nothing. ``Progress()`` reports nothing.

    Returns:
        ``model``, with the final weights, in evaluation mode.

    Raises:
        TypeError: If ``model`` or ``teacher`` is not a SentenceTransformer, or ``config`` not a TrainConfig.
        ValueError: Before any work is done, in each of these cases: a language has no train or no dev question; no
            question has an English translation; no question has a possible negative; the weights are not float32; the
            device does not support the precision; there is a teacher, but no distillation or transfer stage; the run to
            resume was started with another configuration, model, data or teacher; the processes of a job have different
            arguments; the machine has fewer GPUs than processes.
        FileExistsError: If ``output_dir`` is not empty and ``resume`` is False.
        RuntimeError: If connected processes were not started by ``torchrun`` or ``accelerate launch``.
        FloatingPointError: If the training loss is not finite.

    Reference:
        Limkonchotiwat et al., "CL-ReLKT: Cross-lingual Language Knowledge Transfer for Multilingual Retrieval Question
        Answering", Findings of NAACL 2022.
    """
    check_arguments(model, config, teacher)
    join_job(model)
    if teacher is not None and num_processes() > 1:
        teacher.to(model.device)
    data, parallel = check_texts(data, parallel, HELD_OUT_SEED)
    if config is None and not resume and not any(query.split is Split.TRAIN for query in data.queries):
        config = parallel_config(model, data)
    run = open_run(Path(output_dir), model, data, config, teacher, parallel, resume=resume)
    prepared = prepare(model, data, run.config, teacher, parallel)

    if rank() > 0:
        progress = Progress()
    progress_context = default_progress() if progress is None else nullcontext(progress)
    with progress_context as progress, no_progress_bars(), without_accelerate_wrapper(model):
        run.start()
        _measure_before(model, prepared, run, progress)
        metrics_size = 0
        for stage in run.config.stages:
            metrics_size = _run_or_load(stage, model, prepared, run, progress, metrics_size)
        model.eval()
        _save_final_model(model, prepared, run)
        progress.activity("")
    write_results(run)
    return model


def _measure_before(model: SentenceTransformer, prepared: Prepared, run: RunDirectory, progress: Progress) -> None:
    """Record the test results of the model before training, and the origins of the model and the teacher."""
    if run.read_record(BEFORE) is None:
        teacher = prepared.teacher
        origins = {"base": asdict(origin_of(model)), "teacher": teacher and asdict(origin_of(teacher))}
        run.write_record(BEFORE, origins | {"results": _measure(model, prepared, progress)})


def _run_or_load(
    stage: Stage, model: SentenceTransformer, prepared: Prepared, run: RunDirectory, progress: Progress, size: int
) -> int:
    """Run a stage, or load its model if it is finished.

    Returns:
        The size of ``metrics.jsonl`` in bytes at the end of the stage; ``size`` is the size before it.
    """
    record = run.read_record(stage.value)
    if record is None:
        run_stage(stage, model, prepared, run, progress, size)
        gc.collect()  # trainer, callback and stream form a reference cycle that keeps the optimizer's state alive
        record = {"metrics_size": run.metrics_size(), "results": _measure(model, prepared, progress)}
        run.write_record(stage.value, record)
    else:
        progress.stage_skipped(stage)
        load_weights(model, run.stage_model(stage))
    run.clean_stage(stage)
    return int(record["metrics_size"])


def _measure(model: SentenceTransformer, prepared: Prepared, progress: Progress) -> dict[str, Any]:
    progress.activity("evaluating")
    return measure_test(
        model,
        prepared.data,
        trained_languages=prepared.languages,
        batch_size=prepared.config.encode_batch_size,
    )


@on_rank_0
def _save_final_model(model: SentenceTransformer, prepared: Prepared, run: RunDirectory) -> None:
    if run.model_path.exists():
        return
    with run.replace_folder(run.model_path) as folder:
        # Copy instead of saving again: saved files depend on how a model was used since it was loaded (a tokenizer
        # keeps its last truncation), and a resumed run may not have used it.
        shutil.copytree(run.stage_model(run.config.stages[-1]), folder, dirs_exist_ok=True)
        (folder / CARD).write_text(_card(model, prepared, run), encoding="utf-8")


def _card(model: SentenceTransformer, prepared: Prepared, run: RunDirectory) -> str:
    before = run.read_record(BEFORE)
    assert before is not None  # a finished run has this record
    # Use the origins recorded at the start, because a run may be resumed with the same model under another name.
    base = Origin(**before["base"]) if "base" in before else origin_of(model)
    teacher = Origin(**before["teacher"]) if before.get("teacher") else None
    return model_card(
        model,
        prepared.data,
        run.config,
        languages=prepared.languages,
        base=base,
        teacher=teacher,
        results=read_results(run),
    )
