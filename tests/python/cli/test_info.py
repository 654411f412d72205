"""``relkt info``: facts about indexes, models and runs."""

import json

import numpy as np
import pytest

import relkt


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "none"], "PATH: no such file or folder: none"),
        (["info", "."], "neither modules.json, config.json nor metrics.jsonl"),
        (["info", "passages.jsonl"], "passages.jsonl"),
    ],
)
def test_bad_input_is_one_line(refused, arguments, message):
    refused(arguments, message)


def test_info_of_an_index(run, index):
    result = run("info", index, "--verify", "--json")
    facts = json.loads(result.stdout)
    assert (facts["kind"], facts["passages"], facts["dimensions"], facts["checksums"]) == ("index", 3, 512, "ok")
    assert facts["encoder"] == "muse"
    assert facts["columns"]["year"] == "int64"
    assert facts["languages"] == {"en": 2, "de": 1}
    shown = run("info", index).stdout
    assert "passages" in shown
    assert "muse" in shown
    assert json.loads(run("info", index.with_name("w.passages.arrow"), "--json").stdout)["kind"] == "passages"


def test_info_finds_damage(run, index, tmp_path):
    damaged = tmp_path / "damaged.relkt"
    content = bytearray(index.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    result = run("info", damaged, "--verify")
    assert result.exit_code == 2
    assert "damaged.relkt" in result.stderr


@pytest.mark.slow
def test_info_of_a_bare_index_and_a_model(run, tmp_path):
    relkt.Index(np.eye(3, dtype=np.float32), ids=[5, 6, 7]).save(tmp_path / "bare.relkt")
    facts = json.loads(run("info", tmp_path / "bare.relkt", "--json").stdout)
    assert (facts["ids"], facts["texts"]) == ("integers", "none")
    relkt.load_encoder("muse", device="cpu").save(str(tmp_path / "muse"))
    facts = json.loads(run("info", tmp_path / "muse", "--json").stdout)
    assert (facts["kind"], facts["dimensions"], facts["modules"]) == ("model", 512, "MuseEncoder")


def test_info_of_a_run(run, tmp_path):
    lines = [{"stage": "warmup", "dev_p1": 0.5}, {"stage": "warmup", "dev_p1": 0.75}, {"stage": "warmup", "loss": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    facts = json.loads(run("info", tmp_path, "--json").stdout)
    assert (facts["kind"], facts["complete"], facts["stages"]) == (
        "training run",
        False,
        {"warmup": "dev P@1 up to 0.750"},
    )
