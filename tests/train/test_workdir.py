"""Opening a workdir that other processes write to, or were killed in."""

import contextlib
import os
import time
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from named_errors import raises_naming

from jigclu_jax.config import pretrain_config
from jigclu_jax.errors import UserError
from jigclu_jax.train.holding import check_apart
from jigclu_jax.train.workdir import check_workdir, open_workdir


def test_files_of_killed_writers_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    killed, living = tmp_path / ".result.json.11.partial", tmp_path / ".result.json.12.partial"
    for file in (killed, living):
        file.write_text("half")
    os.utime(killed, (time.time() - 7200,) * 2)
    open_workdir(tmp_path, ConfigDict({"job": "compare"}))
    assert not killed.exists() and living.read_text() == "half"


def test_a_path_written_in_another_way_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path)
    config = pretrain_config()
    config.data.path = str(tmp_path / "set")
    open_workdir(tmp_path / "run", config)
    for path in ("set", "set/", "./set", f"{tmp_path}/set/"):
        config.data.path = path
        check_workdir(tmp_path / "run", config)
    config.data.path = "other"
    with pytest.raises(UserError, match=r"data\.path differs"):
        check_workdir(tmp_path / "run", config)


@pytest.mark.parametrize(
    ("workdir", "split", "refused"),
    [
        ("set", "", True),
        ("set/train", "train", True),
        ("set/train/run", "train", True),
        ("set/run", "", False),
        ("set/run", "train", False),
    ],
)
def test_a_workdir_among_class_folders_would_become_a_class(tmp_path: Path, workdir: str, split: str, refused: bool) -> None:
    (tmp_path / "set").mkdir()
    config = pretrain_config()
    config.data.update({"path": str(tmp_path / "set"), "split": split})
    with raises_naming(f"--workdir={tmp_path / workdir}", "config.data") if refused else contextlib.nullcontext():
        check_apart(tmp_path / workdir, config)


def test_what_a_step_is_cannot_be_forced_to_be_something_else(tmp_path: Path) -> None:
    config = pretrain_config()
    open_workdir(tmp_path, config)
    config.force_config, config.optimizer.learning_rate = True, 0.5
    check_workdir(tmp_path, config)
    config.batch_size = 128
    with raises_naming("config.batch_size=256", "config.force_config"):
        check_workdir(tmp_path, config)
