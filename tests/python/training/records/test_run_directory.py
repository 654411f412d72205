from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from relkt.training import Stage, TrainConfig, WarmupConfig
from relkt.training.files import write_atomically
from relkt.training.records.run_directory import RunDirectory

CONFIG = TrainConfig(seed=7)
IDENTITY = {"data": "d", "model": "m"}


def make_checkpoint(run: RunDirectory, step: int) -> Path:
    path = run.checkpoint_path(Stage.WARMUP, step)
    path.mkdir(parents=True)
    (path / "weights").write_bytes(b"x" * 100)
    run.commit_checkpoint(Stage.WARMUP, step, {"step": step}, np.array([[step, 2]]))
    return path


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(FileExistsError, match=r"output_dir: expected a new or empty folder, got .*holds thesis\.tex"):
        RunDirectory.create(tmp_path, CONFIG, IDENTITY)
    with pytest.raises(ValueError, match=r"output_dir: expected the folder of a run .* has no config\.toml"):
        RunDirectory.resume(tmp_path, CONFIG, IDENTITY)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="output_dir: expected a folder, got the file"):
        RunDirectory.create(tmp_path / "file", CONFIG, IDENTITY)


def test_a_run_is_not_started_over(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, CONFIG, IDENTITY)
    with pytest.raises(FileExistsError, match=r"holds config\.toml, run\.json; pass resume=True"):
        RunDirectory.create(tmp_path, CONFIG, IDENTITY)


def test_resuming_takes_the_configuration_of_the_run(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, CONFIG, IDENTITY)
    for config in (None, CONFIG):
        run = RunDirectory.resume(tmp_path, config, IDENTITY)
        assert run is not None
        assert run.config == CONFIG


def test_resuming_with_other_values_names_them(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, CONFIG, IDENTITY)
    with pytest.raises(ValueError, match=r"seed was 7, is 8; warmup\.margin was 0\.24, is 0\.3"):
        RunDirectory.resume(tmp_path, TrainConfig(seed=8, warmup=WarmupConfig(margin=0.3)), IDENTITY)


@pytest.mark.parametrize("name", ["data", "model"])
def test_resuming_from_something_else(tmp_path: Path, name: str) -> None:
    RunDirectory.create(tmp_path, CONFIG, IDENTITY)
    with pytest.raises(ValueError, match=f"{name}: expected the one that the run in .* started with"):
        RunDirectory.resume(tmp_path, CONFIG, IDENTITY | {name: "another"})


@pytest.mark.parametrize("left", [[], ["run.json.partial"], ["run.json"], ["run.json", "config.toml.partial"]])
def test_a_run_killed_before_it_began_has_not_begun(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).write_text("{")
    assert RunDirectory.resume(tmp_path, CONFIG, IDENTITY) is None
    assert RunDirectory.create(tmp_path, CONFIG, IDENTITY).config == CONFIG


def test_a_folder_that_does_not_exist_has_no_run(tmp_path: Path) -> None:
    assert RunDirectory.resume(tmp_path / "new", CONFIG, IDENTITY) is None
    assert not (tmp_path / "new").exists()


def test_the_newest_checkpoint_is_the_one_with_most_steps(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, CONFIG, IDENTITY)
    assert run.latest_checkpoint(Stage.WARMUP) is None
    for step in (9, 100, 20):
        make_checkpoint(run, step)
    newest = run.latest_checkpoint(Stage.WARMUP)
    assert newest is not None
    assert newest.state == {"step": 100}
    assert newest.rows is not None
    assert newest.rows.tolist() == [[100, 2]]
    assert run.latest_checkpoint(Stage.TEACHER) is None


@pytest.mark.parametrize("damage", ["uncommitted", "cut", "gone"])
def test_incomplete_checkpoints_are_not_resumed_from(tmp_path: Path, damage: str) -> None:
    run = RunDirectory.create(tmp_path, CONFIG, IDENTITY)
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


def test_metrics_are_cut_to_the_checkpoint(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, CONFIG, IDENTITY)
    run.append_metrics({"step": 1})
    make_checkpoint(run, 1)
    run.append_metrics({"step": 2})
    run.latest_checkpoint(Stage.WARMUP)
    assert run.metrics_path.read_text() == '{"step": 1}\n'


def test_metrics_shorter_than_at_the_checkpoint_are_an_error(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, CONFIG, IDENTITY)
    run.append_metrics({"step": 1})
    make_checkpoint(run, 1)
    run.metrics_path.unlink()
    with pytest.raises(ValueError, match=r"metrics\.jsonl: expected the 12 bytes it had at the checkpoint, got 0"):
        run.latest_checkpoint(Stage.WARMUP)


def test_checkpoints_that_are_not_kept_are_deleted(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, CONFIG, IDENTITY)
    paths = {step: make_checkpoint(run, step) for step in (1, 2, 3)}
    run.keep_checkpoints(Stage.WARMUP, {1, 3})
    assert [paths[step].exists() for step in (1, 2, 3)] == [True, False, True]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, CONFIG, IDENTITY)
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


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
