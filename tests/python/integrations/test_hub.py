"""Upload and download of indexes and models, with a fake Hub."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

import relkt
from relkt.cli import app
from relkt.integrations.hub import download_index, upload_index, upload_model

TOKEN = "hf_secret"


class FakeHub(ThreadingHTTPServer):
    """The parts of the Hub that downloads and uploads of small files need.

    Attributes:
        repos: ``"datasets/me/wiki"`` -> file -> content; another branch is ``"datasets/me/wiki@branch"``.
        commits: The messages of all commits.
        private: The private repositories.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.commits: list[str] = []
        self.private: set[str] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def sha(self, repo: str) -> str:
        state = repr(sorted((name, hashlib.sha1(data).hexdigest()) for name, data in self.repos[repo].items()))
        return hashlib.sha1(state.encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        path = unquote(urlsplit(self.path).path)
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "who are you?"})
        if path == "/api/repos/create":
            wanted = json.loads(data)
            kind = wanted.get("type", "model")
            name = "/".join(part for part in (wanted.get("organization"), wanted["name"]) if part)
            repo = f"{kind}s/{name}"
            self.server.repos.setdefault(repo, {})
            if wanted.get("private") or wanted.get("visibility") == "private":
                self.server.private.add(repo)
            address = f"{self.server.address}/{'datasets/' if kind == 'dataset' else ''}{name}"
            return self.answer(200, {"url": address, "name": name, "id": name})
        if match := re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)/branch/([^/]+)", path):
            repo, branch = match.groups()
            if branch == "main" or f"{repo}@{branch}" in self.server.repos:
                return self.answer(409, {"error": "the branch exists"})
            self.server.repos[f"{repo}@{branch}"] = dict(self.server.repos[repo])
            return self.answer(200, {})
        if match := re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)/(preupload|commit)/([^/]+)", path):
            repo, action, branch = match.groups()
            repo = repo if branch == "main" else f"{repo}@{branch}"
            if repo not in self.server.repos:
                return self.answer(404, {"error": "no such branch"}, {"X-Error-Code": "RevisionNotFound"})
            if action == "preupload":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                    for file in json.loads(data)["files"]
                ]
                return self.answer(200, {"files": files})
            for line in map(json.loads, data.splitlines()):
                if line["key"] == "header":
                    self.server.commits.append(line["value"]["summary"])
                elif line["key"] == "deletedFile":
                    del self.server.repos[repo][line["value"]["path"]]
                else:
                    assert line["key"] == "file"
                    self.server.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            sha = self.server.sha(repo)
            return self.answer(200, {"commitUrl": f"{self.server.address}/{repo}/commit/{sha}", "commitOid": sha})
        return self.answer(404, {"error": path})

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            repo, action, branch = match.groups()
            repo = f"{repo}@{branch}" if f"{repo}@{branch}" in self.server.repos else repo
            files = self.server.repos.get(repo)
            if files is None:
                return self.answer(404, {"error": "no such repository"}, {"X-Error-Code": "RepoNotFound"})
            if action == "tree":
                tree = [{"type": "file", "path": f, "size": len(d), "oid": oid(d)} for f, d in files.items()]
                return self.answer(200, tree)
            siblings = [{"rfilename": file} for file in files]
            return self.answer(200, {"_id": "0", "id": repo, "sha": self.server.sha(repo), "siblings": siblings})
        if match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            repo, file = f"{match[1] or 'models/'}{match[2]}", match[3]
            data = self.server.repos.get(repo, {}).get(file)
            if data is None:
                return self.answer(404, {"error": "no such file"}, {"X-Error-Code": "EntryNotFound"})
            headers = {"ETag": f'"{oid(data)}"', "X-Repo-Commit": self.server.sha(repo)}
            return self.send(200, data, headers)
        return self.answer(404, {"error": path})

    do_HEAD = do_GET

    def answer(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


def oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    server = FakeHub()
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield server
    server.shutdown()
    server.server_close()


def ids(retriever: relkt.Retriever, question: str = "w1 w2") -> list[tuple[str, float]]:
    return [(hit.passage.id, hit.score) for hit in retriever.search(question, 5)]


def test_upload_and_download_of_an_index(hub: FakeHub, retriever: relkt.Retriever, model: SentenceTransformer) -> None:
    assert retriever.path is not None
    address = upload_index(retriever.path, "me/wiki", encoder="me/model", license="cc0-1.0", private=True, token=TOKEN)
    assert address == f"{hub.address}/datasets/me/wiki"
    assert hub.commits == ["An index of 90 passages"]
    assert hub.private == {"datasets/me/wiki"}
    assert set(hub.repos["datasets/me/wiki"]) == {"wiki.relkt", "wiki.passages.arrow", "README.md"}
    found = download_index("me/wiki")
    again = relkt.Retriever.open(found, encoder=model)
    assert ids(again) == ids(retriever)
    assert list(again.passages) == list(retriever.passages)
    assert again.encoder_name == "me/model"
    assert {**again.passages.notes, "encoder": None} == {**retriever.passages.notes, "encoder": None}
    # The upload contains no path of this machine.
    assert str(Path(str(retriever.encoder_name))).encode() not in b"".join(hub.repos["datasets/me/wiki"].values())


def test_an_index_replaces_its_predecessor(hub: FakeHub, retriever: relkt.Retriever, tmp_path: Path) -> None:
    path = tmp_path / "wiki.relkt"
    build = {"encoder": retriever.encoder, "encoder_name": "me/model"}
    others = ["wiki-2", "wiki.passages", "wiki.passages-de"]
    for name in others:
        relkt.Retriever.build(["w1", "w2"], tmp_path / f"{name}.relkt", **build)
        upload_index(tmp_path / f"{name}.relkt", "me/wiki", token=TOKEN)
    hub.repos["datasets/me/wiki"]["wiki.passages-raw.arrow"] = b"not by relkt"
    before = set(hub.repos["datasets/me/wiki"])
    for texts in (["w1"], ["w2", "w3"]):
        relkt.Retriever.build(texts, path, **build, overwrite=True)
        upload_index(path, "me/wiki", token=TOKEN)
    assert set(hub.repos["datasets/me/wiki"]) == before | {"wiki.relkt", "wiki.passages-2.arrow"}
    assert len(relkt.Retriever.open(download_index("me/wiki", name="wiki.relkt"))) == 2


def test_a_missing_branch_is_created(hub: FakeHub, retriever: relkt.Retriever, model_folder: str) -> None:
    assert retriever.path is not None
    for _ in range(2):
        upload_index(retriever.path, "me/wiki", encoder="me/model", revision="next", token=TOKEN)
        upload_model(model_folder, "me/model", revision="next", token=TOKEN)
    assert not hub.repos["datasets/me/wiki"]
    assert not hub.repos["models/me/model"]
    assert "wiki.relkt" in hub.repos["datasets/me/wiki@next"]
    assert "modules.json" in hub.repos["models/me/model@next"]


def test_the_card_explains_how_to_open_the_index(hub: FakeHub, retriever: relkt.Retriever) -> None:
    assert retriever.path is not None
    upload_index(retriever.path, "me/wiki", encoder="muse", license="cc0-1.0", token=TOKEN, message="New passages")
    assert hub.commits == ["New passages"]
    card = ModelCard(hub.repos["datasets/me/wiki"]["README.md"].decode())
    assert card.data.to_dict() == {
        "license": "cc0-1.0",
        "viewer": False,
        "tags": ["relkt", "retrieval"],
        "language": ["de", "en"],
    }
    assert "An index of 90 passages" in card.text
    assert "| encoder | `muse` |" in card.text
    assert "| languages of the passages | de (30), en (30) |" in card.text
    assert "| further columns, to filter by | `year` |" in card.text
    code = card.text.split("```python\n")[1].split("```")[0]
    assert 'relkt.Retriever.open(download_index("me/wiki"))' in code
    compile(code, "card", "exec")


def test_upload_and_download_of_a_model(hub: FakeHub, model: SentenceTransformer, model_folder: str) -> None:
    assert upload_model(model_folder, "me/model", token=TOKEN) == f"{hub.address}/me/model"
    assert upload_model(model, "me/other", token=TOKEN, private=True) == f"{hub.address}/me/other"
    assert hub.private == {"models/me/other"}
    there = hub.repos["models/me/model"]
    assert there["README.md"] == (Path(model_folder) / "README.md").read_bytes()
    assert set(hub.repos["models/me/other"]) == set(there)
    np.testing.assert_array_equal(relkt.load_encoder("me/model").encode(["w1 w2"]), model.encode(["w1 w2"]))


def test_download_into_a_folder(hub: FakeHub, retriever: relkt.Retriever, tmp_path: Path) -> None:
    assert retriever.path is not None
    upload_index(retriever.path, "me/wiki", encoder="me/model", token=TOKEN)
    path = download_index("me/wiki", folder=tmp_path / "here")
    assert path == tmp_path / "here" / "wiki.relkt"
    assert path.read_bytes() == hub.repos["datasets/me/wiki"]["wiki.relkt"]
    assert not (tmp_path / "here" / "README.md").exists()
    with pytest.raises(FileExistsError, match=r"folder: .*wiki\.relkt exists"):
        download_index("me/wiki", folder=tmp_path / "here")


@pytest.mark.usefixtures("hub")
def test_one_of_several_indexes(retriever: relkt.Retriever, tmp_path: Path) -> None:
    assert retriever.path is not None
    upload_index(retriever.path, "me/wiki", encoder="me/model", token=TOKEN)
    other = tmp_path / "other.relkt"
    relkt.Retriever.build(["w1", "w2"], other, encoder=retriever.encoder, encoder_name="me/model")
    upload_index(other, "me/wiki", token=TOKEN)
    with pytest.raises(ValueError, match=r"name: me/wiki has several indexes, expected one of other\.relkt, wiki"):
        download_index("me/wiki")
    assert len(relkt.Retriever.open(download_index("me/wiki", name="other.relkt"))) == 2
    with pytest.raises(FileNotFoundError, match=r"name: me/wiki has no index 'no\.relkt'"):
        download_index("me/wiki", name="no.relkt", folder=tmp_path / "here")


def test_without_a_connection_the_cache_is_used(
    hub: FakeHub, retriever: relkt.Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert retriever.path is not None
    upload_index(retriever.path, "me/wiki", encoder="me/model", token=TOKEN)
    path = download_index("me/wiki")
    hub.repos.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download_index("me/wiki") == path
    with pytest.raises(OSError, match=r"offline|outgoing|cached"):
        download_index("me/none")


def test_upload_and_download_errors(hub: FakeHub, retriever: relkt.Retriever, tmp_path: Path) -> None:
    assert retriever.path is not None
    with pytest.raises(ValueError, match=r"encoder: the index was built with '.*', a folder of this machine"):
        upload_index(retriever.path, "me/wiki", token=TOKEN)
    bare = tmp_path / "bare.relkt"
    relkt.Index(retriever.index.embeddings()).save(bare)
    with pytest.raises(relkt.IndexFileError, match="expected an index with passages"):
        upload_index(bare, "me/wiki", encoder="muse", token=TOKEN)
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "modules.json").touch()
    with pytest.raises(FileNotFoundError, match=r"model: expected a model in .*; the model of this run is in"):
        upload_model(tmp_path / "run", "me/model", token=TOKEN)
    assert hub.repos == {}
    with pytest.raises(OSError, match="401"):
        upload_index(retriever.path, "me/wiki", encoder="muse", token="hf_wrong")
    with pytest.raises(OSError, match="me/none"):
        download_index("me/none")
    hub.repos["datasets/me/empty"] = {"README.md": b""}
    with pytest.raises(FileNotFoundError, match="repo_id: me/empty has no index"):
        download_index("me/empty")


@pytest.mark.slow
def test_the_commands(
    hub: FakeHub, retriever: relkt.Retriever, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("COLUMNS", "300")
    run = CliRunner().invoke
    assert run(app, ["upload", model_folder, "me/model"]).stdout == f"{hub.address}/me/model\n"
    refused = run(app, ["upload", str(retriever.path), "me/wiki"])
    assert refused.exit_code == 2
    assert "error: --encoder: the index was built with" in refused.stderr
    result = run(app, ["upload", str(retriever.path), "me/wiki", "--encoder", "me/model", "--license", "cc0-1.0"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{hub.address}/datasets/me/wiki\n"
    result = run(app, ["download", "me/wiki", "--output", str(tmp_path / "here")])
    assert result.stdout == f"{tmp_path / 'here' / 'wiki.relkt'}\n"
    # The encoder named in the downloaded index is loaded from the Hub.
    found = relkt.Retriever.open(tmp_path / "here" / "wiki.relkt", device="cpu")
    assert ids(found) == ids(retriever)
    again = run(app, ["download", "me/wiki", "--output", str(tmp_path / "here")])
    assert again.exit_code == 2
    assert "error: --output: " in again.stderr
    mixed = run(app, ["upload", model_folder, "me/model", "--license", "mit"])
    assert mixed.exit_code == 2
    assert "expected only with an index" in mixed.stderr
