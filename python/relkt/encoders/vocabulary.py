"""New pieces for mUSE, for languages that its vocabulary lacks, learned from parallel texts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.normalizers import Normalizer

from relkt.encoders.alignment import translation_table
from relkt.encoders.muse import MuseEncoder
from relkt.encoders.muse_tokenizer import UNKNOWN_ID, vocabulary, with_pieces

TRANSLATIONS = 8
"""Maximum number of English pieces whose embeddings make up the embedding of a new piece."""


@dataclass(frozen=True)
class NewPieces:
    """The pieces that :func:`extend_vocabulary` added.

    Args:
        pieces: The pieces, in the order of their ids, which follow the existing ids.
        per_language: Number of new pieces in the texts of each language; a piece may occur in several languages.
    """

    pieces: tuple[str, ...]
    per_language: Mapping[str, int]


def extend_vocabulary(
    encoder: MuseEncoder, parallel: Mapping[str, Sequence[tuple[str, str]]], *, num_pieces: int
) -> NewPieces:
    """Adds pieces with embeddings for languages whose words mUSE's tokenizer splits into letters or does not know.

    Byte-pair encoding (on characters) learns the pieces of a language from its texts. Pieces that mUSE already has and
    pieces of ASCII characters only are skipped. So ASCII text is segmented as before; other text may be segmented
    differently, in every language. The log probability of a piece is the logarithm of its share in the texts.
    The embedding of a new piece is the mean of the embeddings of the English pieces that translate it, weighted by the
    probabilities of :func:`~relkt.encoders.alignment.translation_table`, so it is meaningful before any training.

    Args:
        encoder: The encoder; its tokenizer and embedding table grow.
        parallel: Language -> pairs of a text and its English translation; short texts align best.
        num_pieces: Number of pieces to learn for each language, including single characters and pieces that mUSE
            already has; at least 1.

    Returns:
        The added pieces. The same texts in the same order give the same pieces and embeddings.

    Raises:
        ValueError: If ``num_pieces`` is below 1, or a language has no pair.

    Reference:
        The paper evaluates mUSE on languages that its vocabulary lacks (section 3, Greek, Hindi, Romanian and
        Vietnamese); this extension is relkt's. Pieces: Sennrich et al., ACL 2016.
    """
    if num_pieces < 1:
        raise ValueError(f"num_pieces: expected at least 1, got {num_pieces}")
    for language, pairs in parallel.items():
        if not pairs:
            raise ValueError(f"parallel: expected at least one pair of texts in {language}, got none")
    tokenizer: Tokenizer = encoder.tokenizer  # type: ignore[assignment]  # the base class allows others
    known = set(vocabulary(tokenizer))
    texts = {language: encoder.repair([text for text, _ in pairs]) for language, pairs in parallel.items()}
    scores: dict[str, float] = {}
    for language in parallel:
        for piece, score in _merges(texts[language], num_pieces, tokenizer.normalizer):
            if piece not in known and not piece.replace("▁", "").isascii():
                scores[piece] = max(score, scores.get(piece, -math.inf))
    candidates = list(scores.items())

    # Only pieces that occur in the segmented texts can have an embedding.
    first = tokenizer.get_vocab_size()
    trial = with_pieces(tokenizer, candidates)
    occurring = {language: {i for row in _cut(trial, texts[language]) for i in row if i >= first} for language in texts}
    chosen = [candidates[piece - first] for piece in sorted(set().union(*occurring.values()))]

    trial = with_pieces(tokenizer, chosen)
    cut = {language: _cut(trial, texts[language]) for language in texts}
    per_language = {language: len({i for row in cut[language] for i in row if i >= first}) for language in texts}
    table = encoder.network.embedding.weight.detach().cpu().double().numpy()
    sums, languages = np.zeros((len(chosen), table.shape[1])), np.zeros(len(chosen))
    for language, pairs in parallel.items():
        english = _cut(tokenizer, encoder.repair([text for _, text in pairs]))
        rows, embeddings = _translated(cut[language], english, table, first)
        sums[rows] += embeddings
        languages[rows] += 1
    # Without the dropped pieces, the segmentation may change, and a chosen piece may no longer occur.
    sums[languages == 0] = table[UNKNOWN_ID]
    means = sums / np.maximum(languages, 1)[:, None]
    encoder.add_pieces(chosen, torch.from_numpy(means).float())
    return NewPieces(tuple(piece for piece, _ in chosen), per_language)


def _merges(texts: Sequence[str], num_pieces: int, normalizer: Normalizer) -> list[tuple[str, float]]:
    """Pieces of the texts by byte-pair encoding, most frequent first, with the logarithms of their shares."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Punctuation()]
    )
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=num_pieces, show_progress=False))
    counts = Counter(piece for encoding in tokenizer.encode_batch(texts) for piece in encoding.tokens)
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(piece, math.log(count / total)) for piece, count in ordered]


def _cut(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Ids of the pieces of each text, without the start and end tokens."""
    return [encoding.ids[1:-1] for encoding in tokenizer.encode_batch_fast(texts)]


def _translated(
    sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], table: NDArray[np.float64], first: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows, counted from ``first``, of new pieces with translations, and the embeddings of these pieces."""
    source, target, probability = translation_table(sources, targets)
    new = (source >= first) & (probability > 0)
    source, target, probability = source[new] - first, target[new], probability[new]
    # By source token, then falling probability, then target token.
    order = np.lexsort((target, -probability, source))
    source, target, probability = source[order], target[order], probability[order]
    rows, starts, counts = np.unique(source, return_index=True, return_counts=True)
    best = np.arange(len(source)) - np.repeat(starts, counts) < TRANSLATIONS
    source, target, probability = source[best], target[best], probability[best]
    rows, place = np.unique(source, return_inverse=True)
    weights = np.bincount(place.reshape(-1), weights=probability)
    embeddings = np.zeros((len(rows), table.shape[1]))
    np.add.at(embeddings, place.reshape(-1), probability[:, None] * table[target])
    return rows, embeddings / weights[:, None]
