"""Checksum of everything that determines a model's embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module
from transformers import PreTrainedModel

from relkt.encoders.muse import MuseEncoder
from relkt.storage import sha256_of

# Fields of a transformers configuration that describe storage, not the network.
_NOT_OF_THE_NETWORK = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")


def model_checksum(model: SentenceTransformer) -> str:
    """SHA-256 of a model's weights and settings; independent of the model's name, path and device."""
    return sha256_of(_parts(model))


def _parts(model: SentenceTransformer) -> Iterator[str | memoryview]:
    for name, weights in sorted(model.state_dict().items()):
        array = weights.detach().to("cpu").contiguous()
        yield f"{name} {tuple(array.shape)} {array.dtype}"
        yield array.view(-1).view(torch.uint8).numpy().data
    # The settings also determine the embeddings.
    settings = (sorted(model.prompts.items()), model.default_prompt_name, model.max_seq_length)
    yield repr(settings)
    for name, module in model.named_modules():
        if isinstance(module, MuseEncoder):
            # The tokenizer, which may have new pieces.
            yield module.tokenizer.to_str()
        if isinstance(module, Module):
            # Values that JSON cannot represent are replaced by their type, because their repr may contain an address.
            module_settings = json.dumps(
                module.get_config_dict(), sort_keys=True, default=lambda value: type(value).__qualname__
            )
            yield f"{name} {type(module).__qualname__} {module_settings}"
        elif isinstance(module, PreTrainedModel):
            known = {k: v for k, v in module.config.to_dict().items() if k not in _NOT_OF_THE_NETWORK}
            yield f"{name} {json.dumps(known, sort_keys=True, default=str)}"
