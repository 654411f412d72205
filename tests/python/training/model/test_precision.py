"""The precision of the forward pass."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from sentence_transformers import SentenceTransformer

from relkt.data.types import RetrievalData
from relkt.training import Precision, Stage, TrainConfig, train
from relkt.training.model.precision import is_bfloat16

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("supported", [True, False])
def test_auto_follows_the_support_of_the_device(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    # Emulated bfloat16, as on older GPUs, is slower than float32.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported or including_emulation
    )
    assert is_bfloat16(Precision.AUTO, CPU) is supported
    assert is_bfloat16(Precision.AUTO, GPU) is supported
    assert not is_bfloat16(Precision.AUTO, torch.device("mps"))


def test_auto_is_float32_if_support_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert not is_bfloat16(Precision.AUTO, CPU)


@pytest.mark.parametrize("device", [CPU, GPU])
def test_a_configured_precision_is_used(device: torch.device) -> None:
    assert is_bfloat16(Precision.BFLOAT16, device)
    assert not is_bfloat16(Precision.FLOAT32, device)
    assert not is_bfloat16(Precision.FLOAT16, device)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_bfloat16_is_for_training_steps_only(
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
    tmp_path: Path,
) -> None:
    seen: list[tuple[bool, bool]] = []
    pooling = tiny_model[1]

    def recording(module: torch.nn.Module, *_: object) -> None:
        seen.append((module.training, torch.is_autocast_enabled("cpu")))

    pooling.register_forward_hook(recording)
    stages = [stage.value for stage in tiny_config.stages]
    config = TrainConfig.from_dict(tiny_config.to_dict() | {"precision": "bfloat16", "stages": stages})
    model = train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config)
    assert set(seen) == {(True, True), (False, False)}  # (training, autocast): steps; evaluation and mining
    assert not {"forward", "_original_forward", "_is_accelerate_prepared"} & model.__dict__.keys()
    saved = SentenceTransformer(str(tmp_path / "run" / "model"), device="cpu")
    texts = [p.text for p in tiny_data.passages]
    assert np.array_equal(model.encode(texts), saved.encode(texts))


@pytest.mark.slow
def test_a_model_wrapped_by_accelerate_elsewhere(
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Accelerate adds attributes to a model, replaces its ``forward``, and may set an environment variable."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    AcceleratorState._reset_state(reset_partial_state=True)  # there is one per process
    other = Accelerator(mixed_precision="bf16", cpu=True).prepare_model(tiny_model)
    AcceleratorState._reset_state(reset_partial_state=True)
    left = dict(other.__dict__)
    assert {"forward", "_original_forward", "_is_accelerate_prepared"} <= left.keys()
    seen = set()
    tiny_model[1].register_forward_hook(lambda *_: seen.add(torch.is_autocast_enabled("cpu")))
    config = replace(tiny_config, precision=Precision.FLOAT32, stages=(Stage.WARMUP,))
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config)
    assert seen == {False}
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == "bf16"
    for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
        assert tiny_model.__dict__[name] == left[name]


@pytest.mark.slow
def test_bfloat16_trains(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    config = TrainConfig.from_dict(tiny_config.to_dict() | {"precision": "bfloat16", "stages": ["warmup"]})
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config)
    losses = [r["loss"] for r in lines(tmp_path / "run") if "loss" in r]
    assert losses[-1] < losses[0]
    assert all(p.dtype is torch.float32 for p in tiny_model.parameters())
