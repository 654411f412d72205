"""Export of encoders to ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, StaticEmbedding, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel
from typer.testing import CliRunner

import relkt
from relkt.cli import app
from relkt.encoders import MuseEncoder, onnx_export
from relkt.encoders.onnx_export import TEXTS, TOLERANCE, ExportDiffersError, export_onnx
from relkt.encoders.onnx_graph import EncoderGraph, PaddedMuse
from relkt.storage import locked

pytest.importorskip("onnx", reason="needs onnx: pip install 'relkt[onnx]'")
pytest.importorskip("onnxscript", reason="needs onnxscript: pip install 'relkt[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'relkt[onnx]'")

QUESTIONS = ["the cat sat", "a dog ran far, and a bird flew farther than the fish swam", ""]
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}


def make_transformer(folder: Path, kind: str) -> Transformer:
    """A tiny random network with a tokenizer of single letters; ``kind`` is ``bert`` or ``xlm-roberta``."""
    bert = kind == "bert"
    # XLM-RoBERTa counts positions from its padding id, so both the id and the side of the padding matter.
    special = ["[PAD]", "[UNK]", "<s>", "</s>"] if bert else ["<s>", "[PAD]", "</s>", "[UNK]"]
    vocabulary = {token: row for row, token in enumerate([*special, *"abcdefghijklmnopqrstuvwxyz,.?"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    start, end = vocabulary["<s>"], vocabulary["</s>"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", start), ("</s>", end)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=24,
        model_input_names=["input_ids", *(["token_type_ids"] if bert else []), "attention_mask"],
    )
    torch.manual_seed(0)
    pad = vocabulary["[PAD]"]
    network: Any = (
        BertModel(BertConfig(vocab_size=len(vocabulary), pad_token_id=pad, **SIZES))
        if bert
        else XLMRobertaModel(XLMRobertaConfig(vocab_size=len(vocabulary), pad_token_id=pad, **SIZES))
    )
    network.save_pretrained(folder)
    fast.save_pretrained(folder)
    return Transformer(str(folder))


def run_files(folder: Path, texts: list[str]) -> np.ndarray:
    """Embeds texts with the exported files only, without torch or relkt."""
    settings = json.loads((folder / "onnx_settings.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    encodings = tokenizer.encode_batch([settings["prompts"]["query"] + text for text in texts])
    names = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    feed = {name: np.array([getattr(encoding, names[name]) for encoding in encodings]) for name in settings["inputs"]}
    return session.run([settings["output"]], feed)[0]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.slow
def test_mean_pooling_and_token_types(tmp_path: Path) -> None:
    modules = [make_transformer(tmp_path / "model", "bert"), Pooling(16)]
    model = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "ask, "})
    export = relkt.export_onnx(model, tmp_path / "onnx", texts=["one more"])
    assert export.inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert (export.dimension, export.num_texts) == (16, len(TEXTS) + 1)
    assert 0 < export.max_difference <= TOLERANCE
    np.testing.assert_allclose(
        run_files(tmp_path / "onnx", QUESTIONS), unit(model.encode_query(QUESTIONS)), atol=TOLERANCE
    )


@pytest.mark.slow
def test_the_graph_includes_all_modules_after_the_network(tmp_path: Path) -> None:
    modules = [
        make_transformer(tmp_path / "model", "xlm-roberta"),
        Pooling(16, pooling_mode="cls"),
        Normalize(),
        Dense(16, 7, activation_function=torch.nn.Tanh()),
        Normalize(),
    ]
    model = SentenceTransformer(modules=modules, device="cpu", prompts={"query": ""}).train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    export = export_onnx(model, str(tmp_path / "onnx"))
    assert export.folder == tmp_path / "onnx"
    assert export.inputs == ("input_ids", "attention_mask")
    assert model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    long = "the cat and the dog and the bird and the fish, all of them, ran far away."
    texts = [*QUESTIONS, long]
    found = run_files(tmp_path / "onnx", texts)
    np.testing.assert_allclose(found, model.eval().encode_query(texts), atol=TOLERANCE)
    assert found.shape == (4, 7)


@pytest.mark.slow
def test_muse_with_added_pieces(tiny_encoder: MuseEncoder, tmp_path: Path) -> None:
    tiny_encoder.add_pieces([("▁farther", -2.0)], torch.randn(1, 12, generator=torch.Generator().manual_seed(1)))
    model = SentenceTransformer(modules=[tiny_encoder], device="cpu", prompts={"query": ""})
    (tmp_path / "onnx").mkdir()  # an empty folder is allowed
    export_onnx(model, tmp_path / "onnx")
    np.testing.assert_allclose(run_files(tmp_path / "onnx", QUESTIONS), model.encode_query(QUESTIONS), atol=TOLERANCE)
    assert sorted(file.name for file in (tmp_path / "onnx").iterdir()) == [
        "model.onnx",
        "onnx_settings.json",
        "tokenizer.json",
    ]


@pytest.mark.slow
def test_padded_muse_equals_the_network(muse: SentenceTransformer) -> None:
    features = muse.preprocess([*TEXTS, "x"])
    with torch.no_grad():
        found = PaddedMuse(muse[0].network)(features)["sentence_embedding"]
        expected = muse(features)["sentence_embedding"]
    np.testing.assert_allclose(torch.nn.functional.normalize(found, dim=1), expected, atol=TOLERANCE)


@pytest.mark.slow
def test_a_difference_is_an_error_and_leaves_no_file(
    tiny_model: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = PaddedMuse.forward

    def without_the_mask(self: PaddedMuse, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return forward(self, {**features, "attention_mask": torch.ones_like(features["attention_mask"])})

    monkeypatch.setattr(PaddedMuse, "forward", without_the_mask)
    with pytest.raises(
        ExportDiffersError, match=r"a text in a batch differs .* of 1e-05; no file was written\. The text"
    ):
        export_onnx(tiny_model, tmp_path / "onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_export_deletes_no_file_of_others(
    tiny_model: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "onnx"
    folder.mkdir()

    def put_a_file(*_: object) -> float:
        (folder / "notes.txt").write_text("kept")
        return 0.0

    monkeypatch.setattr(onnx_export, "_write_graph", lambda *_: ("input_ids",))
    monkeypatch.setattr(onnx_export, "_check", put_a_file)
    with locked(folder), pytest.raises(ValueError, match="another run is using"):
        export_onnx(tiny_model, folder)
    assert list(folder.iterdir()) == []
    with pytest.raises(FileExistsError, match="folder: expected a new or empty folder, got"):
        export_onnx(tiny_model, folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["onnx", "notes.txt"]


def test_models_that_cannot_be_exported(tiny_model: SentenceTransformer, tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    static = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=3)], device="cpu")
    with pytest.raises(ValueError, match="model: expected a Transformer or mUSE as the first module, got StaticE"):
        EncoderGraph(static)
    tiny_model.append(torch.nn.ReLU())
    with pytest.raises(ValueError, match=r"model: expected Dense, .* after the network, got ReLU"):
        export_onnx(tiny_model, tmp_path / "onnx")
    transformer = make_transformer(tmp_path / "model", "bert")
    model = SentenceTransformer(modules=[transformer, Pooling(16, include_prompt=False)], device="cpu")
    with pytest.raises(ValueError, match="model: expected pooling over all tokens"):
        EncoderGraph(model)
    model = SentenceTransformer(modules=[transformer, Pooling(16)], device="cpu").half()
    with pytest.raises(ValueError, match=r"model: expected weights in float32, got torch.float16 in 0\."):
        EncoderGraph(model)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tolerance": 0}, ValueError, "tolerance: expected a number above 0, got 0"),
        ({"texts": "text"}, ValueError, "texts: expected a sequence of texts, got one text"),
        ({"folder": "a/b"}, FileNotFoundError, "folder: the parent folder of .* does not exist"),
        ({"folder": "."}, FileExistsError, "folder: expected a new or empty folder, got"),
        ({"folder": "file"}, FileExistsError, "folder: expected a new or empty folder, got"),
    ],
)
def test_arguments_are_checked(
    options: dict[str, Any], error: type[Exception], message: str, tiny_model: SentenceTransformer, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(error, match=message):
        export_onnx(tiny_model, **{**options, "folder": tmp_path / options.get("folder", "onnx")})


@pytest.mark.slow
def test_the_command(tiny_model: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    tiny_model.save(str(tmp_path / "model"))
    run = CliRunner().invoke
    result = run(app, ["export", str(tmp_path / "model"), "--onnx", str(tmp_path / "onnx")])
    assert result.exit_code == 0, result.stderr
    assert f"wrote {tmp_path / 'onnx'}: 6 dimensions; embeddings of {len(TEXTS)} texts differ by" in result.stderr
    found = run_files(tmp_path / "onnx", QUESTIONS)
    np.testing.assert_allclose(found, tiny_model.encode_query(QUESTIONS), atol=TOLERANCE)
    again = run(app, ["export", str(tmp_path / "model"), "--onnx", str(tmp_path / "onnx")])
    assert again.exit_code == 2
    assert "error: --onnx: expected a new or empty folder" in again.stderr
    off = run(app, ["export", str(tmp_path / "model"), "--onnx", str(tmp_path / "x"), "--tolerance", "1e-12"])
    assert off.exit_code == 1
    assert "tolerance of 1e-12" in off.stderr
    assert not (tmp_path / "x").exists()
