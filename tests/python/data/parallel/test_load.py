"""Parallel text of every format."""

from __future__ import annotations

import gzip
import json
import logging
import struct
from pathlib import Path

import pytest

from relkt.data import DataError
from relkt.data.parallel import Pair, ParallelText, load_parallel

TMX = """<?xml version="1.0" encoding="UTF-8"?>
<tmx version="1.4"><header srclang="en-US" datatype="plaintext"/><body>
<tu><tuv xml:lang="en-US"><seg>Open the <bpt i="1">&lt;b&gt;</bpt>door<ept i="1">&lt;/b&gt;</ept>.</seg></tuv>
<tuv xml:lang="de-DE"><seg>Öffne die Tür.</seg></tuv><tuv lang="pt_BR"><seg>Abra a porta.</seg></tuv></tu>
<tu><tuv xml:lang="de"><seg>Ohne Englisch.</seg></tuv></tu>
</body></tmx>"""
PO = """msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Language: de\\n"

msgid "_Open the file"
msgstr "Datei ö_ffnen"

#, fuzzy
msgid "Close"
msgstr "Zu"

msgid "Save <b>all</b> files"
msgstr ""

msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d Datei"
msgstr[1] "%d Dateien"
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_tab_separated_pairs_without_a_header_take_their_language_from_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "TED2020-en-de-train.tsv", "Good morning\tGuten Morgen\n\nGood night\tGute Nacht\r\n")
    found = load_parallel(path)
    assert found.pairs == (Pair("Good morning", "Guten Morgen", "de"), Pair("Good night", "Gute Nacht", "de"))
    assert found.counts == {"de": 2}
    assert found.left_out == {}


def test_a_header_of_codes_gives_several_languages(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.tsv", "en\tde\tpt_BR\nWater\tWasser\tÁgua\nIce\t\tGelo\n")
    assert load_parallel(path).pairs == (
        Pair("Water", "Wasser", "de"),
        Pair("Water", "Água", "pt"),
        Pair("Ice", "Gelo", "pt"),
    )


@pytest.mark.parametrize("header", ["", "english\ttext\tlanguage\n", "english\tnon_english\tlanguage\n"])
def test_a_third_column_is_the_language(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "pairs.tsv", f"{header}Water\tWasser\tde\nWater\tน้ำ\tth\n")
    assert load_parallel(path).counts == {"de": 1, "th": 1}


def test_an_unnamed_language_is_kept_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "pairs.tsv", "Water\tWasser\n")
    with caplog.at_level(logging.WARNING, logger="relkt"):
        assert load_parallel(path).counts == {"und": 1}
    assert "1 pairs do not name their language" in caplog.text
    assert load_parallel(path, language="de_AT").counts == {"de": 1}


@pytest.mark.parametrize(
    "record",
    [
        {"en": "Water", "de": "Wasser"},
        {"translation": {"en": "Water", "de": "Wasser"}},
        {"english": "Water", "non_english": "Wasser", "language": "de-AT"},
        {"anchor": "Water", "positive": "Wasser", "language": "deu"},
        {"en": "Water", "de": "Wasser", "fr": None},
        {"en": "Water", "de": "Wasser", "id": 7, "src": "web", "url": "x.org", "score": 0.9},
        {"id": "a7", "en": "Water", "de_AT": "Wasser"},
    ],
)
def test_json_lines(tmp_path: Path, record: dict[str, object]) -> None:
    path = write(tmp_path / "pairs.jsonl", json.dumps(record) + "\n")
    assert load_parallel(path).pairs == (Pair("Water", "Wasser", "de"),)


def test_indonesian_is_a_language_too(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", '{"en": "Water", "id": "Air"}\n{"en": "Ice", "id": 7}\n')
    found = load_parallel(path)
    assert found.pairs == (Pair("Water", "Air", "id"),)
    assert found.left_out == {"without a translation": 1}


def test_compressed_files(tmp_path: Path) -> None:
    path = tmp_path / "talks-en-tr.tsv.gz"
    path.write_bytes(gzip.compress(b"Water\tSu\n"))
    assert load_parallel(path).pairs == (Pair("Water", "Su", "tr"),)
    path.write_bytes(gzip.compress(b"Water\tSu\n" * 100)[:-9])
    with pytest.raises(DataError, match=r"talks-en-tr\.tsv\.gz, after line \d+: expected a gzip file"):
        load_parallel(path)


@pytest.mark.parametrize("name", ["talks", "talks.en", "talks.th"])
def test_moses_pairs_by_either_file_or_by_their_name(tmp_path: Path, name: str) -> None:
    write(tmp_path / "talks.en", "Water\nIce\n")
    write(tmp_path / "talks.th", "น้ำ\nน้ำแข็ง\n")
    assert load_parallel(tmp_path / name).pairs == (Pair("Water", "น้ำ", "th"), Pair("Ice", "น้ำแข็ง", "th"))


def test_moses_files_of_different_length(tmp_path: Path) -> None:
    write(tmp_path / "talks.en", "Water\nIce\n")
    write(tmp_path / "talks.th", "น้ำ\n")
    with pytest.raises(DataError, match=r"talks\.th: expected as many lines as its pair, got 1; the other has more"):
        load_parallel(tmp_path / "talks.en")


def test_a_moses_file_without_its_pair(tmp_path: Path) -> None:
    write(tmp_path / "talks.en", "Water\n")
    with pytest.raises(DataError, match=r"talks\.en: expected the other file of a Moses pair next to it"):
        load_parallel(tmp_path / "talks.en")


def test_translation_memories(tmp_path: Path) -> None:
    found = load_parallel(write(tmp_path / "memory.tmx", TMX))
    assert found.pairs == (
        Pair("Open the door.", "Öffne die Tür.", "de"),
        Pair("Open the door.", "Abra a porta.", "pt"),
    )
    assert found.left_out == {"without English": 1}


def test_highlighted_text_of_a_memory_is_kept(tmp_path: Path) -> None:
    highlighted = TMX.replace("door", 'front <hi type="b">do<ph/>or</hi> now')
    assert load_parallel(write(tmp_path / "memory.tmx", highlighted)).pairs[0].english == "Open the front door now."


def test_a_damaged_memory_names_the_unit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"memory\.tmx, after unit 1: expected TMX, got an error"):
        load_parallel(write(tmp_path / "memory.tmx", TMX[: TMX.index('<tu><tuv xml:lang="de">') + 12]))


def test_entities_in_a_memory_are_refused(tmp_path: Path) -> None:
    bomb = TMX.replace("<tmx ", '<!DOCTYPE tmx [<!ENTITY a "b">]>\n<tmx ', 1)
    with pytest.raises(DataError, match="without entity definitions"):
        load_parallel(write(tmp_path / "memory.tmx", bomb))


def test_catalogues(tmp_path: Path) -> None:
    polib = pytest.importorskip("polib", reason="needs the extra [parallel]")
    path = write(tmp_path / "app.po", PO)
    found = load_parallel(path)
    assert found.pairs == (Pair("Open the file", "Datei öffnen", "de"),)
    assert found.left_out == {"fuzzy": 1, "without a translation": 1, "plural forms": 1}
    compiled = tmp_path / "th" / "LC_MESSAGES" / "app.mo"
    compiled.parent.mkdir(parents=True)
    catalogue = polib.POFile()
    catalogue.append(polib.POEntry(msgid="Water", msgstr="น้ำ"))
    catalogue.save_as_mofile(str(compiled))
    assert load_parallel(compiled).pairs == (Pair("Water", "น้ำ", "th"),)


@pytest.mark.parametrize("size", [0, 4, 7, 28])
def test_a_cut_catalogue(tmp_path: Path, size: int) -> None:
    pytest.importorskip("polib", reason="needs the extra [parallel]")
    path = tmp_path / "app.mo"
    path.write_bytes(struct.pack("<7I", 0x950412DE, 0, 1, 28, 36, 0, 0)[:size])
    with pytest.raises(DataError, match=r"app\.mo: expected a gettext catalogue, got an error"):
        load_parallel(path)


def test_left_out_records_are_counted_by_reason(tmp_path: Path) -> None:
    path = write(
        tmp_path / "pairs.tsv",
        "en\tde\nWater\tWasser\nWater\tWasser\nWater\t water \n\tLeer\nIce\t \nLong\t" + "x" * 30 + "\n",
    )
    found = load_parallel(path, max_characters=20)
    assert found.pairs == (Pair("Water", "Wasser", "de"),)
    assert found.left_out == {
        "repeated": 1,
        "equal to the English text": 1,
        "without English": 1,
        "without a translation": 1,
        "longer than 20 characters": 1,
    }
    assert found.summary() == (
        "1 pairs (de 1); left out: 1 repeated, 1 equal to the English text, 1 without English, "
        "1 without a translation, 1 longer than 20 characters"
    )


def test_languages_and_several_files_and_folders(tmp_path: Path) -> None:
    one = write(tmp_path / "a-en-de.tsv", "Water\tWasser\n")
    (tmp_path / "more").mkdir()
    write(tmp_path / "more" / "b.tsv", "en\tfr\nWater\tEau\n")
    write(tmp_path / "more" / "talks.en", "Ice\n")
    write(tmp_path / "more" / "talks.th", "น้ำแข็ง\n")
    write(tmp_path / "more" / "README.md", "nothing")
    found = load_parallel([one, tmp_path / "more"])
    assert found.counts == {"de": 1, "fr": 1, "th": 1}
    assert len(found.sources) == 3
    assert load_parallel([one, tmp_path / "more"], languages=["fr"]).left_out == {"in other languages": 2}


def test_pairs_of_a_test_set_can_be_removed(tmp_path: Path) -> None:
    found = load_parallel(write(tmp_path / "p.tsv", "en\tde\nWhat is ice?\tWas ist Eis?\nWater\tWasser\nFire\tFeuer\n"))
    kept = found.without(["what  is ICE?", "feuer"])
    assert kept.pairs == (Pair("Water", "Wasser", "de"),)
    assert kept.left_out == {"in dev or test": 2}
    assert kept.checksum() != found.checksum()
    assert found.checksum() == ParallelText(found.pairs).checksum()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.tsv", "one column\n", r"p\.tsv, line 1: expected columns separated by tabs"),
        ("p.tsv", "a\tb\nc\n", r"p\.tsv, line 2: expected 2 columns as in the first line, got 1"),
        ("p.tsv", "a\tb\tc\td\n", r"p\.tsv, line 1: expected a header of language codes, or 2 or 3 columns"),
        ("p.tsv", "a\tb\tGerman!\n", r"p\.tsv, line 1: expected a language code such as de or pt_BR, got 'German!'"),
        ("p.jsonl", "{oops\n", r"p\.jsonl, line 1, column 2: expected a JSON object"),
        ("p.jsonl", '{"de": "Wasser"}\n', r"p\.jsonl, line 1: expected an English text in 'en' or 'english', got only"),
        ("p.jsonl", '{"en": "Water", "de": 5}\n', r"p\.jsonl, line 1: expected a string in 'de', got 5"),
        (
            "p.jsonl",
            '{"en": "\\ud800", "de": "b"}\n',
            r"p\.jsonl, line 1: expected Unicode text in 'en', got the lone surr",
        ),
        ("p.jsonl", "[" * 100_000, r"p\.jsonl, line 1: expected a JSON object, got an error: maximum recursion depth"),
        ("p.jsonl", '{"en": ' + "1" * 5000 + "}", r"p\.jsonl, line 1: expected a JSON object, got an error: Exceeds"),
        ("p.jsonl", "{}", r"p\.jsonl, line 1: expected an English text in 'en' or 'english', got only an empty object"),
        (
            "p.tmx",
            '<?xml version="1.0" encoding="foo"?><tmx/>',
            r"p\.tmx, after unit 0: expected TMX, got an error: unk",
        ),
        ("p.tmx", '<?xml version="1.0" encoding="shift_jis"?><tmx/>', r"p\.tmx, after unit 0: .* multi-byte"),
        ("p.csv", "a,b\n", r"p\.csv: expected parallel text \(\.tsv, .*got a file that ends in '\.csv'"),
        ("p.tsv", "", r"paths: expected at least one pair of texts in .*p\.tsv, got none: files are empty"),
    ],
)
def test_errors_name_file_line_and_value(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_parallel(write(tmp_path / name, content))


def test_utf_16_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    path.write_bytes("Water\tWasser\n".encode("utf-16"))
    with pytest.raises(DataError, match="it looks like UTF-16"):
        load_parallel(path)


def test_names_are_checked_before_the_first_file_is_read(tmp_path: Path) -> None:
    broken = write(tmp_path / "broken.tsv", "one column\n")
    with pytest.raises(DataError, match=r"missing\.tsv: file not found"):
        load_parallel([broken, tmp_path / "missing.tsv"])
    with pytest.raises(DataError, match="expected hub:NAME or hub:NAME/CONFIG, got 'hub:'"):
        load_parallel([broken, "hub:"])


def test_arguments(tmp_path: Path) -> None:
    path = write(tmp_path / "p.tsv", "en\tde\nWater\tWasser\n")
    with pytest.raises(ValueError, match="max_characters: expected an integer of at least 1, got 0"):
        load_parallel(path, max_characters=0)
    with pytest.raises(ValueError, match="languages: expected a list of language codes, got the string 'de'"):
        load_parallel(path, languages="de")
    with pytest.raises(ValueError, match="language: expected a language code"):
        load_parallel(path, language="German language")
    with pytest.raises(ValueError, match="paths: expected at least one"):
        load_parallel([])
    with pytest.raises(ValueError, match="paths: expected at least one"):
        load_parallel(None)  # type: ignore[arg-type]


def test_progress_counts_records(tmp_path: Path) -> None:
    lines = "".join(f"Water {n}\tWasser {n}\n" for n in range(2500))
    counts: list[int] = []
    load_parallel(write(tmp_path / "w-en-de.tsv", lines), progress=counts.append)
    assert counts == [1000, 1000]


def test_the_repr_is_a_summary(tmp_path: Path) -> None:
    found = load_parallel(write(tmp_path / "p.tsv", "en\tde\nWater\tWasser\nWater\tWasser\n"))
    assert repr(found) == "ParallelText(1 pairs (de 1); left out: 1 repeated)"
