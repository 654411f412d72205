"""``relkt index``: the files that it writes, and the input that it refuses."""

import pytest

import relkt

pytestmark = pytest.mark.usefixtures("shared_muse")


def test_index_writes_two_files(index):
    assert len(relkt.Index.open(index)) == 3
    assert index.with_name("w.passages.arrow").is_file()
    assert not index.with_name("w.relkt.building").exists()


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["index", "none.jsonl", "--output", "x.relkt"], "none.jsonl: file not found"),
        (["index", "passages.jsonl", "--output", "w.relkt"], "choose another name, or pass --overwrite"),
        (["index", "passages.jsonl", "--output", "no/x.relkt"], "the folder of no/x.relkt does not exist"),
        (["index", "passages.jsonl", "--output", "x.relkt", "--text-column", "body"], "expected a text in 'body'"),
        (["index", "empty.txt", "--output", "x.relkt"], "expected at least one passage, got none"),
    ],
)
def test_bad_input_is_one_line(refused, arguments, message):
    refused(arguments, message, {"empty.txt": ""})
