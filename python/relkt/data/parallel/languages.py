"""Language codes in files of parallel text."""

from __future__ import annotations

import re

_CODE = re.compile(r"([A-Za-z]{2,3})(?:[-_@][A-Za-z0-9]+)*")
_IN_NAME = re.compile(r"(?:^|[._-])(en-([a-z]{2,3})|([a-z]{2,3})-en)(?=$|[._-])")

# ISO 639-2 codes of languages that also have a two-letter code; catalogues and corpora use both.
_TWO_LETTERS = {
    "ara": "ar",
    "deu": "de",
    "ger": "de",
    "ell": "el",
    "gre": "el",
    "eng": "en",
    "spa": "es",
    "fra": "fr",
    "fre": "fr",
    "hin": "hi",
    "ita": "it",
    "jpn": "ja",
    "kor": "ko",
    "nld": "nl",
    "dut": "nl",
    "pol": "pl",
    "por": "pt",
    "ron": "ro",
    "rum": "ro",
    "rus": "ru",
    "swa": "sw",
    "tha": "th",
    "tur": "tr",
    "ukr": "uk",
    "vie": "vi",
    "zho": "zh",
    "chi": "zh",
}


_ISO_639_1 = """
aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es
et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki
kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no
nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te
tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""


def is_known(value: str) -> bool:
    """True if a tag, such as ``de``, ``pt_BR`` or ``deu``, names a language that has a two-letter code."""
    return language_code(value) in _ISO_639_1.split()


def language_code(value: str) -> str | None:
    """The primary language of a tag: ``pt`` for ``pt_BR``, ``zh`` for ``zh-Hant-TW``; None if it is not a tag."""
    match = _CODE.fullmatch(value.strip())
    if match is None:
        return None
    code = match[1].lower()
    return _TWO_LETTERS.get(code, code)


def language_in_name(name: str) -> str | None:
    """The language other than English in a file's name, e.g. ``de`` in ``TED2020-en-de-train.tsv.gz``."""
    match = _IN_NAME.search(name.lower())
    return None if match is None else language_code(match[2] or match[3])
