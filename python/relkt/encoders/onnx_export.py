"""Export of encoders to ONNX files, and comparison of the files with the encoder."""

from __future__ import annotations

import json
import logging
import os
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
from relkt.storage import atomic_folder, locked

GRAPH, TOKENIZER, SETTINGS = "model.onnx", "tokenizer.json", "onnx_settings.json"
"""The files of an export."""
OUTPUT = "sentence_embedding"
"""Name of the graph's output."""
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
"""Texts on which every export is compared: short, long, in many scripts."""
TOLERANCE = 1e-5
"""Largest allowed difference in a component of a unit row.

Summation in another order in float32 causes differences of about 1e-7.
"""

_IN_ONE_FILE = 1_500_000_000  # bytes of weights; protobuf files are limited to 2 GB
_INSTALL = "pip install 'relkt[onnx]'"


class ExportDiffersError(RuntimeError):
    """The exported files do not embed a text as the model does; no file was written."""


@dataclass(frozen=True)
class OnnxExport:
    """A finished export.

    Args:
        folder: Folder of the files.
        inputs: Names of the graph's inputs.
        dimension: Width of an embedding.
        max_difference: Largest difference in a component between the graph's unit rows and the model's.
        num_texts: Number of compared texts.
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
    """Exports an encoder as an ONNX graph with its tokenizer, and checks that together they embed as the encoder does.

    The folder gets

    - ``model.onnx``: from ``input_ids`` and ``attention_mask`` (and ``token_type_ids``, if the model uses them), int64
      of shape (n, longest), to ``sentence_embedding``, float32 of shape (n, dim). The graph includes pooling and all
      later modules; its rows are unit rows, even if the model's are not. Weights of more than 1.5 GB are in
      ``model.onnx.data``;
    - ``tokenizer.json``, for the package ``tokenizers``; it pads, and truncates at the model's limit;
    - ``onnx_settings.json``: inputs, output, dimension, limit, prompts (to be put before texts), and the largest
      difference in the check.

    The check runs ONNX Runtime on the CPU with these files, on each text alone and on all texts in one batch, and
    compares the rows with :func:`~relkt.encoders.encode_passages`. The folder is created only if the check passes.

    mUSE's tokenizer file differs from its tokenizer on rare sequences of combining marks, because
    :meth:`~relkt.encoders.MuseEncoder.repair` rewrites them before tokenization.

    Args:
        model: A transformer encoder or mUSE, with weights in float32; it stays unchanged.
        folder: Folder to write; must be new or empty.
        texts: Further texts to compare.
        tolerance: Largest difference allowed in any component of a unit row; default 1e-5.

    Returns:
        The export, with the largest difference.

    Raises:
        ImportError: If ``onnx``, ``onnxscript`` or ``onnxruntime`` is not installed.
        ArgumentError: If a module of the model cannot be exported, the model's weights are not float32, its tokenizer
            has no file, or ``tolerance`` is not above 0.
        ExportDiffersError: If the difference is larger than ``tolerance``; the message has the difference and the text.
        ArgumentExistsError: If the folder has files, or gets some during the export; the error is also a
            ``FileExistsError``.
        LockedError: If another process exports to the folder; the error is also a ``ValueError``.
        ArgumentNotFoundError: If the parent folder does not exist; the error is also a ``FileNotFoundError``.
        OSError: If the folder cannot be written.
    """
    _require_packages()
    if not tolerance > 0:
        raise ArgumentError("tolerance", "a number above 0", repr(tolerance))
    if isinstance(texts, str):
        raise ArgumentError("texts", "a sequence of texts", "one text", hint="put it in a list")
    target = Path(folder).expanduser().absolute()
    _check_free(target)
    if not target.parent.is_dir():
        raise ArgumentNotFoundError("folder", problem=f"the parent folder of {target} does not exist")
    compared = [*TEXTS, *texts]
    with locked(target), _on_cpu(model), atomic_folder(target) as written:
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
        _check_free(target)  # files that were added during the export would be deleted
    return result


def _check_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArgumentExistsError("folder", "a new or empty folder", folder)


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"export to ONNX requires {error.name}: {_INSTALL}") from error


@contextmanager
def _on_cpu(model: SentenceTransformer) -> Iterator[None]:
    """Moves the model to the CPU in evaluation mode, and back at the end."""
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
        raise ArgumentError("model", "an encoder of plain texts", f"one of the modality {modality!r}")
    tensors = {name: value for name, value in features.items() if isinstance(value, torch.Tensor)}
    if unknown := set(tensors) - set(INPUTS):
        raise ArgumentError("model", f"no inputs except {', '.join(INPUTS)}", ", ".join(sorted(unknown)))
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
    """Suppresses the exporter's notes on optional packages and on axes shared by several inputs."""
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
        raise ArgumentError("model", f"a tokenizer with the file {TOKENIZER}", type(first.tokenizer).__name__)
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
    """Returns the largest difference in any component between the exported files' rows and the expected ones.

    Raises:
        ExportDiffersError: If the difference is above the tolerance.
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
    for rows, how in ((one_by_one, "alone"), (run(texts), "in a batch")):
        if rows.shape != expected.shape:
            raise ExportDiffersError(
                f"model: the exported graph gives rows of shape {rows.shape}, not {expected.shape}"
            )
        difference = np.abs(rows - expected).max(axis=1)
        at = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
        if not difference[at] <= tolerance:
            raise ExportDiffersError(
                f"the embedding of a text {how} differs from the model's by {difference[at]:.2g} in a component, more "
                f"than the tolerance of {tolerance:.2g}; no file was written. The text: {texts[at][:80]!r}"
            )
        worst = max(worst, float(difference[at]))
    return worst
