"""The card of a trained model: its data, its training, its results and its limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import tomli_w
from huggingface_hub import EvalResult, ModelCardData
from sentence_transformers import SentenceTransformer

from relkt import __version__
from relkt.data.types import Level, RetrievalData, Split, sort_languages
from relkt.encoders import Origin
from relkt.evaluation import Average, Estimate, Report
from relkt.training.config import Stage, TrainConfig
from relkt.training.records.results import BEFORE

CARD = "README.md"
"""File name of the card, in the model's folder."""

_HUB_DATA = {"xquad": "google/xquad", "mlqa": "facebook/mlqa"}
_METRIC_TYPES = {  # sentence-transformers' names for the same measures
    "P@1": "cosine_accuracy@1",
    "P@5": "cosine_accuracy@5",
    "P@10": "cosine_accuracy@10",
    "MRR@10": "cosine_mrr@10",
    "nDCG@10": "cosine_ndcg@10",
}
_TABLE_METRICS = ("P@1", "MRR@10")
_LEVELS = {
    Level.PASSAGE: "single passages",
    Level.DOCUMENT: "whole documents, each embedded as one text",
    Level.BEST_PASSAGE: "documents, each scored by its best passage",
}
_STAGES = {
    Stage.VOCABULARY: "vocabulary: new pieces for mUSE, learned without labels from parallel texts",
    Stage.WARMUP: "warm-up: triplet loss, negatives by BM25",
    Stage.TEACHER: "teacher: triplet loss, hard and semi-hard negatives mined again for each epoch",
    Stage.CONTRASTIVE: "contrastive: InfoNCE over the passages of whole documents",
    Stage.DISTILLATION: "distillation: texts in every language follow the frozen model's embedding of the English one",
    Stage.TRANSFER: "transfer: questions in every language follow the teacher's embedding of the English question",
}
_CITATION = """\
```bibtex
@inproceedings{limkonchotiwat-etal-2022-cl,
    title = "{CL}-{R}e{LKT}: Cross-lingual Language Knowledge Transfer for Multilingual Retrieval Question Answering",
    author = "Limkonchotiwat, Peerat and Ponwitayarat, Wuttikorn and Udomcharoenchaikit, Can and Chuangsuwanich, Ekapol
              and Nutanong, Sarana",
    booktitle = "Findings of the Association for Computational Linguistics: NAACL 2022",
    year = "2022",
    doi = "10.18653/v1/2022.findings-naacl.165",
}
```
"""


def model_card(
    model: SentenceTransformer,
    data: RetrievalData,
    config: TrainConfig,
    *,
    languages: tuple[str, ...],
    base: Origin,
    teacher: Origin | None = None,
    results: Mapping[str, Mapping[str, Any]],
) -> str:
    """The card of a trained model: metadata and text of its ``README.md`` on the Hugging Face Hub.

    The card depends only on the arguments and on relkt's version; it contains no date, machine name or path.

    Args:
        model: The trained model.
        data: The data set for training and test.
        config: Configuration of the run.
        languages: The training languages.
        base: Origin of the model that training started from.
        teacher: Origin of the teacher if it was another model; otherwise None.
        results: Test results before training and after each stage, in the order of the run: name -> level ->
            :meth:`relkt.evaluation.Report.to_dict`, as in ``results.json``; empty reports if there is no test question.
    """
    before, after = (
        {Level(level): Report.from_dict(report) for level, report in results[name].items()}
        for name in (BEFORE, list(results)[-1])
    )
    title = f"{base.name or 'A sentence encoder'} trained on {data.name}"
    metadata = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        language=list(languages),
        license=base.license,
        base_model=base.hub_id,
        datasets=[_HUB_DATA[data.name]] if data.name in _HUB_DATA else None,
        tags=["sentence-transformers", "sentence-similarity", "feature-extraction", "cross-lingual-retrieval", "relkt"],
        metrics=[_METRIC_TYPES[metric] for metric in _METRIC_TYPES] if after else None,
        model_name=title,
        eval_results=_eval_results(after) or None,
    )
    if not after:
        metadata.pop("model_name")
    sections = [
        f"# {title}",
        _introduction(model, languages),
        f"## Base encoder\n\nTraining started from {_described(base)}",
        _training_data(data, config, languages),
        _training(config, teacher),
        _results(before, after),
        _limits(model, data, config, languages, before, after),
        _usage(model, base),
        "## Citation\n\nThe recipe is from\n\n" + _CITATION + f"\nas implemented in relkt {__version__}.",
    ]
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"


def _eval_results(after: Mapping[Level, Report]) -> list[EvalResult]:
    """All metrics of the averages over languages, and P@1 of every language."""
    found: list[EvalResult] = []

    def add(report: Report, questions: str, config: str, values: Mapping[str, Estimate]) -> None:
        found.extend(
            EvalResult(
                task_type="information-retrieval",
                task_name="Question answering retrieval",
                dataset_type=_HUB_DATA.get(report.data, report.data),
                dataset_name=f"{report.data}: {report.num_candidates:,} {_LEVELS[report.level]}; {questions}",
                dataset_config=f"{report.level.value}, {config}",
                dataset_split=None if report.split is None else report.split.value,
                metric_type=_METRIC_TYPES[metric],
                metric_name=metric,
                metric_value=estimate.value,
            )
            for metric, estimate in values.items()
        )

    for report in after.values():
        for average in Average:
            if average in report.averages["P@1"]:
                means = {metric: report.average(metric, average) for metric in _METRIC_TYPES}
                codes = ", ".join(report.languages_of(average))
                add(report, f"mean over the languages {codes}", average.value, means)
        for language in report.languages:
            add(report, f"questions in {language}", language, {"P@1": report.estimate("P@1", language)})
    return found


def _introduction(model: SentenceTransformer, languages: tuple[str, ...]) -> str:
    width = model.get_embedding_dimension()
    return (
        f"A sentence-transformers model for cross-lingual retrieval question answering: it embeds a question and the "
        f"passages that may answer it into {width} dimensions. Their cosine measures how well a passage fits, for a "
        f"question in any language. It was trained with relkt on questions in {_codes(languages)}."
    )


def _described(origin: Origin) -> str:
    if origin.name is None:
        text = "a sentence encoder whose name was not recorded."
    elif origin.hub_id == origin.name:
        text = f"[{origin.name}](https://huggingface.co/{origin.hub_id})."
    elif origin.name == "mUSE":
        text = "the multilingual Universal Sentence Encoder, version 3, in relkt's implementation."
    else:
        text = f"a model in a folder named `{origin.name}`"
        text += f", trained from [{origin.hub_id}](https://huggingface.co/{origin.hub_id})." if origin.hub_id else "."
        text += " Its encoder is mUSE." if origin.is_muse else ""
    return f"{text} {f'License: {origin.license}.' if origin.license else 'Its license was not recorded.'}"


def _training_data(data: RetrievalData, config: TrainConfig, languages: tuple[str, ...]) -> str:
    passages = Counter(passage.language for passage in data.passages)
    documents = len({passage.document for passage in data.passages})
    others = [language for language in data.languages if language not in languages]
    lines = [
        "## Training data",
        "",
        f"The data set `{data.name}`: {len(data.passages):,} passages ({_codes(sort_languages(passages))}) in "
        f"{documents:,} documents.",
        "",
        "| questions | train | dev | test |",
        "|---|---:|---:|---:|",
    ]
    for name, chosen in (("trained on", languages), ("in other languages", others)):
        if chosen:
            counts = (sum(q.split is split and q.language in chosen for q in data.queries) for split in Split)
            lines.append(f"| {name}: {', '.join(chosen)} | {' | '.join(f'{count:,}' for count in counts)} |")
    different = ({q.parallel for q in data.queries if q.split is split} for split in Split)
    lines.append(f"| different questions | {' | '.join(f'{len(questions):,}' for questions in different)} |")
    lines += [
        "",
        "Training uses the train questions only. The dev questions select the weights, and the test questions give the "
        "results below. All translations of a question are in the same split. Every question searches all passages, "
        "including those that answer questions of other splits.",
    ]
    if "en" in others:
        lines[-1] += (
            " English train questions are used too, although English is not among the languages trained: to search "
            "negatives, as targets of their translations, and as further questions in distillation, and in the stages "
            "with `include_english` below."
        )
    if config.parallel_languages:
        lines[-1] += (
            f" Texts in {_codes(config.parallel_languages)} are used as translations only, without the passages that "
            "answer the questions."
        )
    if config.uses_translations and data.translations:
        used = {*languages, *config.parallel_languages}
        if Stage.VOCABULARY in config.stages:
            used.update(config.vocabulary.languages)
        codes = [code for code in sort_languages(data.translations) if code in used]
        if codes:
            lines[-1] += f" Translations of the passages into {_codes(codes)} are trained on too."
    return "\n".join(lines)


def _training(config: TrainConfig, teacher: Origin | None) -> str:
    values = config.to_dict()
    skipped = {stage.value for stage in Stage if stage not in config.stages}
    settings = tomli_w.dumps({name: value for name, value in values.items() if name not in skipped})
    stages = "\n".join(f"{number}. {_STAGES[stage]}" for number, stage in enumerate(config.stages, start=1))
    space = ""
    if teacher is not None:
        space = (
            f"The teacher of the transfer is another model: {_described(teacher)} If the transfer improved the model "
            "or added a projection, the model's questions can search passages that the teacher embedded.\n\n"
        )
    return (
        f"## Training\n\nEach stage starts from the best weights of the previous one by P@1 on the dev questions, and "
        f"keeps its start if it finds nothing better (new vocabulary is always kept):"
        f"\n\n{stages}\n\n{space}The configuration, for "
        f"`relkt train --config`:\n\n```toml\n{settings}```"
    )


def _results(before: Mapping[Level, Report], after: Mapping[Level, Report]) -> str:
    if not after:
        return "## Results\n\nThe data set has no test questions: this model has not been evaluated."
    lines = [
        "## Results",
        "",
        "Test questions; mean [95 % bootstrap interval over questions]. P@1 is the share of questions whose first "
        "result is correct, MRR@10 the mean reciprocal rank of the first correct result among ten. \\* trained on.",
    ]
    for level, report in after.items():
        heads = [f"{metric} {when}" for metric in _TABLE_METRICS for when in ("before", "after")]
        lines += ["", f"### {report.num_candidates:,} {_LEVELS[level]}", ""]
        lines += [f"| language | questions | {' | '.join(heads)} |", f"|---|---:|{'---|' * len(heads)}"]
        trained = set(report.trained_languages or ())
        for language, count in report.num_queries.items():
            pairs = [r.estimate(metric, language) for metric in _TABLE_METRICS for r in (before[level], report)]
            mark = "\\*" if language in trained else ""
            lines.append(f"| {language}{mark} | {count:,} | {' | '.join(e.format() for e in pairs)} |")
        for average in Average:
            if average in report.averages["P@1"]:
                means = [r.average(metric, average) for metric in _TABLE_METRICS for r in (before[level], report)]
                codes = report.languages_of(average)
                count = sum(report.num_queries[language] for language in codes)
                cells = " | ".join(f"**{e.format()}**" for e in means)
                lines.append(f"| **{average.value}** ({len(codes)}) | {count:,} | {cells} |")
    return "\n".join(lines)


def _limits(
    model: SentenceTransformer,
    data: RetrievalData,
    config: TrainConfig,
    languages: tuple[str, ...],
    before: Mapping[Level, Report],
    after: Mapping[Level, Report],
) -> str:
    passage_languages = _codes(sort_languages({passage.language for passage in data.passages}))
    questions = {split: {q.parallel for q in data.queries if q.split is split} for split in Split}
    limit = model.max_seq_length
    points = [
        f"Trained on questions in {_codes(languages)} about passages in {passage_languages}. Its quality "
        "in other languages is unknown, unless the results above list them.",
        f"Trained on {len(questions[Split.TRAIN]):,} different questions about the {len(data.passages):,} passages of "
        f"`{data.name}`. Other domains have not been evaluated.",
        "Texts of any length are embedded as a whole; the longer a text, the less its embedding represents each part."
        if limit is None
        else f"Only the first {limit:,} tokens of a text are used.",
        "It finds passages, and does not decide whether a passage answers the question; a cosine is not a probability.",
    ]
    if questions[Split.TEST]:
        about_seen = _about_documents_seen(data)
        points.append(
            f"Of {len(questions[Split.TEST]):,} different test questions, {about_seen:,} are about a document that "
            "train questions are also about: these results hold for new questions, not for new documents."
        )
    if after:
        level = config.level
        fallen = [x for x in after[level].languages if after[level].value("P@1", x) < before[level].value("P@1", x)]
        if fallen:
            points.append(f"P@1 among {_LEVELS[level]} is lower than before training in {_codes(fallen)}.")
        counts = after[level].num_queries.values()
        points.append(
            f"The intervals reflect the number of test questions per language, {min(counts):,}"
            f"{f' to {max(counts):,}' if max(counts) != min(counts) else ''}, not the variation between seeds or "
            "splits."
        )
    return "## Limits\n\n" + "\n".join(f"- {point}" for point in points)


def _usage(model: SentenceTransformer, base: Origin) -> str:
    trust = ", trust_remote_code=True" if base.is_muse else ""
    note = (
        "mUSE's layers are relkt code, so relkt must be installed, and sentence-transformers requires "
        "`trust_remote_code=True`. `relkt.load_encoder` does not need this argument."
        if base.is_muse
        else "relkt is not needed to load it."
    )
    prompts = {name: text for name, text in model.prompts.items() if text}
    listed = "".join(f" `{name}`: `{text}`;" for name, text in prompts.items()).rstrip(";")
    return f"""\
## Usage

`MODEL` is the folder of this file, or the model's name on the Hugging Face Hub.

```python
import relkt

passages = ["Mount Everest is the highest mountain on Earth.", "The Pacific is the largest of the oceans."]
model = relkt.load_encoder("MODEL")
index = relkt.Index(model.encode_document(passages))
hits = index.search(model.encode_query(["¿Cuál es el océano más grande?"]), k=1)
print(passages[hits.indices[0, 0]], hits.scores[0, 0])
```

It is a plain sentence-transformers model. {note}

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("MODEL"{trust})
questions = model.encode_query(["¿Cuál es el océano más grande?"])
passages = model.encode_document(["The Pacific is the largest of the oceans."])
print(model.similarity(questions, passages))
```

{"Both prepend its prompts to texts:" + listed + "." if prompts else "It has no prompts."}"""


def _about_documents_seen(data: RetrievalData) -> int:
    """Number of distinct test questions whose document also answers a train question."""
    document_of = {passage.id: passage.document for passage in data.passages}
    seen = {document_of[p] for q in data.queries if q.split is Split.TRAIN for p in data.positives(q.id)}
    test = (q for q in data.queries if q.split is Split.TEST)
    return len({q.parallel for q in test if any(document_of[p] in seen for p in data.positives(q.id))})


def _codes(languages: Iterable[str]) -> str:
    *first, last = languages
    return f"{', '.join(first)} and {last}" if first else last
