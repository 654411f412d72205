"""Program of the two processes of a job. Reads ``ARGUMENTS`` and writes its results to ``FOLDER/found.RANK``."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from relkt import encoders
from relkt.data.types import Level, RetrievalData
from relkt.training import DevEvaluator, Progress, TrainConfig, train
from relkt.training.distributed.encoding import encode_passages, encode_queries
from relkt.training.distributed.processes import from_all, from_rank_0, join_job, num_processes, rank, sum_gradients
from relkt.training.loop.gradient_cache import CachedForward, make_chunks

# The tests that compare with this program do the same.
torch.cpu._is_avx512_bf16_supported = lambda: False

LANGUAGES = ("en", "de", "th")


class Recorder(Progress):
    """Records losses, and kills the process at a step."""

    def __init__(self, dies_at: int | None) -> None:
        self.losses: list[float] = []
        self._dies_at = dies_at

    def step(self, loss: float) -> None:
        self.losses.append(loss)
        if len(self.losses) == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


def run(
    model: SentenceTransformer, data: RetrievalData, *, config: str, output_dir: str, dies_at: int | None = None
) -> dict[str, Any]:
    """Train or resume."""
    progress = Recorder(dies_at)
    trained = train(
        model, data, output_dir=output_dir, config=TrainConfig.from_toml(config), resume=True, progress=progress
    )
    return {"losses": progress.losses, "weights": trained.state_dict(), "random": torch.rand(2).tolist()}


def refusals(model: SentenceTransformer, data: RetrievalData, *, output_dir: str) -> dict[str, str]:
    """Refused arguments, which raise in both processes."""
    found = {}
    config = TrainConfig.from_dict({"stages": ["warmup"]})
    Path(output_dir).mkdir(exist_ok=True)
    (Path(output_dir) / "other").touch()
    try:
        train(model, data, output_dir=output_dir, config=config)
    except FileExistsError as error:
        found["folder"] = str(error)
    other = TrainConfig.from_dict({"stages": ["warmup"], "seed": 1 + rank()})
    try:
        train(model, data, output_dir=output_dir, config=other)
    except ValueError as error:
        found["config"] = str(error)
    return found


class Unpicklable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def collectives(model: SentenceTransformer, data: RetrievalData) -> dict[str, Any]:
    """Collective operations, compared with the same work in one process."""
    join_job(model)
    me = rank()
    found: dict[str, Any] = {"rank": me, "processes": num_processes(), "all": from_all(me * 10)}
    found["inside"] = from_rank_0(lambda: (num_processes(), rank(), from_rank_0(lambda: "nested")))
    for error in (KeyError("gone"), Unpicklable(1, 2)):

        def fail(error: Exception = error) -> None:
            raise error

        try:
            from_rank_0(fail)
        except Exception as caught:
            found[type(error).__name__] = repr(caught)

    texts = [passage.text for passage in data.passages]
    for name, some in (("all", texts), ("one", texts[:1])):
        shared = encode_passages(model, some, batch_size=4)
        alone = encoders.encode_passages(model, some, batch_size=4)
        assert np.allclose(shared, alone, atol=1e-6)
        assert np.allclose(encode_queries(model, some, batch_size=4), alone, atol=1e-6)
        found[f"encoded {name}"] = shared
    arguments: dict[str, Any] = {"languages": LANGUAGES, "level": Level.PASSAGE}
    found["together"] = DevEvaluator(data, together=True, **arguments)(model)
    if me == 1:  # without the other process
        found["alone"] = DevEvaluator(data, **arguments)(model)

    # Fewer texts than processes: rank 1 gets no chunk.
    chunks = make_chunks(texts[:1], lambda some: model.preprocess(some), max_tokens=0, first_row=0)
    found["chunks"] = len(chunks)
    chunked = CachedForward(model, chunks, 1, max_kept_tokens=None)
    (chunked.embeddings * torch.arange(16.0)).sum().backward()
    chunked.backward()
    model[0].auto_model.embeddings.word_embeddings.weight.grad = None
    sum_gradients(model)
    found["gradients"] = {name: p.grad for name, p in model.named_parameters()}
    return found


def main(work: str, number: int, port: int, model: str, data: str, folder: str, arguments: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    loaded = pickle.loads(Path(data).read_bytes())
    found = globals()[work](SentenceTransformer(model, device="cpu", trust_remote_code=True), loaded, **arguments)
    torch.save(found, Path(folder) / f"found.{number}")


if __name__ == "__main__":
    main(**globals()["ARGUMENTS"])
