"""Checks and warnings before a run, so that invalid input fails before any work is done or any file is written."""

from __future__ import annotations

import logging
from itertools import chain
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from relkt.data.checksum import data_checksum, translations_checksum
from relkt.data.parallel import ParallelText
from relkt.data.types import Level, RetrievalData, Split, sort_languages
from relkt.encoders import model_checksum, num_truncated
from relkt.training.config import Precision, Stage, TrainConfig
from relkt.training.distributed.processes import check_same, num_processes, rank
from relkt.training.examples import TrainingSet
from relkt.training.examples.parallel_pairs import hold_out_pairs
from relkt.training.model.token_embeddings import check_token_embeddings
from relkt.training.records.run_directory import RunDirectory
from relkt.training.stages import Prepared
from relkt.training.stages.vocabulary import check_vocabulary

logger = logging.getLogger(__name__)


def check_arguments(
    model: SentenceTransformer, config: TrainConfig | None, teacher: SentenceTransformer | None
) -> None:
    """Check the types of the arguments, and that the model can learn from the teacher, which must be another encoder.

    Raises:
        TypeError: If ``model`` or ``teacher`` is not a SentenceTransformer, or ``config`` not a TrainConfig.
        ValueError: If the teacher is the model itself, or the model truncates its embeddings.
    """
    if not isinstance(model, SentenceTransformer):
        raise TypeError(f"model: expected a SentenceTransformer, e.g. from relkt.load_encoder, got {model!r}")
    if config is not None and not isinstance(config, TrainConfig):
        raise TypeError(f"config: expected a TrainConfig, e.g. TrainConfig.preset('demo'), got {config!r}")
    if teacher is None:
        return
    if not isinstance(teacher, SentenceTransformer):
        raise TypeError(f"teacher: expected a SentenceTransformer, e.g. from relkt.load_encoder, got {teacher!r}")
    if teacher is model:
        raise ValueError("teacher: expected another model than the one trained, got the same; pass None for that")
    if model.truncate_dim is not None:
        raise ValueError(
            f"model: expected a model without truncated embeddings, got truncate_dim = {model.truncate_dim}"
        )


def check_texts(
    data: RetrievalData | None, parallel: ParallelText | None, seed: int
) -> tuple[RetrievalData, ParallelText | None]:
    """The data set and the parallel text that training may see.

    Without a data set, pairs are held out as dev and test questions (:func:`hold_out_pairs`). With one, pairs with a
    text of a dev or test question, or of a held-out document, are left out.

    Args:
        data: The data set, or None.
        parallel: Parallel text, or None.
        seed: Seed of the choice of held-out pairs.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If both ``data`` and ``parallel`` are None, or there are too few pairs.
    """
    if data is not None and not isinstance(data, RetrievalData):
        raise TypeError(f"data: expected a RetrievalData, e.g. from relkt.load_data, got {data!r}")
    if parallel is not None and not isinstance(parallel, ParallelText):
        raise TypeError(f"parallel: expected a ParallelText, e.g. from relkt.load_parallel, got {parallel!r}")
    if data is None:
        if parallel is None:
            raise ValueError("data: expected a data set, or parallel text in parallel, got neither")
        return hold_out_pairs(parallel, seed)
    if parallel is None:
        return data, None
    hidden = {p.id: p.text for p in data.passages if p.document in data.held_out}
    translated = (text for texts in data.translations.values() for p, text in texts.items() if p in hidden)
    questions = (q.text for q in data.queries if q.split is not Split.TRAIN)
    kept = parallel.without(chain(questions, hidden.values(), translated))
    if not kept.pairs:
        raise ValueError("parallel: expected pairs besides the texts of dev and test, got none")
    return data, kept


def open_run(
    path: Path,
    model: SentenceTransformer,
    data: RetrievalData,
    config: TrainConfig | None,
    teacher: SentenceTransformer | None,
    parallel: ParallelText | None = None,
    *,
    resume: bool,
) -> RunDirectory:
    """Open the folder of a run. If the run is resumed, check that it was started with the same arguments.

    Nothing is written. Arguments as for :func:`relkt.training.train`.

    Raises:
        ValueError: If the arguments differ from those that the run to resume was started with, or between the processes
            of a job.
        FileExistsError: If the folder is not empty and ``resume`` is False.
    """
    identity = {
        "data": data_checksum(data),
        "model": model_checksum(model),
        "teacher": None if teacher is None else model_checksum(teacher),
        "parallel": None if parallel is None else parallel.checksum(),
    }
    check_same({**identity, "output_dir": str(path.resolve()), "config": config, "resume": resume})
    run = RunDirectory.open(path, config, identity, resume=resume)
    if run.config.uses_translations:
        # Runs that do not use translations can be resumed with other translations.
        translations = {"translations": translations_checksum(data)}
        check_same(translations)
        run.require(translations)
    return run


def prepare(
    model: SentenceTransformer,
    data: RetrievalData,
    config: TrainConfig,
    teacher: SentenceTransformer | None,
    parallel: ParallelText | None = None,
) -> Prepared:
    """Make the inputs of a run and check them.

    Arguments as for :func:`relkt.training.train`.

    Raises:
        ValueError: If the run cannot use them.
    """
    _check_stages(config, teacher, parallel)
    train = data.select(split=Split.TRAIN)
    languages = config.languages or train.languages or data.select(split=Split.DEV).languages
    prepared = Prepared(data, config, sort_languages(languages), teacher, parallel)
    _ = prepared.evaluator  # creating it checks that each language has dev questions
    if prepared.has_questions:
        prepared.training_set()  # creating it checks that each language has training questions
        if config.parallel_languages:
            prepared.training_set(config.parallel_languages)
    if config.freeze_embeddings:
        check_token_embeddings(model)
    if Stage.VOCABULARY in config.stages:
        check_vocabulary(model, prepared.training_data, prepared.vocabulary_languages, parallel)
    check_device(model, config)
    if prepared.has_questions:
        _check_questions(prepared)
    elif others := [stage.value for stage in config.stages if stage not in _WITHOUT_QUESTIONS]:
        raise ValueError(
            f"stages: expected only {' and '.join(stage.value for stage in _WITHOUT_QUESTIONS)}, because there are no "
            f"training questions, got {', '.join(others)} too"
        )
    candidates = prepared.training_data.candidates(config.level).texts
    _warn_of_truncation(model, candidates, "candidates")
    if teacher is not None:
        _warn_of_truncation(teacher, candidates, "candidates of the teacher")
    with_documents = Stage.CONTRASTIVE in config.stages and config.contrastive.document_weight > 0
    if with_documents and config.level is not Level.DOCUMENT:
        _warn_of_truncation(model, prepared.training_data.candidates(Level.DOCUMENT).texts, "documents")
    return prepared


_WITHOUT_QUESTIONS = (Stage.VOCABULARY, Stage.DISTILLATION)
_WITH_TEACHER = (Stage.DISTILLATION, Stage.TRANSFER)


def _check_stages(config: TrainConfig, teacher: SentenceTransformer | None, parallel: ParallelText | None) -> None:
    """Check that at least one stage uses the teacher, if given, and at least one uses the parallel text, if given.

    Raises:
        ValueError: If no stage uses the given teacher, or no stage uses the given parallel text.
    """
    stages = ", ".join(stage.value for stage in config.stages)
    if teacher is not None and not set(_WITH_TEACHER) & set(config.stages):
        raise ValueError(
            "teacher: expected None, because the configuration has neither a distillation nor a transfer stage, the "
            f"only ones with a teacher; its stages are {stages}"
        )
    if parallel is not None and not set(_WITHOUT_QUESTIONS) & set(config.stages):
        raise ValueError(
            "parallel: expected None, because the configuration has neither a vocabulary nor a distillation stage, the "
            f"only ones that use parallel text; its stages are {stages}"
        )


def _check_questions(prepared: Prepared) -> None:
    """Check that the stages can use the training questions.

    Raises:
        ValueError: If a stage cannot.
    """
    config, training_set = prepared.config, prepared.training_set()
    _check_english(training_set, config)
    if any(stage not in (Stage.TRANSFER, Stage.VOCABULARY) for stage in config.stages):
        training_set.check_negatives()


def check_device(model: SentenceTransformer, config: TrainConfig) -> None:
    """Check that a model can be trained on its device with the configured precision.

    Raises:
        ValueError: If the device does not support the precision; if the model is on a GPU other than the first, in a
            job of one process; or if its weights are not float32.
    """
    if config.precision is Precision.FLOAT16 and model.device.type != "cuda":
        raise ValueError(f"precision: expected float32, bfloat16 or auto for a model on {model.device}, got float16")
    if config.precision is Precision.BFLOAT16 and model.device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError("precision: expected float32, float16 or auto, because this GPU has no bfloat16, got bfloat16")
    if num_processes() == 1 and model.device.type == "cuda" and (model.device.index or 0) != 0:
        raise ValueError(
            f"model: expected on the CPU or the first GPU, where the trainer works, got on {model.device}; choose a "
            "GPU with the environment variable CUDA_VISIBLE_DEVICES"
        )
    for name, weights in model.named_parameters():
        if weights.is_floating_point() and weights.dtype is not torch.float32:
            raise ValueError(
                f"model: expected float32 weights, got {str(weights.dtype).removeprefix('torch.')} in {name}; load it "
                "in float32 or call model.float(), and set precision for the forward pass"
            )


def _check_english(training_set: TrainingSet, config: TrainConfig) -> None:
    """Check that there are English questions if a stage learns from them; warn if some translations are missing.

    Raises:
        ValueError: If a stage learns from English questions, and no question has an English translation.
    """
    if not {Stage.WARMUP, Stage.DISTILLATION, Stage.TRANSFER}.intersection(config.stages):
        return
    others = sum(q.language != "en" for q in training_set.queries)
    if training_set.without_english == 0:
        return
    if training_set.without_english == others:
        raise ValueError(
            "data: expected English translations of the training questions, which warm-up, distillation and transfer "
            f"learn from, got none of {others} questions; load the data with English included "
            '(languages=[..., "en"]), or for XOR-QA put english_questions.jsonl into its folder'
        )
    if rank() > 0:
        return
    logger.warning(
        "%d of %d training questions have no English translation; in warm-up, distillation and transfer, their own "
        "text is used instead",
        training_set.without_english,
        len(training_set.queries),
    )


def _warn_of_truncation(model: SentenceTransformer, texts: tuple[str, ...], kind: str) -> None:
    """Warn if an encoder truncates texts; ``kind`` says in the warning what the texts are."""
    if rank() == 0 and (longer := num_truncated(model, texts)):
        logger.warning(
            "%d of %d %s are longer than the encoder's max_seq_length of %d tokens: their ends are ignored",
            longer,
            len(texts),
            kind,
            model.max_seq_length,
        )
