"""Encoders as ONNX files, checked against the encoder before they are left behind."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from relkt.encoders.encoding import encode_passages
from relkt.encoders.muse import MuseEncoder
from relkt.encoders.onnx_graph import INPUTS, EncoderGraph
from relkt.errors import ArgumentError, ArgumentExistsError, ArgumentNotFoundError

GRAPH, TOKENIZER, SETTINGS = "model.onnx", "tokenizer.json", "onnx_settings.json"
"""The files of an export."""
OUTPUT = "sentence_embedding"
"""The graph's output."""
TEXTS = (
    "?",
    "How high is the highest mountain on Earth, and who was the first to stand on its top?",
    "¿Por qué flota el hielo?",
    "Der Mond zieht das Meer an; deshalb gibt es Ebbe und Flut.",
    "เหตุใดน้ำทะเลจึงขึ้นและลง",
    "لماذا تحدث ظاهرة المد والجزر؟",
    "月が海を引くので、潮が満ち引きします。",
    "為什麼會有潮汐？ 달이 바다를 당긴다. Почему лёд плавает? बर्फ क्यों तैरती है? Γιατί επιπλέει ο πάγος;",
    "E = mc², 3.14159 % & <s> </s> [SEP] \U0001f30a\tend\n",
    "The Pacific is the largest and deepest of the five oceans, and it borders on Asia, Australia and America. " * 40,
)
"""What every export is compared on: short, long, in many scripts."""
TOLERANCE = 1e-5
"""How far a component of a unit row may be off. float32 in another order of summation is off by some 1e-7."""

_IN_ONE_FILE = 1_500_000_000  # bytes of weights; protobuf takes no more than 2 GB
_INSTALL = "pip install 'relkt[onnx]'"


class ExportDiffersError(RuntimeError):
    """The exported files embed a text otherwise than the model; nothing was written."""


@dataclass(frozen=True)
class OnnxExport:
    """What was exported.

    Args:
        folder: Where it is.
        inputs: Names of the graph's inputs.
        dimension: Width of an embedding.
        max_difference: Largest difference in a component between the graph's unit rows and the model's.
        num_texts: How many texts were compared.
    """

    folder: Path
    inputs: tuple[str, ...]
    dimension: int
    max_difference: float
    num_texts: int


def export_onnx(
    model: SentenceTransformer,
    folder: str | os.PathLike[str],
    *,
    texts: Sequence[str] = (),
    tolerance: float = TOLERANCE,
) -> OnnxExport:
    """Write an encoder as an ONNX graph with its tokenizer, and check that together they embed as the encoder does.

    The folder gets

    - ``model.onnx``: ``input_ids`` and ``attention_mask`` (and ``token_type_ids``, if the model has them), int64 of
      shape (n, longest), to ``sentence_embedding``, float32 of shape (n, dim). Pooling and all that follows is in the
      graph, and rows are unit rows, also where the model's own are not. Weights of more than 1.5 GB are in
      ``model.onnx.data`` beside it;
    - ``tokenizer.json``, for the package ``tokenizers``; it pads, and cuts at the model's limit;
    - ``onnx_settings.json``: inputs, output, dimension, limit, prompts (which are to be put before texts), and how far
      the graph was off.

    The check runs ONNX Runtime on the CPU over these files, each text by itself and all in one batch, and compares with
    :func:`~relkt.encoders.encode_passages`. The folder appears only if all is well.

    mUSE's tokenizer file differs from its tokenizer on rare sequences of combining marks, which
    :meth:`~relkt.encoders.MuseEncoder.repair` rewrites first.

    Args:
        model: A transformer encoder or mUSE, with weights in float32; it is left as it was.
        folder: Must not exist, or be empty.
        texts: Compared besides those that always are.
        tolerance: The largest difference allowed in any component of a unit row; default 1e-5.

    Returns:
        What was written, and how far it is off.

    Raises:
        ImportError: If ``onnx``, ``onnxscript`` or ``onnxruntime`` is not installed.
        ValueError: If the model has a module that cannot be exported, weights not in float32 or no tokenizer file; or
            ``tolerance`` is not above 0.
        ExportDiffersError: If the files embed a text otherwise: the message says by how much, and which text.
        FileExistsError: If the folder has files.
        FileNotFoundError: If the folder to put it in does not exist.
        OSError: If it cannot be written.
    """
    _require_packages()
    if not tolerance > 0:
        raise ArgumentError("tolerance", "a number above 0", repr(tolerance))
    if isinstance(texts, str):
        raise ValueError("texts: expected a sequence of texts, got one text; put it in a list")
    target = Path(folder).expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ArgumentExistsError("folder", "a new or empty folder", target)
    if not target.parent.is_dir():
        raise ArgumentNotFoundError("folder", problem=f"the folder of {target} does not exist")
    compared = [*TEXTS, *texts]
    with _on_cpu(model), tempfile.TemporaryDirectory(prefix=".relkt-", dir=target.parent) as work:
        written = Path(work) / "onnx"
        written.mkdir()
        graph = EncoderGraph(model)
        inputs = _write_graph(graph, model, written / GRAPH)
        tokenizer = _write_tokenizer(model, written)
        expected = encode_passages(model, compared, prompt="")
        difference = _check(written / GRAPH, tokenizer, inputs, compared, expected, tolerance)
        result = OnnxExport(target, inputs, expected.shape[1], difference, len(compared))
        settings = {
            "inputs": inputs,
            "output": OUTPUT,
            "dimension": result.dimension,
            "max_seq_length": model.max_seq_length,
            "prompts": model.prompts,
            "default_prompt_name": model.default_prompt_name,
            "max_difference": difference,
            "compared_texts": len(compared),
        }
        (written / SETTINGS).write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        if target.exists():
            target.rmdir()
        written.rename(target)
    return result


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"exporting to ONNX needs {error.name}: {_INSTALL}") from error


@contextmanager
def _on_cpu(model: SentenceTransformer) -> Iterator[None]:
    """The model on the CPU and in evaluation mode, and as it was afterwards."""
    device, was_training = model.device, model.training
    model.eval().to("cpu")
    try:
        with torch.no_grad():
            yield
    finally:
        model.to(device).train(was_training)


def _write_graph(graph: EncoderGraph, model: SentenceTransformer, path: Path) -> tuple[str, ...]:
    features = model.preprocess(["the first text", "another, of several more words"])
    if (modality := features.get("modality", "text")) != "text":
        raise ValueError(f"model: expected an encoder of plain texts, got one of the modality {modality!r}")
    tensors = {name: value for name, value in features.items() if isinstance(value, torch.Tensor)}
    if unknown := set(tensors) - set(INPUTS):
        raise ValueError(f"model: expected no inputs but {', '.join(INPUTS)}, got {', '.join(sorted(unknown))}")
    inputs = tuple(name for name in INPUTS if name in tensors)
    n, longest = torch.export.Dim("n"), torch.export.Dim("longest")
    size = sum(weight.nbytes for weight in graph.state_dict().values())
    with _quiet():
        torch.onnx.export(
            graph.eval(),
            tuple(tensors[name] for name in inputs),
            path,
            input_names=inputs,
            output_names=[OUTPUT],
            dynamic_shapes={name: {0: n, 1: longest} for name in inputs},
            dynamo=True,
            external_data=size > _IN_ONE_FILE,
            verbose=False,
        )
    return inputs


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on packages that it would support, and on two inputs having the same axes."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*The axis name", category=UserWarning)
            yield
    finally:
        logger.setLevel(level)


def _write_tokenizer(model: SentenceTransformer, folder: Path) -> Tokenizer:
    path = folder / TOKENIZER
    first: Any = next(iter(model))
    padding: dict[str, Any] = {}
    if isinstance(first, MuseEncoder):
        first.tokenizer.save(str(path))
    else:
        first.tokenizer.save_pretrained(folder)
        padding = {
            "pad_id": first.tokenizer.pad_token_id or 0,
            "pad_token": first.tokenizer.pad_token or "",
            "pad_type_id": getattr(first.tokenizer, "pad_token_type_id", 0),
            "direction": first.tokenizer.padding_side,
        }
    if not path.is_file():
        raise ValueError(f"model: expected a tokenizer with the file {TOKENIZER}, got {type(first.tokenizer).__name__}")
    tokenizer = Tokenizer.from_file(str(path))
    if model.max_seq_length is not None:
        tokenizer.enable_truncation(
            model.max_seq_length, direction=getattr(first.tokenizer, "truncation_side", "right")
        )
    tokenizer.enable_padding(**padding)
    tokenizer.save(str(path))
    return Tokenizer.from_file(str(path))


def _check(
    graph: Path,
    tokenizer: Tokenizer,
    inputs: tuple[str, ...],
    texts: Sequence[str],
    expected: NDArray[np.float32],
    tolerance: float,
) -> float:
    """The largest difference between the rows of the files and those expected, in any component.

    Raises:
        ExportDiffersError: If it is above the tolerance.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])

    def run(batch: Sequence[str]) -> NDArray[np.float32]:
        encodings = tokenizer.encode_batch(list(batch))
        values = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
            "token_type_ids": [encoding.type_ids for encoding in encodings],
        }
        rows: NDArray[np.float32] = session.run(
            [OUTPUT], {name: np.array(values[name], dtype=np.int64) for name in inputs}
        )[0]
        return rows

    one_by_one = np.concatenate([run([text]) for text in texts])
    worst = 0.0
    for rows, how in ((one_by_one, "by itself"), (run(texts), "in a batch")):
        if rows.shape != expected.shape:
            raise ExportDiffersError(
                f"model: the exported graph gives rows of shape {rows.shape}, not {expected.shape}"
            )
        difference = np.abs(rows - expected).max(axis=1)
        at = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
        if not difference[at] <= tolerance:
            raise ExportDiffersError(
                f"the exported files embed a text {how} otherwise than the model, by {difference[at]:.2g} in a "
                f"component where {tolerance:.2g} is allowed: {texts[at][:80]!r}. Nothing was written"
            )
        worst = max(worst, float(difference[at]))
    return worst
