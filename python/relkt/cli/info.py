"""``relkt info``: describes a file or folder that relkt wrote."""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from relkt.cli.console import err, one_line_errors, out
from relkt.cli.options import JsonOption

if TYPE_CHECKING:
    from relkt.retrieval import PassageStore

VALUES = 5
"""Maximum number of a mapping's entries that are shown."""


def info(
    path: Annotated[
        Path,
        typer.Argument(help="An index file, a passages file, or the folder of a model or of a training run."),
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the whole index and compare it with its checksums.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Describe an index, a model or a training run.

    Example: `relkt info wiki.relkt --verify`
    """
    with one_line_errors(options={"path": "PATH"}):
        with err.status("reading"):
            facts = _describe(path, verify=verify)
        if json:
            out.file.write(json_format.dumps(facts, ensure_ascii=False, default=str) + "\n")
            return
        table = Table(show_header=False, show_edge=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in facts.items():
            table.add_row(name, Text(_shown(value)))
        out.print(table)


def _describe(path: Path, *, verify: bool) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"PATH: no such file or folder: {path}")
    if path.is_file():
        return _passages(path) if path.suffix == ".arrow" else _index(path, verify=verify)
    if verify:
        raise ValueError("--verify: expected an index file, which has checksums, got a folder")
    if (path / "metrics.jsonl").is_file():
        return _run(path)
    if (path / "modules.json").is_file() or (path / "config.json").is_file():
        return _model(path)
    raise ValueError(
        "PATH: expected an index file, or the folder of a model or a training run, got a folder with neither "
        f"modules.json, config.json nor metrics.jsonl: {path}"
    )


def _index(path: Path, *, verify: bool) -> dict[str, Any]:
    from relkt.index import Index

    index = Index.open(path, verify=verify)
    facts: dict[str, Any] = {
        "kind": "index",
        "passages": len(index),
        "dimensions": index.dim,
        "rows as": str(index.dtype),
        "bytes": path.stat().st_size,
        "ids": "texts" if index.has_ids and index.ids.dtype == object else "integers" if index.has_ids else "rows",
    }
    if verify:
        facts["checksums"] = "ok"
    if index.texts is None:
        return facts | {"texts": "none"}
    from relkt.retrieval.retriever import open_texts

    try:
        store = open_texts(index, path, verify=verify)
    except FileNotFoundError:
        return facts | {"texts": f"{index.texts} (missing)"}
    return facts | {"texts": index.texts} | _of_passages(store, skip=("kind", "passages"))


def _passages(path: Path) -> dict[str, Any]:
    from relkt.retrieval import PassageStore

    return _of_passages(PassageStore.open(path))


def _of_passages(store: PassageStore, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    facts: dict[str, Any] = {"kind": "passages", "passages": len(store)}
    for name in ("encoder", "encoder_checksum", "query_prompt", "passage_prompt"):
        if store.notes.get(name) is not None:
            facts[name.replace("_", " ")] = store.notes[name]
    facts["columns"] = {name: str(store.schema.field(name).type) for name in store.columns}
    languages = store.values("language")
    if set(languages) != {None}:
        facts["languages"] = {"none" if code is None else code: count for code, count in languages.items()}
    if documents := store.num_values("document"):
        facts["documents"] = documents
    return {name: value for name, value in facts.items() if name not in skip}


def _model(path: Path) -> dict[str, Any]:
    from relkt.encoders import load_encoder, model_checksum, origin_of

    model = load_encoder(path, device="cpu")
    origin = origin_of(model)
    return {
        "kind": "model",
        "modules": ", ".join(type(module).__name__ for module in model),
        "dimensions": model.get_embedding_dimension(),
        "longest text": "no limit" if model.max_seq_length is None else f"{model.max_seq_length} tokens",
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "prompts": dict(model.prompts),
        "trained from": origin.hub_id or origin.name,
        "license": origin.license,
        "checksum": model_checksum(model),
    }


def _run(path: Path) -> dict[str, Any]:
    lines = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json_format.loads(line) for line in lines if line.endswith("}")]
    best: dict[str, float] = {}
    for record in records:
        if "dev_p1" in record:
            best[record["stage"]] = max(best.get(record["stage"], 0.0), record["dev_p1"])
    results, config = path / "results.md", path / "config.toml"
    return {
        "kind": "training run",
        "complete": (path / "model").is_dir(),
        "stages": {stage: f"dev P@1 up to {p1:.3f}" for stage, p1 in best.items()},
        "model": str(path / "model") if (path / "model").is_dir() else None,
        "results": str(results) if results.is_file() else None,
        "configuration": str(config) if config.is_file() else None,
    }


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        items = list(value.items())
        text = ", ".join(f"{name}: {_shown(item)}" for name, item in items[:VALUES])
        return text + (f", … ({len(items)} in all)" if len(items) > VALUES else "") if items else "none"
    return "none" if value is None else str(value)
