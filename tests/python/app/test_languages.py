"""Language detection of questions."""

from __future__ import annotations

import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

from relkt.app.languages import LanguageGuesser, language_name
from relkt.data import load_data


@pytest.fixture(scope="module")
def guesser() -> LanguageGuesser:
    return LanguageGuesser()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("th", "ทำไม"),
        ("ja", "なぜ氷は浮く"),
        ("he", "מדוע קרח צף"),
        ("fa", "چرا یخ شناور است؟"),
        ("de", "Warum schwimmt Eis?"),
        ("en", "Why does ice float?"),
        ("es", "¿Qué es el hielo?"),
        # Detected as Wu Chinese and Egyptian Arabic.
        ("zh", "托马斯·戴维斯有多少次迫使掉球？"),
        ("ar", "من كان كونت ميلفي؟"),
    ],
)
def test_short_questions(guesser: LanguageGuesser, code: str, text: str) -> None:
    guess = guesser.guess(text)
    assert guess.code == code
    assert guess.is_sure
    assert 0.5 <= guess.probability <= 1


@pytest.mark.parametrize("text", ["12345", "?", "Napoleon", "ok", "asdf qwer"])
def test_unsure(guesser: LanguageGuesser, text: str) -> None:
    assert not guesser.guess(text).is_sure


def test_questions_of_relkt_mini(guesser: LanguageGuesser) -> None:
    questions = load_data("relkt-mini").queries[::10]
    guesses = [guesser.guess(question.text) for question in questions]
    sure = [
        (question.language, guess.code) for question, guess in zip(questions, guesses, strict=True) if guess.is_sure
    ]
    assert len(sure) >= 0.98 * len(questions)
    assert sum(wanted == guessed for wanted, guessed in sure) >= 0.99 * len(sure)


def test_names() -> None:
    assert language_name("th") == "Thai"
    assert language_name("zh-Hant") == "Traditional Chinese"
    assert language_name("<b>") == "<b>"
