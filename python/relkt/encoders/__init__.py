"""Encoders: texts to unit vectors."""

from relkt.encoders.checksum import model_checksum
from relkt.encoders.encoding import encode_passages, encode_queries
from relkt.encoders.loading import load_encoder
from relkt.encoders.muse import MuseEncoder

__all__ = ["MuseEncoder", "encode_passages", "encode_queries", "load_encoder", "model_checksum"]
