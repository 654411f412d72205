"""The JSON API."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

from starlette.testclient import TestClient

import relkt
from relkt.app.limits import BusyError
from relkt.app.service import SearchService
from relkt.retrieval import Retriever


def test_search(client: TestClient, retriever: Retriever) -> None:
    response = client.post("/api/search", json={"question": "ทำไมน้ำแข็งลอยน้ำ", "k": 3})
    assert response.status_code == 200
    answer = response.json()
    assert answer["language"] == {"code": "th", "name": "Thai", "probability": pytest.approx(1, abs=0.01), "sure": True}
    expected = retriever.search("ทำไมน้ำแข็งลอยน้ำ", 3)
    assert [(p["rank"], p["id"], p["score"]) for p in answer["passages"]] == [
        (result.rank, result.passage.id, result.score) for result in expected
    ]
    first = answer["passages"][0]
    best = first.pop("best_sentence")
    assert best["text"] == first["text"][best["start"] : best["end"]]
    assert best["text"].startswith("Water expands")
    assert first == {
        "rank": 1,
        "score": expected[0].score,
        "id": "ice-1",
        "text": expected[0].passage.text,
        "title": "Why ice floats",
        "document": "water",
        "language": "en",
        "fields": {"year": 2019, "url": None},
    }
    assert set(answer["seconds"]) == {"encoding", "search", "highlighting"}


def test_search_with_filters_and_without_sentences(client: TestClient) -> None:
    body = {"question": "coffee", "where": {"language": ["ar", "ja"], "year": 2021}, "highlight": False}
    answer = client.post("/api/search", json=body).json()
    assert {passage["id"] for passage in answer["passages"]} == {"qahwa-1", "ramen-1"}
    assert all(passage["best_sentence"] is None for passage in answer["passages"])
    assert answer["seconds"]["highlighting"] is None


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, ["body", "question"]),
        ({"question": 3}, ["body", "question"]),
        ({"question": "x", "k": "3"}, ["body", "k"]),
        ({"question": "x", "k": 0}, ["body", "k"]),
        ({"question": "x", "k": 1.5}, ["body", "k"]),
        ({"question": "x", "top_k": 3}, ["body", "top_k"]),
        ({"question": "x", "highlight": 1}, ["body", "highlight"]),
        ({"question": "x", "where": [1]}, ["body", "where"]),
        ({"question": "x", "where": {"year": {"from": 1}}}, ["body", "where", "year"]),
    ],
)
def test_malformed_requests(client: TestClient, body: dict[str, Any], place: list[str]) -> None:
    response = client.post("/api/search", json=body)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][: len(place)] == place


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"question": "  "}, "question: expected a text, got a blank one"),
        ({"question": "x" * 1001}, "question: expected at most 1,000 characters, got 1,001"),
        ({"question": "x", "k": 51}, "k: expected 1 to 50, got 51"),
        ({"question": "x", "where": {"author": "me"}}, "where: expected a column among id, text"),
        ({"question": "x", "where": {"year": "2020"}}, "where: expected a value of type int64 for 'year', got '2020'"),
    ],
)
def test_questions_that_this_index_cannot_answer(client: TestClient, body: dict[str, Any], detail: str) -> None:
    response = client.post("/api/search", json=body)
    assert response.status_code == 400
    assert response.json()["detail"].startswith(detail)


def test_only_json_is_read(client: TestClient) -> None:
    # A form on another site can send other types without a preflight request.
    response = client.post("/api/search", content='{"question": "x"}', headers={"Content-Type": "text/plain"})
    assert response.status_code == 422


def test_a_full_queue(client_of: Callable[..., TestClient], strict: SearchService) -> None:
    client = client_of(strict)
    with strict._lock._lock:
        taken = [strict._lock._places.acquire(blocking=False) for _ in range(2)]
        response = client.post("/api/search", json={"question": "x", "k": 1})
    assert taken == [True, True]
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert "waiting" in response.json()["detail"]


def test_info(client: TestClient) -> None:
    info = client.get("/api/info").json()
    filters = info.pop("filters")
    assert info == {
        "relkt": relkt.__version__,
        "index": "everyday",
        "passages": 12,
        "dimension": 512,
        "encoder": "muse",
        "columns": ["id", "text", "title", "document", "language", "year", "url"],
        "max_question_characters": 1000,
        "max_k": 50,
    }
    assert filters["language"][0] == {"value": "en", "count": 8}


def test_the_folder_of_an_encoder_stays_private(service: SearchService, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        "me/model": "me/model",
        "/home/me/e5": "e5",
        "/home/me/runs/mine/model": "mine/model",
    }
    for name, told in names.items():
        monkeypatch.setattr(Retriever, "encoder_name", name)
        assert service.encoder_name == told


def test_values_that_json_lacks(retriever: Retriever, client_of: Callable[..., TestClient]) -> None:
    record = {
        "id": "1",
        "text": "Ice floats.",
        "day": datetime.date(2020, 1, 2),
        "time": datetime.datetime(2020, 1, 2, 3, 4),
        "raw": b"\xff\x00",
        "number": math.nan,
        "nested": {"a": [1, None]},
    }
    other = Retriever(relkt.Index(retriever.encode(["Ice floats."])), [record], retriever.encoder)
    client = client_of(SearchService(other))
    response = client.post("/api/search", json={"question": "ice"})
    assert response.status_code == 200, response.text
    assert response.json()["passages"][0]["fields"] == {
        "day": "2020-01-02",
        "time": "2020-01-02T03:04:00",
        "raw": "/wA=",
        "number": "nan",
        "nested": {"a": [1, None]},
    }
    for column in ("day", "time"):
        response = client.post("/api/search", json={"question": "ice", "where": {column: "2020"}})
        assert response.status_code == 400
        assert response.json()["detail"].startswith("where: ")


def test_description(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    assert description["info"]["title"] == "everyday: relkt"
    assert {path: set(methods) for path, methods in description["paths"].items()} == {
        "/api/search": {"post"},
        "/api/info": {"get"},
        "/api/health": {"get"},
    }
    assert set(description["paths"]["/api/search"]["post"]["responses"]) == {"200", "400", "413", "422", "503"}
    example = description["components"]["schemas"]["SearchRequest"]["properties"]["question"]["examples"][0]
    assert client.post("/api/search", json={"question": example}).status_code == 200


def test_the_description_needs_no_other_host(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def test_plots(client_of: Callable[..., TestClient], service: SearchService, run_folder: Path) -> None:
    client = client_of(service, run=run_folder)
    response = client.get("/run/plots/learning_curve.png")
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert response.content == (run_folder / "plots" / "learning_curve.png").read_bytes()
    for path in ("learning_curve.svg", "../results.md", "%2e%2e%2fresults.md", "..%2Fresults.md", "missing.png"):
        assert client.get(f"/run/plots/{path}").status_code == 404


def test_health(client: TestClient) -> None:
    assert json.loads(client.get("/api/health").content) == {"status": "ok"}


def test_a_busy_server_answers_without_sentences(client: TestClient, service: SearchService, monkeypatch) -> None:
    def busy(*_: object, **__: object) -> None:
        raise BusyError("16 questions are waiting")

    monkeypatch.setattr(service, "highlight", busy)
    answer = client.post("/api/search", json={"question": "ice", "k": 2})
    assert answer.status_code == 200
    assert [passage["best_sentence"] for passage in answer.json()["passages"]] == [None, None]
    monkeypatch.setattr(service, "search", busy)
    assert client.post("/api/search", json={"question": "ice", "k": 2}).status_code == 503
