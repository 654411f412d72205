"""The call of sentence-transformers: the same rows wherever its result is the true answer, and full ones where not."""

from __future__ import annotations

import hashlib
import inspect
import logging
import random
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest
import sentence_transformers
import torch
from datasets import Dataset, DatasetDict
from packaging.version import Version
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule

from relkt.mining.hard_negatives import mine_hard_negatives
from relkt.mining.hard_negatives.formats import _Lists, _table, _Texts

FORMATS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")
DIM = 24


def theirs(*args: Any, **kwargs: Any) -> Dataset:
    if Version(sentence_transformers.__version__) < Version("6"):
        pytest.skip(f"compares with version 6, not {sentence_transformers.__version__}, of sentence-transformers")
    return sentence_transformers.util.mine_hard_negatives(*args, verbose=False, **kwargs)


def ours(*args: Any, **kwargs: Any) -> Dataset:
    return mine_hard_negatives(*args, **{"verbose": False, **kwargs})


@cache
def word_vector(word: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIM)


class BagOfWords(InputModule):
    """The sum of a fixed random vector for each word; that of "nothing" is zero."""

    modalities = ["text"]  # noqa: RUF012

    def preprocess(self, inputs: Sequence[str], prompt: str | None = None, **kwargs: Any) -> dict[str, torch.Tensor]:
        del kwargs
        vectors = [
            sum((word_vector(w) for w in ((prompt or "") + text).split() if w != "nothing"), np.zeros(DIM))
            for text in inputs
        ]
        return {"vectors": torch.tensor(np.array(vectors), dtype=torch.float32)}

    def tokenize(self, texts: Sequence[str], **kwargs: Any) -> dict[str, torch.Tensor]:
        return self.preprocess(texts, **kwargs)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        del kwargs
        features["sentence_embedding"] = features["vectors"]
        return features

    def get_embedding_dimension(self) -> int:
        return DIM

    def get_sentence_embedding_dimension(self) -> int:
        return DIM

    def save(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError


class PairScorer:
    """A cross-encoder whose scores are a hash of the pair, from -1 to 1."""

    def __init__(self) -> None:
        self.scored: list[tuple[str, str]] = []
        self.pools: list[Any] = []

    def score(self, query: str, passage: str) -> float:
        return int.from_bytes(hashlib.sha256(f"{query}|{passage}".encode()).digest()[:3], "big") / 2**23 - 1

    def predict(self, pairs: list[tuple[str, str]], pool: Any = None, **kwargs: Any) -> torch.Tensor:
        assert kwargs["convert_to_tensor"]
        self.scored += pairs
        self.pools.append(pool)
        return torch.tensor([self.score(*pair) for pair in pairs], dtype=torch.float32)

    def start_multi_process_pool(self, target_devices: list[str] | None = None) -> Any:
        return {"cross-encoder": target_devices}

    def stop_multi_process_pool(self, pool: Any) -> None:
        self.pools.append(("stopped", pool))


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    prompts = {"query": "find ", "document": "text ", "other": "another prompt "}
    return SentenceTransformer(modules=[BagOfWords()], device="cpu", prompts=prompts, similarity_fn_name="cosine")


def make_texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(30)]
    return [" ".join(sorted(rng.sample(words, 4))) + f" {seed}-{i}" for i in range(count)]


def make_dataset(kind: str = "pairs", count: int = 30) -> Dataset:
    anchors, positives = make_texts(count, 1), make_texts(count, 2)
    # A positive shares words with its anchor, so that margins leave something.
    positives = [f"{p} {a} {a}" for a, p in zip(anchors, positives, strict=True)]
    if kind == "several":  # anchors with several positives apart, a pair twice, a positive of two anchors
        order = [*range(count), 3, 7, 3, 11]
        passages = [*range(count), 5, 8, 9, 11]
        anchors, positives = [anchors[i] for i in order], [positives[i] for i in passages]
    return Dataset.from_dict({"question": anchors, "answer": positives})


CORPUS = make_texts(32, 3)

# Options under which sentence-transformers, on these few passages, does not run out.
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "one": {"num_negatives": 1},
    "range_min": {"range_min": 4},
    "absolute_margin": {"absolute_margin": 0.3, "num_negatives": 6},
    "relative_margin": {"relative_margin": 0.4, "num_negatives": 6},
    "both margins": {"relative_margin": 0.35, "absolute_margin": 0.3, "num_negatives": 6, "range_min": 2},
    "max_score": {"max_score": 0.2, "num_negatives": 6},
    "window": {"max_score": 0.3, "min_score": 0.1, "num_negatives": 7},
    "margin and scores": {"max_score": 0.45, "min_score": -0.1, "relative_margin": 0.4, "num_negatives": 8},
    "impossible": {"max_score": -0.99, "num_negatives": 7},
    "range_max": {"range_max": 12, "relative_margin": 0.5},
    "range_max runs out": {"range_max": 6, "max_score": 0.4, "min_score": 0.2, "range_min": 1},
    "range_max beyond corpus": {"range_max": 500, "max_score": 0.3, "num_negatives": 5},
    "random": {"sampling_strategy": "random"},
    "random, margin": {"sampling_strategy": "random", "relative_margin": 0.3, "range_min": 3, "num_negatives": 6},
    "random, range_max": {"sampling_strategy": "random", "range_max": 9, "max_score": 0.4, "range_min": 1},
    "random, window": {"sampling_strategy": "random", "max_score": 0.1, "min_score": 0.05, "num_negatives": 7},
    "include_positives": {"include_positives": True, "num_negatives": 8},
    "include_positives, margin": {"include_positives": True, "num_negatives": 4, "absolute_margin": 0.1},
    "include_positives, all": {"include_positives": True, "num_negatives": 20, "range_max": 40},
    "prompt names": {"query_prompt_name": "other", "corpus_prompt_name": "other"},
    "prompts": {"query_prompt": "what is ", "corpus_prompt": "it is ", "query_prompt_name": "other"},
    "as_triplets": {"as_triplets": True},
    "not as_triplets": {"as_triplets": False},
    "margin": {"margin": 0.25, "num_negatives": 6},
    "names": {"anchor_column_name": "answer", "positive_column_name": "question"},
    "batches": {"batch_size": 5, "faiss_batch_size": 4, "range_max": 10},
    "batches inside": {"faiss_batch_size": 4},
}


def assert_same(got: Dataset, expected: Dataset) -> None:
    assert got.column_names == expected.column_names
    assert len(got) == len(expected)
    if len(expected):
        assert got.features == expected.features
        assert got.data.schema == expected.data.schema
    for name in expected.column_names:
        a, b = list(got[name]), list(expected[name])
        if name in ("scores", "score"):
            assert list(map(np.size, a)) == list(map(np.size, b))
            np.testing.assert_allclose(np.hstack([*a, 0]), np.hstack([*b, 0]), atol=2e-6, rtol=0)
        else:
            assert a == b


def drawn(function: Callable[..., Dataset], *args: Any, **kwargs: Any) -> Dataset:
    random.seed(5)
    return function(*args, **kwargs)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("output_format", FORMATS)
def test_rows_are_those_of_sentence_transformers(
    model: SentenceTransformer, output_format: str, options: dict[str, Any]
) -> None:
    for kind, corpus, output_scores in (("pairs", CORPUS, True), ("several", None, False), ("several", CORPUS, True)):
        call = {"output_format": output_format, "output_scores": output_scores, "corpus": corpus, **options}
        expected = drawn(theirs, make_dataset(kind), model, **call)
        assert_same(drawn(ours, make_dataset(kind), model, **call), expected)


RESCORED: dict[str, dict[str, Any]] = {
    "no condition": {},
    "max_score": {"max_score": 0.4},
    "min_score": {"min_score": 0.2},
    "margins": {"absolute_margin": 0.1, "relative_margin": 0.2, "num_negatives": 2},
    "range": {"range_min": 2, "range_max": 10, "max_score": 0.8},
    "random": {"sampling_strategy": "random", "relative_margin": 0.1},
    "include_positives": {"include_positives": True, "min_score": -0.9, "num_negatives": 6},
}


@pytest.mark.parametrize("options", RESCORED.values(), ids=RESCORED)
@pytest.mark.parametrize("output_format", FORMATS)
def test_rescored_rows_are_those_of_sentence_transformers(
    model: SentenceTransformer, output_format: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relkt.mining.hard_negatives.selection._BLOCK_RESCORED", 50)  # several blocks
    for kind, output_scores in (("pairs", False), ("several", True)):
        call = {"output_format": output_format, "output_scores": output_scores, "corpus": CORPUS, **options}
        expected = drawn(theirs, make_dataset(kind), model, cross_encoder=PairScorer(), **call)
        assert_same(drawn(ours, make_dataset(kind), model, cross_encoder=PairScorer(), **call), expected)


def reference(
    dataset: Dataset,
    corpus: list[str],
    model: SentenceTransformer,
    num_negatives: int,
    range_min: int,
    allowed: Callable[[float, float], bool],
) -> dict[str, list[str]]:
    """The definition on the full matrix of scores: ``allowed`` is told a score and the lowest positive's."""
    passages = list(dict.fromkeys(corpus + list(dataset["answer"])))
    embeddings = model.encode_document(passages, normalize_embeddings=True).astype(np.float64)
    negatives = {}
    for query in dict.fromkeys(dataset["question"]):
        positives = {a for q, a in zip(dataset["question"], dataset["answer"], strict=True) if q == query}
        scores = embeddings @ model.encode_query([query], normalize_embeddings=True)[0].astype(np.float64)
        lowest = min(scores[passages.index(p)] for p in positives)
        valid = [i for i in np.argsort(-scores) if passages[i] not in positives and allowed(scores[i], lowest)]
        negatives[query] = [passages[i] for i in valid[range_min : range_min + num_negatives]]
    return negatives


def mined(dataset: Dataset) -> dict[str, list[str]]:
    """Negatives of each anchor of a labeled pair data set."""
    negatives: dict[str, list[str]] = {anchor: [] for anchor in dataset["question"]}
    for row in dataset:
        if not row["label"]:
            negatives[row["question"]].append(row["answer"])
    return negatives


STRICT: dict[str, tuple[dict[str, Any], Callable[[float, float], bool]]] = {
    "relative_margin": ({"relative_margin": 0.8}, lambda s, p: s <= p - abs(p) * 0.8),
    "absolute_margin": ({"absolute_margin": 0.7}, lambda s, p: s <= p - 0.7),
    "max_score": ({"max_score": 0.0}, lambda s, _: s <= 0.0),
    "window": ({"max_score": 0.05, "min_score": -0.05}, lambda s, _: -0.05 <= s <= 0.05),
    "range_min": ({"max_score": 0.02, "range_min": 5}, lambda s, _: s <= 0.02),
    "all": (
        {"max_score": 0.1, "min_score": -0.5, "relative_margin": 0.75, "absolute_margin": 0.5, "range_min": 2},
        lambda s, p: -0.5 <= s <= min(0.1, p - 0.75 * abs(p), p - 0.5),
    ),
}


@pytest.mark.parametrize(("options", "allowed"), STRICT.values(), ids=STRICT)
def test_no_query_runs_out_while_the_corpus_has_valid_passages(
    model: SentenceTransformer, options: dict[str, Any], allowed: Callable[[float, float], bool]
) -> None:
    dataset, corpus = make_dataset("several"), make_texts(150, 4)
    call = {"num_negatives": 2, "corpus": corpus, "output_format": "labeled-pair", **options}
    got = mined(ours(dataset, model, **call))
    assert got == reference(dataset, corpus, model, 2, options.get("range_min", 0), allowed)


@pytest.mark.parametrize("options", [options for options, _ in STRICT.values()], ids=STRICT)
def test_more_is_found_than_by_sentence_transformers(model: SentenceTransformer, options: dict[str, Any]) -> None:
    """It takes the same ones until it runs out."""
    dataset = make_dataset("several")
    call = {"num_negatives": 2, "corpus": make_texts(150, 4), "output_format": "labeled-pair", **options}
    got, filtered = mined(ours(dataset, model, **call)), mined(theirs(dataset, model, **call))
    assert all(got[query][: len(found)] == found for query, found in filtered.items())
    assert sum(map(len, filtered.values())) < sum(map(len, got.values()))


def test_a_draw_that_runs_out_is_filled_with_the_best_valid_passages(model: SentenceTransformer) -> None:
    dataset, corpus = make_dataset(), make_texts(150, 4)
    call = {"corpus": corpus, "max_score": 0.3, "num_negatives": 2, "output_format": "labeled-pair"}
    got = mined(drawn(ours, dataset, model, sampling_strategy="random", **call))
    best = mined(ours(dataset, model, **call))
    assert {len(negatives) for negatives in got.values()} == {2}
    assert got != best
    filtered = mined(drawn(theirs, dataset, model, sampling_strategy="random", **call))
    full = [query for query, negatives in filtered.items() if len(negatives) == 2]
    assert 3 < len(full) < len(filtered) - 3
    assert all(got[query] == (filtered[query] if query in full else best[query]) for query in got)


def test_seed_draws_apart_from_the_global_state(model: SentenceTransformer) -> None:
    call = {"sampling_strategy": "random", "num_negatives": 2, "max_score": 0.5, "corpus": CORPUS}
    random.seed(1)
    first = ours(make_dataset(), model, seed=3, **call)
    untouched = random.random()
    assert_same(ours(make_dataset(), model, seed=3, **call), first)
    assert list(ours(make_dataset(), model, seed=4, **call)["negative"]) != list(first["negative"])
    random.seed(1)
    assert random.random() == untouched


def test_results_do_not_depend_on_blocks_or_threads(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = [
        {"relative_margin": 0.5},
        {"range_max": 12, "max_score": 0.3},
        {"sampling_strategy": "random", "max_score": 0.3, "seed": 0},
    ]
    expected = [ours(make_dataset("several"), model, output_scores=True, corpus=CORPUS, **call) for call in calls]
    monkeypatch.setattr("relkt.mining.hard_negatives.selection._BLOCK_CANDIDATES", 100)
    for call, whole in zip(calls, expected, strict=True):
        call |= {"faiss_batch_size": 7, "threads": 2, "output_scores": True, "corpus": CORPUS}
        got = ours(make_dataset("several"), model, **call)
        assert [got[name][:] for name in got.column_names] == [whole[name][:] for name in whole.column_names]


def test_use_faiss_changes_nothing_and_needs_no_faiss(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    assert_same(ours(make_dataset(), model, use_faiss=True), ours(make_dataset(), model))


def test_the_call_is_that_of_sentence_transformers() -> None:
    peer = inspect.signature(sentence_transformers.util.mine_hard_negatives).parameters
    if Version(sentence_transformers.__version__) < Version("6"):
        pytest.skip(f"compares with version 6, not {sentence_transformers.__version__}, of sentence-transformers")
    own = inspect.signature(mine_hard_negatives).parameters
    assert [(p.name, p.default) for p in own.values() if p.kind is not p.KEYWORD_ONLY] == [
        (p.name, p.default) for p in peer.values()
    ]


def test_formats_by_hand() -> None:
    """Unit vectors in a plane: scores are cosines of the angles between them."""
    angles = {"q": 0, "r": 90, "p": 10, "p2": 20, "n1": 30, "n2": 40, "r+": 80}
    dataset = Dataset.from_dict({"a": ["q", "r", "q"], "b": ["p", "r+", "p2"]})
    cosines = {name: float(np.float32(np.cos(np.deg2rad(angle)))) for name, angle in angles.items()}

    def call(output_format: str, **options: Any) -> list[dict[str, Any]]:
        options = {"corpus": ["n1", "n2"], "num_negatives": 2, "max_score": 0.9, **options}
        return ours(dataset, PlaneModel(angles), output_format=output_format, **options).to_list()

    # q: n1 (0.866), n2 (0.766); r: n2 (cos 50), n1 (cos 60)
    assert call("triplet") == [
        {"a": a, "b": b, "negative": n}
        for a, b, n in [
            ("q", "p", "n1"),
            ("q", "p", "n2"),
            ("q", "p2", "n1"),
            ("q", "p2", "n2"),
            ("r", "r+", "n2"),
            ("r", "r+", "n1"),
        ]
    ]
    assert call("n-tuple", min_score=0.55) == [
        {"a": "q", "b": positive, "negative_1": "n1", "negative_2": "n2"} for positive in ("p", "p2")
    ]
    assert call("labeled-pair", max_score=0.7) == [
        {"a": a, "b": b, "label": label}
        for a, b, label in [
            ("q", "p", 1),
            ("q", "p2", 1),
            ("q", "r+", 0),
            ("r", "r+", 1),
            ("r", "n2", 0),
            ("r", "n1", 0),
        ]
    ]
    rows = call("labeled-list", max_score=0.8, output_scores=True)
    assert [row["b"] for row in rows] == [["p", "n2", "r+"], ["p2", "n2", "r+"], ["r+", "n2", "n1"]]
    assert rows[1]["scores"] == pytest.approx([cosines["p2"], cosines["n2"], cosines["r+"]], abs=1e-6)


class PlaneModel:
    """Texts as given angles in degrees; notes how it was called."""

    similarity_fn_name = "cosine"

    def __init__(self, angles: dict[str, float], fails: bool = False) -> None:
        self.angles, self.fails = angles, fails
        self.calls: list[Any] = []

    def encode_query(self, texts: list[str], pool: Any = None, **kwargs: Any) -> np.ndarray:
        assert kwargs["normalize_embeddings"]
        assert kwargs["convert_to_numpy"]
        self.calls.append(("encode", texts, pool))
        if self.fails:
            raise RuntimeError("no such text")
        radians = np.deg2rad([self.angles[text] for text in texts])
        return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)

    encode_document = encode_query

    def start_multi_process_pool(self, target_devices: list[str] | None = None) -> Any:
        self.calls.append(("start", target_devices))
        return "pool"

    def stop_multi_process_pool(self, pool: Any) -> None:
        self.calls.append(("stop", pool))


PLANE = {"q": 0.0, "r": 90.0, "p": 10.0, "s": 100.0}
PLANE_PAIRS = Dataset.from_dict({"a": ["q", "r"], "b": ["p", "s"]})


@pytest.mark.parametrize(("asked", "devices"), [(True, None), (["cpu", "cpu"], ["cpu", "cpu"])])
def test_processes_are_started_once_and_stopped(asked: Any, devices: Any) -> None:
    plane, scorer = PlaneModel(PLANE), PairScorer()
    ours(PLANE_PAIRS, plane, num_negatives=1, use_multi_process=asked, cross_encoder=scorer, max_score=0.99)
    expected = [("start", devices), ("encode", ["p", "s"], "pool"), ("encode", ["q", "r"], "pool"), ("stop", "pool")]
    assert plane.calls == expected
    assert scorer.pools == [{"cross-encoder": devices}, ("stopped", {"cross-encoder": devices})]


def test_processes_are_stopped_after_an_error() -> None:
    plane = PlaneModel(PLANE, fails=True)
    with pytest.raises(RuntimeError, match="no such text"):
        ours(PLANE_PAIRS, plane, use_multi_process=True)
    assert plane.calls[-1] == ("stop", "pool")


def test_the_cross_encoder_scores_each_candidate_once_and_only_with_a_condition() -> None:
    scorer = PairScorer()
    ours(PLANE_PAIRS, PlaneModel(PLANE), num_negatives=1, cross_encoder=scorer)
    assert scorer.scored == []
    ours(PLANE_PAIRS, PlaneModel(PLANE), num_negatives=1, cross_encoder=scorer, min_score=-1)
    assert sorted(scorer.scored) == [("q", "p"), ("q", "s"), ("r", "p"), ("r", "s")]


@pytest.mark.parametrize("scores", [torch.zeros(4, 2), torch.tensor([0.0, 0.0, np.nan, 0.0])])
def test_scores_of_a_cross_encoder_that_are_none(scores: torch.Tensor) -> None:
    scorer = PairScorer()
    scorer.predict = Mock(return_value=scores)
    with pytest.raises(ValueError, match="cross_encoder: expected"):
        ours(PLANE_PAIRS, PlaneModel(PLANE), num_negatives=1, cross_encoder=scorer, min_score=-1)


CACHE_PROMPTS = [{}, {"query_prompt": 'it\'s "so" ', "corpus_prompt_name": "other"}]


@pytest.mark.parametrize("prompts", CACHE_PROMPTS)
def test_the_cache_is_shared_with_sentence_transformers(
    model: SentenceTransformer, tmp_path: Path, prompts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset.from_dict({"q": ["one 'quoted'", 'two "quoted"', "ร้าน\n\t"], "p": ["é\u200b", "b\\", "c"]})
    call: dict[str, Any] = {"num_negatives": 1, "output_scores": True, **prompts}
    expected = theirs(dataset, model, cache_folder=str(tmp_path / "theirs"), **call)
    first = ours(dataset, model, cache_folder=tmp_path / "new" / "ours", **call)
    names = sorted(file.name for file in (tmp_path / "theirs").iterdir())
    assert sorted(file.name for file in (tmp_path / "new" / "ours").iterdir()) == names
    assert len(names) == 2
    assert_same(first, expected)

    monkeypatch.setattr(BagOfWords, "forward", None)  # nothing is encoded again
    for folder in ("theirs", "new/ours"):
        assert_same(ours(dataset, model, cache_folder=str(tmp_path / folder), **call), first)
    assert_same(theirs(dataset, model, cache_folder=str(tmp_path / "new/ours"), **call), first)


def test_hashes_of_long_lists_are_those_of_the_whole() -> None:
    from relkt.mining.hard_negatives.embeddings import _Texts as Texts

    for count in (1, 2, 3, 4, 7):
        listed = [f"text '{i}'" for i in range(count)]
        whole = hashlib.sha256(repr(("base", None, "p", listed)).encode()).hexdigest()
        assert Texts("query", "queries", listed, None, "p").digest("base", block=3) == whole


def test_a_damaged_cache_is_told(model: SentenceTransformer, tmp_path: Path) -> None:
    ours(make_dataset(), model, cache_folder=tmp_path)
    file = next(tmp_path.glob("corpus_embeddings_*.npy"))
    np.save(file, np.load(file)[:-1])
    with pytest.raises(ValueError, match=f"cache_folder: .*{file.name}: expected an array of shape \\(30, d\\)"):
        ours(make_dataset(), model, cache_folder=tmp_path)


def test_an_interrupted_save_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from relkt.mining.hard_negatives import embeddings as texts

    def fails(stream: Any, _: Any) -> None:
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(texts.np, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        texts._save(
            tmp_path / "query_embeddings_0.npy", texts._Texts("query", "queries", ["q"], None, None), np.zeros(3), False
        )
    assert list(tmp_path.iterdir()) == []


def test_statistics_are_printed_as_by_sentence_transformers(
    model: SentenceTransformer, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs(make_dataset(), model)  # skips with another version
    for output_format in FORMATS:
        for options in ({"num_negatives": 4}, {"range_max": 20, "relative_margin": 0.6, "max_score": 0.25}):
            call = {"corpus": CORPUS, "output_format": output_format, "range_max": 20, **options}
            sentence_transformers.util.mine_hard_negatives(make_dataset("several"), model, **call)
            expected = capsys.readouterr().out.splitlines()
            mine_hard_negatives(make_dataset("several"), model, **call)
            got = capsys.readouterr().out.splitlines()
            if output_format == "labeled-pair":  # they count a pair that the data set has twice as missing
                expected, got = ([line for line in lines if "Could not" not in line] for lines in (expected, got))
            assert got == expected


def test_statistics_of_conditions_inside_the_search(capsys: pytest.CaptureFixture[str]) -> None:
    # From q at 0 degrees, p at 10 (positive): n at 5, 15, 35, 80 degrees.
    plane = PlaneModel({"q": 0, "p": 10, "a": 5, "b": 15, "c": 35, "d": 80})
    dataset = Dataset.from_dict({"x": ["q"], "y": ["p"]})
    ours(dataset, plane, corpus=["a", "b", "c", "d"], num_negatives=3, absolute_margin=0.1, verbose=True)
    out = capsys.readouterr().out
    assert "Skipped 2 potential negatives (50.00%) due to the absolute_margin of 0.1." in out
    assert "Could not find enough negatives for 1 samples (33.33%)." in out
    assert "Consider adjusting the absolute_margin parameter if" in out
    assert "range_max" not in out
    ours(dataset, plane, corpus=["a"], verbose=True)
    assert "The corpus has no other passages." in capsys.readouterr().out
    ours(dataset, plane, corpus=["a"], max_score=-0.5, verbose=True)
    assert "Negative candidates mined" in capsys.readouterr().out


def test_nothing_is_printed_unless_verbose(model: SentenceTransformer, capfd: pytest.CaptureFixture[str]) -> None:
    ours(make_dataset("several"), model, max_score=0.1, sampling_strategy="random")
    assert capfd.readouterr() == ("", "")


def test_a_text_with_an_embedding_of_zeros_scores_zero() -> None:
    dataset = Dataset.from_dict({"q": ["w1 w2", "nothing"], "p": ["w1", "w2 w3"]})
    plain = SentenceTransformer(modules=[BagOfWords()], device="cpu")
    call = {"corpus": ["nothing", "w9 w8"], "num_negatives": 3, "output_format": "labeled-pair", "output_scores": True}
    got = ours(dataset, plain, **call)
    scores = {(row["q"], row["p"]): row["score"] for row in got}
    assert scores["w1 w2", "nothing"] == 0
    assert all(score == 0 for (query, _), score in scores.items() if query == "nothing")
    assert len(scores) == 8


def test_half_precision_embeddings() -> None:
    class Half(PlaneModel):
        def encode_query(self, texts: list[str], **kwargs: Any) -> np.ndarray:
            return super().encode_query(texts, **kwargs).astype(np.float16)

        encode_document = encode_query

    assert_same(ours(PLANE_PAIRS, Half(PLANE), num_negatives=1), ours(PLANE_PAIRS, PlaneModel(PLANE), num_negatives=1))


def test_an_empty_result_keeps_its_types(model: SentenceTransformer) -> None:
    full = {f: ours(make_dataset(), model, output_format=f, output_scores=True) for f in FORMATS}
    for output_format in ("triplet", "n-tuple", "labeled-list"):
        empty = ours(make_dataset(), model, output_format=output_format, output_scores=True, max_score=-1.0)
        assert len(empty) == 0
        assert empty.features == full[output_format].features


def test_tables_are_made_in_parts_of_a_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relkt.mining.hard_negatives.formats._PART_BYTES", 12)
    source = pa.array(["aaaa", "bb", "", "cccccccccccccccc"], pa.large_string())
    rows = np.array([0, 1, 3, 2, 0, 1, 1])
    starts = np.array([0, 2, 3, 3, 7])
    table = _table({"list": _Lists(starts, _Texts(source, rows)), "text": _Texts(source, np.array([1, 0, 3, 2]))})
    assert table.schema.types == [pa.list_(pa.string()), pa.string()]
    assert table.column(0).num_chunks > 1
    assert table.to_pydict() == {
        "list": [["aaaa", "bb"], ["c" * 16], [], ["", "aaaa", "bb", "bb"]],
        "text": ["bb", "aaaa", "c" * 16, ""],
    }


def test_formatted_selected_and_transformed_data_sets(model: SentenceTransformer) -> None:
    plain = make_dataset("several")
    expected = ours(plain, model)
    assert_same(ours(plain.with_format("numpy"), model), expected)
    assert_same(ours(plain.with_format("arrow"), model), expected)
    backwards = plain.select(range(len(plain) - 1, -1, -1))
    assert_same(ours(backwards.select(range(len(plain) - 1, -1, -1)), model), expected)
    shouted = plain.with_transform(lambda batch: {name: [f"{t} !" for t in texts] for name, texts in batch.items()})
    assert list(ours(shouted, model)["question"]) == [f"{text} !" for text in expected["question"]]


def test_unknown_columns_fall_back_with_a_warning(model: SentenceTransformer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        got = ours(make_dataset(), model, anchor_column_name="query", positive_column_name="passage")
    assert "anchor_column_name: the dataset has no column 'query'" in caplog.text
    assert "positive_column_name: the dataset has no column 'passage'" in caplog.text
    assert_same(got, ours(make_dataset(), model))


@pytest.mark.parametrize(
    ("options", "message", "output_format"),
    [
        ({"as_triplets": True, "output_format": "n-tuple"}, "`as_triplets` parameter is deprecated", "triplet"),
        ({"margin": 0.1}, "`margin` parameter is deprecated", "triplet"),
        ({"output_format": "n-tuple-scores"}, '`output_format="n-tuple-scores"` is deprecated', "n-tuple"),
        ({"include_positives": True}, '`output_format` is set to `"n-tuple"`', "n-tuple"),
        ({"include_positives": True, "range_min": 1}, "may still discard the positives", "n-tuple"),
    ],
)
def test_warnings(
    model: SentenceTransformer,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    message: str,
    output_format: str,
) -> None:
    with caplog.at_level(logging.WARNING, logger="relkt"):
        got = ours(make_dataset(), model, **options)
    assert message in caplog.text
    assert ("negative" in got.column_names) == (output_format == "triplet")
    assert ("scores" in got.column_names) == (options.get("output_format") == "n-tuple-scores")


PAIR = {"a": ["q", "r"], "b": ["p", "s"]}
BAD: list[tuple[dict[str, Any] | Any, dict[str, Any], type[Exception], str]] = [
    (PAIR, {}, TypeError, "dataset: expected a datasets.Dataset, got dict"),
    (DatasetDict({"train": PLANE_PAIRS}), {}, TypeError, "dataset: expected a datasets.Dataset, got DatasetDict"),
    (Dataset.from_dict({"a": [], "b": []}), {}, ValueError, "dataset: expected at least one row"),
    (Dataset.from_dict({"a": ["q"]}), {}, ValueError, r"dataset: expected at least two columns, .* got \['a'\]"),
    (PLANE_PAIRS, {"anchor_column_name": "b"}, ValueError, "dataset: expected different columns .* got 'b' for both"),
    (
        Dataset.from_dict({"a": ["q", None], "b": ["p", "s"]}),
        {},
        ValueError,
        "column 'a': expected texts, got None in row 1",
    ),
    (Dataset.from_dict({"a": ["q", "r"], "b": [1, 2]}), {}, TypeError, "column 'b': expected texts, got int in row 0"),
    (Dataset.from_dict({"a": ["q"], "b": [["p"]]}), {}, TypeError, "column 'b': expected texts, got list in row 0"),
    (PLANE_PAIRS, {"corpus": "p"}, TypeError, "corpus: expected a list of texts, got one text"),
    (PLANE_PAIRS, {"corpus": 3}, TypeError, "corpus: expected a list of texts, got int"),
    (PLANE_PAIRS, {"corpus": ["p", 3]}, TypeError, "corpus: expected texts, got int in row 1"),
    (PLANE_PAIRS, {"corpus": ["p", None]}, ValueError, "corpus: expected texts, got None in row 1"),
    (PLANE_PAIRS, {"num_negatives": 0}, ValueError, "num_negatives: expected an integer of at least 1, got 0"),
    (PLANE_PAIRS, {"num_negatives": 1.5}, TypeError, "num_negatives: expected an integer"),
    (PLANE_PAIRS, {"range_min": -1}, ValueError, "range_min: expected an integer of at least 0, got -1"),
    (PLANE_PAIRS, {"range_min": 2, "range_max": 4}, ValueError, r"range_max: expected at least .* = 5, .* got 4"),
    (PLANE_PAIRS, {"max_score": "0.5"}, TypeError, "max_score: expected a number, or None, got '0.5'"),
    (PLANE_PAIRS, {"min_score": float("nan")}, ValueError, "min_score: expected a finite number, or None, got nan"),
    (PLANE_PAIRS, {"relative_margin": [0.1]}, TypeError, r"relative_margin: expected a number, or None, got \[0.1\]"),
    (PLANE_PAIRS, {"max_score": 10**400}, ValueError, "max_score: expected a finite number, or None, got 1000"),
    (PLANE_PAIRS, {"query_prompt_name": "qery"}, ValueError, "query_prompt_name: expected one of the model's prompts"),
    (PLANE_PAIRS, {"corpus_prompt_name": "doc"}, ValueError, r"corpus_prompt_name: .* prompts, \[\], got 'doc'"),
    (PLANE_PAIRS, {"margin": "x"}, TypeError, "absolute_margin: expected a number, or None, got 'x'"),
    (
        PLANE_PAIRS,
        {"sampling_strategy": "best"},
        ValueError,
        "sampling_strategy: expected 'top' or 'random', got 'best'",
    ),
    (PLANE_PAIRS, {"output_format": "pairs"}, ValueError, "output_format: expected one of 'triplet', .* got 'pairs'"),
    (
        PLANE_PAIRS,
        {"min_score": 0.5, "max_score": 0.4},
        ValueError,
        "min_score: expected at most max_score = 0.4, got 0.5",
    ),
    (PLANE_PAIRS, {"batch_size": 0}, ValueError, "batch_size: expected an integer of at least 1, got 0"),
    (PLANE_PAIRS, {"faiss_batch_size": 0}, ValueError, "faiss_batch_size: expected an integer of at least 1, got 0"),
    (PLANE_PAIRS, {"threads": 0}, ValueError, "threads: expected"),
    (Dataset.from_dict({"a": ["q"], "negative": ["p"]}), {}, ValueError, "would have two columns 'negative'"),
    (
        Dataset.from_dict({"label": ["q"], "b": ["p"]}),
        {"output_format": "labeled-pair"},
        ValueError,
        "two columns 'label'",
    ),
]


@pytest.mark.parametrize(("dataset", "options", "error", "message"), BAD)
def test_bad_input_is_told_before_anything_is_encoded(
    dataset: Any, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    plane = PlaneModel(PLANE)
    with pytest.raises(error, match=message):
        ours(dataset, plane, cache_folder=tmp_path / "cache", **options)
    assert plane.calls == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("similarity", ["euclidean", "manhattan"])
def test_distances_are_refused(similarity: str) -> None:
    plane = PlaneModel(PLANE)
    plane.similarity_fn_name = similarity
    with pytest.raises(ValueError, match=f"similarity_fn_name 'cosine' or 'dot', got '{similarity}'"):
        ours(PLANE_PAIRS, plane)
    plane.similarity_fn_name = "dot"
    assert len(ours(PLANE_PAIRS, plane, num_negatives=1)) == 2


@pytest.mark.parametrize("shape", [(2,), (3, 2), None])
def test_what_the_model_gives_is_checked(shape: tuple[int, ...] | None) -> None:
    plane = PlaneModel(PLANE)
    plane.encode_document = Mock(return_value=None if shape is None else np.ones(shape, np.float32))
    with pytest.raises(ValueError, match=r"model: embeddings of the passages: expected an array of shape \(2, d\)"):
        ours(PLANE_PAIRS, plane)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_file_of_the_cache_holds_what_is_not_finite(bad: float, tmp_path: Path) -> None:
    plane, sane = PlaneModel(PLANE), PlaneModel(PLANE)
    for model in (plane, sane):
        model.model_card_data = SimpleNamespace(base_model="plane")
    plane.encode_query = Mock(return_value=np.array([[1, 0], [0, bad]], np.float32))
    with pytest.raises(ValueError, match=r"model: embeddings of the queries: expected finite values, .* in row 1"):
        ours(PLANE_PAIRS, plane, cache_folder=tmp_path)
    assert [file.name.split("_")[0] for file in tmp_path.iterdir()] == ["corpus"]
    assert len(ours(PLANE_PAIRS, sane, num_negatives=1, cache_folder=tmp_path)) == 2
    for file in tmp_path.iterdir():
        np.save(file, np.array([[1, 0], [0, bad]], np.float32))
    with pytest.raises(ValueError, match=r"cache_folder: .*embeddings_.*\.npy: expected finite values"):
        ours(PLANE_PAIRS, sane, cache_folder=tmp_path)


def test_widths_of_queries_and_passages_must_agree() -> None:
    plane = PlaneModel(PLANE)
    plane.encode_document = Mock(return_value=np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="embeddings of one width, got 2 for queries and 3 for passages"):
        ours(PLANE_PAIRS, plane)
