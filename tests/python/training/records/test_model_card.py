"""The model card: metadata, results, limits, and snippets that run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer

from relkt.data.types import RetrievalData, Split
from relkt.encoders import Origin, origin_of
from relkt.encoders.origin import note_origin
from relkt.evaluation import Report
from relkt.training import Stage, TrainConfig, train
from relkt.training.records.model_card import model_card

CITATION = Path(__file__).parents[4] / "CITATION.cff"


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory,
    model_of: Callable[..., SentenceTransformer],
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
) -> Path:
    """Trained in English and one of the two other languages."""
    model = model_of(prompts={"query": "query : "})
    note_origin(model, "/home/me/secret/tiny-bert")
    stage = replace(tiny_config.warmup, epochs=1)
    config = replace(tiny_config, stages=(Stage.WARMUP,), languages=("en", "de"), warmup=stage)
    folder = tmp_path_factory.mktemp("card") / "run"
    train(model, tiny_data, output_dir=folder, config=config)
    return folder


@pytest.fixture(scope="module")
def card(run: Path) -> ModelCard:
    return ModelCard.load(run / "model" / "README.md")


def reports(run: Path) -> dict[str, dict[str, Report]]:
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return {
        name: {level: Report.from_dict(report) for level, report in levels.items()} for name, levels in results.items()
    }


@pytest.mark.slow
def test_the_metadata(card: ModelCard) -> None:
    data = card.data.to_dict()
    assert data["library_name"] == "sentence-transformers"
    assert data["language"] == ["en", "de"]
    assert {"sentence-transformers", "sentence-similarity", "relkt"} <= set(data["tags"])
    assert not {"license", "base_model", "datasets"} & data.keys()  # unknown
    assert data["metrics"][:2] == ["cosine_accuracy@1", "cosine_accuracy@5"]
    assert data["model-index"][0]["name"] == "tiny-bert trained on tiny"


@pytest.mark.slow
def test_the_model_index_has_the_numbers_of_the_results(run: Path, card: ModelCard) -> None:
    after = reports(run)["warmup"]
    found = {(e.dataset_config, e.metric_name): e for e in card.data.eval_results or []}
    expected = {
        (f"{level}, {language}", "P@1"): report.value("P@1", language)
        for level, report in after.items()
        for language in report.languages
    } | {
        (f"{level}, {average.value}", metric): estimate.value
        for level, report in after.items()
        for metric, row in report.averages.items()
        for average, estimate in row.items()
    }
    assert {key: e.metric_value for key, e in found.items()} == expected
    assert len(expected) == 3 * (3 + 3 * 5)
    assert {e.dataset_split for e in found.values()} == {"test"}
    assert found["passage, untrained", "P@1"].dataset_name == ("tiny: 16 single passages; mean over the languages th")


@pytest.mark.slow
def test_the_tables_have_the_numbers_of_the_results(run: Path, card: ModelCard) -> None:
    before, after = reports(run).values()
    for level in ("passage", "document", "best-passage"):
        for language, mark in (("en", "\\*"), ("de", "\\*"), ("th", "")):
            cells = [r[level].estimate(m, language).format() for m in ("P@1", "MRR@10") for r in (before, after)]
            assert f"| {language}{mark} | 8 | {' | '.join(cells)} |" in card.text
        for average, count in (("trained", 2), ("untrained", 1), ("all", 3)):
            cells = [r[level].average(m, average).format() for m in ("P@1", "MRR@10") for r in (before, after)]
            bold = " | ".join(f"**{cell}**" for cell in cells)
            assert f"| **{average}** ({count}) | {8 * count} | {bold} |" in card.text


@pytest.mark.slow
def test_data_configuration_and_limits(run: Path, card: ModelCard) -> None:
    assert "16 passages (en) in 8 documents" in card.text
    # Eight topics with three train questions, one dev and one test question each, in every language.
    assert "| trained on: en, de | 48 | 16 | 16 |" in card.text
    assert "| in other languages: th | 24 | 8 | 8 |" in card.text
    assert "| different questions | 24 | 8 | 8 |" in card.text
    assert "Of 8 different test questions, 8 are about a document that train questions are also about" in card.text
    assert "Only the first 64 tokens of a text are used." in card.text
    assert "Translations of the passages" not in card.text
    (settings,) = re.findall(r"```toml\n(.*?)```", card.text, flags=re.DOTALL)
    (run / "again.toml").write_text(settings, encoding="utf-8")
    again = TrainConfig.from_toml(run / "again.toml")
    assert again.warmup == TrainConfig.from_toml(run / "config.toml").warmup
    assert "[teacher]" not in settings
    assert "Training started from a model in a folder named `tiny-bert`. Its license was not recorded." in card.text
    assert "secret" not in card.content
    assert "`query`: `query : `" in card.text


@pytest.mark.slow
def test_the_snippets_run(run: Path, card: ModelCard, capsys: pytest.CaptureFixture[str]) -> None:
    snippets = re.findall(r"```python\n(.*?)```", card.text, flags=re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        exec(snippet.replace('"MODEL"', repr(str(run / "model"))), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(("Mount Everest", "The Pacific"))
    assert printed[1].startswith("tensor([[")


@pytest.mark.slow
def test_the_paper_is_the_one_of_the_citation_file(card: ModelCard) -> None:
    paper = yaml.safe_load(CITATION.read_text(encoding="utf-8"))["preferred-citation"]
    text = " ".join(card.text.replace("{", "").replace("}", "").split())
    assert paper["doi"] in text
    assert paper["title"] in text
    assert all(f"{author['family-names']}, {author['given-names']}" in text for author in paper["authors"])


def test_a_run_without_test_questions_has_a_card_without_results(
    model_of: Callable[..., SentenceTransformer], tiny_data: RetrievalData, tiny_config: TrainConfig
) -> None:
    queries = tuple(q for q in tiny_data.queries if q.split is not Split.TEST)
    data = RetrievalData("few", tiny_data.passages, queries, {q.id: tiny_data.qrels[q.id] for q in queries})
    text = card_of(model_of(), data, tiny_config, results={"before": {}, "transfer": {}})
    card = ModelCard(text)
    assert "The data set has no test questions: this model has not been evaluated." in card.text
    assert card.data.eval_results is None
    assert not {"model-index", "model_name", "metrics"} & card.data.to_dict().keys()


def card_of(model: SentenceTransformer, data: RetrievalData, config: TrainConfig, **changed: Any) -> str:
    arguments = {"languages": ("de", "th"), "base": Origin(None, None, None), "results": {"before": {}, "transfer": {}}}
    return model_card(model, data, config, **arguments | changed)  # type: ignore[arg-type]


def test_the_origin_of_the_base_is_described(
    model_of: Callable[..., SentenceTransformer], tiny_data: RetrievalData, tiny_config: TrainConfig
) -> None:
    model = model_of()
    unknown = ModelCard(card_of(model, tiny_data, tiny_config))
    assert "a sentence encoder whose name was not recorded." in unknown.text
    hub = ModelCard(card_of(model, tiny_data, tiny_config, base=Origin("me/model", "me/model", "mit")))
    assert (hub.data.base_model, hub.data.license) == ("me/model", "mit")
    assert "[me/model](https://huggingface.co/me/model). License: mit." in hub.text
    muse = ModelCard(card_of(model, tiny_data, tiny_config, base=Origin("mUSE", None, "apache-2.0", is_muse=True)))
    assert (muse.data.base_model, muse.data.license) == (None, "apache-2.0")
    assert 'SentenceTransformer("MODEL", trust_remote_code=True)' in muse.text
    assert "Translations of the passages into de and th are trained on too." in muse.text
    assert "English train questions are used too" in muse.text
    assert "It has no prompts." in muse.text


def test_languages_with_parallel_texts_only(
    model_of: Callable[..., SentenceTransformer], tiny_data: RetrievalData
) -> None:
    table = {"languages": ["de"], "parallel_languages": ["th"], "stages": ["vocabulary", "contrastive"]}
    card = card_of(model_of(), tiny_data, TrainConfig.from_dict(table), languages=("de",))
    assert "Texts in th are used as translations only" in card
    assert "Translations of the passages into de and th are trained on too." in card
    assert "1. vocabulary: new pieces for mUSE" in card
    assert "| in other languages: en, th |" in card


def test_names_and_licenses_of_models(model_of: Callable[..., SentenceTransformer], tmp_path: Path) -> None:
    model = model_of()
    assert origin_of(model) == Origin(None, None, None)
    note_origin(model, str(tmp_path / "folder"))
    assert origin_of(model) == Origin("folder", None, None)
    # A model whose card names the model that it was trained from.
    model._model_card_text = "---\nlicense: mit\nbase_model: me/first\n---\n"
    assert origin_of(model) == Origin("folder", "me/first", "mit")
    note_origin(model, "me/second")
    assert origin_of(model) == Origin("me/second", "me/second", "mit")
    model._model_card_text = "---\nlicense: [mit\n---\n"  # not YAML
    assert origin_of(model) == Origin("me/second", "me/second", None)


def test_the_origin_is_read_from_the_configuration(model_of: Callable[..., SentenceTransformer]) -> None:
    model = model_of()
    model[0].auto_model.config._name_or_path = "me/network"
    assert origin_of(model).hub_id == "me/network"
    model.model_card_data = SimpleNamespace(base_model="me/sentences")  # type: ignore[assignment]
    assert origin_of(model).hub_id == "me/sentences"
