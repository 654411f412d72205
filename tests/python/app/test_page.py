"""The page without a browser."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

import gradio as gr
from starlette.testclient import TestClient

from relkt.app.limits import BusyError
from relkt.app.page import _mark, build_page
from relkt.app.service import SearchService

QUESTION = "ทำไมน้ำแข็งลอยน้ำ"


@pytest.fixture
def ask(client: TestClient) -> Iterator[Callable[..., list[Any]]]:
    """Calls the functions of the page as a browser does: by number, over HTTP."""
    with client:
        config = client.get("/config").json()
        search = next(event for event in config["dependencies"] if len(event["inputs"]) > 1)
        mark = next(event for event in config["dependencies"] if len(event["inputs"]) == 1)

        def run(*values: Any) -> list[Any]:
            found, data = [], list(values)
            for event in (search, mark):
                body = {"data": data, "fn_index": event["id"], "session_hash": "test"}
                response = client.post("/gradio_api/run/predict", json=body)
                assert response.status_code == 200, response.text
                data = response.json()["data"]
                found.append(data[-2:])
                data = data[:1]
            return found

        yield run


@pytest.mark.parametrize(
    "asked",
    [
        None,
        "x",
        {},
        {"question": "x", "number": 1, "chosen": []},
        {"question": "x", "number": 1, "chosen": [[99], [], []]},
        {"question": "x", "number": 1, "chosen": [[-1], [], []]},
        {"question": "x", "number": 10**9, "chosen": [[], [], []]},
        {"question": ["x"], "number": 1, "chosen": [[], [], []]},
        {"question": "x" * 1001, "number": 1, "chosen": [[], [], []]},
    ],
)
def test_a_request_stored_in_the_browser_is_checked(service: SearchService, asked: object) -> None:
    status, passages = _mark(service, asked)
    assert 'role="alert"' in status
    assert passages == ""


def test_passages_appear_before_their_sentences_are_marked(ask: Callable[..., list[Any]]) -> None:
    (status, passages), (marked_status, marked) = ask(QUESTION, 5, [], [], [])
    assert "Thai" in status
    assert "finding the best sentences" in status
    assert passages.count("<article>") == 5
    assert "<mark>" not in passages
    assert re.search(r"best sentences [\d.,]+", re.sub(r"<[^>]*>", "", marked_status))
    assert "<mark>Water expands" in marked
    assert marked.replace("<mark>", "").replace("</mark>", "") == passages


def test_filters_are_chosen_by_position(ask: Callable[..., list[Any]]) -> None:
    (_, passages), _ = ask("coffee", 12, [1, 3], [], [0])  # Arabic and Japanese, of 2021
    assert passages.count("<article>") == 2
    assert 'lang="ar"' in passages
    assert 'lang="ja"' in passages


@pytest.mark.parametrize(("question", "message"), [(" ", "got a blank one"), ("x" * 1001, "at most 1,000 characters")])
def test_errors_are_shown(ask: Callable[..., list[Any]], question: str, message: str) -> None:
    for status, passages in ask(question, 5, [], [], []):
        assert 'role="alert"' in status
        assert message in status
        assert passages == ""


def test_markup_of_passages_is_escaped(ask: Callable[..., list[Any]]) -> None:
    for _, passages in ask("markup of a page", 1, [], [], []):
        assert "&lt;script&gt;" in passages.replace("<mark>", "").replace("</mark>", "")
        assert "<script" not in passages
        assert "<img" not in passages


def test_the_page_contacts_no_host(service: SearchService, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Any]()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **_: asked.append(arguments) or [])
    blocks = build_page(service, examples=["Why?"])
    assert not blocks.analytics_enabled
    assert asked == []


def test_the_page_refers_to_no_other_host(client: TestClient) -> None:
    with client:
        config = client.get("/config").json()
        theme = client.get("/theme.css").text
    assert re.findall(r"url\((?![\"']?data:)[^)]*|@import[^;]*", theme) == []
    assert config["analytics_enabled"] is False
    assert config["stylesheets"] == []
    assert [c["props"]["value"] for c in config["components"] if c["type"] == "button"] == [
        "Search",
        "Wie machen Bienen Honig?",
    ]


def test_a_busy_server_keeps_the_passages_shown(service: SearchService, monkeypatch) -> None:
    def busy(*_: object, **__: object) -> None:
        raise BusyError("16 questions are waiting")

    asked = {"question": QUESTION, "number": 1, "chosen": [[], [], []]}
    monkeypatch.setattr(service, "highlight", busy)
    assert _mark(service, asked) == (gr.skip(), gr.skip())
    monkeypatch.setattr(service, "search", busy)
    assert _mark(service, asked) == (gr.skip(), gr.skip())
