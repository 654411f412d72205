"""A tiny encoder, data set and configuration, shared by the training tests."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from relkt.data.types import Passage, Query, RetrievalData, Split
from relkt.training import TrainConfig
from relkt.training.stages import Prepared

LANGUAGES = ("en", "de", "th")
NUM_TOPICS = 8
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def _words(language: str, topic: int) -> list[str]:
    return [f"{language}{topic}{letter}" for letter in "abcdef"]


def make_model(
    folder: Path, seed: int = 0, prompts: dict[str, str] | None = None, dropout: float = 0.1, width: int = 16
) -> SentenceTransformer:
    """A random one-layer BERT with dropout over a word-level vocabulary; its files are written to ``folder``."""
    vocabulary = [*_SPECIAL, "query", "text", ":"]
    vocabulary += [w for language in LANGUAGES for topic in range(NUM_TOPICS) for w in _words(language, topic)]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    transformer = Transformer(str(folder))
    return SentenceTransformer(modules=[transformer, Pooling(width)], device="cpu", prompts=prompts)


def make_data(seed: int = 0, *, parallel: bool = True) -> RetrievalData:
    """Eight documents of two passages, each on its own topic, with translations, and questions in three languages.

    Args:
        seed: Seed of the words drawn.
        parallel: True if questions are translations of each other.
    """
    rng = random.Random(seed)
    passages = [
        Passage(f"p{topic}.{part}", " ".join(rng.sample(_words("en", topic), 4)), document=f"d{topic}")
        for topic in range(NUM_TOPICS)
        for part in range(2)
    ]
    splits = [Split.TRAIN, Split.TRAIN, Split.TRAIN, Split.DEV, Split.TEST]
    queries = [
        Query(
            id=f"q{topic}.{number}.{language}",
            text=" ".join(rng.sample(_words(language, topic), 3)),
            language=language,
            parallel=f"q{topic}.{number}" if parallel else f"q{topic}.{number}.{language}",
            split=split,
        )
        for topic in range(NUM_TOPICS)
        for number, split in enumerate(splits)
        for language in LANGUAGES
    ]
    qrels = {q.id: {f"p{q.id[1:].split('.')[0]}.{int(q.id.split('.')[1]) % 2}": 1} for q in queries}
    translations = {
        language: {p.id: " ".join(rng.sample(_words(language, int(p.document[1:])), 4)) for p in passages}
        for language in LANGUAGES[1:]
    }
    return RetrievalData("tiny", tuple(passages), tuple(queries), qrels, translations)


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SentenceTransformer]:
    return lambda **kwargs: make_model(tmp_path_factory.mktemp("tiny"), **kwargs)


@pytest.fixture
def tiny_model(model_of: Callable[..., SentenceTransformer]) -> SentenceTransformer:
    return model_of()


@pytest.fixture(scope="session")
def data_of() -> Callable[..., RetrievalData]:
    return make_data


@pytest.fixture(scope="session")
def tiny_data() -> RetrievalData:
    return make_data()


@pytest.fixture(scope="session")
def prepared_of() -> Callable[..., Prepared]:
    """Makes the inputs of a run."""

    def make(
        data: RetrievalData,
        config: TrainConfig | None = None,
        *,
        languages: tuple[str, ...] = LANGUAGES,
        teacher: SentenceTransformer | None = None,
    ) -> Prepared:
        return Prepared(data, config or TrainConfig(), languages, teacher)

    return make


@pytest.fixture(scope="session")
def tiny_config() -> TrainConfig:
    """A configuration with which each stage improves before its last step."""
    return TrainConfig.from_dict(
        {
            "stages": ["warmup", "teacher", "contrastive", "distillation", "transfer"],
            "logging_steps": 4,
            "warmup": {
                "epochs": 2,
                "learning_rate": 1e-3,
                "bm25_epochs": 1,
                "evaluations_per_epoch": 2,
                "halve_lr_every": 2,
            },
            "teacher": {"epochs": 4, "learning_rate": 2e-3, "evaluations_per_epoch": 2},
            "contrastive": {
                "epochs": 3,
                "batch_size": 3,
                "learning_rate": 3e-3,
                "evaluations_per_epoch": 2,
                "pseudo_questions": 1,
                "document_weight": 0.5,
                "tuned_shares": [1.0, 0.5],
            },
            "distillation": {
                "epochs": 3,
                "batch_size": 24,
                "accumulation": 2,
                "learning_rate": 3e-3,
                "temperature": 0.1,
                "evaluations_per_epoch": 2,
                "tuned_shares": [1.0, 0.5],
            },
            "transfer": {
                "epochs": 3,
                "learning_rate": 3e-3,
                "evaluations_per_epoch": 2,
                "query_query": 1.0,
                "query_passage": 1.0,
            },
        }
    )


@pytest.fixture(scope="session")
def short_config(tiny_config: TrainConfig) -> TrainConfig:
    """One epoch of each stage, the warm-up in micro-batches.

    Adam's epsilon is large, so that gradients that are zero up to rounding (e.g. in the transfer's first step) lead to
    tiny steps. Otherwise runs that differ in rounding only would diverge.
    """
    table = tiny_config.to_dict()
    for stage in table["stages"]:
        table[stage] |= {"epochs": 1, "adam_epsilon": 1e-3}
    table["warmup"]["accumulation"] = 3
    return TrainConfig.from_dict(table)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Results are bit-reproducible for a fixed number of threads; one thread is fastest for such small tensors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
