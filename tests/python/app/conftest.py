"""An index of a dozen passages in four languages, embedded by mUSE, and the folder of a run."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from relkt.app.service import SearchService
    from relkt.retrieval import Retriever

TOKEN = "a-token-that-is-long-enough"
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")


@pytest.fixture(scope="session")
def records() -> list[dict[str, Any]]:
    lines = Path(__file__).with_name("passages.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def index_path(tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]) -> Path:
    from relkt.retrieval import Retriever

    path = tmp_path_factory.mktemp("index") / "everyday.relkt"
    Retriever.build(records, path)
    return path


@pytest.fixture(scope="session")
def retriever(index_path: Path) -> Retriever:
    from relkt.retrieval import Retriever

    return Retriever.open(index_path)


@pytest.fixture(scope="session")
def service(retriever: Retriever) -> SearchService:
    from relkt.app.service import SearchService

    return SearchService(retriever)


@pytest.fixture
def strict(retriever: Retriever) -> SearchService:
    """A service with low limits."""
    from relkt.app.limits import Limits
    from relkt.app.service import SearchService

    return SearchService(retriever, limits=Limits(question_characters=40, results=3, body_bytes=400, waiting=1))


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my-run"
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "learning_curve.png").write_bytes(PIXEL)
    (folder / "plots" / "learning_curve.svg").write_text("<svg/>")
    columns = [f"l{number}" for number in range(40)]
    (folder / "results.md").write_text(
        f"P@1 of <script>window.pwned = 1</script>\n\n| model | {' | '.join(columns)} |\n|---|{'---:|' * 40}\n"
        f"| before | {' | '.join(['**0.750**'] * 40)} |\n"
    )
    return folder


@pytest.fixture(scope="session")
def client_of() -> Callable[..., TestClient]:
    """Makes clients of new apps, without the start and end of a server."""
    from starlette.testclient import TestClient

    from relkt.app.server import create_app

    def make(service: SearchService, **options: Any) -> TestClient:
        return TestClient(create_app(service, **options), follow_redirects=False)

    return make


@pytest.fixture(scope="session")
def client(service: SearchService, client_of: Callable[..., TestClient]) -> TestClient:
    return client_of(service, examples=["Wie machen Bienen Honig?"])


@pytest.fixture(scope="session")
def guarded_app(service: SearchService) -> FastAPI:
    from relkt.app.server import create_app

    return create_app(service, token=TOKEN)
