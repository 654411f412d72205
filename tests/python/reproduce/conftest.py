"""A tiny encoder, and a finished experiment with it on relkt-mini, shared by the tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.data import RetrievalData, load_data
from relkt.encoders import MuseEncoder
from relkt.encoders.muse_network import MuseConfig
from relkt.encoders.muse_tokenizer import unigram_tokenizer
from relkt.reproduce import Reproduction, Row, reproduce
from relkt.training import TrainConfig

SEEDS = (1, 2)
CONFIG = {
    "languages": ["de", "es"],
    "stages": ["warmup", "contrastive"],
    "logging_steps": 1,
    "warmup": {"epochs": 1, "batch_size": 96, "learning_rate": 3e-3, "num_negatives": 1, "evaluations_per_epoch": 2},
    "contrastive": {
        "epochs": 1,
        "batch_size": 6,
        "learning_rate": 1e-2,
        "pseudo_questions": 1,
        "evaluations_per_epoch": 2,
        "tuned_shares": [1.0, 0.5],
    },
}


def make_encoder(folder: Path, seed: int = 0) -> str:
    """Save a mUSE model with random weights over letters and pairs of letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁", -3.0)]
    pieces += [(text, -6.0) for text in [*letters, *(a + b for a in letters for b in "aeiou")]]
    sizes = MuseConfig(vocab_size=len(pieces), embedding_dim=12, ngram_dim=8, hidden_dim=10, output_dim=6)
    encoder = MuseEncoder(unigram_tokenizer(pieces), sizes)
    torch.manual_seed(seed)
    encoder.network.reset_parameters()
    model = SentenceTransformer(modules=[encoder], device="cpu", similarity_fn_name="cosine")
    model.save_pretrained(str(folder), create_model_card=False)
    return str(folder)


@dataclass(frozen=True)
class Finished:
    """An experiment that was not interrupted."""

    path: Path
    result: Reproduction


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Results are bit-repeatable for a fixed number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def data() -> RetrievalData:
    return load_data("relkt-mini", languages=["en", "de", "es", "tr"])


@pytest.fixture(scope="session")
def rows(encoder: str) -> tuple[Row, ...]:
    tuned = Row(name="tuned", encoder=encoder, config=TrainConfig.from_dict(CONFIG))
    return (Row(name="bm25"), Row(name="plain", encoder=encoder), tuned)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, data: RetrievalData, rows: tuple[Row, ...]) -> Finished:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("finished") / "experiment"
    result = reproduce(data, output_dir=path, rows=rows, seeds=SEEDS, num_resamples=200, command="the command")
    torch.set_num_threads(threads)
    return Finished(path, result)
