"""Checksum of everything that determines a model's embeddings."""

from __future__ import annotations

import hashlib
import json

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module
from transformers import PreTrainedModel

from relkt.encoders.muse import MuseEncoder

# Fields of a transformers configuration that describe storage, not the network.
_NOT_OF_THE_NETWORK = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")


def model_checksum(model: SentenceTransformer) -> str:
    """SHA-256 of a model's weights and settings; independent of the model's name, place and device."""
    digest = hashlib.sha256()
    for name, weights in sorted(model.state_dict().items()):
        array = weights.detach().to("cpu").contiguous()
        digest.update(f"{name} {tuple(array.shape)} {array.dtype}".encode())
        digest.update(array.view(-1).view(torch.uint8).numpy().data)
    # The settings also determine the embeddings.
    settings = (sorted(model.prompts.items()), model.default_prompt_name, model.max_seq_length)
    digest.update(repr(settings).encode())
    for name, module in model.named_modules():
        if isinstance(module, MuseEncoder):
            # The tokenizer, whose pieces may have been extended.
            digest.update(module.tokenizer.to_str().encode())
        if isinstance(module, Module):
            # Values that JSON cannot represent count by their type, since their repr may contain an address.
            module_settings = json.dumps(
                module.get_config_dict(), sort_keys=True, default=lambda value: type(value).__qualname__
            )
            digest.update(f"{name} {type(module).__qualname__} {module_settings}".encode())
        elif isinstance(module, PreTrainedModel):
            known = {k: v for k, v in module.config.to_dict().items() if k not in _NOT_OF_THE_NETWORK}
            digest.update(f"{name} {json.dumps(known, sort_keys=True, default=str)}".encode())
    return digest.hexdigest()
