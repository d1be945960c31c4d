"""Checkpoints that are damaged, half removed, of another model or of a later format; disks that take no more."""

import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from named_errors import raises_naming

from jigclu_jax.errors import UserError
from jigclu_jax.train import stored
from jigclu_jax.train.checkpoint import Checkpoints, read_checkpoint
from jigclu_jax.train.disk import disk_error
from jigclu_jax.train.memory import memory_error
from jigclu_jax.train.state import TrainState, zero_sums

META = {"config": {"job": "pretrain", "saving": {"best_metric": "score", "best_mode": "max"}}, "seconds": 1.0}


def state(step: int, width: int = 3) -> TrainState:
    params = {"backbone": {"conv1": {"kernel": jnp.full((width, 2), float(step))}}}
    return TrainState(jnp.int32(step), params, {}, (jax.tree.map(lambda leaf: 2 * leaf, params),), {}, zero_sums(("loss",)))


def target(width: int = 3) -> TrainState:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state(0, width))


def save(workdir: Path, *steps: int, best: bool = False, **meta: Any) -> None:
    checkpoints = Checkpoints(workdir, best_metric="score" if best else "")
    for step in steps:
        checkpoints.save(step, state(step), META | meta, {"score": -step} if best else None)
    checkpoints.close()


def newest(workdir: Path, width: int = 3) -> int | None:
    checkpoints = Checkpoints(workdir, best_metric="score")
    found = checkpoints.restore_newest(target(width))
    checkpoints.close()
    if found is None:
        return None
    np.testing.assert_array_equal(found[0].params["backbone"]["conv1"]["kernel"], float(found[0].step))
    return int(found[0].step)


def damage(workdir: Path, step: int) -> None:
    for file in (workdir / "checkpoints" / str(step) / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")


def test_a_later_format_is_refused_with_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stored, "FORMAT", 7)
        save(tmp_path, 5)
    for read in (newest, read_checkpoint):
        with raises_naming("checkpoint 5 ", str(tmp_path), "format 7", f" {stored.FORMAT}"):
            read(tmp_path)


def test_another_model_is_named_by_what_differs(tmp_path: Path) -> None:
    save(tmp_path, 5)
    with raises_naming("checkpoint 5 ", "backbone/conv1/kernel", "(3, 2)", "(4, 2)"):
        newest(tmp_path, width=4)


def test_what_the_caller_refuses_is_no_damage(tmp_path: Path) -> None:
    save(tmp_path, 5, 10)
    checkpoints = Checkpoints(tmp_path)

    def refuse(meta: Any) -> None:
        raise UserError("other classes")

    with raises_naming("other classes") as raised:
        checkpoints.restore_newest(target(), refuse)
    assert str(raised.value) == "other classes"
    checkpoints.close()


def test_a_run_goes_on_below_a_damaged_checkpoint_and_replaces_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 10, 20)
    damage(tmp_path, 20)
    with caplog.at_level(logging.WARNING):
        checkpoints = Checkpoints(tmp_path)
        restored = checkpoints.restore_newest(target())
    assert restored and int(restored[0].step) == 10
    assert "checkpoint 20" in caplog.text and "trying the one before it" in caplog.text
    checkpoints.save(15, state(15), META)
    checkpoints.wait()
    assert newest(tmp_path) == 15  # killed here, the next start finds the newest that can be read
    checkpoints.save(20, state(20), META)
    checkpoints.close()
    assert newest(tmp_path) == 20


def test_when_nothing_can_be_read_the_run_does_not_begin_anew(tmp_path: Path) -> None:
    save(tmp_path, 10, 20)
    damage(tmp_path, 10)
    damage(tmp_path, 20)
    with raises_naming("[10, 20]", str(tmp_path)):
        newest(tmp_path)


@pytest.mark.parametrize("removed", ["every other file", "all files", "meta and metrics", "state"])
def test_a_removal_that_was_cut_short_hinders_nothing(tmp_path: Path, removed: str) -> None:
    """orbax removes the files of an old checkpoint, then its folders."""
    save(tmp_path / "old", 5)
    save(tmp_path, 10, 20, best=True)
    folder = tmp_path / "checkpoints" / "5"
    shutil.copytree(tmp_path / "old" / "checkpoints" / "5", folder)
    if "file" in removed:
        for file in sorted(path for path in folder.rglob("*") if path.is_file())[:: 2 if "other" in removed else 1]:
            file.unlink()
    else:
        for name in ("state", "meta", "metrics"):
            if name in removed:
                shutil.rmtree(folder / name, ignore_errors=True)
    assert newest(tmp_path) == 20
    assert read_checkpoint(tmp_path, "last")[0] == 20 and read_checkpoint(tmp_path, "best")[0] == 10
    save(tmp_path, 30, best=True)
    assert newest(tmp_path) == 30
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["10", "20", "30"], "the remains are removed with the next save"


def test_a_save_that_was_cut_short_is_not_seen_and_cleared_away(tmp_path: Path) -> None:
    save(tmp_path, 10)
    shutil.copytree(tmp_path / "checkpoints" / "10", tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp")
    assert read_checkpoint(tmp_path)[0] == 10
    assert newest(tmp_path) == 10
    save(tmp_path, 20)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "20"]


def test_memory_that_ran_out_is_told() -> None:
    for error in (MemoryError(), ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")):
        told = memory_error(error)
        assert told is not None and "config.batch_size" in str(told)
    assert memory_error(ValueError("RESOURCE_EXHAUSTED: Error writing x")) is None


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FULL, "no space left on device"),
        (
            ValueError("RESOURCE_EXHAUSTED: Error writing \"params/0\": No space left on device [os_error_code='28']"),
            "no space left on device",
        ),
        (OSError(errno.EROFS, "Read-only file system"), "read-only file system"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk quota exceeded"),
        (ExceptionGroup("background", [RuntimeError("x"), FULL]), "no space left on device"),
        (ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"), None),
        (FileNotFoundError(errno.ENOENT, "No such file"), None),
    ],
)
def test_a_disk_that_takes_no_more_is_told_from_other_errors(error: Exception, reason: str | None) -> None:
    def caused() -> Exception:
        try:
            try:
                raise error
            except Exception as first:
                raise RuntimeError("the writer failed") from first
        except RuntimeError as second:
            return second

    for raised in (error, caused()):
        told = disk_error(raised, "runs/x")
        if reason is None:
            assert told is None
        else:
            expected = f"runs/x cannot be written any more: {reason}; the last complete checkpoint is kept: make room, then start the same"
            assert str(told).startswith(expected) and "\n" not in str(told)


@pytest.mark.parametrize("number", [errno.EISDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG])
def test_what_stands_in_a_files_place_is_named(number: int) -> None:
    told = disk_error(OSError(number, os.strerror(number), "runs/x/.part", None, "runs/x/result.json"), "runs/x")
    assert str(told).startswith("runs/x/result.json: ") and os.strerror(number).lower() in str(told) and "\n" not in str(told)
    assert disk_error(OSError(number, os.strerror(number)), "runs/x") is None, "a fault of the program"


def test_a_file_in_place_of_a_workdir_is_told_where_weights_go(tmp_path: Path) -> None:
    (tmp_path / "model.pth").touch()
    with raises_naming("model.pth", "config.weights"):
        read_checkpoint(tmp_path / "model.pth")
