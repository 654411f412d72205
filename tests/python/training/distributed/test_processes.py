"""Two processes train like one."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import runpy
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from typing_extensions import override

from relkt.data.types import RetrievalData
from relkt.encoders import MuseEncoder
from relkt.encoders.muse_network import MuseConfig
from relkt.encoders.muse_tokenizer import unigram_tokenizer
from relkt.training import Progress, TrainConfig, train
from relkt.training.distributed.processes import from_all, from_rank_0, join_job, num_processes, rank, sum_gradients

CHILD = Path(__file__).parent / "processes_child.py"


class Job:
    """Starts two processes with the same work.

    Args:
        folder: For files.
        model: The model each starts with.
        data: The data set.
    """

    def __init__(self, folder: Path, model: SentenceTransformer, data: RetrievalData) -> None:
        self._folder = folder
        model.save_pretrained(str(folder / "encoder"), create_model_card=False)
        (folder / "data.pickle").write_bytes(pickle.dumps(data))

    def exit_codes(self, work: str, **arguments: Any) -> list[int | None]:
        """Run a function of the child program in both processes; return the exit codes by rank."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["relkt.training.run"])
        processes = []
        for number in range(2):
            given = {
                "work": work,
                "number": number,
                "port": port,
                "model": str(self._folder / "encoder"),
                "data": str(self._folder / "data.pickle"),
                "folder": str(self._folder),
                "arguments": arguments,
            }
            process = context.Process(target=runpy.run_path, args=(str(CHILD), {"ARGUMENTS": given}, "__main__"))
            process.start()
            processes.append(process)
        for process in processes:
            process.join(timeout=120)
            if process.is_alive():
                process.kill()
                process.join()
        return [process.exitcode for process in processes]

    def found(self, work: str, **arguments: Any) -> list[dict[str, Any]]:
        """Run a function of the child program in both processes; return the results by rank."""
        assert self.exit_codes(work, **arguments) == [0, 0]
        return [torch.load(self._folder / f"found.{number}", weights_only=False) for number in range(2)]


class Losses(Progress):
    def __init__(self) -> None:
        self.values: list[float] = []

    @override
    def step(self, loss: float) -> None:
        self.values.append(loss)


def muse() -> SentenceTransformer:
    letters = [(letter, -3.0) for letter in "▁abcdefghnt0123456789"]
    tokenizer = unigram_tokenizer([("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *letters])
    torch.manual_seed(0)
    encoder = MuseEncoder(tokenizer, MuseConfig(40, 12, 8, 10, 6))
    encoder.network.reset_parameters()
    return SentenceTransformer(modules=[encoder], device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", {}),
        ("muse", {"chunk_tokens": 40, "gradient_cache": True, "stages": ["warmup", "contrastive"]}),
    ],
)
def test_two_processes_give_the_model_of_one(
    kind: str,
    settings: dict[str, Any],
    model_of: Callable[..., SentenceTransformer],
    tiny_data: RetrievalData,
    short_config: TrainConfig,
    tmp_path: Path,
) -> None:
    model = muse() if kind == "muse" else model_of(dropout=0.0)
    config = TrainConfig.from_dict(short_config.to_dict() | settings)
    config.to_toml(tmp_path / "config.toml")
    job = Job(tmp_path, model, tiny_data)
    zero, one = job.found("run", config=str(tmp_path / "config.toml"), output_dir=str(tmp_path / "two"))
    assert all(torch.equal(zero["weights"][name], one["weights"][name]) for name in zero["weights"])
    assert zero["random"] != one["random"]  # so dropout would differ between ranks

    progress = Losses()
    alone = train(model, tiny_data, output_dir=tmp_path / "alone", config=config, progress=progress).state_dict()
    assert zero["losses"] == pytest.approx(progress.values, rel=1e-3)
    assert one["losses"] == []  # only rank 0 reports
    assert all(torch.allclose(zero["weights"][name], alone[name], atol=5e-4) for name in alone)
    dev = [
        [
            r["dev_p1"]
            for r in map(json.loads, (tmp_path / run / "metrics.jsonl").read_text().splitlines())
            if "dev" in r
        ]
        for run in ("two", "alone")
    ]
    assert dev[0] == dev[1]
    names = [{str(p.relative_to(tmp_path / run)) for p in (tmp_path / run).rglob("*")} for run in ("two", "alone")]
    assert names[0] == names[1]


@pytest.mark.slow
def test_a_killed_job_resumes_bit_identically(
    model_of: Callable[..., SentenceTransformer], tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    """With dropout, whose random state differs between processes; the surviving process does not wait forever."""
    table = tiny_config.to_dict() | {"stages": ["warmup"], "chunk_tokens": 40, "gradient_cache": True}
    TrainConfig.from_dict(table).to_toml(tmp_path / "config.toml")
    job = Job(tmp_path, model_of(), tiny_data)
    arguments = {"config": str(tmp_path / "config.toml")}
    undisturbed, _ = job.found("run", output_dir=str(tmp_path / "whole"), **arguments)
    codes = job.exit_codes("run", output_dir=str(tmp_path / "killed"), dies_at=16, **arguments)
    assert codes[0] == -signal.SIGKILL
    assert codes[1] not in (0, -signal.SIGKILL)
    resumed, _ = job.found("run", output_dir=str(tmp_path / "killed"), **arguments)
    assert len(resumed["losses"]) == 14  # of 28, with a checkpoint after 14
    assert resumed["losses"] == undisturbed["losses"][14:]
    for file in ("metrics.jsonl", "model/model.safetensors", "results.json"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.slow
def test_collective_operations(
    model_of: Callable[..., SentenceTransformer], tiny_data: RetrievalData, tmp_path: Path
) -> None:
    model = model_of(dropout=0.0)
    zero, one = Job(tmp_path, model, tiny_data).found("collectives")
    assert [(f["rank"], f["processes"], f["all"]) for f in (zero, one)] == [(0, 2, [0, 10]), (1, 2, [0, 10])]
    assert zero["inside"] == one["inside"] == (1, 0, "nested")  # rank 0 works alone
    assert zero["KeyError"] == one["KeyError"] == "KeyError('gone')"
    assert zero["Unpicklable"] == "Unpicklable('1 and 2')"
    assert one["Unpicklable"] == "RuntimeError('rank 0 failed: Unpicklable: 1 and 2')"
    for name in ("encoded all", "encoded one"):
        assert (zero[name] == one[name]).all()
    assert zero["together"] == one["together"] == one["alone"]
    assert (zero["chunks"], one["chunks"]) == (1, 0)

    model.train()
    embedding = model(model.preprocess([tiny_data.passages[0].text]))["sentence_embedding"]
    (embedding * torch.arange(16.0)).sum().backward()
    for name, weights in model.named_parameters():
        if "word_embeddings" in name or weights.grad is None:  # no gradient in either process
            assert zero["gradients"][name] is one["gradients"][name] is None
        else:
            assert torch.equal(zero["gradients"][name], one["gradients"][name])
            assert torch.allclose(zero["gradients"][name], weights.grad, atol=1e-5)


@pytest.mark.slow
def test_refused_arguments_raise_in_all_processes(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    found = Job(tmp_path, tiny_model, tiny_data).found("refusals", output_dir=str(tmp_path / "run"))
    for one in found:
        assert "output_dir: expected a new or empty folder" in one["folder"]
        assert "config: expected the same in all processes of a job, got TrainConfig(" in one["config"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["other"]


def test_a_single_process_is_a_job_of_one(tiny_model: SentenceTransformer) -> None:
    join_job(tiny_model)
    assert (num_processes(), rank(), from_all(3), from_rank_0(lambda: 4)) == (1, 0, [3], 4)
    sum_gradients(tiny_model)
    assert all(weights.grad is None for weights in tiny_model.parameters())


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_sharded_weights_are_refused(
    name: str, tiny_model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ValueError, match=f"ACCELERATE_USE_{name}: expected false"):
        join_job(tiny_model)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        device = torch.device("cuda", 0)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"LOCAL_RANK: expected at most one process .* 1 GPUs, got process 2"):
        join_job(OnGpu())  # type: ignore[arg-type]
