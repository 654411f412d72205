"""HTML of the page, rendered by templates that escape all values."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from relkt.app.highlighting import BestSentence
from relkt.app.languages import LanguageGuess, language_name
from relkt.app.run_folder import RunFolder
from relkt.app.service import Answer
from relkt.retrieval import RetrievedPassage

_LINKS = ("http://", "https://")


@dataclass(frozen=True)
class _Result:
    """The values of a result for its template."""

    rank: int
    score: str
    id: str
    title: str | None
    document: str | None
    language: str | None
    language_name: str | None
    before: str
    best: str
    after: str
    fields: dict[str, str]


def answer_status(answer: Answer) -> str:
    """The status line of an answer as HTML: language, counts and durations.

    Args:
        answer: The answer.
    """
    return _render(
        "status.html",
        language=language_note(answer.language),
        found=len(answer.results),
        candidates=f"{answer.candidates:,}",
        encoding=_milliseconds(answer.seconds.encoding),
        search=_milliseconds(answer.seconds.search),
        highlighting=None if answer.seconds.highlighting is None else _milliseconds(answer.seconds.highlighting),
    )


def answer_results(answer: Answer) -> str:
    """The ranked passages as HTML.

    Args:
        answer: The answer.
    """
    best = answer.best or [None] * len(answer.results)
    results = [_result(result, sentence) for result, sentence in zip(answer.results, best, strict=True)]
    return _render("results.html", results=results)


def error_status(message: str) -> str:
    """An error message as HTML.

    Args:
        message: The message.
    """
    return _render("error.html", message=message)


def run_report(run: RunFolder) -> str:
    """A run's plots and tables as HTML.

    Args:
        run: The folder of the run.
    """
    tables = run.tables()
    return _render(
        "run.html",
        name=run.name,
        plots=run.plots(),
        # Safe: the Markdown renderer escapes HTML.
        tables=None if tables is None else Markup(tables),
    )


def page_header(name: str, passages: int, encoder: str | None) -> str:
    """The top of the page as HTML.

    Args:
        name: Name of the index.
        passages: Number of its passages.
        encoder: Name of the encoder, if known.
    """
    return _render("header.html", name=name, passages=f"{passages:,}", encoder=encoder)


def page_footer(*, has_login: bool) -> str:
    """The bottom of the page as HTML.

    Args:
        has_login: True shows a button to log out.
    """
    return _render("footer.html", has_login=has_login)


def login_page(*, failed: bool) -> str:
    """The login page as HTML.

    Args:
        failed: True if the previous token was wrong.
    """
    return _render("login.html", failed=failed)


def stylesheet() -> str:
    """The page's CSS."""
    source = _environment().loader
    assert source is not None
    return source.get_source(_environment(), "page.css")[0]


def language_note(guess: LanguageGuess) -> str:
    """A detected language in words: "Thai", or "unsure (perhaps English)".

    Args:
        guess: The detected language.
    """
    if guess.code is None:
        return "unsure"
    name = language_name(guess.code)
    return name if guess.is_sure else f"unsure (perhaps {name})"


def _result(result: RetrievedPassage, sentence: BestSentence | None) -> _Result:
    passage = result.passage
    start, end = (0, 0) if sentence is None else (sentence.start, sentence.end)
    return _Result(
        rank=result.rank,
        score=f"{result.score:.3f}",
        id=passage.id,
        title=passage.title,
        document=passage.document,
        language=passage.language,
        language_name=None if passage.language is None else language_name(passage.language),
        before=passage.text[:start],
        best=passage.text[start:end],
        after=passage.text[end:],
        fields={name: value_text(value) for name, value in passage.fields.items() if value is not None},
    )


def value_text(value: Any) -> str:
    """A value of a passage's column as text.

    Args:
        value: A value of any type that an index stores.
    """
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)


def _milliseconds(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:,.0f} ms"


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("relkt.app"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["link"] = lambda text: text.startswith(_LINKS)
    return environment
