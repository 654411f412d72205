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

pytestmark = pytest.mark.usefixtures("shared_muse")

TOKEN = "a-token-that-is-long-enough"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The servers that would run; they stop at once."""
    calls = list[dict[str, Any]]()

    def run_server(app: Any, listening: socket.socket, **options: Any) -> None:
        with listening:
            calls.append({"app": app, "address": listening.getsockname(), **options})
        raise KeyboardInterrupt

    monkeypatch.setattr(relkt.app.server, "run_server", run_server)
    return calls


@pytest.fixture
def run_serve(run: Callable[..., Result], index: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.delenv("RELKT_TOKEN", raising=False)
    return lambda *arguments: run("serve", index, "--port", "0", *arguments)


@pytest.mark.slow
def test_loopback_by_default(run_serve: Callable[..., Result], served: list[dict[str, Any]]) -> None:
    result = run_serve()
    assert result.exit_code == 0, result.output
    [call] = served
    host, port = call["address"]
    assert host == "127.0.0.1"
    assert f"serving 3 passages of w on http://127.0.0.1:{port} (API: http://127.0.0.1:{port}/docs)" in result.stderr
    assert "warning" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_addresses_warn(run_serve: Callable[..., Result], served: list[dict[str, Any]], host: str) -> None:
    result = run_serve("--host", host)
    if "cannot listen" in result.stderr:
        pytest.skip(f"this machine has no address {host}")
    assert "warning: everyone who can reach this machine can read the index and ask questions" in result.stderr
    assert len(served) == 1


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_allowed_hosts_are_served(run_serve: Callable[..., Result], served: list[dict[str, Any]], host: str) -> None:
    """Loopback names stay allowed: the health check of a container uses them."""
    result = run_serve("--host", host, "--allowed-host", "Search.example.org", "--allowed-host", "*.here.example")
    assert result.exit_code == 0, result.output
    [call] = served
    expected = {"search.example.org": 200, "a.here.example:80": 200, "127.0.0.1:7860": 200, "evil.example": 400}
    for name, status in expected.items():
        answer = TestClient(call["app"]).get("/api/health", headers={"Host": name})
        assert answer.status_code == status


@pytest.mark.parametrize("name", ["http://search.example.org", "search.example.org:80", "", "a b"])
def test_invalid_hosts_are_refused(run_serve: Callable[..., Result], served: list[dict[str, Any]], name: str) -> None:
    result = run_serve("--allowed-host", name)
    assert result.exit_code == 2
    assert "--allowed-host: expected a name such as search.example.org, *.example.org or 192.0.2.7" in result.stderr
    assert f"got {name!r}" in result.stderr
    assert not served


@pytest.mark.slow
def test_no_warning_with_a_token(
    run_serve: Callable[..., Result], served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELKT_TOKEN", TOKEN)
    result = run_serve("--host", "0.0.0.0")
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr
    assert TOKEN not in result.output
    from starlette.testclient import TestClient

    assert TestClient(served[0]["app"]).get("/api/info").status_code == 401


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--token", "short"], "--token: expected at least 16 characters, got 5"),
        (["--run", "missing"], "--run: missing is not a folder"),
        (["--example", " "], "--example: expected questions"),
        (["--device", "abacus"], "--device: expected cpu"),
        (["--host", "203.0.113.7"], "cannot listen on 203.0.113.7, port 0"),
    ],
)
def test_bad_input_is_one_line(
    run_serve: Callable[..., Result], served: list[dict[str, Any]], arguments: list[str], message: str
) -> None:
    result = run_serve(*arguments)
    assert (result.exit_code, served) == (2, [])
    assert f"error: {message}" in result.stderr


def test_a_port_in_use_is_refused(run_serve: Callable[..., Result], served: list[dict[str, Any]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run_serve("--port", port)
    assert (result.exit_code, served) == (2, [])
    assert f"cannot listen on 127.0.0.1, port {port}: " in result.stderr


def test_a_file_that_is_not_an_index_is_refused(served: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "x.relkt").write_text(json.dumps({}))
    for path in (tmp_path / "x.relkt", tmp_path / "missing.relkt"):
        assert CliRunner().invoke(app, ["serve", str(path)]).exit_code == 2
    assert served == []


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else found(name))
    with pytest.raises(ImportError, match=r"relkt serve needs gradio: pip install 'relkt\[app\]'"):
        importlib.reload(relkt.app)


@pytest.mark.parametrize(("arguments", "environment"), [(["--token", ""], {}), ([], {"RELKT_TOKEN": ""})])
def test_an_empty_token_is_refused(arguments, environment, tmp_path):
    result = CliRunner().invoke(app, ["serve", str(tmp_path / "w.relkt"), *arguments], env=environment)
    assert result.exit_code == 2
    assert "expected at least 16 characters, got an empty text" in " ".join(result.stderr.split())
