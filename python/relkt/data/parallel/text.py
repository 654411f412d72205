"""Parallel text: English texts with their translations, without labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from relkt.data.types import sort_languages

UNKNOWN_LANGUAGE = "und"
"""Language of translations whose file does not name it (ISO 639-2: undetermined)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An English text with a translation.

    Args:
        english: The English text.
        text: Its translation.
        language: Language of ``text``: an ISO 639 code, or ``"und"``.
    """

    english: str
    text: str
    language: str


@dataclass(frozen=True)
class ParallelText:
    """Pairs of an English text and a translation, in the order of the files.

    Args:
        pairs: The pairs, without duplicates.
        left_out: Reason -> number of records that were read and left out.
        sources: The files or data sets that the pairs come from.
    """

    pairs: tuple[Pair, ...] = field(repr=False)
    left_out: Mapping[str, int] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"ParallelText({self.summary()})"

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of the translations, sorted."""
        return sort_languages({pair.language for pair in self.pairs})

    @property
    def counts(self) -> dict[str, int]:
        """Language -> number of pairs."""
        counts = dict.fromkeys(self.languages, 0)
        for pair in self.pairs:
            counts[pair.language] += 1
        return counts

    def by_language(self) -> dict[str, tuple[Pair, ...]]:
        """Language -> its pairs, in order."""
        found: dict[str, list[Pair]] = {language: [] for language in self.languages}
        for pair in self.pairs:
            found[pair.language].append(pair)
        return {language: tuple(pairs) for language, pairs in found.items()}

    def without(self, texts: Iterable[str]) -> ParallelText:
        """Returns a copy without pairs whose English text or translation is in ``texts``, e.g. dev or test questions.

        The comparison ignores case, and treats runs of white space as one blank.
        """
        refused = {folded(text) for text in texts}
        kept = tuple(
            pair for pair in self.pairs if folded(pair.english) not in refused and folded(pair.text) not in refused
        )
        removed = len(self.pairs) - len(kept)
        left_out = dict(self.left_out) | ({"in dev or test": removed} if removed else {})
        return ParallelText(kept, left_out, self.sources)

    def checksum(self) -> str:
        """SHA-256 of all pairs, in order."""
        digest = hashlib.sha256()
        for pair in self.pairs:
            for value in (pair.language, pair.english, pair.text):
                data = value.encode()
                digest.update(len(data).to_bytes(8, "little"))
                digest.update(data)
        return digest.hexdigest()

    def summary(self) -> str:
        """One line: pairs by language, and the records left out by reason."""
        kept = ", ".join(
            f"{language} {count:,}" for language, count in sorted(self.counts.items(), key=lambda c: -c[1])
        )
        text = f"{len(self):,} pairs ({kept})" if self.pairs else "no pairs"
        if self.left_out:
            text += "; left out: " + ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        return text


def folded(text: str) -> str:
    """Normalizes a text for comparison: folds its case, and replaces runs of white space by one blank."""
    return " ".join(text.split()).casefold()
