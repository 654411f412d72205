"""What ``relkt evaluate`` does."""

from __future__ import annotations

from pathlib import Path

from relkt.cli.progress import progress_bar
from relkt.data import Level, RetrievalData, Split
from relkt.evaluation import Report, evaluate_embeddings
from relkt.training.config import TrainConfig


def run_evaluation(
    model: str,
    data: RetrievalData,
    levels: tuple[Level, ...],
    split: Split,
    trained: tuple[str, ...] | None,
    k: int,
    device: str | None,
    *,
    full_ranking: bool = False,
) -> list[Report]:
    """A report for each level; every text is encoded once."""
    from relkt.encoders import encode_passages, encode_queries, load_encoder

    encoder = load_encoder(model, device=device)
    # The two levels that rank passages share their embeddings.
    texts = {level: data.candidates(level).texts for level in levels}
    distinct = {texts[level]: level for level in reversed(levels)}
    with progress_bar("encoding", len(data.queries) + sum(len(candidates) for candidates in distinct)) as progress:
        queries = encode_queries(encoder, [q.text for q in data.queries], progress=progress)
        embedded = {candidates: encode_passages(encoder, candidates, progress=progress) for candidates in distinct}
    return [
        evaluate_embeddings(
            queries,
            embedded[texts[level]],
            data,
            split=split,
            level=level,
            trained_languages=trained,
            full_ranking=full_ranking,
            k=k,
        )
        for level in levels
    ]


def trained_in(model: str) -> tuple[str, ...] | None:
    """The languages that the model of a training run was trained in, as its configuration names them.

    Args:
        model: What the user gave. Only the folder ``model`` of a finished run counts, so that a file ``config.toml`` of
            something else is never read.

    Returns:
        The languages; None if the model is not a run's, or was trained in all of its data set's.
    """
    folder = Path(model).expanduser().resolve()
    config = folder.with_name("config.toml")
    if not (
        folder.is_dir() and folder.name == "model" and config.is_file() and folder.with_name("results.json").is_file()
    ):
        return None
    return TrainConfig.from_toml(config).languages or None
