"""The HTML of the page: escaped, with language and direction."""

from __future__ import annotations

import datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

from relkt.app.highlighting import BestSentence
from relkt.app.languages import LanguageGuess
from relkt.app.rendering import (
    answer_results,
    answer_status,
    error_status,
    language_note,
    login_page,
    page_footer,
    page_header,
    run_report,
    value_text,
)
from relkt.app.run_folder import RunFolder
from relkt.app.service import Answer, Seconds
from relkt.retrieval import IndexedPassage, RetrievedPassage

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


class Elements(HTMLParser):
    """The elements of a page, with their attributes and texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def answer_of(passage: IndexedPassage, best: BestSentence | None = None, code: str | None = "en") -> Answer:
    return Answer(
        question=EVIL,
        language=LanguageGuess(code, 0.9),
        results=[RetrievedPassage(passage, 0.12345, 1, 0)],
        candidates=1234,
        seconds=Seconds(0.0123, 0.0004, 0.2),
        best=[best],
        embedding=np.zeros(1, np.float32),
    )


def test_everything_of_a_passage_is_escaped() -> None:
    passage = IndexedPassage(
        id=EVIL,
        text=EVIL * 2,
        title=EVIL,
        document=EVIL,
        language=EVIL,
        fields={EVIL: EVIL, "url": "https://x/" + EVIL},
    )
    page = Elements(answer_results(answer_of(passage, BestSentence(0, len(EVIL), 0.5))))
    expected = {"ol", "li", "article", "header", "span", "h2", "p", "mark", "dl", "div", "dt", "dd", "bdi", "a"}
    assert {name for name, _ in page.tags} <= expected
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count(EVIL) == 2 + 5 + 2  # the text, its other columns, and the field "url"
    assert page.attributes("a") == [{"href": "https://x/" + EVIL, "target": "_blank", "rel": "noopener noreferrer"}]


def test_only_web_addresses_are_links() -> None:
    fields = {"a": "javascript:alert(1)", "b": "data:text/html,x", "c": " https://x", "d": "http://x/"}
    page = Elements(answer_results(answer_of(IndexedPassage(id="1", text="x", fields=fields))))
    assert [link["href"] for link in page.attributes("a")] == ["http://x/"]


def test_direction_language_and_best_sentence() -> None:
    text = "نهر النيل. ينبع من بحيرة."
    passage = IndexedPassage(id="1", text=text, title="النيل", language="ar")
    html = answer_results(answer_of(passage, BestSentence(11, len(text), 0.5)))
    assert f"{text[:11]}<mark>{text[11:]}</mark></p>" in html
    page = Elements(html)
    assert page.attributes("p") == [{"class": "relkt-text", "dir": "auto", "lang": "ar"}]
    assert page.attributes("h2") == [{"dir": "auto"}]
    assert "Arabic" in page.text
    assert "0.123" in page.text


def test_no_results() -> None:
    answer = Answer("x", LanguageGuess("en", 1), [], 5, Seconds(0, 0))
    assert "No passage matches the filters" in answer_results(answer)
    assert "finding the best sentences" in answer_status(answer)


def test_status() -> None:
    text = " ".join(Elements(answer_status(answer_of(IndexedPassage(id="1", text="x")))).text.split())
    assert text == "Question: English 1 of 1,234 passages encoding 12 ms search 0.4 ms best sentences 200 ms"


def test_language_note() -> None:
    assert language_note(LanguageGuess("th", 0.9)) == "Thai"
    assert language_note(LanguageGuess("th", 0.3)) == "unsure (perhaps Thai)"
    assert language_note(LanguageGuess(None, 0.9)) == "unsure"


def test_messages_and_names_are_escaped() -> None:
    for html in (error_status(EVIL), page_header(EVIL, 3, EVIL)):
        page = Elements(html)
        assert not {"script", "img"} & {name for name, _ in page.tags}
        assert EVIL in page.text
    assert Elements(error_status("x")).attributes("p")[0]["role"] == "alert"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "(none)"),
        (True, "yes"),
        (3, "3"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (datetime.datetime(2020, 1, 2, 3, 4), "2020-01-02T03:04:00"),
        (b"12", "2 bytes"),
        (["a"], "['a']"),
    ],
)
def test_values_in_words(value: object, text: str) -> None:
    assert value_text(value) == text


def test_login_page_has_a_label_and_an_error() -> None:
    page = Elements(login_page(failed=False))
    assert page.attributes("label")[0]["for"] == page.attributes("input")[0]["id"]
    assert 'role="alert"' not in login_page(failed=False).split("</style>")[1]
    assert "Wrong token" in login_page(failed=True)
    assert "logout" in page_footer(has_login=True)
    assert "logout" not in page_footer(has_login=False)


def test_run(run_folder: Path) -> None:
    (run_folder / "plots" / '"><b>.png').write_bytes(b"")
    page = Elements(run_report(RunFolder(run_folder)))
    assert {"script", "b"} & {name for name, _ in page.tags} == set()
    assert "<script>window.pwned = 1</script>" in page.text
    assert [image["src"] for image in page.attributes("img")] == [
        "run/plots/%22%3E%3Cb%3E.png",
        "run/plots/learning_curve.png",
    ]
    assert page.attributes("img")[1]["alt"] == "Learning curve"
    assert len(page.attributes("th")) == 41
    table = next(attributes for attributes in page.attributes("div") if attributes.get("class") == "relkt-table")
    assert (table["tabindex"], table["role"]) == ("0", "region")
    assert "0.750" in page.text


def test_a_run_in_progress(run_folder: Path) -> None:
    run = RunFolder(run_folder)
    (run_folder / "results.md").unlink()
    assert "No results yet" in run_report(run)
    (run_folder / "results.md").write_text("done")
    assert "done" in run_report(run)
