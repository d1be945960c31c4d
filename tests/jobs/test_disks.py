"""A disk that fills up or cannot be written, a real one where this machine lets a test mount it; runs on other images than before."""

import contextlib
import errno
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
from jobs import tiny
from named_errors import raises_naming

from jigclu_jax.__main__ import main
from jigclu_jax.jobs import pretrain
from jigclu_jax.train.checkpoint import read_checkpoint
from jigclu_jax.train.workdir import check_shared
from jigclu_jax.train.writers import JsonlWriter, read_metrics

Mount = Callable[[str], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Mount]]:
    """A folder that is a disk of its own, and what changes its options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> None:
        if (
            shutil.which("mount") is None
            or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False).returncode
        ):
            pytest.skip("this machine lets nobody mount a disk")

    mount("size=8m")
    try:
        yield folder, lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True) and None
    finally:
        subprocess.run(["umount", folder], check=True)


def said(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capfd.readouterr().err.splitlines() if not line.startswith(("step ", "loading ", "compiling ", "trained in "))]


@pytest.mark.slow
@pytest.mark.parametrize("room", ["1500k", "1300k"])
def test_a_full_disk_stops_the_run_with_one_line_and_room_lets_it_go_on(
    room: str, disk: tuple[Path, Mount], capfd: pytest.CaptureFixture[str]
) -> None:
    """Room for two checkpoints and a half, and for so much less that many files of the third fail together."""
    folder, remount = disk
    remount(f"size={room}")
    command = processes.command(folder / "run", epochs=3, saving__every_epochs=0.25)[2:]
    assert main(command) == 2
    expected = f"error: {folder}/run cannot be written any more: no space left on device; the last complete checkpoint is kept: make room, "
    assert [line[: len(expected)] for line in said(capfd)] == [expected]
    last = read_checkpoint(folder / "run")[0]
    assert 0 < last < 12
    remount("size=8m")
    assert main(command) == 0
    assert said(capfd)[0] == f"{folder}/run: going on from step {last} of 12"
    assert [row["step"] for row in read_metrics(folder / "run")] == list(range(1, 13))
    remount("ro")
    assert main(command) == 2
    assert said(capfd) == [f"error: --workdir={folder}/run cannot be written: Read-only file system"]


def test_rows_that_the_disk_does_not_take_whole_stop_the_run(tmp_path: Path) -> None:
    """A disk with a few bytes left takes a part of a line and reports no error."""

    class Nearly:
        def __getattr__(self, name: str) -> object:
            return getattr(file, name)

        def write(self, data: bytes) -> int:
            return file.write(data[:5])

    writer = JsonlWriter(tmp_path)
    writer.write(1, {"loss": 1.0})
    file = writer._file
    writer._file = Nearly()  # type: ignore[assignment]
    with pytest.raises(OSError) as raised:
        writer.write(2, {"loss": 1.0})
    assert raised.value.errno == errno.ENOSPC
    writer._file = file
    writer.close()
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]


def test_a_line_that_is_written_again_leaves_nothing_of_the_longer_one(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path)
    writer.write(1, {"loss": 1.0})
    writer.write(1, {"loss": 1.2345678, "top1": 0.5})
    long = (tmp_path / "metrics.jsonl").read_bytes()
    writer.write(1, {"loss": 1.0, "top1": 1.0})
    writer.write(2, {"loss": 3.0})
    writer.close()
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 1.0, "top1": 1.0}, {"step": 2, "loss": 3.0}]
    assert (tmp_path / "metrics.jsonl").read_bytes().index(b"\n") == len(long) - 1, "replaced by one call that cuts nothing off"


def test_a_workdir_that_this_machine_does_not_share_is_refused(tmp_path: Path) -> None:
    with raises_naming("--workdir=", "process 0"):
        check_shared(tmp_path, seconds=0.2)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_other_images_or_classes_than_those_of_the_start_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    """And other shapes, which a forced config may bring."""
    config = tiny.pretrain_config(epochs=1, method="supervised")
    config.data.update({"source": "arrays", "path": str(tmp_path / "data.npz"), "split": "", "limit": 0})
    pixels = np.random.default_rng(0).integers(0, 255, (64, 32, 32, 3), np.uint8)

    def write(count: int, classes: int) -> None:
        np.savez(tmp_path / "data.npz", image=pixels[:count], label=np.arange(count) % classes)

    write(48, 4)
    pretrain.run(config, tmp_path / "run")
    before = contents(tmp_path / "run")
    changes: dict[str, Any] = {"force_config": True, "seed": 3, "log_every_steps": 2}
    for count, classes, width, named in (
        (48, 3, 0.05, ("list of classes", "4", "3")),
        (44, 4, 0.05, ("number of images", "48", "44")),
        (64, 4, 0.05, ("number of images", "48", "64", "--config.grown_data=True")),
        (48, 4, 0.1, ("checkpoint 3", "shape")),
    ):
        write(count, classes)
        for forced in (False, True) if width == config.model.width else (True,):
            again = config.copy_and_resolve_references()
            again.update(changes if forced else {})
            again.model.width = width
            with raises_naming(f"{tmp_path}/run", *named):
                pretrain.run(again, tmp_path / "run")
            assert contents(tmp_path / "run") == before
    config.grown_data = True
    for count, named in ((44, ("44", "48")), (64, ())):
        write(count, 4)
        with raises_naming(*named) if named else contextlib.nullcontext():
            pretrain.run(config, tmp_path / "run")
    step, meta, _ = read_checkpoint(tmp_path / "run")
    assert (step, meta["images"]) == (4, 64)  # where a run of 64 images from the start would end
    before = contents(tmp_path / "run")
    config.model.width = 0.1
    with raises_naming(f"{tmp_path}/run", "model.width", "--config.force_config"):
        pretrain.run(config, tmp_path / "run")
    assert contents(tmp_path / "run") == before
