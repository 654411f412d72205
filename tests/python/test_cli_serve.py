"""``relkt serve``: its options, and how it fails."""

from __future__ import annotations

import importlib.util
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

from fastapi.testclient import TestClient

import relkt.app.server
from relkt.cli import app
from relkt.retrieval import Retriever

TOKEN = "a-token-that-is-long-enough"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serve") / "two.relkt"
    Retriever.build(["Ice floats.", "Bread rises."], path)
    return path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is served, instead of serving it until somebody stops it."""
    calls = list[dict[str, Any]]()

    def run_server(app: Any, listening: socket.socket, **options: Any) -> None:
        with listening:
            calls.append({"app": app, "address": listening.getsockname(), **options})
        raise KeyboardInterrupt

    monkeypatch.setattr(relkt.app.server, "run_server", run_server)
    return calls


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, index: Path) -> Callable[..., Result]:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("RELKT_TOKEN", raising=False)
    return lambda *arguments: CliRunner().invoke(app, ["serve", str(index), "--port", "0", *map(str, arguments)])


def test_loopback_by_default(run: Callable[..., Result], served: list[dict[str, Any]]) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    [call] = served
    host, port = call["address"]
    assert host == "127.0.0.1"
    assert f"serving 2 passages of two on http://127.0.0.1:{port} (API: http://127.0.0.1:{port}/docs)" in result.stderr
    assert "warning" not in result.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_warning_elsewhere(run: Callable[..., Result], served: list[dict[str, Any]], host: str) -> None:
    result = run("--host", host)
    if "cannot listen" in result.stderr:
        pytest.skip(f"this machine has no address {host}")
    assert "warning: everyone who reaches this machine can read the index and ask; set RELKT_TOKEN" in result.stderr
    assert len(served) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_names_that_are_allowed(run: Callable[..., Result], served: list[dict[str, Any]], host: str) -> None:
    """Beside the loopback names, without which a container's own check of its health would fail."""
    result = run("--host", host, "--allowed-host", "Search.example.org", "--allowed-host", "*.here.example")
    assert result.exit_code == 0, result.output
    [call] = served
    expected = {"search.example.org": 200, "a.here.example:80": 200, "127.0.0.1:7860": 200, "evil.example": 400}
    for name, status in expected.items():
        answer = TestClient(call["app"]).get("/api/health", headers={"Host": name})
        assert answer.status_code == status


@pytest.mark.parametrize("name", ["http://search.example.org", "search.example.org:80", "", "a b"])
def test_names_that_are_none(run: Callable[..., Result], served: list[dict[str, Any]], name: str) -> None:
    result = run("--allowed-host", name)
    assert result.exit_code == 2
    assert f"--allowed-host: expected a name such as search.example.org, *.example.org or 192.0.2.7, got {name!r}" in (
        result.stderr
    )
    assert not served


def test_no_warning_with_a_token(
    run: Callable[..., Result], served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELKT_TOKEN", TOKEN)
    result = run("--host", "0.0.0.0")
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr
    assert TOKEN not in result.output
    from starlette.testclient import TestClient

    assert TestClient(served[0]["app"]).get("/api/info").status_code == 401


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--token", "short"], "token: expected at least 16 characters, got 5"),
        (["--run", "missing"], "run: expected the folder of a run, got missing"),
        (["--example", " "], "examples: expected questions"),
        (["--device", "abacus"], "--device: expected cpu"),
        (["--host", "203.0.113.7"], "cannot listen on 203.0.113.7, port 0"),
    ],
)
def test_bad_options(
    run: Callable[..., Result], served: list[dict[str, Any]], arguments: list[str], message: str
) -> None:
    result = run(*arguments)
    assert (result.exit_code, served) == (2, [])
    assert f"error: {message}" in result.stderr


def test_a_port_that_is_taken(run: Callable[..., Result], served: list[dict[str, Any]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("--port", port)
    assert (result.exit_code, served) == (2, [])
    assert f"cannot listen on 127.0.0.1, port {port}: " in result.stderr


def test_what_is_no_index(served: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "x.relkt").write_text(json.dumps({}))
    for path in (tmp_path / "x.relkt", tmp_path / "missing.relkt"):
        assert CliRunner().invoke(app, ["serve", str(path)]).exit_code == 2
    assert served == []


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else found(name))
    with pytest.raises(ImportError, match=r"relkt serve needs gradio: pip install 'relkt\[app\]'"):
        importlib.reload(relkt.app)


@pytest.mark.parametrize(("arguments", "environment"), [(["--token", ""], {}), ([], {"RELKT_TOKEN": ""})])
def test_an_empty_token_is_no_token(arguments, environment, tmp_path):
    result = CliRunner().invoke(app, ["serve", str(tmp_path / "w.relkt"), *arguments], env=environment)
    assert result.exit_code == 2
    assert "expected a text of at least 16 characters, got an empty one" in " ".join(result.stderr.split())
