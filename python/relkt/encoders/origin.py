"""The origin of a model, for the cards of models trained from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedModel
from yaml import YAMLError

from relkt.encoders.muse import MuseEncoder

_ATTRIBUTE = "_relkt_loaded_as"
_MUSE_LICENSE = "apache-2.0"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Origin:
    """The origin of a model, as far as known.

    Args:
        name: Name on the Hub, name of the folder (without its path, which is private), or ``mUSE``; None if unknown.
        hub_id: Name on the Hub of the model or of its base model; None if unknown.
        license: Identifier of the license on the Hub; None if unknown.
        is_muse: True if the encoder is mUSE.
    """

    name: str | None
    hub_id: str | None
    license: str | None
    is_muse: bool = False


def is_local(name: str) -> bool:
    """True if a model's name is a local path, existing or not, which other machines cannot load."""
    return Path(name).is_absolute() or Path(name).is_dir() or name.startswith((".", "~"))


def note_origin(model: SentenceTransformer, name: str) -> None:
    """Records the name under which a model was loaded, in the model itself."""
    setattr(model, _ATTRIBUTE, name)


def origin_of(model: SentenceTransformer) -> Origin:
    """Returns the origin of a model, from the recorded name, its card and its configuration, without the Hub."""
    noted: str | None = getattr(model, _ATTRIBUTE, None)
    card = _card_data(model)
    is_muse = any(isinstance(module, MuseEncoder) for module in model)
    if is_muse and noted in (None, "muse"):
        return Origin("mUSE", None, _MUSE_LICENSE, is_muse=True)
    license_ = card.get("license") if isinstance(card.get("license"), str) else None
    hub_id = next(filter(_is_hub_id, (noted, model.model_card_data.base_model, _network_name(model))), None)
    name = hub_id or (None if noted is None else Path(noted).expanduser().resolve().name)
    if hub_id is None and _is_hub_id(card.get("base_model")):
        hub_id = card["base_model"]
    return Origin(name, hub_id, license_ or (_MUSE_LICENSE if is_muse else None), is_muse)


def _is_hub_id(name: Any) -> bool:
    return isinstance(name, str) and _HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def _network_name(model: SentenceTransformer) -> str | None:
    networks = (module for module in model.modules() if isinstance(module, PreTrainedModel))
    return next((network.config._name_or_path for network in networks), None)


def _card_data(model: SentenceTransformer) -> dict[str, Any]:
    """Metadata of the model's card; empty if the card is missing or unreadable."""
    text: str | None = getattr(model, "_model_card_text", None)
    try:
        data = ModelCard(text, ignore_metadata_errors=True).data if text else None
        return {} if data is None else {name: data.get(name) for name in ("license", "base_model")}
    except (ValueError, YAMLError):
        return {}
