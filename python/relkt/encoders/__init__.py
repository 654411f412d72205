"""Encoders, which embed texts as unit vectors."""

from relkt.encoders.checksum import model_checksum
from relkt.encoders.encoding import encode_passages, encode_queries
from relkt.encoders.loading import is_muse, load_encoder
from relkt.encoders.muse import MuseEncoder
from relkt.encoders.origin import Origin, origin_of
from relkt.encoders.prompts import PASSAGE_PROMPTS, num_truncated, prompt_of
from relkt.encoders.vocabulary import NewPieces, extend_vocabulary

__all__ = [
    "PASSAGE_PROMPTS",
    "MuseEncoder",
    "NewPieces",
    "Origin",
    "encode_passages",
    "encode_queries",
    "extend_vocabulary",
    "is_muse",
    "load_encoder",
    "model_checksum",
    "num_truncated",
    "origin_of",
    "prompt_of",
]
