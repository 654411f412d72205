"""In which number format the forward pass is."""

import pytest
import torch

from relkt.training import Precision
from relkt.training.model.precision import is_bfloat16

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("supported", [True, False])
def test_auto_is_what_the_device_multiplies_in(monkeypatch, supported):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    # Emulated bfloat16, as older GPUs have it, is slower than float32.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported or including_emulation
    )
    assert is_bfloat16(Precision.AUTO, CPU) is supported
    assert is_bfloat16(Precision.AUTO, GPU) is supported
    assert not is_bfloat16(Precision.AUTO, torch.device("mps"))


def test_auto_without_the_question(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert not is_bfloat16(Precision.AUTO, CPU)


@pytest.mark.parametrize("device", [CPU, GPU])
def test_what_is_said_is_done(device):
    assert is_bfloat16(Precision.BFLOAT16, device)
    assert not is_bfloat16(Precision.FLOAT32, device)
    assert not is_bfloat16(Precision.FLOAT16, device)
