"""Upload and download of indexes and models on the Hugging Face Hub.

An index is a data set repository with the index file, its passages file and a card. A model is a model repository,
which :func:`relkt.load_encoder` loads by its name.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from sentence_transformers import SentenceTransformer

from relkt.encoders.origin import is_local
from relkt.errors import ArgumentError, ArgumentExistsError, ArgumentNotFoundError
from relkt.retrieval import PassageStore, Retriever
from relkt.retrieval.building import IndexPaths
from relkt.retrieval.passages import LANGUAGE, NOTES, OWN_COLUMNS

CARD = "README.md"
_INDEXES, _PASSAGES = "*.relkt", "*.passages*.arrow"
_DATASET = "dataset"


def upload_index(
    path: str | os.PathLike[str],
    repo_id: str,
    *,
    encoder: str | None = None,
    license: str | None = None,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Uploads an index with its passages to the Hub, with a card that explains how to open it, in one commit.

    Args:
        path: The index file from ``relkt index``, with its passages file in the same folder.
        repo_id: The data set repository, e.g. ``"me/wiki"``; created if it does not exist. The upload replaces the
            repository's card, and an index of the same name together with its passages.
        encoder: Name by which :func:`relkt.load_encoder` finds the encoder on any machine; the uploaded passages file
            contains this name. Required if the index was built with a model in a folder. When the encoder is loaded,
            its weights are compared with the weights that embedded the passages.
        license: License of the passages for the card, by the Hub's identifier, e.g. ``"cc-by-sa-4.0"``.
        private: True makes a new repository private.
        revision: Branch of the commit; created from main if it does not exist. Default: main.
        token: Access token. Default: the token of the login, or ``HF_TOKEN``.
        message: Message of the commit.

    Returns:
        The address of the repository.

    Raises:
        OSError: If a file cannot be opened, or the Hub cannot be reached or refuses.
        IndexFileError: If the files are not an index with its passages.
        ArgumentError: If ``encoder`` is required but not given.
        ValueError: If ``repo_id`` is not a repository name.
    """
    path = Path(path)
    retriever = Retriever.open(path)
    name = encoder or retriever.encoder_name
    if not name or is_local(name):
        built = f"with {name!r}, a folder of this machine" if name else "without a note of its encoder"
        raise ArgumentError(
            "encoder",
            problem=f"the index was built {built}",
            hint="upload the model first, and give its name on the Hub, so that others can load it",
        )
    texts = retriever.passages.path
    assert texts is not None  # an opened index has its passages in a file
    api = HfApi(token=token)
    with _naming(retriever.passages, name) as passages:
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(path.name, str(path)),
            CommitOperationAdd(texts.name, str(passages)),
            CommitOperationAdd(CARD, _card(retriever, path.name, repo_id, name, license).encode()),
        ]
        address = _create(api, repo_id, _DATASET, private, revision)
        # Deletes the old passages file of a replaced index.
        for file in api.list_repo_files(repo_id, repo_type=_DATASET, revision=revision):
            if file != texts.name and IndexPaths(path).may_be_texts(file):
                operations.append(CommitOperationDelete(file))
        api.create_commit(
            repo_id,
            operations,
            repo_type=_DATASET,
            revision=revision,
            commit_message=message or f"An index of {len(retriever):,} passages",
        )
    return address


def download_index(
    repo_id: str,
    *,
    name: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Path:
    """Downloads an index from the Hub, e.g. for ``relkt.Retriever.open(download_index("me/wiki"))``.

    Args:
        repo_id: The data set repository.
        name: Name of the index file, e.g. ``"wiki.relkt"``; required if the repository has several.
        folder: Folder for the files; created if it does not exist. Default: the Hub's cache, which also works without a
            connection.
        revision: Branch, tag or commit. Default: main.
        token: Access token. Default: the token of the login, or ``HF_TOKEN``.

    Returns:
        The path of the index file, in the same folder as its passages file; the function opens both as a check.

    Raises:
        FileExistsError: If ``folder`` has a file of the same name.
        FileNotFoundError: If the repository has no index, or no index of this name.
        OSError: If the repository does not exist, or the Hub cannot be reached and the files are not in the cache.
        IndexFileError: If the downloaded files are not an index with its passages.
        ArgumentError: If the repository has several indexes and ``name`` is None.
    """
    patterns = [_INDEXES, _PASSAGES] if name is None else [name, f"{name.removesuffix('.relkt')}.passages*.arrow"]
    wanted: dict[str, Any] = {"repo_type": _DATASET, "revision": revision, "token": token, "allow_patterns": patterns}
    if folder is None:
        here = Path(snapshot_download(repo_id, **wanted))
        index = _the_index(repo_id, [file.name for file in here.glob(_INDEXES)], name)
    else:
        here = Path(folder)
        there = HfApi(token=token).list_repo_files(repo_id, repo_type=_DATASET, revision=revision)
        index = _the_index(repo_id, [file for file in there if Path(file).match(_INDEXES)], name)
        for file in (file for file in there if any(Path(file).match(pattern) for pattern in patterns)):
            if (here / file).exists():
                raise ArgumentExistsError(
                    "folder", problem=f"{here / file} exists", hint="choose another folder, or remove the file"
                )
        snapshot_download(repo_id, local_dir=here, **wanted)
    Retriever.open(here / index)
    return here / index


def upload_model(
    model: SentenceTransformer | str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Uploads a model to the Hub; :func:`relkt.load_encoder` and sentence-transformers load it by its name.

    Args:
        model: Folder of a model with its card, e.g. ``model`` in the folder of a training run; or a model.
        repo_id: The model repository, e.g. ``"me/retriever"``; created if it does not exist.
        private: As in :func:`upload_index`.
        revision: As in :func:`upload_index`.
        token: As in :func:`upload_index`.
        message: As in :func:`upload_index`.

    Returns:
        The address of the repository.

    Raises:
        FileNotFoundError: If the folder holds no model.
        OSError: If the Hub cannot be reached, or refuses.
        ValueError: If ``repo_id`` is not a repository name.
    """
    with tempfile.TemporaryDirectory(prefix="relkt-") as saved:
        if isinstance(model, SentenceTransformer):
            folder = Path(saved)
            model.save_pretrained(str(folder))
        else:
            folder = Path(model).expanduser()
            if not any((folder / file).is_file() for file in ("modules.json", "config.json")):
                inner = folder / "model"
                hint = f"the model of this run is in {inner}" if (inner / "modules.json").is_file() else ""
                raise ArgumentNotFoundError(
                    "model", f"a model in {folder}", "neither modules.json nor config.json", hint=hint
                )
        api = HfApi(token=token)
        address = _create(api, repo_id, "model", private, revision)
        api.upload_folder(
            repo_id=repo_id, folder_path=folder, revision=revision, commit_message=message or "A sentence encoder"
        )
    return address


def _create(api: HfApi, repo_id: str, kind: str, private: bool, branch: str | None) -> str:
    """Creates a repository and a branch if they do not exist, and returns the address of the repository."""
    address = api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True)
    if branch is not None and not branch.startswith("refs/"):  # the Hub creates the branches of pull requests
        api.create_branch(repo_id, branch=branch, repo_type=kind, exist_ok=True)
    return str(address)


def _the_index(repo_id: str, found: list[str], name: str | None) -> str:
    if name is not None and name not in found:
        raise ArgumentNotFoundError(
            "name", problem=f"{repo_id} has no index {name!r}; it has {', '.join(sorted(found)) or 'none'}"
        )
    if not found:
        raise ArgumentNotFoundError("repo_id", problem=f"{repo_id} has no index ({_INDEXES})")
    if name is None and len(found) > 1:
        raise ArgumentError(
            "name", problem=f"{repo_id} has several indexes, expected one of {', '.join(sorted(found))}"
        )
    return name or found[0]


@contextmanager
def _naming(passages: PassageStore, encoder: str) -> Iterator[Path]:
    """Yields the passages file if it names this encoder, otherwise a temporary copy that names it."""
    assert passages.path is not None
    if passages.notes.get("encoder") == encoder:
        yield passages.path
        return
    notes = json.dumps({**passages.notes, "encoder": encoder}, ensure_ascii=False)
    schema = passages.schema.with_metadata({**(passages.schema.metadata or {}), NOTES: notes.encode()})
    with tempfile.TemporaryDirectory(prefix="relkt-") as folder:
        copy = Path(folder) / passages.path.name
        with pa.OSFile(str(copy), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for batch in passages.to_table().replace_schema_metadata(schema.metadata).to_batches():
                writer.write_batch(batch)
        yield copy


def _card(retriever: Retriever, file: str, repo_id: str, encoder: str, license: str | None) -> str:
    store, index = retriever.passages, retriever.index
    languages = {code: count for code, count in store.values(LANGUAGE).items() if code}
    known = sorted(code for code in languages if re.fullmatch("[a-z]{2,3}", code))
    # Without this, the Hub's table viewer would try to read the Arrow file as a data set.
    head = ["---", *([f"license: {license}"] if license else []), "viewer: false", "tags:", "- relkt", "- retrieval"]
    head += ["language:", *(f"- {code!r}" for code in known)] if known else []
    named = ", ".join(f"{code} ({count:,})" for code, count in languages.items()) or "not named"
    further = ", ".join(f"`{name}`" for name in store.columns[len(OWN_COLUMNS) :]) or "none"
    return "\n".join(
        [
            *head,
            "---",
            f"# {repo_id.rsplit('/', 1)[-1]}",
            "",
            f"An index of {len(store):,} passages for exact search with relkt, by cosine, with questions in any "
            "language that its encoder supports.",
            "",
            "| | |",
            "|---|---|",
            f"| files | `{file}`, `{index.texts}` |",
            f"| passages | {len(store):,} |",
            f"| languages of the passages | {named} |",
            f"| encoder | `{encoder}` |",
            f"| embeddings | {index.dim} dimensions, {index.dtype} |",
            f"| further columns, to filter by | {further} |",
            "",
            "```python",
            "import relkt",
            "from relkt.integrations.hub import download_index",
            "",
            f'retriever = relkt.Retriever.open(download_index("{repo_id}"))',
            'for hit in retriever.search("Your question", k=5):',
            "    print(hit.score, hit.passage.text)",
            "```",
            "",
        ]
    )
