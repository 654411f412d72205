"""The check for plain English finds what its list says, and reports the right line."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "tools" / "plain_english.py"
if not SCRIPT.exists():
    pytest.skip("the repository's tools are not in this checkout", allow_module_level=True)
spec = importlib.util.spec_from_file_location("plain_english", SCRIPT)
plain_english = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain_english)

ENTRIES = plain_english.tomllib.loads(plain_english.LIST.read_text(encoding="utf-8"))


def found(text, suffix=".md"):
    return [(finding.line, finding.phrase) for finding in plain_english.findings(text, suffix)]


@pytest.mark.parametrize("entry", ENTRIES["phrase"], ids=lambda entry: entry["use"])
def test_examples_of_phrases(entry):
    rule = plain_english.re.compile(entry["find"])
    for text in entry["bad"]:
        assert rule.search(text)
        assert found(text)
    for text in entry.get("good", ()):
        assert not rule.search(text)


@pytest.mark.parametrize("entry", ENTRIES["opening"], ids=lambda entry: entry["use"])
def test_examples_of_openings(entry):
    for text in entry["bad"]:
        assert found(f'def f():\n    """{text}"""\n', ".py") == [(2, text.split()[0])]
        assert found(f"/// {text}\nfn f() {{}}\n", ".rs") == [(1, text.split()[0])]
    for text in entry["good"]:
        assert not found(f'def f():\n    """{text}"""\n', ".py")


def test_only_prose_of_code_is_read():
    assert not found("anew = anew + 1\n", ".py")
    assert found("x = 1  # computed anew\ny = 'not\\n'\nz = f'anew {x}'\n", ".py") == [(1, "anew"), (3, "anew")]
    assert found("\n\ndef test_it_goes_on(): ...\n", ".py") == [(3, "goes on")]
    assert found("\nfn goes_on() {}\n", ".rs") == [(2, "goes on")]


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("\nA file that is\nno index.\n", ".md"),
        ('\n"""A file that is\nno index."""\n', ".py"),
        ("\n# A file that is\n# no index.\n", ".py"),
        ('\nx = ("a file that is "\n     "no index")\n', ".py"),
        ("\n/// A file that is\n/// no index.\n", ".rs"),
    ],
)
def test_a_phrase_may_span_lines(text, suffix):
    assert found(text, suffix) == [(2, "is no")]


def test_paragraphs_are_apart():
    assert not found("What that is\n\nno index has.\n")


def test_a_wrapped_comment_is_not_an_opening():
    assert not found("/// Says\n/// What is next.\n", ".rs")
    assert found("/// Says this.\n///\n/// What is next.\n", ".rs") == [(3, "What")]


def test_a_marked_line_is_left_out():
    assert not found("it goes on  plain: ok\n")


def test_files_are_reported_with_their_lines(tmp_path, capsys):
    (tmp_path / "a.md").write_text("one\nit goes on\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("it goes on\n", encoding="utf-8")
    assert plain_english.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{tmp_path}/a.md:2: 'goes on' (continue, resume)\n1 phrases to rewrite\n"
    (tmp_path / "a.md").write_text("one\n", encoding="utf-8")
    assert plain_english.main([str(tmp_path)]) == 0
