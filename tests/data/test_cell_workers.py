"""Input processes: the same batches as threads, the same errors, and none that is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.batches import PAPER, crop, flat, montage, sampler
from data.pictures import natural
from named_errors import raises_naming
from PIL import Image

from jigclu_jax.data.input.cell_stream import CellStream
from jigclu_jax.data.prepare.shards import Settings, write_shards
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.data.sources.folder import FolderSource
from jigclu_jax.data.sources.opening import Source, Subset, with_classes
from jigclu_jax.data.sources.prepared import PreparedSource
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.data.view import View
from jigclu_jax.errors import ImageError, UserError

COUNT, BATCH = 19, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nineteen photographs of two classes."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        path = root / "train" / "ab"[number % 2] / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(natural(30 + number, 40, number)).save(path)
    return root


def stream(source: Source, view: str = "montage", on_error: str = "stop", **options: Any) -> CellStream:
    views = [montage(16)] if view == "montage" else [crop(32), View("pair", 12, PAPER, repeats=2)]
    steps = 2 if view == "montage" else 3  # the last of which is padded
    reader = ImageReader(source, 1, on_error, "data")
    more: dict[str, Any] = {"stop_step": 7, "threads": 1} | options
    return CellStream(reader, sampler(len(source), *views, steps_per_epoch=steps), **more)


@pytest.mark.parametrize("view", ["montage", "crop"])
def test_any_number_of_processes_makes_the_batches_of_one_thread(folder: Path, view: str) -> None:
    source = FolderSource(str(folder), "train")
    expected = list(stream(source, view, labelled=True))
    assert len(expected) == 7
    for workers in (1, 3):
        found = list(stream(source, view, labelled=True, workers=workers))
        for ours, theirs in zip(found, expected, strict=True):
            assert flat(ours).keys() == flat(theirs).keys()
            for name in flat(ours):
                np.testing.assert_array_equal(flat(ours)[name], flat(theirs)[name])
    resumed = list(stream(source, view, start_step=5, workers=2))
    np.testing.assert_array_equal(resumed[1][view]["image"], expected[6][view]["image"])


def test_every_kind_of_source_can_be_handed_over(folder: Path, tmp_path: Path) -> None:
    photos = FolderSource(str(folder), "train")
    kinds: list[Source] = [Subset(photos, np.arange(16)), with_classes(photos, ["b", "a"])]
    kinds.append(ArraySource(np.stack([natural(20, 20, number) for number in range(16)])))
    for name in ("jpeg", "raw"):
        write_shards(photos, tmp_path / name, Settings("train", name, 24, 90, 7))
        kinds.append(PreparedSource(str(tmp_path / name), "train"))
    for source in kinds:
        for ours, theirs in zip(stream(source, stop_step=1, workers=1), stream(source, stop_step=1), strict=True):
            np.testing.assert_array_equal(ours["montage"]["image"], theirs["montage"]["image"])
            np.testing.assert_array_equal(ours["montage"]["augment"], theirs["montage"]["augment"])


def test_damaged_images_stop_or_are_skipped_as_with_threads(folder: Path, tmp_path: Path) -> None:
    for path in sorted((folder / "train").rglob("*.jpg")):
        (tmp_path / path.name).write_bytes(path.read_bytes()[: None if path.stem != "06" else 200])
    source = FolderSource(str(tmp_path))
    with pytest.raises(ImageError, match=r"06\.jpg: damaged.*data\.on_error=skip") as caught:
        list(stream(source, workers=2))
    assert "\n" not in str(caught.value)
    by_threads, by_workers = stream(source, on_error="skip"), stream(source, on_error="skip", workers=2)
    for ours, theirs in zip(by_workers, by_threads, strict=True):
        np.testing.assert_array_equal(ours["montage"]["image"], theirs["montage"]["image"])
    assert by_workers.skipped == by_threads.skipped != {}


def test_a_killed_process_is_one_clear_line(folder: Path) -> None:
    batches = stream(FolderSource(str(folder), "train"), workers=1, stop_step=None)
    next(batches)
    (child,) = children(os.getpid())
    os.kill(child, signal.SIGKILL)
    with pytest.raises(UserError, match=r"^an input process ended by signal 9 .*set data\.workers to fewer") as caught:
        for _ in range(5):
            next(batches)
    assert "\n" not in str(caught.value)
    assert not children(os.getpid())


def test_interrupts_are_for_the_run_alone(folder: Path) -> None:
    batches = stream(FolderSource(str(folder), "train"), workers=1)
    next(batches)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(children(os.getpid())[0], number)
    assert len(list(batches)) == 6
    assert not children(os.getpid()), "processes end with the stream"


class Unsendable(ArraySource):
    """A source that holds what no other process can have."""

    def __init__(self) -> None:
        super().__init__(np.stack([natural(20, 20, number) for number in range(16)]))
        self.lock = threading.Lock()


def test_a_source_that_cannot_be_handed_over_is_refused(folder: Path) -> None:
    with raises_naming("data.workers=0"):
        stream(Unsendable(), workers=1)


def test_none_outlives_a_run_that_was_killed(folder: Path) -> None:
    code = (
        "import sys, time; sys.path.insert(0, 'tests')\n"
        "from data.test_cell_workers import FolderSource, stream\n"
        f"batches = stream(FolderSource({str(folder)!r}, 'train'), workers=2, stop_step=None)\n"
        "next(batches); print('ready', flush=True); time.sleep(60)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert run.stdout is not None
    assert run.stdout.readline() == b"ready\n"
    left = children(run.pid)
    assert len(left) == 2
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes() for child in left):
        assert time.monotonic() < deadline, "an input process outlived its run"
        time.sleep(0.05)


def children(parent: int) -> list[int]:
    """Input processes of a process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"\nPPid:\t{parent}\n" in (entry / "status").read_text() and b"cell_workers" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found
