"""The folder of a run: starting, resuming, checkpoints and metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from relkt.training import Stage, TrainConfig, WarmupConfig
from relkt.training.records.run_directory import RunDirectory

CONFIG = TrainConfig(seed=7)
IDENTITY = {"data": "d", "model": "m"}


def start(path: Path) -> RunDirectory:
    run = RunDirectory.open(path, CONFIG, IDENTITY, resume=False)
    run.start()
    return run


def resume(path: Path, config: TrainConfig | None = CONFIG, identity: dict[str, str] = IDENTITY) -> RunDirectory:
    return RunDirectory.open(path, config, identity, resume=True)


def make_checkpoint(run: RunDirectory, step: int) -> Path:
    path = run.checkpoint_path(Stage.WARMUP, step)
    path.mkdir(parents=True)
    (path / "weights").write_bytes(b"x" * 100)
    run.commit_checkpoint(Stage.WARMUP, step, {"step": step}, np.array([[step, 2]]))
    return path


def test_a_folder_with_other_files_is_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(FileExistsError, match=r"output_dir: expected a new or empty folder, got .*holds thesis\.tex"):
        start(tmp_path)
    with pytest.raises(ValueError, match=r"output_dir: expected the folder of a run .* has no config\.toml"):
        resume(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="output_dir: expected a folder, got the file"):
        start(tmp_path / "file")


def test_a_run_is_not_restarted(tmp_path: Path) -> None:
    start(tmp_path)
    with pytest.raises(FileExistsError, match=r"holds config\.toml, run\.json; pass resume=True"):
        start(tmp_path)


def test_resuming_uses_the_configuration_of_the_run(tmp_path: Path) -> None:
    start(tmp_path)
    for config in (None, CONFIG):
        run = resume(tmp_path, config)
        assert run.started
        assert run.config == CONFIG


def test_resuming_with_another_configuration_lists_the_differences(tmp_path: Path) -> None:
    start(tmp_path)
    with pytest.raises(ValueError, match=r"seed was 7, is now 8; warmup\.margin was 0\.24, is now 0\.3"):
        resume(tmp_path, TrainConfig(seed=8, warmup=WarmupConfig(margin=0.3)))


@pytest.mark.parametrize("name", ["data", "model"])
def test_resuming_with_another_identity_is_refused(tmp_path: Path, name: str) -> None:
    start(tmp_path)
    with pytest.raises(ValueError, match=f"{name}: expected the one that the run in .* started with"):
        resume(tmp_path, CONFIG, IDENTITY | {name: "another"})


@pytest.mark.parametrize(
    "left",
    [[], ["run.json.partial"], ["run.json"], ["run.json", "config.toml.partial"], [".config.toml.7-0.tmp"]],
)
def test_a_run_killed_while_it_started_is_not_started(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).write_text("{")
    assert not resume(tmp_path).started
    assert start(tmp_path).config == CONFIG
    assert resume(tmp_path).started


def test_opening_a_missing_folder_writes_nothing(tmp_path: Path) -> None:
    assert not resume(tmp_path / "new").started
    assert not (tmp_path / "new").exists()


def test_the_newest_checkpoint_is_the_one_with_most_steps(tmp_path: Path) -> None:
    run = start(tmp_path)
    assert run.latest_checkpoint(Stage.WARMUP) is None
    for step in (9, 100, 20):
        make_checkpoint(run, step)
    newest = run.latest_checkpoint(Stage.WARMUP)
    assert newest is not None
    assert newest.state == {"step": 100}
    assert newest.examples is not None
    assert newest.examples.tolist() == [[100, 2]]
    assert run.latest_checkpoint(Stage.TEACHER) is None


@pytest.mark.parametrize("damage", ["uncommitted", "cut", "gone"])
def test_incomplete_checkpoints_are_deleted(tmp_path: Path, damage: str) -> None:
    run = start(tmp_path)
    make_checkpoint(run, 1)
    path = make_checkpoint(run, 2)
    if damage == "uncommitted":
        (path / "relkt_checkpoint.json").unlink()
    elif damage == "cut":
        (path / "weights").write_bytes(b"x" * 99)
    else:
        (path / "weights").unlink()
    newest = run.latest_checkpoint(Stage.WARMUP)
    assert newest is not None
    assert newest.state == {"step": 1}
    assert not path.exists()


def test_a_checkpoint_of_an_earlier_revision_within_an_epoch_is_refused(tmp_path: Path) -> None:
    """Its examples file has another name; without it, the rest of the epoch would use other examples."""
    run = start(tmp_path)
    make_checkpoint(run, 1)
    incomplete = make_checkpoint(run, 2)
    (incomplete / "relkt_checkpoint.json").unlink()
    latest = make_checkpoint(run, 3)
    (latest / "relkt_checkpoint.json").unlink()
    (latest / "relkt_examples.npy").rename(latest / "relkt_rows.npy")
    run.commit_checkpoint(Stage.WARMUP, 3, {"step": 3}, None)
    run.append_metrics({"step": 4})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError, match=r"checkpoint-3 an earlier revision wrote within an epoch; finish the run with"
    ):
        run.latest_checkpoint(Stage.WARMUP)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    make_checkpoint(run, 4)
    newest = run.latest_checkpoint(Stage.WARMUP)
    assert newest is not None
    assert newest.state == {"step": 4}


def test_metrics_are_cut_to_the_checkpoint(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.append_metrics({"step": 1})
    make_checkpoint(run, 1)
    run.append_metrics({"step": 2})
    run.latest_checkpoint(Stage.WARMUP)
    assert run.metrics_path.read_text() == '{"step": 1}\n'


def test_metrics_shorter_than_at_the_checkpoint_are_an_error(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.append_metrics({"step": 1})
    make_checkpoint(run, 1)
    run.metrics_path.unlink()
    with pytest.raises(ValueError, match=r"metrics\.jsonl: expected the 12 bytes it had at the checkpoint, got 0"):
        run.latest_checkpoint(Stage.WARMUP)


def test_checkpoints_that_are_not_kept_are_deleted(tmp_path: Path) -> None:
    run = start(tmp_path)
    paths = {step: make_checkpoint(run, step) for step in (1, 2, 3)}
    run.keep_checkpoints(Stage.WARMUP, {1, 3})
    assert [paths[step].exists() for step in (1, 2, 3)] == [True, False, True]


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    run = start(tmp_path)
    target = tmp_path / "model"
    for text in ("first", "second"):
        with run.replace_folder(target) as folder:
            (folder / "file").write_text(text)
    assert (target / "file").read_text() == "second"

    def fail() -> None:
        with run.replace_folder(target) as folder:
            (folder / "file").write_text("third")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert (target / "file").read_text() == "second"
