"""Resuming a training with the negatives of its checkpoint."""

from __future__ import annotations

import logging
import shutil

import pytest
from remine_cases import CONDITIONS, Spy, assert_same, expected, train, weights
from sentence_transformers import SentenceTransformer

from relkt.training.remine import CHECKPOINT_FILE, RemineCallback

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("every", "step"), [(1, 4), (2, 8), (1, 5)], ids=["inside", "in the second", "between"])
def test_resuming_from_a_checkpoint(tmp_path, model_of, pairs, every, step):
    """The negatives, batches and weights are those of a training that was not stopped, bit for bit."""
    arguments = {"save_strategy": "steps", "save_steps": step, "batch_sampler": "no_duplicates"}
    model = model_of()
    remine = RemineCallback(pairs, model, every=every, **CONDITIONS)
    whole = Spy(remine, [])
    trainer = train(tmp_path, model, None, remine.dataset, callbacks=[remine, whole], **arguments)
    assert trainer.state.max_steps == 15  # five per epoch
    checkpoint = tmp_path / f"checkpoint-{step}"
    assert (checkpoint / CHECKPOINT_FILE).is_file()

    other = model_of()
    again = RemineCallback(pairs, other, every=every, **CONDITIONS)
    rest = Spy(again, [])
    train(tmp_path, other, None, again.dataset, callbacks=[again, rest], resume=str(checkpoint), **arguments)
    assert rest.rows == whole.rows[step // 5 :]
    assert_same(weights(model), weights(other))
    assert rest.rows[0] != rest.rows[1]


def test_resuming_between_epochs_with_kept_negatives(tmp_path, model_of, pairs):
    """Anchors that lose their negatives keep those of the checkpoint, not those of the first mining."""
    arguments = {"save_strategy": "epoch", "num_train_epochs": 4, "learning_rate": 1e-2}

    def trained(resume: str | None) -> tuple[SentenceTransformer, Spy, list[dict[str, float]]]:
        model = model_of()
        remine = RemineCallback(pairs, model, num_negatives=1, min_score=0.5, max_score=0.85)
        spy = Spy(remine, [])
        callbacks = [remine, spy]
        trainer = train(tmp_path, model, None, remine.dataset, callbacks=callbacks, resume=resume, **arguments)
        history = [{**entry, "remine_seconds": 0} for entry in trainer.state.log_history if "remine_kept" in entry]
        return model, spy, history

    model, whole, history = trained(None)
    steps = sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("checkpoint-*"))
    assert len(steps) == 4
    for epoch in (2, 3):
        assert history[epoch]["remine_kept"] > 0
        other, rest, again = trained(str(tmp_path / f"checkpoint-{steps[epoch - 1]}"))
        assert rest.rows == whole.rows[epoch:]
        assert again == history
        assert_same(weights(model), weights(other))


def test_resuming_with_the_same_callback(tmp_path, model_of, pairs):
    """Resuming an earlier checkpoint uses its negatives, not those of the callback's last mining."""
    arguments = {"save_strategy": "steps", "save_steps": 4}
    model = model_of()
    remine = RemineCallback(pairs, model, **CONDITIONS)
    spy = Spy(remine, [])
    train(tmp_path, model, None, remine.dataset, callbacks=[remine, spy], **arguments)
    resume = str(tmp_path / "checkpoint-8")
    train(tmp_path, model, None, remine.dataset, callbacks=[remine, spy], resume=resume, **arguments)
    assert spy.rows[3:] == spy.rows[1:3]
    assert spy.rows[1] != spy.rows[2]


@pytest.mark.parametrize("found", ["none", "of other weights", "truncated"])
def test_a_checkpoint_without_its_negatives_is_mined_with_its_weights(tmp_path, model_of, pairs, caplog, found):
    arguments = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 2}
    model = model_of()
    remine = RemineCallback(pairs, model, **CONDITIONS)
    train(tmp_path, model, remine, **arguments)
    shutil.copytree(tmp_path / "checkpoint-2", tmp_path / "elsewhere" / "checkpoint-2")
    file = tmp_path / "checkpoint-2" / CHECKPOINT_FILE
    if found == "none":
        file.unlink()
    elif found == "truncated":
        file.write_bytes(file.read_bytes()[:100])
    else:
        shutil.copy(tmp_path / "checkpoint-8" / CHECKPOINT_FILE, file)

    other = model_of()
    again = RemineCallback(pairs, other, **CONDITIONS)
    spy = Spy(again, [])
    with caplog.at_level(logging.WARNING, "relkt"):
        train(
            tmp_path,
            other,
            None,
            again.dataset,
            callbacks=[again, spy],
            resume=str(tmp_path / "elsewhere" / "checkpoint-2"),
            **arguments,
        )
    assert "Resuming without the negatives of the checkpoint" in caplog.text
    assert ("cannot be read" in caplog.text) is (found == "truncated")
    negatives = [[row["negative_1"], row["negative_2"]] for row in spy.rows[0]]
    assert negatives == expected(spy.rows[0], spy.embedded[0], **CONDITIONS)
