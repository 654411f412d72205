"""Language detection and language names."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

from babel import Locale
from py3langid.langid import MODEL_FILE, LanguageIdentifier

SURE = 0.5
"""Lowest probability at which a detected language is reliable.

Measured on the questions of relkt-mini and XQuAD, see docs/serve.md.
"""

# Members of the macrolanguages ar and zh (ISO 639-3), which a short question rarely distinguishes.
_MACROLANGUAGE = {"ary": "ar", "arz": "ar", "wuu": "zh", "yue": "zh"}
_NO_LANGUAGE = "zxx"


@dataclass(frozen=True)
class LanguageGuess:
    """The most likely language of a text.

    Args:
        code: Its ISO 639 code; None for a text without words.
        probability: Its probability, in [0, 1].
    """

    code: str | None
    probability: float

    @property
    def is_sure(self) -> bool:
        """True if the language is reliable, see :data:`SURE`."""
        return self.code is not None and self.probability >= SURE


class LanguageGuesser:
    """Detects the language of short texts, out of 135 languages."""

    def __init__(self) -> None:
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def guess(self, text: str) -> LanguageGuess:
        """The most likely language of a text.

        Args:
            text: The text.
        """
        probabilities: dict[str, float] = defaultdict(float)
        for code, probability in self._identifier.rank(text):
            probabilities[_MACROLANGUAGE.get(code, code)] += probability
        code, probability = max(probabilities.items(), key=lambda item: item[1])
        return LanguageGuess(None if code == _NO_LANGUAGE else code, min(probability, 1.0))


def language_name(code: str) -> str:
    """The English name of a language, or its code if the name is unknown.

    Args:
        code: A code, e.g. "th" or "zh-Hant".
    """
    return _names().get(code.replace("-", "_"), code)


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    return {str(code): str(name) for code, name in Locale.parse("en").languages.items()}
