"""SentencePiece's character map, with SentencePiece's longest-match rule.

The ``Precompiled`` normalizer of the ``tokenizers`` library applies the map to grapheme clusters, takes the shortest
match and drops the rest of the cluster, e.g. the circumflex of a decomposed Vietnamese letter or the mark after an
Arabic ligature. SentencePiece takes the longest match at each character. :class:`Charsmap` finds the texts on which the
two can differ, and rewrites them by SentencePiece's rule; the normalizer then runs on the result. One difference
remains: a replacement that combines with the mark after it (U+FD5A, an Arabic ligature, before U+0654).
"""

from __future__ import annotations

import re
import struct
import unicodedata
from itertools import pairwise

# Characters that can continue a cluster or a sequence of the map, besides the combining marks of the basic plane: the
# line feed after a carriage return, Thai and Lao AM, joiners, jamo (conjoining, compatibility, half-width), half-width
# voicing marks, and the marks and emoji modifiers of the other planes. The other planes have few, wide ranges, because
# `re` tests each of them at every character of a text.
_FOLLOWERS = (
    "\n\u0e33\u0eb3\u1160-\u11ff\u200c\u200d\u3131-\u3163\ud7b0-\ud7ff\uff9e-\uffdc"
    "\U000101fd-\U0001e94a\U0001f3fb-\U0001f3ff\U000e0100-\U000e01ef"
)
_MAX_CLUSTERS = 100_000


class Charsmap:
    """A map from character sequences to their replacements.

    Args:
        blob: A model's ``precompiled_charsmap``, in SentencePiece's format (``normalizer.cc``): the byte length of a
            Darts double-array trie, the trie, and the replacements as zero-terminated UTF-8; a value in the trie is the
            offset of its replacement.

    Raises:
        ValueError: If the blob is truncated.
    """

    def __init__(self, blob: bytes) -> None:
        size = struct.unpack_from("<I", blob)[0] if len(blob) >= 4 else 0
        if not size or size % 4 or 4 + size > len(blob):
            raise ValueError(f"blob: expected a trie and its replacements, got {len(blob)} bytes")
        self._units: tuple[int, ...] = struct.unpack_from(f"<{size // 4}I", blob, 4)
        self._texts = blob[4 + size :]
        marks = (chr(c) for c in range(0x0300, 0x10000) if unicodedata.category(chr(c))[0] == "M")
        self._cluster = re.compile(f"(?s:.)[{_FOLLOWERS}{''.join(marks)}]+")
        # Cache of clusters on which both rules agree; texts repeat a few clusters.
        self._agreeing: set[str] = set()

    def needs_repair(self, text: str) -> bool:
        """True if replacement by grapheme cluster may differ from the longest match on a text."""
        if text.isascii():
            return False
        clusters = set(self._cluster.findall(text)) - self._agreeing
        if any(self._may_differ(cluster) for cluster in clusters):
            return True
        if len(self._agreeing) > _MAX_CLUSTERS:
            self._agreeing.clear()
        self._agreeing |= clusters
        return False

    def normalize(self, text: str) -> str:
        """Replaces, from left to right, the longest sequence of the map that starts at each character."""
        data = text.encode("utf-8", "surrogatepass")
        out = bytearray()
        at = 0
        while at < len(data):
            length, replacement, _ = self._longest_match(data, at)
            if replacement is None:
                length = _utf8_length(data[at])
                replacement = data[at : at + length]
            out += replacement
            at += length
        return out.decode("utf-8", "surrogatepass")

    def _may_differ(self, cluster: str) -> bool:
        """True if, for adjacent characters a and b of the cluster, the map has a, or a sequence that starts with ab."""
        for pair in map("".join, pairwise(cluster)):
            data = pair.encode("utf-8", "surrogatepass")
            length, _, walked = self._longest_match(data, 0)
            if length > 0 or walked == len(data):
                return True
        return False

    def _longest_match(self, data: bytes, start: int) -> tuple[int, bytes | None, int]:
        """Byte length of the longest key at ``start``, its replacement, and the byte length of the path in the trie."""
        units = self._units
        length, value = 0, -1
        node = _child_base(units[0], 0)
        at = start
        while at < len(data):
            node ^= data[at]
            # The low byte of a unit is its label; the top bit marks a value instead of a node.
            if node >= len(units) or units[node] & 0x800000FF != data[at]:
                break
            unit = units[node]
            node = _child_base(unit, node)
            at += 1
            if unit & 0x100:  # a key ends here; its value is the child without a label
                length, value = at - start, units[node] & 0x7FFFFFFF
        if value < 0:
            return 0, None, at - start
        return length, self._texts[value : self._texts.index(0, value)], at - start


def _child_base(unit: int, node: int) -> int:
    return node ^ ((unit >> 10) << ((unit & 0x200) >> 6))


def _utf8_length(first: int) -> int:
    return 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
